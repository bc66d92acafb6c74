import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as abi from '../../src/fuse/wire/abi.ts';
import * as flags from '../../src/fuse/wire/flags.ts';
import { operations } from '../../src/fuse/wire/operations.ts';
import type { AnyStruct } from '../../src/fuse/wire/struct.ts';

const HEADER = '/usr/include/linux/fuse.h';
const missing =
  spawnSync('cc', ['--version']).status !== 0 ? 'a C compiler (cc)' : existsSync(HEADER) ? undefined : HEADER;

/** One of our structs beside the header's; `since` is the header's version that first has it in this form. */
interface Pair {
  readonly ours: AnyStruct;
  readonly c: string;
  readonly since?: number;
  /** The C member of a field where it isn't the same name in snake_case; null: the header has none. */
  readonly member?: (field: string) => string | null | undefined;
  /** Fields that are newer than the struct. */
  readonly fieldSince?: { readonly [field: string]: number };
}

const attrNames = new Set(Object.keys(abi.attr.offsets));
const inAttr = (field: string): string | undefined => (attrNames.has(field) ? `attr.${field}` : undefined);
const inLock = (field: string): string | undefined =>
  ['start', 'end', 'type', 'pid'].includes(field) ? `lk.${field}` : undefined;
const inStatx = (field: string): string | null | undefined => {
  const time = /^([abcm]time)(nsec|Reserved)?$/.exec(field);
  if (time) return `${time[1]}.${{ nsec: 'tv_nsec', Reserved: '__reserved' }[time[2] ?? ''] ?? 'tv_sec'}`;
  return field.startsWith('spare') ? null : undefined;
};

const PAIRS: readonly Pair[] = [
  { ours: abi.inHeader, c: 'in_header', since: 38 },
  { ours: abi.outHeader, c: 'out_header' },
  { ours: abi.initIn, c: 'init_in', since: 36 },
  { ours: abi.initOut, c: 'init_out', since: 36, fieldSince: { maxStackDepth: 40, requestTimeout: 43, unused: 43 } },
  { ours: abi.interruptIn, c: 'interrupt_in' },
  { ours: abi.syncfsIn, c: 'syncfs_in', since: 34 },
  { ours: abi.attr, c: 'attr', since: 32 },
  { ours: abi.entryOut, c: 'entry_out', since: 32, member: inAttr },
  { ours: abi.attrOut, c: 'attr_out', since: 32, member: inAttr },
  { ours: abi.getattrIn, c: 'getattr_in' },
  { ours: abi.setattrIn, c: 'setattr_in' },
  { ours: abi.statxIn, c: 'statx_in', since: 39 },
  { ours: abi.statx, c: 'statx', since: 39, member: inStatx },
  {
    ours: abi.statxOut,
    c: 'statx_out',
    since: 39,
    member: (field) => {
      if (!(field in abi.statx.offsets)) return undefined;
      const member = inStatx(field);
      return member === null ? null : `stat.${member ?? snake(field)}`;
    },
  },
  { ours: abi.accessIn, c: 'access_in' },
  { ours: abi.statfsOut, c: 'statfs_out', member: (field) => `st.${field}` },
  { ours: abi.forgetIn, c: 'forget_in' },
  { ours: abi.batchForgetIn, c: 'batch_forget_in' },
  { ours: abi.forgetOne, c: 'forget_one' },
  { ours: abi.mknodIn, c: 'mknod_in' },
  { ours: abi.mkdirIn, c: 'mkdir_in' },
  { ours: abi.renameIn, c: 'rename_in' },
  { ours: abi.rename2In, c: 'rename2_in' },
  { ours: abi.linkIn, c: 'link_in' },
  { ours: abi.createIn, c: 'create_in', since: 33 },
  { ours: abi.openIn, c: 'open_in', since: 33 },
  { ours: abi.openOut, c: 'open_out', fieldSince: { backingId: 40 } },
  { ours: abi.releaseIn, c: 'release_in' },
  { ours: abi.flushIn, c: 'flush_in' },
  { ours: abi.readIn, c: 'read_in' },
  { ours: abi.writeIn, c: 'write_in' },
  { ours: abi.writeOut, c: 'write_out' },
  { ours: abi.fsyncIn, c: 'fsync_in' },
  { ours: abi.fallocateIn, c: 'fallocate_in' },
  { ours: abi.lseekIn, c: 'lseek_in' },
  { ours: abi.lseekOut, c: 'lseek_out' },
  { ours: abi.copyFileRangeIn, c: 'copy_file_range_in' },
  { ours: abi.copyFileRangeOut, c: 'copy_file_range_out', since: 45 },
  { ours: abi.bmapIn, c: 'bmap_in' },
  { ours: abi.bmapOut, c: 'bmap_out' },
  { ours: abi.ioctlIn, c: 'ioctl_in' },
  { ours: abi.ioctlOut, c: 'ioctl_out' },
  { ours: abi.pollIn, c: 'poll_in' },
  { ours: abi.pollOut, c: 'poll_out' },
  { ours: abi.setxattrIn, c: 'setxattr_in', since: 33 },
  { ours: abi.getxattrIn, c: 'getxattr_in' },
  { ours: abi.getxattrOut, c: 'getxattr_out' },
  { ours: abi.lkIn, c: 'lk_in', member: inLock },
  { ours: abi.lkOut, c: 'lk_out', member: inLock },
  { ours: abi.dirent, c: 'dirent' },
  { ours: abi.notifyPollWakeupOut, c: 'notify_poll_wakeup_out' },
  {
    ours: abi.notifyInvalInodeOut,
    c: 'notify_inval_inode_out',
    member: (field) => (field === 'nodeid' ? 'ino' : undefined),
  },
  { ours: abi.notifyInvalEntryOut, c: 'notify_inval_entry_out', since: 38 },
  { ours: abi.notifyDeleteOut, c: 'notify_delete_out' },
  { ours: abi.notifyStoreOut, c: 'notify_store_out' },
  { ours: abi.notifyRetrieveOut, c: 'notify_retrieve_out' },
  { ours: abi.notifyRetrieveIn, c: 'notify_retrieve_in' },
  { ours: abi.notifyPruneOut, c: 'notify_prune_out', since: 45 },
  { ours: abi.extHeader, c: 'ext_header', since: 38 },
  // The version was not raised when the header got it.
  { ours: abi.suppGroups, c: 'supp_groups', since: 39 },
  { ours: abi.secctxHeader, c: 'secctx_header', since: 36 },
  { ours: abi.secctx, c: 'secctx', since: 36 },
];

function snake(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The C expression of a field's offset, or undefined where the header has no such member. */
function offsetExpression(pair: Pair, field: string): string | undefined {
  const half = /^(.*)(Lo|Hi)$/.exec(field);
  const whole = half?.[1] ?? field;
  const member = pair.member?.(whole);
  if (member === null) return undefined;
  return `offsetof(struct fuse_${pair.c}, ${member ?? snake(whole)})${half?.[2] === 'Hi' ? ' + 4' : ''}`;
}

function structLines(pair: Pair): string[] {
  const lines = [`  say("${pair.ours.name}", sizeof(struct fuse_${pair.c}));`];
  for (const field of Object.keys(pair.ours.offsets)) {
    const expression = offsetExpression(pair, field);
    if (!expression) continue;
    const since = pair.fieldSince?.[field] ?? 0;
    lines.push(
      `#if FUSE_KERNEL_MINOR_VERSION >= ${since}`,
      `  say("${pair.ours.name}.${field}", ${expression});`,
      '#endif',
    );
  }
  return [`#if FUSE_KERNEL_MINOR_VERSION >= ${pair.since ?? 31}`, ...lines, '#endif'];
}

function macroLines(table: string, prefix: string, names: readonly string[]): string[] {
  return names.flatMap((name) => [`#ifdef ${prefix}${name}`, `  say("${table}.${name}", ${prefix}${name});`, '#endif']);
}

/** Constants by table: the C prefix of their names, and those that the C library calls otherwise. */
const CONSTANTS: {
  readonly [table: string]: { readonly prefix: string; readonly values: { readonly [name: string]: number } };
} = {
  FOPEN: { prefix: 'FOPEN_', values: flags.FOPEN },
  FATTR: { prefix: 'FATTR_', values: flags.FATTR },
  OPEN_IN: { prefix: 'FUSE_OPEN_', values: flags.OPEN_IN },
  GETATTR: { prefix: 'FUSE_GETATTR_', values: flags.GETATTR },
  READ: { prefix: 'FUSE_READ_', values: flags.READ },
  WRITE: { prefix: 'FUSE_WRITE_', values: flags.WRITE },
  RELEASE: { prefix: 'FUSE_RELEASE_', values: flags.RELEASE },
  FSYNC: { prefix: 'FUSE_FSYNC_', values: flags.FSYNC },
  SETXATTR: { prefix: 'FUSE_SETXATTR_', values: flags.SETXATTR },
  LK: { prefix: 'FUSE_LK_', values: flags.LK },
  IOCTL: { prefix: 'FUSE_IOCTL_', values: flags.IOCTL },
  ATTR: { prefix: 'FUSE_ATTR_', values: flags.ATTR },
  POLL: { prefix: 'FUSE_POLL_', values: flags.POLL },
  // glibc says O_LARGEFILE is 0 where every file is large, and the kernel passes its own bit on.
  O: { prefix: 'O_', values: { ...flags.O, LARGEFILE: 0 } },
  S: { prefix: 'S_', values: flags.S },
  RENAME: { prefix: 'RENAME_', values: flags.RENAME },
  FALLOC: { prefix: 'FALLOC_FL_', values: flags.FALLOC },
  SEEK: { prefix: 'SEEK_', values: flags.SEEK },
  ACCESS: { prefix: '', values: flags.ACCESS },
  F_LOCK: { prefix: 'F_', values: flags.F_LOCK },
};

/** What the machine's headers say, by the names used above. */
function askCompiler(): Map<string, number> {
  const source = [
    '#define _GNU_SOURCE',
    ...['stddef', 'stdio', 'fcntl', 'unistd', 'sys/stat', 'linux/fuse', 'linux/falloc'].map(
      (name) => `#include <${name}.h>`,
    ),
    'static void say(const char *name, unsigned long long value) { printf("%s %llu\\n", name, value); }',
    'int main(void) {',
    ...PAIRS.flatMap(structLines),
    ...macroLines('INIT', 'FUSE_', Object.keys(flags.INIT)),
    ...Object.entries(CONSTANTS).flatMap(([table, { prefix, values }]) =>
      macroLines(table, prefix, Object.keys(values)),
    ),
    ...operations.flatMap(({ name, since }) => [
      `#if FUSE_KERNEL_MINOR_VERSION >= ${since}`,
      `  say("OPCODE.${name}", FUSE_${name});`,
      '#endif',
    ]),
    '  return 0;',
    '}',
  ].join('\n');
  const folder = mkdtempSync(join(tmpdir(), 'tarbox-header-'));
  try {
    writeFileSync(join(folder, 'ask.c'), source);
    execFileSync('cc', ['-o', join(folder, 'ask'), join(folder, 'ask.c')], { stdio: 'pipe' });
    const lines = execFileSync(join(folder, 'ask'), { encoding: 'utf8' }).trim().split('\n');
    return new Map(lines.map((line) => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(missing)(`the protocol, compared with ${HEADER}${missing ? ` (skipped: no ${missing})` : ''}`, () => {
  const header = missing ? new Map<string, number>() : askCompiler();

  it('declares every struct with the size and the offsets that C gives it', () => {
    const ours = new Map<string, number>();
    for (const { ours: declared } of PAIRS) {
      ours.set(declared.name, declared.size);
      for (const [field, offset] of Object.entries(declared.offsets)) ours.set(`${declared.name}.${field}`, offset);
    }
    const theirs = [...header].filter(([name]) => /^[a-z]/.test(name));
    expect(theirs.length).toBeGreaterThan(200);
    expect(theirs.map(([name]) => [name, ours.get(name)])).toEqual(theirs);
  });

  it('compares every struct that it declares', () => {
    const compared = new Set(PAIRS.map((pair) => pair.ours.name));
    const declared = Object.values(abi).filter((value) => typeof value === 'object');
    expect(declared.map(({ name }) => name).filter((name) => !compared.has(name))).toEqual(['setxattrInCompat']);
  });

  it('numbers INIT flags by their bit', () => {
    const theirs = [...header].filter(([name]) => name.startsWith('INIT.'));
    expect(theirs.length).toBeGreaterThan(25);
    for (const [name, mask] of theirs) {
      // A C int with bit 31 set arrives sign-extended; INIT_RESERVED is the only one and isn't in the table.
      expect([name, 2 ** (flags.INIT[name.slice(5) as flags.InitFlag] ?? -1)]).toEqual([name, mask]); // a name of the table, as it was asked for
    }
  });

  it('has the values of every other constant', () => {
    for (const [table, { values }] of Object.entries(CONSTANTS)) {
      const found = Object.entries(values).filter(([name]) => header.has(`${table}.${name}`));
      expect(found.length, table).toBeGreaterThan(0);
      expect(found.map(([name, value]) => [table, name, value])).toEqual(
        found.map(([name]) => [table, name, header.get(`${table}.${name}`)]),
      );
    }
  });

  it('numbers operations as the header does', () => {
    for (const { name, opcode } of operations) {
      const theirs = header.get(`OPCODE.${name}`);
      if (theirs !== undefined) expect([name, opcode]).toEqual([name, theirs]);
    }
    expect(header.get('OPCODE.LOOKUP')).toBe(1);
  });
});
