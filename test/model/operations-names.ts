/** Operations on names: making, finding, moving and removing them. */
import { fileType } from '../../src/vfs/inode.ts';
import { RENAME_EXCHANGE } from './features.ts';
import type { Model, PathRef } from './model.ts';
import { existingPath, newPath, printable } from './names.ts';
import { type Outcome, outcome, pathIn, pathOf, type Row, row, type Side } from './operation.ts';
import type { Random } from './random.ts';
import { AT, type Dirent, direntsOf, OPEN_FLAGS } from './syscalls.ts';

const RENAME_NOREPLACE = 1;
const EISDIR = 21;
/** Trees stay about this large, so that paths are met again. */
const COMFORTABLE = 120;

export function randomMode(random: Random): number {
  return random.weighted([
    [5, 0o755],
    [5, 0o644],
    [3, 0o777],
    [3, 0o666],
    [2, 0o700],
    [2, 0o600],
    [2, 0o1777],
    [2, 0o2775],
    [2, 0o2770],
    [2, 0o4755],
    [2, 0o6755],
    [2, 0o2644],
    [1, 0o6666],
    [1, 0o7777],
    [1, 0],
    [3, random.below(0o10000)],
  ]);
}

interface Making {
  readonly to: PathRef;
  readonly slot: number;
  readonly mode: number;
}

/** Undefined now and then when the tree is large enough. */
function making(random: Random, model: Model): Making | undefined {
  if (model.liveCount > COMFORTABLE && random.chance(0.85)) return undefined;
  return { to: newPath(random, model), slot: model.reserve(), mode: randomMode(random) };
}

const mkdir = row<Making>('mkdir', {
  weight: 9,
  generate: making,
  run: (side, { to, mode }) => outcome(side.system.mkdir(pathOf(side, to), mode)),
  settle: (model, { slot, to }) => model.add(slot, to, 'directory'),
});

const NODES = [
  { type: 'fifo', bits: fileType.fifo, major: 0, minor: 0 },
  { type: 'socket', bits: fileType.socket, major: 0, minor: 0 },
  { type: 'null', bits: fileType.characterDevice, major: 1, minor: 3 },
  { type: 'local use', bits: fileType.characterDevice, major: 511, minor: 0x2bcde },
  { type: 'block', bits: fileType.blockDevice, major: 259, minor: 0x3ffff },
  { type: 'regular', bits: fileType.regular, major: 0, minor: 0 },
  { type: 'no type', bits: 0, major: 0, minor: 0 },
  { type: 'directory', bits: fileType.directory, major: 0, minor: 0 },
] as const;

const mknod = row<Making & { readonly node: (typeof NODES)[number] }>('mknod', {
  weight: 4,
  generate: (random, model) => {
    const made = making(random, model);
    return made && { ...made, node: random.pick(NODES) };
  },
  run: (side, { to, mode, node }) =>
    outcome(side.system.mknod(pathOf(side, to), node.bits | mode, node.major, node.minor)),
  settle: (model, { slot, to, node }) =>
    model.add(slot, to, node.bits === 0 || node.bits === fileType.regular ? 'file' : 'special'),
});

/** Makes a file, or leaves the one that is there. */
const create = row<Making & { readonly exclusive: boolean }>('create', {
  weight: 10,
  generate: (random, model) => {
    const made = making(random, model);
    return made && { ...made, exclusive: random.chance(0.5) };
  },
  run: (side, { to, mode, exclusive }) => {
    const flags = OPEN_FLAGS.O_CREAT | OPEN_FLAGS.O_NONBLOCK | (exclusive ? OPEN_FLAGS.O_EXCL : 0);
    const handle = side.system.open(pathOf(side, to), flags, mode);
    if (handle >= 0) side.system.close(handle);
    return outcome(handle, 'made');
  },
  settle: (model, { slot, to }) => model.add(slot, to, 'file'),
});

/**
 * What a symlink says: mostly the path of something, from where the link is. A target never starts with `..`, so that
 * no chain of links leads far out of the tree.
 */
function randomTarget(random: Random, model: Model, to: PathRef): string {
  const directory = model.slot(to.slot)?.path ?? '';
  const inside = model
    .live()
    .map((slot) => model.slot(slot)?.path ?? '')
    .filter((path) => path !== '' && (directory === '' || path.startsWith(`${directory}/`)))
    .map((path) => (directory === '' ? path : path.slice(directory.length + 1)));
  return random.weighted<() => string>([
    [10, () => (inside.length > 0 ? random.pick(inside) : 'a')],
    [3, () => random.pick(['a', 'b', 'c', 'd', '.'])],
    [1, () => to.below ?? 'a'],
    [1, () => (inside.length > 0 ? `${random.pick(inside)}/` : './')],
    [1, () => random.pick(['\xff\x80', ' ', '\n', '/nonexistent/\xfe', ''])],
    [1, () => random.pick(['t'.repeat(255), 't'.repeat(256), './'.repeat(1000), 'u/'.repeat(2047), 'u/'.repeat(2048)])],
  ])();
}

const symlink = row<Omit<Making, 'mode'> & { readonly target: string }>('symlink', {
  weight: 5,
  generate: (random, model) => {
    const made = making(random, model);
    if (made === undefined) return undefined;
    return { to: made.to, slot: made.slot, target: randomTarget(random, model, made.to) };
  },
  run: (side, { to, target }) => outcome(side.system.symlink(target, pathOf(side, to))),
  settle: (model, { slot, to }) => model.add(slot, to, 'symlink'),
});

const readlink = row<{ readonly at: PathRef; readonly size: number }>('readlink', {
  weight: 3,
  generate: (random, model) => ({
    at: existingPath(random, model, 'symlink'),
    size: random.pick([1, 100, 4096, 8192]),
  }),
  run: (side, { at, size }) => {
    const into = Buffer.alloc(size);
    const length = side.system.readlink(pathOf(side, at), into);
    return outcome(length, length < 0 ? '' : printable(into.toString('latin1', 0, length)));
  },
});

const link = row<{ readonly at: PathRef; readonly to: PathRef; readonly slot: number; readonly follow: boolean }>(
  'link',
  {
    weight: 6,
    generate: (random, model) => {
      const made = making(random, model);
      if (made === undefined) return undefined;
      const at = existingPath(random, model, 'file', 'file', 'symlink', 'special');
      return { at, to: made.to, slot: made.slot, follow: random.chance(0.3) };
    },
    run: (side, { at, to, follow }) =>
      outcome(side.system.link(pathOf(side, at), pathOf(side, to), follow ? AT.SYMLINK_FOLLOW : 0)),
    settle: (model, { at, to, slot, follow }) => {
      const hint = model.slot(at.slot)?.hint ?? 'file';
      model.add(slot, to, follow && hint === 'symlink' ? 'file' : hint);
    },
  },
);

/** Removing is chosen more often the larger the tree is. */
function removing(random: Random, model: Model, ...hints: readonly ('file' | 'symlink' | 'special' | 'directory')[]) {
  if (model.liveCount < COMFORTABLE / 4 && random.chance(0.7)) return undefined;
  return { at: existingPath(random, model, ...hints) };
}

const unlink = row<{ readonly at: PathRef }>('unlink', {
  weight: 9,
  generate: (random, model) => removing(random, model, 'file', 'symlink', 'special'),
  run: (side, { at }) => outcome(side.system.unlink(pathOf(side, at))),
  settle: (model, { at }) => model.remove(at),
});

const rmdir = row<{ readonly at: PathRef }>('rmdir', {
  weight: 5,
  generate: (random, model) => removing(random, model, 'directory'),
  run: (side, { at }) => outcome(side.system.rmdir(pathOf(side, at))),
  settle: (model, { at }) => model.remove(at),
});

const RENAME_FLAGS = {
  replace: 0,
  noreplace: RENAME_NOREPLACE,
  'noreplace|exchange': RENAME_NOREPLACE | RENAME_EXCHANGE,
  unknown: 1 << 10,
};

const rename = row<{ readonly at: PathRef; readonly to: PathRef; readonly how: keyof typeof RENAME_FLAGS }>('rename', {
  weight: 11,
  generate: (random, model) => {
    const at = existingPath(random, model);
    const how = random.weighted<keyof typeof RENAME_FLAGS>([
      [30, 'replace'],
      [8, 'noreplace'],
      [1, 'noreplace|exchange'],
      [1, 'unknown'],
    ]);
    return { at, to: renameTarget(random, model, at), how };
  },
  run: (side, { at, to, how }) => outcome(side.system.rename(pathOf(side, at), pathOf(side, to), RENAME_FLAGS[how])),
  settle: (model, { at, to }) => model.rename(at, to),
});

/** A new name, what is there already, or a place below what is moved. */
function renameTarget(random: Random, model: Model, at: PathRef): PathRef {
  const hint = model.slot(at.slot)?.hint ?? 'file';
  return random.weighted<() => PathRef>([
    [10, () => newPath(random, model)],
    [5, () => existingPath(random, model, hint)],
    [2, () => existingPath(random, model)],
    [1, () => ({ slot: at.slot, below: 'a' })],
  ])();
}

const exchange = row<{ readonly at: PathRef; readonly to: PathRef }>('exchange', {
  weight: 4,
  needs: ['exchange'],
  generate: (random, model) => ({ at: existingPath(random, model), to: existingPath(random, model) }),
  run: (side, { at, to }) => outcome(side.system.rename(pathOf(side, at), pathOf(side, to), RENAME_EXCHANGE)),
  settle: (model, { at, to }) => model.exchange(at, to),
});

/** The listing is the same in any order; `.` and `..` are in it once. */
function listed(dirents: readonly Dirent[]): string {
  return dirents
    .map(({ name, type }) => `${printable(name)} ${type}`)
    .sort()
    .join(', ');
}

const list = row<{ readonly at: PathRef; readonly bufferBytes: number }>('list', {
  weight: 5,
  generate: (random, model) => ({
    at: existingPath(random, model, 'directory'),
    bufferBytes: random.pick([300, 600, 1024, 4096, 32_768]),
  }),
  run: (side, { at, bufferBytes }) => listing(side, pathOf(side, at), bufferBytes, () => {}),
});

/** Lists a directory piece by piece, and shows each piece before the next is read. */
function listing(side: Side, path: string, bufferBytes: number, show: (dirents: readonly Dirent[]) => void): Outcome {
  const handle = side.system.open(path, OPEN_FLAGS.O_DIRECTORY | OPEN_FLAGS.O_NONBLOCK, 0);
  if (handle < 0) return outcome(handle);
  const buffer = Buffer.alloc(bufferBytes);
  const dirents: Dirent[] = [];
  try {
    for (;;) {
      const length = side.system.getdents(handle, buffer);
      if (length < 0) return outcome(length);
      if (length === 0) return outcome(0, listed(dirents));
      const piece = direntsOf(buffer, length);
      dirents.push(...piece);
      show(piece);
    }
  } finally {
    side.system.close(handle);
  }
}

/** How many names a directory gets at once; a listing of a few thousand takes several answers, and several loads. */
const CROWDS = [
  [12, 30],
  [6, 300],
  [1, 2500],
] as const;

const fill = row<{ readonly at: PathRef; readonly count: number; readonly hardLinks: boolean }>('fill', {
  weight: 1,
  generate: (random, model) => {
    if (random.chance(0.7)) return undefined;
    return {
      at: existingPath(random, model, 'directory'),
      count: random.weighted(CROWDS),
      hardLinks: random.chance(0.3),
    };
  },
  run: (side, { at, count, hardLinks }) => {
    const path = pathOf(side, at);
    const results = new Set<number>();
    for (let index = 0; index < count; index++) {
      const name = pathIn(path, `crowd ${index}`);
      const links = hardLinks && index > 0;
      const made = links
        ? side.system.link(pathIn(path, 'crowd 0'), name, 0)
        : side.system.mknod(name, fileType.regular | 0o644, 0, 0);
      results.add(made);
    }
    return outcome(0, [...results].join(', '));
  },
  settle: (model, { at }) => model.markCrowded(at.slot),
});

/** Removes what a directory holds while it's being listed, as `rm -r` does; directories in it only when empty. */
const empty = row<{ readonly at: PathRef; readonly bufferBytes: number }>('empty', {
  weight: 2,
  generate: (random, model) => {
    const { crowded } = model;
    const bufferBytes = random.pick([300, 600, 4096, 32_768]);
    if (crowded.length > 0 && random.chance(0.2)) return { at: { slot: random.pick(crowded) }, bufferBytes };
    if (model.liveCount < COMFORTABLE / 2 || random.chance(0.7)) return undefined;
    return { at: existingPath(random, model, 'directory'), bufferBytes };
  },
  run: (side, { at, bufferBytes }) => {
    const path = pathOf(side, at);
    const results: string[] = [];
    const remove = ({ name }: Dirent) => {
      if (name === '.' || name === '..') return;
      const removed = side.system.unlink(pathIn(path, name));
      const result = removed === -EISDIR ? side.system.rmdir(pathIn(path, name)) : removed;
      results.push(`${printable(name)} ${result}`);
    };
    const found = listing(side, path, bufferBytes, (dirents) => dirents.forEach(remove));
    return { ...found, value: `${found.value}; ${results.sort().join(', ')}` };
  },
  settle: (model, { at }) => model.clearCrowded(at.slot),
});

export const nameOperations: readonly Row[] = [
  mkdir,
  mknod,
  create,
  symlink,
  readlink,
  link,
  unlink,
  rmdir,
  rename,
  exchange,
  list,
  fill,
  empty,
];
