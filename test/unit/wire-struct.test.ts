import { describe, expect, it } from 'vitest';
import { struct } from '../../src/fuse/wire/struct.ts';

const every = struct('every', 40, {
  byte: 'u8',
  pad: ['bytes', 1],
  half: 'u16',
  word: 'u32',
  signed: 'i32',
  gap: ['bytes', 4],
  long: 'u64',
  signedLong: 'i64',
  last: 'u32',
  tail: ['bytes', 4],
});

const value = {
  byte: 0xfe,
  half: 0xfedc,
  word: 0xfedcba98,
  signed: -2,
  long: 2 ** 53 - 1,
  signedLong: -5_000_000_000,
  last: 7,
};

describe('a declared struct', () => {
  it('knows the offset of every field', () => {
    expect(every.offsets).toEqual({
      byte: 0,
      pad: 1,
      half: 2,
      word: 4,
      signed: 8,
      gap: 12,
      long: 16,
      signedLong: 24,
      last: 32,
      tail: 36,
    });
  });

  it('refuses a size that its fields do not add up to', () => {
    expect(() => struct('short', 16, { a: 'u64', b: 'u32' })).toThrow('its fields take 12 bytes, declared are 16');
  });

  it('refuses a field that C would have moved', () => {
    expect(() => struct('crooked', 12, { a: 'u32', b: 'u64' })).toThrow('b (u64) is not aligned at byte 4');
  });

  it('refuses a name that is not an identifier, because names become code', () => {
    expect(() => struct('bad', 4, { 'a; process.exit()': 'u32' })).toThrow('is not a field name');
  });

  it('reads back what it wrote, at any offset', () => {
    const buffer = Buffer.alloc(64);
    for (const offset of [0, 1, 8, 24]) {
      every.writer()(buffer, offset, value);
      expect(every.decode(buffer, offset)).toEqual(value);
      expect(every.reader()(buffer, offset)).toEqual(value);
    }
  });

  it('is little-endian', () => {
    const buffer = Buffer.alloc(40);
    every.writer()(buffer, 0, value);
    expect(buffer.toString('hex')).toBe(
      [
        'fe', // byte
        '00', // pad
        'dcfe', // half
        '98badcfe', // word
        'feffffff', // signed
        '00000000', // gap
        'ffffffffffff1f00', // long
        '000efad5feffffff', // signedLong
        '07000000', // last
        '00000000', // tail
      ].join(''),
    );
  });

  it('writes plain bytes as zeros and nothing outside of itself', () => {
    const buffer = Buffer.alloc(56, 0xaa);
    every.writer()(buffer, 8, value);
    expect([...buffer.subarray(20, 24)]).toEqual([0, 0, 0, 0]);
    expect([...buffer.subarray(44, 48)]).toEqual([0, 0, 0, 0]);
    expect(buffer.subarray(0, 8).every((byte) => byte === 0xaa)).toBe(true);
    expect(buffer.subarray(48).every((byte) => byte === 0xaa)).toBe(true);
  });

  it('zeroes plain bytes of any length and alignment', () => {
    for (const length of [1, 2, 3, 5, 7, 11]) {
      const odd = struct('odd', 1 + length + ((8 - ((1 + length) % 8)) % 8), {
        first: 'u8',
        spare: ['bytes', length],
        ...((1 + length) % 8 === 0 ? {} : { rest: ['bytes', 8 - ((1 + length) % 8)] as const }),
      });
      const buffer = Buffer.alloc(odd.size, 0xaa);
      odd.writer()(buffer, 0, { first: 1 });
      expect(buffer.indexOf(0xaa)).toBe(-1);
    }
  });

  it('fills one object again and again', () => {
    const read = every.reader();
    const buffer = Buffer.alloc(40);
    const first = read(buffer, 0);
    buffer[0] = 9;
    expect(read(buffer, 0)).toBe(first);
    expect(first.byte).toBe(9);
    expect(every.reader()(buffer, 0)).not.toBe(first);
  });

  it('sees two buffers over the same memory apart', () => {
    const memory = Buffer.alloc(80);
    const read = every.reader();
    memory[40] = 5;
    expect(read(memory.subarray(40), 0).byte).toBe(5);
    expect(read(memory, 0).byte).toBe(0);
  });

  it('throws RangeError past the end of the buffer', () => {
    expect(() => every.decode(Buffer.alloc(39), 0)).toThrow(RangeError);
    const buffer = Buffer.alloc(35);
    expect(() => every.reader()(buffer, 0)).toThrow(RangeError);
    expect(() => every.writer()(buffer, 0, value)).toThrow(RangeError);
  });

  it('reads 64-bit words beyond 2^53 rounded, never wrapped', () => {
    const buffer = Buffer.alloc(40, 0xff);
    const read = every.decode(buffer, 0);
    expect(read.long).toBe(2 ** 64);
    expect(read.signedLong).toBe(-1);
  });
});
