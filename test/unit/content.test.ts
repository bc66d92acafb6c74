import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { batchOf, partsOf } from '../../src/content/batch.ts';
import { Coder, type EncodedChunk } from '../../src/content/coder.ts';
import { codec, decode, encode } from '../../src/content/compress.ts';
import { sha256 } from '../../src/content/hash.ts';
import { isNoise } from '../../src/content/noise.ts';
import { packChunks, unpackChunks } from '../../src/content/packed.ts';

const CHUNK_BYTES = 128 * 1024;
const hashOf = (data: Uint8Array) => createHash('sha256').update(data).digest().toString('latin1');
const text = (bytes: number) => Buffer.alloc(bytes, 'some text that compresses\n');
const bytes = fc.uint8Array({ maxLength: 3000 }).map((array) => Buffer.from(array));

describe('a chunk’s hash', () => {
  it('is its SHA-256, a character for each byte', () => {
    expect(Buffer.from(sha256(Buffer.from('abc')), 'latin1').toString('hex')).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', // FIPS 180-2, appendix B.1
    );
    expect(sha256(Buffer.alloc(0))).toHaveLength(32);
  });
});

describe('compression', () => {
  it('gives back what it was given', () => {
    fc.assert(fc.property(bytes, (data) => Buffer.compare(decode(encode(data)), data) === 0));
    for (const data of [text(CHUNK_BYTES), randomBytes(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)])
      expect(Buffer.compare(decode(encode(data)), data)).toBe(0);
  });

  it('makes text smaller and leaves noise as it is', () => {
    const packed = encode(text(CHUNK_BYTES));
    expect(packed.codec).toBe(codec.zstd);
    expect(packed.data.length).toBeLessThan(CHUNK_BYTES / 10);
    const noise = randomBytes(CHUNK_BYTES);
    expect(encode(noise)).toEqual({ codec: codec.raw, data: noise });
  });

  it('leaves alone what is too short for it, and what it would save too little of', () => {
    expect(encode(text(63)).codec).toBe(codec.raw);
    const mostlyNoise = Buffer.concat([randomBytes(8000), text(500)]);
    expect(encode(mostlyNoise).codec).toBe(codec.raw);
  });

  it('takes for noise only what zstd saves nothing of', () => {
    const sample = 4096;
    for (let round = 0; round < 50; round++) expect(isNoise(randomBytes(sample))).toBe(true);
    const once = randomBytes(sample / 2);
    const others: Readonly<Record<string, Uint8Array>> = {
      text: text(sample),
      zeros: Buffer.alloc(sample),
      base64: Buffer.from(randomBytes(sample).toString('base64').slice(0, sample)),
      'noise that comes twice': Buffer.concat([once, once]),
      'every fourth byte the same': randomBytes(sample).map((byte, at) => (at % 4 === 0 ? 7 : byte)),
      'numbers of two bytes': Buffer.from(Uint16Array.from({ length: sample / 2 }, (_, at) => 40_000 + at).buffer),
    };
    expect(Object.keys(others).filter((what) => isNoise(others[what] ?? Buffer.alloc(0)))).toEqual([]);
  });

  it('refuses a codec that it doesn’t know, and data that is damaged', () => {
    expect(() => decode({ codec: 2, data: text(10) })).toThrow('codec 2');
    const packed = encode(text(5000)).data;
    expect(() => decode({ codec: codec.zstd, data: packed.subarray(0, packed.length - 1) })).toThrow();
    expect(() => decode({ codec: codec.zstd, data: text(100) })).toThrow();
  });
});

describe('the packed list of a segment’s chunks', () => {
  const chunk = fc.oneof(
    fc.constant({ length: 0, hash: '' }),
    fc.record({
      length: fc.integer({ min: 1, max: CHUNK_BYTES }),
      hash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((hash) => Buffer.from(hash).toString('latin1')),
    }),
  );

  it('gives back what it was made of', () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 64 }), (chunks) => {
        expect(unpackChunks(packChunks(chunks))).toEqual(chunks);
      }),
    );
  });

  it('has 36 bytes for each chunk: its length, least byte first, and its hash', () => {
    const packed = packChunks([
      { length: 0x01_02_03, hash: '\xff'.repeat(32) },
      { length: 0, hash: '' },
    ]);
    expect(packed.toString('hex')).toBe(`03020100${'ff'.repeat(32)}${'00'.repeat(36)}`);
  });

  it('is refused when it’s cut short', () => {
    expect(() => unpackChunks(Buffer.alloc(35))).toThrow(RangeError);
  });
});

describe('a batch of byte arrays', () => {
  it('gives back its parts', () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 20 }), (parts) => {
        expect(partsOf(batchOf(parts)).map((part) => part.toString('hex'))).toEqual(
          parts.map((part) => part.toString('hex')),
        );
      }),
    );
  });

  it('is a copy', () => {
    const part = text(100);
    const batch = batchOf([part]);
    part.fill(0);
    expect(partsOf(batch)).toEqual([text(100)]);
  });
});

describe('the coder', () => {
  function newCoder(): Coder {
    const coder = new Coder();
    onTestFinished(() => coder.close());
    return coder;
  }

  /** Copies of encoded chunks, whose memory was given back. */
  async function encodedBy(coder: Coder, raw: readonly Uint8Array[]): Promise<EncodedChunk[]> {
    const { chunks, giveBack } = await coder.encode(raw);
    const copies = chunks.map(({ hash, codec, data }) => ({ hash, codec, data: Buffer.from(data) }));
    giveBack();
    return copies;
  }

  /** Few bytes, which it does at once, and many, which it hands to its thread. */
  const sets: readonly [what: string, chunks: readonly Buffer[]][] = [
    ['a few bytes', [text(100), randomBytes(50), Buffer.from([0])]],
    ['many bytes', [text(CHUNK_BYTES), randomBytes(CHUNK_BYTES), text(70_000), Buffer.from([0])]],
    ['nothing', []],
  ];

  it.each(sets)('hashes, compresses and restores %s', async (_, chunks) => {
    const coder = newCoder();
    const encoded = await encodedBy(coder, chunks);
    expect(encoded.map(({ hash }) => hash)).toEqual(chunks.map(hashOf));
    const raw = await coder.decode(encoded);
    expect(raw.map((data, index) => data?.equals(chunks[index] ?? Buffer.alloc(0)))).toEqual(chunks.map(() => true));
  });

  it('answers each of many calls at once with its own', async () => {
    const coder = newCoder();
    const calls = Array.from({ length: 20 }, (_, index) => Buffer.alloc(index % 2 === 0 ? 50_000 : 500, index + 1));
    const encoded = await Promise.all(calls.map((data) => encodedBy(coder, [data])));
    expect(encoded.map((list) => list[0]?.hash)).toEqual(calls.map(hashOf));
    const restored = await Promise.all(encoded.map((list) => coder.decode(list)));
    expect(restored.map(([data], index) => data?.equals(calls[index] ?? Buffer.alloc(0)))).toEqual(
      calls.map(() => true),
    );
  });

  it.each([100, CHUNK_BYTES])(
    'leaves room before each of the chunks, of %d bytes, and lends it with them',
    async (size) => {
      const coder = newCoder();
      const { chunks, giveBack } = await coder.encode([text(size), randomBytes(size), text(size)], 7);
      for (const { framed } of chunks) framed.fill('x', 0, 7);
      expect(chunks.map(({ framed }) => framed.toString('latin1', 0, 7))).toEqual(Array(3).fill('xxxxxxx'));
      for (const { framed, data } of chunks) expect(framed.subarray(7).equals(data)).toBe(true);
      expect(chunks.map(({ rawBytes }) => rawBytes)).toEqual([size, size, size]);
      expect((await coder.decode(chunks)).every((raw) => raw?.length === size)).toBe(true);
      giveBack();
    },
  );

  it('has no call write over what it has lent for another', async () => {
    const coder = newCoder();
    const calls = Array.from({ length: 12 }, (_, index) => [randomBytes(100_000), text(50_000 + index)]);
    const all = calls.map(async (raw) => {
      const { chunks, giveBack } = await coder.encode(raw);
      await new Promise(setImmediate);
      const intact = (await coder.decode(chunks)).every((data, index) => data?.equals(raw[index] ?? Buffer.alloc(0)));
      giveBack();
      return intact;
    });
    expect(await Promise.all(all)).toEqual(calls.map(() => true));
  });

  it('takes more than it lends memory for', async () => {
    const coder = newCoder();
    const chunks = Array.from({ length: 50 }, () => randomBytes(CHUNK_BYTES));
    for (let round = 0; round < 3; round++)
      expect((await encodedBy(coder, chunks)).map(({ hash }) => hash)).toEqual(chunks.map(hashOf));
  });

  it('gives chunks back in memory of their own', async () => {
    const coder = newCoder();
    const encoded = await encodedBy(coder, [text(1000), randomBytes(1000), randomBytes(CHUNK_BYTES), Buffer.from([1])]);
    for (const data of await coder.decode(encoded)) expect(data?.buffer.byteLength).toBe(data?.length);
  });

  it('has copied what it’s given before it returns', async () => {
    const coder = newCoder();
    for (const size of [1000, CHUNK_BYTES]) {
      const data = text(size);
      const encoding = encodedBy(coder, [data]);
      data.fill(0);
      expect((await encoding)[0]?.hash).toBe(hashOf(text(size)));
    }
  });

  it('tells of each chunk that is damaged, and restores the others', async () => {
    const coder = newCoder();
    for (const size of [1000, CHUNK_BYTES]) {
      const [good, bad, wrong] = await encodedBy(coder, [text(size), text(size + 1), text(size + 2)]);
      if (good === undefined || bad === undefined || wrong === undefined) throw new Error('it answered too little');
      const damaged = { ...bad, data: bad.data.subarray(1) };
      const raw = await coder.decode([good, damaged, { ...wrong, hash: good.hash }]);
      expect(raw.map((data) => data?.length)).toEqual([size, undefined, undefined]);
    }
  });

  it('rejects what is under way when it’s closed', async () => {
    const coder = new Coder();
    const encoding = coder.encode([randomBytes(4 * 1024 * 1024)]);
    const rejected = expect(encoding).rejects.toThrow('ended');
    await coder.close();
    await rejected;
  });
});
