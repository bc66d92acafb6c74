import { describe, expect, it } from 'vitest';
import {
  packDelete,
  packIncEpoch,
  packInvalEntry,
  packInvalInode,
  packResend,
  packStore,
} from '../../src/fuse/notify.ts';

const buffer = Buffer.alloc(256);

/** What a packer wrote, over a buffer that was full of something else. */
function written(pack: () => number): string {
  buffer.fill(0xaa);
  const length = pack();
  expect(buffer.subarray(length).every((byte) => byte === 0xaa)).toBe(true);
  return buffer.toString('hex', 0, length);
}

/** A message spelled out field by field. */
function fixture(fields: { readonly [field: string]: string }): string {
  return Object.values(fields).join('').replaceAll(' ', '');
}

const noUnique = '0000000000000000';

describe('a notification', () => {
  it('drops an inode’s pages', () => {
    expect(written(() => packInvalInode(buffer, 7, 0x3000, -1, 2 ** 33))).toBe(
      fixture({
        len: '28000000',
        code: '02000000',
        unique: noUnique,
        nodeid: '07000000 00300000',
        off: 'ffffffffffffffff',
        len64: '0000000002000000',
      }),
    );
  });

  it('drops a name', () => {
    expect(written(() => packInvalEntry(buffer, 1, 0, 'é'.normalize('NFC')))).toBe(
      fixture({
        len: '22000000',
        code: '03000000',
        unique: noUnique,
        parent: '01000000 00000000',
        namelen: '01000000',
        flags: '00000000',
        name: 'e9 00',
      }),
    );
  });

  it('expires a name', () => {
    expect(written(() => packInvalEntry(buffer, 1, 0, 'a', true)).slice(56, 64)).toBe('01000000');
  });

  it('tells that a name was removed', () => {
    expect(written(() => packDelete(buffer, 1, 0, 9, 0x1000, 'ab'))).toBe(
      fixture({
        len: '2b000000',
        code: '06000000',
        unique: noUnique,
        parent: '01000000 00000000',
        child: '09000000 00100000',
        namelen: '02000000',
        padding: '00000000',
        name: '6162 00',
      }),
    );
  });

  it('stores bytes in the page cache', () => {
    expect(written(() => packStore(buffer, 9, 0, 4096, Buffer.from('xyz')))).toBe(
      fixture({
        len: '2b000000',
        code: '04000000',
        unique: noUnique,
        nodeid: '09000000 00000000',
        offset: '0010000000000000',
        size: '03000000',
        padding: '00000000',
        data: '78797a',
      }),
    );
  });

  it('is a bare header when it has nothing to say', () => {
    expect(written(() => packResend(buffer))).toBe(fixture({ len: '10000000', code: '07000000', unique: noUnique }));
    expect(written(() => packIncEpoch(buffer))).toBe(fixture({ len: '10000000', code: '08000000', unique: noUnique }));
  });
});
