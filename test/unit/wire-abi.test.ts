import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as abi from '../../src/fuse/wire/abi.ts';
import { OPCODE, operationOf, operations } from '../../src/fuse/wire/operations.ts';

/** A message spelled out field by field, in hexadecimal as it lies in memory. */
function fixture(fields: { readonly [field: string]: string }): Buffer {
  return Buffer.from(Object.values(fields).join('').replaceAll(' ', ''), 'hex');
}

describe('a request header', () => {
  const bytes = fixture({
    len: '38000000',
    opcode: '03000000',
    unique: '2a000000 00000080',
    nodeid: '07000000 00300000',
    uid: 'e8030000',
    gid: 'e9030000',
    pid: '0c000000',
    totalExtlen: '0200',
    padding: '0000',
  });

  it('keeps a nodeid and a unique number exact, in two words', () => {
    expect(abi.inHeader.decode(bytes, 0)).toEqual({
      len: 56,
      opcode: OPCODE.GETATTR,
      uniqueLo: 42,
      uniqueHi: 0x8000_0000,
      nodeidLo: 7,
      nodeidHi: 0x3000,
      uid: 1000,
      gid: 1001,
      pid: 12,
      totalExtlen: 2,
    });
  });
});

describe('a SETATTR argument', () => {
  it('has signed times and separate nanoseconds', () => {
    const bytes = fixture({
      valid: '31000000',
      padding: '00000000',
      fh: '0100000000000000',
      size: '0000000001000000',
      lockOwner: '0102030405060708',
      atime: 'ffffffffffffffff',
      mtime: '00f1536500000000',
      ctime: '0000000000000000',
      atimensec: 'ffc99a3b',
      mtimensec: '01000000',
      ctimensec: '00000000',
      mode: 'a4810000',
      unused4: '00000000',
      uid: '05000000',
      gid: '06000000',
      unused5: '00000000',
    });
    expect(abi.setattrIn.decode(bytes, 0)).toMatchObject({
      valid: 0x31,
      fh: 1,
      size: 2 ** 32,
      lockOwnerLo: 0x04030201,
      lockOwnerHi: 0x08070605,
      atime: -1,
      mtime: 1700000000,
      atimensec: 999999999,
      mtimensec: 1,
      mode: 0o100644,
      uid: 5,
      gid: 6,
    });
  });
});

describe('an entry reply', () => {
  it('lies as the kernel reads it', () => {
    const value = abi.entryOut.blank();
    value.nodeidLo = 2;
    value.nodeidHi = 1;
    value.generation = 3;
    value.entryValid = 4;
    value.attrValid = 5;
    value.entryValidNsec = 6;
    value.attrValidNsec = 7;
    value.ino = 8;
    value.size = 9;
    value.blocks = 10;
    value.atime = -1;
    value.mode = 0o40755;
    value.nlink = 11;
    value.rdev = 12;
    value.blksize = 4096;
    const buffer = Buffer.alloc(abi.entryOut.size);
    abi.entryOut.writer()(buffer, 0, value);
    expect(buffer).toEqual(
      fixture({
        nodeid: '02000000 01000000',
        generation: '0300000000000000',
        entryValid: '0400000000000000',
        attrValid: '0500000000000000',
        entryValidNsec: '06000000',
        attrValidNsec: '07000000',
        ino: '0800000000000000',
        size: '0900000000000000',
        blocks: '0a00000000000000',
        atime: 'ffffffffffffffff',
        mtime: '0000000000000000',
        ctime: '0000000000000000',
        atimensec: '00000000',
        mtimensec: '00000000',
        ctimensec: '00000000',
        mode: 'ed410000',
        nlink: '0b000000',
        uid: '00000000',
        gid: '00000000',
        rdev: '0c000000',
        blksize: '00100000',
        flags: '00000000',
      }),
    );
  });
});

describe('the table of operations', () => {
  it('finds each by its number', () => {
    for (const operation of operations) expect(operationOf(operation.opcode)).toBe(operation);
    expect(operationOf(OPCODE.COPY_FILE_RANGE_64)?.name).toBe('COPY_FILE_RANGE_64');
  });

  it('has no operation for a number that the protocol skips', () => {
    for (const opcode of [0, 7, 19, 54, 63, 64, 4096, 0xffff_ffff]) expect(operationOf(opcode)).toBeUndefined();
  });

  it('never asks for more argument than its struct has', () => {
    for (const { argument, argumentBytes } of operations)
      expect(argumentBytes).toBeLessThanOrEqual(argument?.size ?? 0);
  });

  it('decodes any bytes, or throws RangeError where they end', () => {
    const structs = Object.values(abi).filter((declared) => typeof declared === 'object');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...structs), (bytes, declared) => {
        const buffer = Buffer.from(bytes);
        if (buffer.length < declared.size) expect(() => declared.decode(buffer, 0)).toThrow(RangeError);
        else expect(Object.values(declared.decode(buffer, 0)).every(Number.isFinite)).toBe(true);
      }),
    );
  });

  it('writes back what it decoded from any bytes, but for padding', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 40, maxLength: 40 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        buffer.fill(0, 38);
        const copy = Buffer.alloc(40);
        abi.inHeader.writer()(copy, 0, abi.inHeader.decode(buffer, 0));
        expect(copy).toEqual(buffer);
      }),
    );
  });
});
