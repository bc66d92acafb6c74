import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, parseBytes, parseDuration } from '../../src/config/units.ts';

describe('a size', () => {
  it.each([
    ['4GB', 4e9],
    ['512MiB', 512 * 2 ** 20],
    ['1.5 KiB', 1536],
    ['64mib', 64 * 2 ** 20],
    ['1000', 1000],
    ['0', 0],
    ['7B', 7],
    ['2TiB', 2 * 2 ** 40],
  ])('%s is %i bytes', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each([
    '',
    'GB',
    '-1',
    '1e3',
    '4 G B',
    '4G',
    '4XB',
    '0x10',
    '1..5KB',
    '9PiB',
    '99999999999999999999',
    '1_000',
    '5s',
  ])("'%s' is none", (text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it('is read back as it was written', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseBytes(formatBytes(bytes)) === bytes));
    expect([0, 1001, 1000, 1024, 64 * 2 ** 20, 4e9].map(formatBytes)).toEqual([
      '0',
      '1001B',
      '1kB',
      '1KiB',
      '64MiB',
      '4GB',
    ]);
  });
});

describe('a time', () => {
  it.each([
    ['250ms', 250],
    ['30s', 30_000],
    ['1h', 3_600_000],
    ['5m', 300_000],
    ['5min', 300_000],
    ['1d', 86_400_000],
    ['0.5s', 500],
    ['2', 2000],
  ])('%s is %i ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each(['', 's', '-1s', '1 day ago', '1h30m', '5MB', 'soon'])("'%s' is none", (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });

  it('is read back as it was written', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (ms) => parseDuration(formatDuration(ms)) === ms));
    expect([0, 250, 90_000, 3_600_000].map(formatDuration)).toEqual(['0', '250ms', '90s', '1h']);
  });
});
