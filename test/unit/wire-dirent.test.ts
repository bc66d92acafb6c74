import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dirent, entryOut } from '../../src/fuse/wire/abi.ts';
import { appendDirent, appendDirentPlus, direntBytes, direntPlusBytes } from '../../src/fuse/wire/dirent.ts';
import { DT } from '../../src/fuse/wire/flags.ts';

interface Entry {
  readonly ino: number;
  readonly cookie: number;
  readonly type: number;
  readonly name: string;
}

/** Reads a listing back the way the kernel does. */
function unpack(buffer: Buffer, end: number, prefix = 0): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < end; ) {
    const { ino, off, namelen, type } = dirent.decode(buffer, at + prefix);
    const nameAt = at + prefix + dirent.size;
    entries.push({ ino, cookie: off, type, name: buffer.toString('latin1', nameAt, nameAt + namelen) });
    at = (nameAt + namelen + 7) & ~7;
  }
  return entries;
}

const entryOf = fc.record({
  ino: fc.integer({ min: 1, max: 2 ** 44 - 1 }),
  cookie: fc.integer({ min: 1, max: 2 ** 50 }),
  type: fc.constantFrom(...Object.values(DT)),
  name: fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
});

describe('a READDIR listing', () => {
  it('lies as the kernel reads it', () => {
    const buffer = Buffer.alloc(64, 0xaa);
    expect(appendDirent(buffer, 0, 64, 2, 17, DT.REG, 'a\xff')).toBe(32);
    expect(buffer.subarray(0, 32).toString('hex')).toBe(
      [
        '0200000000000000', // ino
        '1100000000000000', // off
        '02000000', // namelen
        '08000000', // type
        '61ff', // name
        '000000000000', // up to the next multiple of 8
      ].join(''),
    );
    expect(buffer[32]).toBe(0xaa);
  });

  it('says when the next entry does not fit, and leaves the buffer alone', () => {
    const buffer = Buffer.alloc(64, 0xaa);
    expect(appendDirent(buffer, 32, 63, 2, 17, DT.REG, 'a')).toBe(-1);
    expect(buffer.every((byte) => byte === 0xaa)).toBe(true);
    expect(appendDirent(buffer, 32, 64, 2, 17, DT.REG, 'a')).toBe(64);
  });

  it('reads back as it was packed', () => {
    fc.assert(
      fc.property(fc.array(entryOf, { maxLength: 20 }), (entries) => {
        const buffer = Buffer.alloc(8192, 0xaa);
        let at = 0;
        for (const { ino, cookie, type, name } of entries) {
          const next = appendDirent(buffer, at, buffer.length, ino, cookie, type, name);
          expect(next).toBe(at + direntBytes(name.length));
          at = next;
        }
        expect(unpack(buffer, at)).toEqual(entries);
      }),
    );
  });
});

describe('a READDIRPLUS listing', () => {
  it('leaves room for the entry in front of each name', () => {
    fc.assert(
      fc.property(fc.array(entryOf, { maxLength: 10 }), (entries) => {
        const buffer = Buffer.alloc(8192, 0xaa);
        let at = 0;
        for (const { ino, cookie, type, name } of entries) {
          expect(appendDirentPlus(buffer, at, buffer.length, ino, cookie, type, name)).toBe(at);
          buffer.fill(0xbb, at, at + entryOut.size);
          at += direntPlusBytes(name.length);
        }
        expect(unpack(buffer, at, entryOut.size)).toEqual(entries);
      }),
    );
  });

  it('says when the next entry does not fit', () => {
    const buffer = Buffer.alloc(256, 0xaa);
    const needed = direntPlusBytes(3);
    expect(appendDirentPlus(buffer, 8, 8 + needed - 1, 2, 17, DT.DIR, 'abc')).toBe(-1);
    expect(buffer.every((byte) => byte === 0xaa)).toBe(true);
    expect(appendDirentPlus(buffer, 8, 8 + needed, 2, 17, DT.DIR, 'abc')).toBe(8);
  });
});
