import { spawnSync } from 'node:child_process';
import { lstatSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { inspect } from 'node:util';
import koffi from 'koffi';
import { direntsOf, nativeCall, OPEN_FLAGS, SEEK, systemCalls } from '../model/syscalls.ts';
import { Commands } from './commands.ts';
import { type LookOptions, lookAtTree } from './look.ts';

/** The process behind `Holder`: it answers each request with what the call gave. */

/** The calls and their arguments. */
export interface Requests {
  open: [path: string, mode: string];
  close: [handle: number];
  read: [handle: number];
  write: [handle: number, text: string, offset: number];
  fsync: [handle: number];
  truncate: [handle: number, size: number];
  chmod: [handle: number, mode: number];
  stat: [handle: number];
  list: [handle: number];
  map: [handle: number, length: number];
  peek: [mapping: number, offset: number, length: number];
  poke: [mapping: number, offset: number, text: string];
  chdir: [path: string];
  readPath: [path: string];
  writePath: [path: string, text: string];
  cwd: [];
  exists: [path: string];
  shell: [directory: string, script: string];
  command: [mount: string, file: string, command: string | object];
  look: [root: string, options: LookOptions];
}

export interface Request {
  readonly call: keyof Requests;
  readonly args: readonly unknown[];
}

/** The errno as a negative number, or what the call gave; `problem` when it's neither. */
export interface Answer {
  readonly result: number;
  readonly text: string;
  readonly problem?: string;
}

type Calls = { readonly [C in keyof Requests]: (...args: Requests[C]) => number | string };

const PROT_READ_WRITE = 3;
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const F_ACCMODE = 3;
const PIECE_BYTES = 1 << 20;

const { O_RDONLY, O_RDWR, O_DIRECTORY, O_TMPFILE, O_DSYNC } = OPEN_FLAGS;
const FLAGS: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  'r+': O_RDWR,
  directory: O_DIRECTORY,
  tmpfile: O_TMPFILE | O_RDWR,
  sync: O_RDWR | O_DSYNC,
};
const system = systemCalls();
const mmap = nativeCall<
  (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => bigint
>('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)');
const mappings: Buffer[] = [];

function readAll(handle: number): number | string {
  const pieces: Buffer[] = [];
  for (let offset = 0; ; ) {
    const piece = Buffer.alloc(PIECE_BYTES);
    const length = system.pread(handle, piece, offset);
    if (length < 0) return length;
    if (length === 0) return Buffer.concat(pieces).toString('latin1');
    pieces.push(piece.subarray(0, length));
    offset += length;
  }
}

function listFromStart(handle: number): number | string {
  const names: string[] = [];
  const buffer = Buffer.alloc(PIECE_BYTES);
  system.lseek(handle, 0, SEEK.SET);
  for (;;) {
    const length = system.getdents(handle, buffer);
    if (length < 0) return length;
    if (length === 0) return JSON.stringify(names.filter((name) => name !== '.' && name !== '..').sort());
    names.push(...direntsOf(buffer, length).map(({ name }) => name));
  }
}

const calls: Calls = {
  open: (path, mode) => system.open(path, FLAGS[mode] ?? -1, 0o600),
  close: (handle) => system.close(handle),
  read: readAll,
  write: (handle, text, offset) => system.pwrite(handle, Buffer.from(text, 'latin1'), offset),
  fsync: (handle) => system.fsync(handle),
  truncate: (handle, size) => system.truncate(handle, size),
  chmod: (handle, mode) => system.chmod(handle, mode),
  stat: (handle) => {
    const found = system.stat(handle, true);
    if (typeof found === 'number') return found;
    const { size, mode, nlink, ino, ctimeNs } = found;
    return JSON.stringify({ size, mode, nlink, ino, ctimeNs: String(ctimeNs) });
  },
  list: listFromStart,
  map: (handle, length) => {
    const writable = (system.flags(handle) & F_ACCMODE) !== O_RDONLY;
    const address = mmap(null, length, writable ? PROT_READ_WRITE : PROT_READ, MAP_SHARED, handle, 0);
    if (address === MAP_FAILED) return -koffi.errno();
    return mappings.push(Buffer.from(koffi.view(address, length))) - 1;
  },
  peek: (mapping, offset, length) => mappings[mapping]?.toString('latin1', offset, offset + length) ?? -1,
  poke: (mapping, offset, text) => mappings[mapping]?.write(text, offset, 'latin1') ?? -1,
  chdir: (path) => {
    process.chdir(path);
    return 0;
  },
  readPath: (path) => readFileSync(path, 'latin1'),
  writePath: (path, text) => {
    writeFileSync(path, text, 'latin1');
    return 0;
  },
  cwd: () => readlinkSync('/proc/self/cwd'),
  exists: (path) => (lstatSync(path, { throwIfNoEntry: false }) === undefined ? 0 : 1),
  shell: (cwd, script) => {
    const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { cwd, encoding: 'utf8' });
    if (status !== 0) throw new Error(`'${script}' ended with ${status}: ${stderr}`);
    return stdout;
  },
  command: (mount, file, command) => JSON.stringify(new Commands(mount).write(file, command)),
  look: (root, options) => JSON.stringify([...lookAtTree(root, options)]),
};

function answer({ call, args }: Request): Answer {
  try {
    // The holder's own types say that the arguments are those of the call.
    const given = (calls[call] as (...all: readonly unknown[]) => number | string)(...args);
    return typeof given === 'number' ? { result: given, text: '' } : { result: 0, text: given };
  } catch (problem) {
    const { errno } = problem as NodeJS.ErrnoException; // node:fs throws system errors
    if (errno === undefined) return { result: 0, text: '', problem: inspect(problem) };
    return { result: errno, text: '' };
  }
}

process.on('message', (request: Request) => process.send?.(answer(request)));
// Whoever started it is gone.
process.on('disconnect', () => process.exit(1));
