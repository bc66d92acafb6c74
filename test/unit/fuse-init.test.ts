import { describe, expect, it } from 'vitest';
import { negotiate } from '../../src/fuse/init.ts';
import { initIn, initOut } from '../../src/fuse/wire/abi.ts';
import { INIT, INIT_SINCE, type InitFlag } from '../../src/fuse/wire/flags.ts';

/** What Linux 6.18 sends. */
const linux618 = {
  major: 7,
  minor: 45,
  maxReadahead: 131072,
  flags: 0x73ffffff & ~(1 << INIT.FILE_OPS),
  flags2: 0x7fd,
};
const everything = { major: 7, minor: 45, maxReadahead: 131072, flags: 0xffffffff, flags2: 0xffffffff };

const on = (flags: { readonly [flag in InitFlag]: boolean } | undefined): string[] =>
  Object.entries(flags ?? {}).flatMap(([flag, isOn]) => (isOn ? [flag] : []));

describe('negotiating', () => {
  it('takes the wanted features and no others', () => {
    const { negotiated } = negotiate(everything);
    expect(on(negotiated?.flags)).toEqual([
      'ASYNC_READ',
      'ATOMIC_O_TRUNC',
      'EXPORT_SUPPORT',
      'BIG_WRITES',
      'DONT_MASK',
      'DO_READDIRPLUS',
      'READDIRPLUS_AUTO',
      'ASYNC_DIO',
      'PARALLEL_DIROPS',
      'POSIX_ACL',
      'MAX_PAGES',
      'CACHE_SYMLINKS',
      'NO_OPENDIR_SUPPORT',
      'EXPLICIT_INVAL_DATA',
      'HANDLE_KILLPRIV_V2',
      'SETXATTR_EXT',
      'INIT_EXT',
      'HAS_EXPIRE_ONLY',
      'DIRECT_IO_ALLOW_MMAP',
      'HAS_RESEND',
    ]);
  });

  it('answers with 1 MiB requests and nanosecond times', () => {
    const { reply, replyBytes, negotiated } = negotiate(linux618);
    expect(replyBytes).toBe(64);
    expect(reply).toMatchObject({
      major: 7,
      minor: 45,
      maxBackground: 128,
      congestionThreshold: 96,
      maxWrite: 1 << 20,
      maxPages: 256,
      timeGran: 1,
    });
    expect(negotiated).toMatchObject({ major: 7, minor: 45, maxWriteBytes: 1 << 20 });
  });

  it('sends flags above bit 31 in the second word', () => {
    const { reply } = negotiate(everything);
    expect(reply.flags2).toBe((1 << (39 - 32)) | (1 << (36 - 32)) | (1 << (35 - 32)));
    expect(reply.flags).toBeGreaterThan(0);
  });

  it('never answers a flag that was not offered', () => {
    for (const flags of [0, 1, 1 << INIT.POSIX_ACL, linux618.flags]) {
      const { reply } = negotiate({ ...linux618, flags, flags2: 1 << (INIT.HAS_RESEND - 32) });
      expect(reply.flags & ~flags).toBe(0);
      expect(reply.flags2 & ~(1 << (INIT.HAS_RESEND - 32))).toBe(0);
    }
  });

  it('asks for write-back only when told to', () => {
    expect(negotiate(everything).negotiated?.flags.WRITEBACK_CACHE).toBe(false);
    expect(negotiate(everything, { writebackCache: true }).negotiated?.flags.WRITEBACK_CACHE).toBe(true);
  });

  it('bounds read-ahead only by the wish, whatever the kernel started with', () => {
    expect(negotiate(linux618, { maxReadaheadBytes: 4096 }).reply.maxReadahead).toBe(4096);
    expect(negotiate(linux618).reply.maxReadahead).toBeGreaterThan(2 ** 31);
    expect(negotiate(linux618).reply.maxReadahead % 4096).toBe(0);
  });

  it('keeps to 32 pages where the kernel knows no other number', () => {
    const { reply, negotiated } = negotiate({ ...linux618, flags: linux618.flags & ~(1 << INIT.MAX_PAGES) });
    expect(reply.maxPages).toBe(0);
    expect(negotiated?.maxWriteBytes).toBe(128 * 1024);
  });

  it('survives a trip through JSON', () => {
    const { negotiated } = negotiate(linux618);
    expect(JSON.parse(JSON.stringify(negotiated))).toEqual(negotiated);
  });

  it('reads no second word of flags from a request that ends before it', () => {
    const old = { ...everything, minor: 35, flags: everything.flags & ~(1 << INIT.INIT_EXT) };
    expect(negotiate(old).reply.flags2).toBe(0);
  });

  it('can pretend to be older, with the features of then', () => {
    for (let minor = 31; minor <= 45; minor++) {
      const { reply, negotiated } = negotiate(everything, { capMinor: minor });
      expect(reply.minor).toBe(minor);
      for (const flag of on(negotiated?.flags)) {
        expect(INIT_SINCE[flag as InitFlag] ?? 31).toBeLessThanOrEqual(minor); // `on` gives keys of the flags
      }
    }
    expect(negotiate(everything, { capMinor: 31 }).reply.flags2).toBe(0);
  });

  it('speaks no newer than it knows', () => {
    expect(negotiate({ ...everything, minor: 99 }).reply.minor).toBe(45);
    expect(negotiate({ ...everything, minor: 40 }).reply.minor).toBe(40);
  });

  it('answers a newer major version with its own alone, and waits', () => {
    const { reply, replyBytes, negotiated } = negotiate({ ...everything, major: 8, minor: 0 });
    expect([reply.major, replyBytes, negotiated]).toEqual([7, 8, undefined]);
  });

  it('refuses kernels before 7.31 and names the remedy', () => {
    for (const [major, minor] of [[7, 30] as const, [6, 99] as const]) {
      expect(() => negotiate({ ...everything, major, minor })).toThrow(
        `the kernel speaks FUSE ${major}.${minor}; 7.31 is needed: run Linux 5.4 or newer`,
      );
    }
  });

  it('packs into 64 bytes', () => {
    const buffer = Buffer.alloc(initOut.size, 0xaa);
    initOut.writer()(buffer, 0, negotiate(linux618).reply);
    expect(initOut.decode(buffer, 0)).toEqual(negotiate(linux618).reply);
    expect(initIn.size).toBe(64);
  });
});
