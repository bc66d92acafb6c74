/** Compares two whole trees: names, attributes, symlink targets, extended attributes, content. */
import { fileType } from '../../src/vfs/inode.ts';
import { type Difference, presence, type Sightings } from './compare.ts';
import { printable } from './names.ts';
import { xattrNames } from './operations-xattrs.ts';
import { type Attributes, type Dirent, direntsOf, OPEN_FLAGS, SEEK, type Syscalls } from './syscalls.ts';

/** A side whose tree is the working directory while `within` runs. */
export interface Place {
  readonly system: Syscalls;
  within<T>(work: (system: Syscalls) => T): T;
}

const LIST_BYTES = 65_536;
const PIECE_BYTES = 1 << 20;
/** Larger files are compared where either side says that it has data. */
const WHOLE_BYTES = 4 << 20;
const PATH_MAX = 4096;

export interface TreeComparison {
  readonly differences: readonly (Difference & { readonly path: string })[];
  /** Every path that the reference has. */
  readonly paths: ReadonlySet<string>;
}

/** Compares everything below the working directories, as root. Stops at the first file that differs. */
export function compareTrees(reference: Place, target: Place, sightings: Sightings): TreeComparison {
  const paths = new Set<string>();
  const waiting: Dirent[] = [{ name: '.', ino: 0, type: 0 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const path = next.name;
    paths.add(path);
    const found = compareFile(reference, target, path, sightings);
    if (found.differences.length > 0)
      return { differences: found.differences.map((each) => ({ ...each, path })), paths };
    for (const name of found.names) {
      const below = path === '.' ? name : `${path}/${name}`;
      // What lies deeper can't be named in one call; such a tree is as deep on both sides.
      if (below.length < PATH_MAX - 1) waiting.push({ name: below, ino: 0, type: 0 });
    }
  }
  return { differences: [], paths };
}

function compareFile(
  reference: Place,
  target: Place,
  path: string,
  sightings: Sightings,
): { readonly differences: Difference[]; readonly names: readonly string[] } {
  const [one, other] = both(reference, target, (system) => system.stat(path, false));
  if (typeof one === 'number' || typeof other === 'number') {
    const differences = one === other ? [] : [differing('presence', presence(one), presence(other))];
    return { differences, names: [] };
  }
  const differences = [...sightings.compare(one, other), ...sightings.compareIdentity(one, other)];
  if (differences.length > 0) return { differences, names: [] };
  differences.push(...compareXattrs(reference, target, path));
  switch (one.mode & fileType.mask) {
    case fileType.directory: {
      const [names, others] = both(reference, target, (system) => namesIn(system, path));
      if (names.join('\0') !== others.join('\0')) differences.push(differing('names', show(names), show(others)));
      return { differences, names };
    }
    case fileType.symlink: {
      const [says, otherSays] = both(reference, target, (system) => targetOf(system, path));
      if (says !== otherSays) differences.push(differing('symlink target', printable(says), printable(otherSays)));
      return { differences, names: [] };
    }
    case fileType.regular:
      return { differences: [...differences, ...compareContent(reference, target, path, one)], names: [] };
    default:
      return { differences, names: [] };
  }
}

function both<T>(reference: Place, target: Place, look: (system: Syscalls) => T): [T, T] {
  return [reference.within(look), target.within(look)];
}

function show(names: readonly string[]): string {
  return `[${names.map(printable).join(', ')}]`;
}

function differing(field: string, one: string, other: string): Difference {
  return { field, text: `${field}: ${one} in the reference, ${other} in the target` };
}

/** Sorted, without `.` and `..`. @throws {Error} when a listing says another inode number than stat does. */
function namesIn(system: Syscalls, path: string): string[] {
  const handle = system.open(path, OPEN_FLAGS.O_DIRECTORY, 0);
  if (handle < 0) return [`errno ${-handle}`];
  const buffer = Buffer.alloc(LIST_BYTES);
  const names: string[] = [];
  try {
    for (;;) {
      const length = system.getdents(handle, buffer);
      if (length < 0) return [`errno ${-length}`];
      if (length === 0) return names.sort();
      for (const dirent of direntsOf(buffer, length)) {
        if (dirent.name === '.' || dirent.name === '..') continue;
        names.push(isHonest(system, path, dirent) ? dirent.name : `${dirent.name} listed as another inode than it is`);
      }
    }
  } finally {
    system.close(handle);
  }
}

function isHonest(system: Syscalls, path: string, { name, ino, type }: Dirent): boolean {
  const found = system.stat(`${path}/${name}`, false);
  return typeof found === 'number' || (found.ino === ino && (found.mode & fileType.mask) >>> 12 === type);
}

function targetOf(system: Syscalls, path: string): string {
  const into = Buffer.alloc(PATH_MAX);
  const length = system.readlink(path, into);
  return length < 0 ? `errno ${-length}` : into.toString('latin1', 0, length);
}

function compareXattrs(reference: Place, target: Place, path: string): Difference[] {
  const [one, other] = both(reference, target, (system) => xattrsOf(system, path));
  return one === other ? [] : [differing('extended attributes', one, other)];
}

/** All of a file's extended attributes as text. */
function xattrsOf(system: Syscalls, path: string): string {
  const list = Buffer.alloc(LIST_BYTES);
  const length = system.listxattr(path, list, false);
  if (length < 0) return `errno ${-length}`;
  const value = Buffer.alloc(LIST_BYTES);
  const shown = xattrNames(list, length).map((name) => {
    const bytes = system.getxattr(path, name, value, false);
    return `${printable(name)}=${bytes < 0 ? `errno ${-bytes}` : value.toString('hex', 0, bytes)}`;
  });
  return shown.join(' ');
}

type Range = readonly [from: number, to: number];

function compareContent(reference: Place, target: Place, path: string, { size }: Attributes): Difference[] {
  const open = (system: Syscalls) => system.open(path, OPEN_FLAGS.O_RDONLY | OPEN_FLAGS.O_NONBLOCK, 0);
  const [one, other] = both(reference, target, open);
  try {
    if (one < 0 || other < 0) return one === other ? [] : [differing('opening', String(one), String(other))];
    const ranges: Range[] =
      size <= WHOLE_BYTES
        ? [[0, size]]
        : [...dataIn(reference.system, one, size), ...dataIn(target.system, other, size)];
    for (const [from, to] of ranges) {
      const at = firstDifference(reference.system, one, target.system, other, from, to);
      if (at !== undefined) return [{ field: 'content', text: `content: of ${size} bytes, the one at ${at} differs` }];
    }
    return [];
  } finally {
    if (one >= 0) reference.system.close(one);
    if (other >= 0) target.system.close(other);
  }
}

/** Where a file says that it has data. */
function dataIn(system: Syscalls, handle: number, size: number): Range[] {
  const ranges: Range[] = [];
  for (let at = 0; at < size; ) {
    const from = system.lseek(handle, at, SEEK.DATA);
    if (from < 0) break;
    const to = system.lseek(handle, from, SEEK.HOLE);
    at = to > from ? to : size;
    ranges.push([from, at]);
  }
  return ranges;
}

function firstDifference(
  one: Syscalls,
  oneHandle: number,
  other: Syscalls,
  otherHandle: number,
  from: number,
  to: number,
): number | undefined {
  for (let at = from; at < to; at += PIECE_BYTES) {
    const [bytes, others] = [
      Buffer.alloc(Math.min(PIECE_BYTES, to - at)),
      Buffer.alloc(Math.min(PIECE_BYTES, to - at)),
    ];
    const length = one.pread(oneHandle, bytes, at);
    if (other.pread(otherHandle, others, at) !== length) return at;
    if (bytes.equals(others)) continue;
    return at + bytes.findIndex((byte, index) => byte !== others[index]);
  }
  return undefined;
}
