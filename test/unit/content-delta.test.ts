import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { codec } from '../../src/content/compress.ts';
import { DELTA, encodeDelta, MAX_DELTAS, restore, type StoredChunk } from '../../src/content/delta.ts';
import { DeltaCoder } from '../../src/content/delta-coder.ts';
import { sha256 } from '../../src/content/hash.ts';

const CHUNK_BYTES = 128 * 1024;

/** Versions, each with some bytes more than the one before, and how they're stored: the last whole, the others as deltas. */
function chain(count: number, bytes: number): { versions: Buffer[]; stored: StoredChunk[] } {
  const versions = [randomBytes(bytes)];
  for (let n = 1; n < count; n++) {
    const before = versions[n - 1] ?? Buffer.alloc(0);
    versions.push(
      Buffer.concat([before.subarray(0, n * 7), Buffer.from(`+${n}`), before.subarray(n * 7)]).subarray(0, bytes),
    );
  }
  const stored = versions.map((data, n): StoredChunk => {
    const next = versions[n + 1];
    if (next === undefined) return { hash: sha256(data), codec: codec.raw, base: undefined, data };
    return { hash: sha256(data), codec: DELTA, base: sha256(next), data: encodeDelta(data, next) ?? Buffer.alloc(0) };
  });
  return { versions, stored };
}

const mapOf = (stored: readonly StoredChunk[]) => new Map(stored.map((chunk) => [chunk.hash, chunk]));
const NOTHING: ReadonlyMap<string, Uint8Array> = new Map();

it.each([1, 100, 4096, CHUNK_BYTES])('makes a small delta of %i random bytes that were changed a little', (bytes) => {
  const { versions, stored } = chain(2, bytes);
  expect(stored[0]?.data.length).toBeLessThan(64);
  const [found] = restore([sha256(versions[0] ?? Buffer.alloc(0))], mapOf(stored), NOTHING);
  expect(found && Buffer.from(found).equals(versions[0] ?? Buffer.alloc(0))).toBe(true);
});

it('restores every chunk of the longest chain, in any order', () => {
  const { versions, stored } = chain(MAX_DELTAS + 1, 10_000);
  for (const order of [versions, versions.toReversed(), versions.slice(0, 1)]) {
    const found = restore(order.map(sha256), mapOf(stored), NOTHING);
    for (const [n, version] of order.entries()) expect(Buffer.from(found[n] ?? []).equals(version)).toBe(true);
  }
});

it('takes chunks that are made from each other for damaged', () => {
  const { versions, stored } = chain(3, 10_000);
  const [first, second] = stored;
  if (first === undefined || second === undefined) throw new Error('there are three');
  const map = mapOf([first, { ...second, base: first.hash }]);
  expect(restore(versions.slice(0, 2).map(sha256), map, NOTHING)).toEqual([undefined, undefined]);
});

it('takes a chunk that was loaded last for what it is', () => {
  const { versions, stored } = chain(2, 10_000);
  const [older = Buffer.alloc(0), newer = Buffer.alloc(0)] = versions;
  const turned: StoredChunk[] = [
    { hash: sha256(older), codec: codec.raw, base: undefined, data: older },
    { hash: sha256(newer), codec: DELTA, base: sha256(older), data: encodeDelta(newer, older) ?? Buffer.alloc(0) },
  ];
  const map = mapOf([...stored.slice(0, 1), ...turned.toReversed()]);
  expect(restore([sha256(older)], map, NOTHING)[0]).toBeDefined();
});

it('takes a chunk for damaged when its base is missing, or its delta or the base is damaged', () => {
  const { versions, stored } = chain(3, 10_000);
  const [hash = ''] = versions.map(sha256);
  const changed = (index: number, change: (data: Uint8Array) => Uint8Array): Map<string, StoredChunk> =>
    mapOf(stored.map((chunk, n) => (n === index ? { ...chunk, data: change(chunk.data) } : chunk)));
  const flip = (data: Uint8Array): Uint8Array => data.map((byte, at) => (at === data.length >> 1 ? byte ^ 1 : byte));
  expect(restore([hash], mapOf(stored.slice(0, 2)), NOTHING)).toEqual([undefined]);
  for (const index of [0, 1, 2]) expect(restore([hash], changed(index, flip), NOTHING)).toEqual([undefined]);
  expect(
    restore(
      [hash],
      changed(0, (data) => data.subarray(1)),
      NOTHING,
    ),
  ).toEqual([undefined]);
});

it('needs only the delta of a chunk whose base is at hand', () => {
  const { versions, stored } = chain(5, 10_000);
  const [hash = '', base = ''] = versions.map(sha256);
  const known = new Map([[base, versions[1] ?? Buffer.alloc(0)]]);
  expect(restore([hash], mapOf(stored.slice(0, 1)), known)[0]).toBeDefined();
});

it('makes no delta from a base that begins as a dictionary of zstd does', () => {
  const base = Buffer.concat([Buffer.from([0x37, 0xa4, 0x30, 0xec]), randomBytes(5000)]);
  expect(encodeDelta(Buffer.concat([base, Buffer.from('more')]), base)).toBeUndefined();
});

it('does large jobs on its thread and small ones at once, with the same outcome', async () => {
  const coder = new DeltaCoder();
  for (const bytes of [1000, CHUNK_BYTES]) {
    const { versions, stored } = chain(4, bytes);
    const [data = Buffer.alloc(0), base = Buffer.alloc(0)] = versions;
    const { deltas, wholes } = await coder.encode([{ data, base }], [Buffer.alloc(bytes)]);
    expect(Buffer.from(deltas[0] ?? [])).toEqual(encodeDelta(data, base));
    expect(wholes[0]?.codec).toBe(codec.zstd);
    const found = await coder.restore(versions.map(sha256), stored, []);
    for (const [n, version] of versions.entries()) {
      expect(found[n]?.equals(version)).toBe(true);
      expect(found[n]?.buffer.byteLength).toBe(version.length);
    }
  }
  await coder.close();
});

it('rejects what is under way when it is closed, and goes on afterwards', async () => {
  const coder = new DeltaCoder();
  const { versions, stored } = chain(2, CHUNK_BYTES);
  const restoring = coder.restore(versions.map(sha256), stored, []);
  const closing = coder.close();
  await expect(restoring).rejects.toThrow('ended');
  await closing;
  expect(await coder.restore(versions.map(sha256), stored, [])).toHaveLength(2);
  await coder.close();
});
