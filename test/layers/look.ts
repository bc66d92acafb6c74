import { createHash } from 'node:crypto';
import { fileType } from '../../src/vfs/inode.ts';
import { xattrNames } from '../model/operations-xattrs.ts';
import { type Attributes, direntsOf, OPEN_FLAGS, SEEK, type Syscalls, systemCalls } from '../model/syscalls.ts';

/** A whole tree in words: a line for each path, so that two that are equal are the same in everything that can be seen. */
export type Look = ReadonlyMap<string, string>;

export interface LookOptions {
  /** Status changes count, too; a copy of a tree never has those of its source. */
  readonly ctime?: boolean;
  /** Times don't count, nor the links of directories: for a tree that was made at another time on another file system. */
  readonly likeness?: boolean;
  /** Names in the root that are left out. */
  readonly without?: readonly string[];
}

const BUFFER_BYTES = 64 * 1024;
const PIECE_BYTES = 1 << 20;
const PATH_MAX = 4096;

/**
 * Looks at everything below a directory, and at itself: type, mode, owner, links, size, times, device, target,
 * attributes, where the data is and what it is, and which names are one file. Paths are byte strings.
 *
 * @throws {Error} when a call fails, or a listing says something else than stat does
 */
export function lookAtTree(root: string, options: LookOptions = {}): Look {
  const system = systemCalls();
  const found = new Map<string, Attributes>();
  walk(system, Buffer.from(root).toString('latin1'), '', found, options.without ?? []);
  const first = new Map<number, string>();
  for (const path of [...found.keys()].sort()) {
    const ino = found.get(path)?.ino ?? 0;
    if (!first.has(ino)) first.set(ino, path);
  }
  const look = new Map<string, string>();
  for (const path of [...found.keys()].sort()) {
    const attributes = found.get(path);
    if (attributes === undefined) continue;
    const lines = describe(system, `${root}/${path}`, attributes, options);
    look.set(path, `${lines} is '${first.get(attributes.ino)}'`);
  }
  return look;
}

/** The paths that differ, each with how it is in both; undefined when none does. */
export function difference(expected: Look, found: Look): string | undefined {
  const lines: string[] = [];
  for (const path of [...new Set([...expected.keys(), ...found.keys()])].sort())
    if (expected.get(path) !== found.get(path))
      lines.push(
        `'${path}'\n  expected ${expected.get(path) ?? 'nothing'}\n  found    ${found.get(path) ?? 'nothing'}`,
      );
  const SHOWN = 10;
  if (lines.length === 0) return undefined;
  return `${lines.length} paths differ:\n${lines.slice(0, SHOWN).join('\n')}`;
}

function must(call: string, path: string, result: number): number {
  if (result < 0) throw new Error(`${call} of '${path}' failed with errno ${-result}`);
  return result;
}

function walk(
  system: Syscalls,
  root: string,
  path: string,
  found: Map<string, Attributes>,
  without: readonly string[],
): void {
  const full = `${root}/${path}`;
  const attributes = system.stat(full, false);
  if (typeof attributes === 'number') throw new Error(`stat of '${full}' failed with errno ${-attributes}`);
  found.set(path, attributes);
  if ((attributes.mode & fileType.mask) !== fileType.directory) return;
  for (const { name, ino, type } of namesIn(system, full)) {
    if (path === '' && without.includes(name)) continue;
    const below = path === '' ? name : `${path}/${name}`;
    walk(system, root, below, found, without);
    const inside = found.get(below);
    if (inside?.ino !== ino || (inside.mode & fileType.mask) >>> 12 !== type)
      throw new Error(`'${below}' is listed as inode ${ino} of type ${type}, and is ${inside?.ino}, ${inside?.mode}`);
  }
}

function namesIn(system: Syscalls, path: string): { name: string; ino: number; type: number }[] {
  const handle = must('open', path, system.open(path, OPEN_FLAGS.O_DIRECTORY, 0));
  const buffer = Buffer.alloc(BUFFER_BYTES);
  const names = new Map<string, { name: string; ino: number; type: number }>();
  try {
    for (;;) {
      const length = must('getdents', path, system.getdents(handle, buffer));
      if (length === 0) break;
      for (const dirent of direntsOf(buffer, length)) {
        if (names.has(dirent.name)) throw new Error(`'${path}' lists '${dirent.name}' twice`);
        names.set(dirent.name, dirent);
      }
    }
  } finally {
    system.close(handle);
  }
  if (!names.delete('.') || !names.delete('..')) throw new Error(`'${path}' does not list . and ..`);
  return [...names.values()];
}

function describe(system: Syscalls, path: string, attributes: Attributes, options: LookOptions): string {
  const { mode, uid, gid, nlink, size, rdev, mtimeNs, ctimeNs } = attributes;
  const type = mode & fileType.mask;
  const parts = [mode.toString(8), `${uid}:${gid}`];
  if (options.likeness !== true) parts.push(`links=${nlink}`, `mtime=${mtimeNs}`);
  else if (type !== fileType.directory) parts.push(`links=${nlink}`);
  if (options.ctime === true) parts.push(`ctime=${ctimeNs}`);
  if (type === fileType.symlink) parts.push(`-> ${targetOf(system, path)}`);
  else if (type === fileType.regular) parts.push(`size=${size}`, contentOf(system, path, size));
  else if (type !== fileType.directory) parts.push(`device=${rdev}`);
  parts.push(xattrsOf(system, path));
  return parts.join(' ');
}

function targetOf(system: Syscalls, path: string): string {
  const into = Buffer.alloc(PATH_MAX);
  return into.toString('latin1', 0, must('readlink', path, system.readlink(path, into)));
}

function xattrsOf(system: Syscalls, path: string): string {
  const list = Buffer.alloc(BUFFER_BYTES);
  const names = xattrNames(list, must('listxattr', path, system.listxattr(path, list, false)));
  const value = Buffer.alloc(BUFFER_BYTES);
  return names
    .sort()
    .map((name) => `${name}=${value.toString('hex', 0, must(name, path, system.getxattr(path, name, value, false)))}`)
    .join(' ');
}

/** The ranges that hold data and the hash of what is in them; zeros count as no data wherever they are. */
function contentOf(system: Syscalls, path: string, size: number): string {
  const handle = must('open', path, system.open(path, OPEN_FLAGS.O_RDONLY | OPEN_FLAGS.O_NONBLOCK, 0));
  const hash = createHash('sha256');
  try {
    for (let at = 0; at < size; ) {
      const from = system.lseek(handle, at, SEEK.DATA);
      if (from < 0) break;
      const to = must('lseek', path, system.lseek(handle, from, SEEK.HOLE));
      for (let piece = from; piece < to; piece += PIECE_BYTES)
        takePiece(system, path, handle, piece, Math.min(PIECE_BYTES, to - piece), hash);
      at = to;
    }
  } finally {
    system.close(handle);
  }
  return hash.digest('hex').slice(0, 24);
}

const LINE_BYTES = 4096;

function takePiece(
  system: Syscalls,
  path: string,
  handle: number,
  offset: number,
  length: number,
  hash: ReturnType<typeof createHash>,
): void {
  const bytes = Buffer.alloc(length);
  const count = must('pread', path, system.pread(handle, bytes, offset));
  if (count !== length) throw new Error(`'${path}' gave ${count} of ${length} bytes at ${offset}`);
  // By pages of the file, so that where a file system draws the line between data and hole makes no difference.
  for (let at = 0; at < length; ) {
    const end = Math.min(length, at + LINE_BYTES - ((offset + at) % LINE_BYTES));
    const page = bytes.subarray(at, end);
    const filled = page.findLastIndex((byte) => byte !== 0) + 1;
    if (filled > 0) hash.update(`${offset + at}:${filled};`).update(page.subarray(0, filled));
    at = end;
  }
}
