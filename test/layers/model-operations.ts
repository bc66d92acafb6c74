import { readdirSync } from 'node:fs';
import type { Operation } from '../crash/operation.ts';
import type { Random } from '../model/random.ts';

/** Operations for the model test of layers, chosen from what is in a plain directory. */

const KIB = 1024;
const MOST_NAMES = 45;
/** Byte strings, as all paths here. */
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'caf\xc3\xa9', '\xff', ' ', '-x', 'long'.repeat(50)];
const LARGE_BYTES = 300 * KIB;

interface Found {
  readonly files: string[];
  readonly directories: string[];
  readonly others: string[];
}

/** What is in the tree, by path from its root; the root is the empty path. */
export function listed(root: string): Found {
  const found: Found = { files: [], directories: [''], others: [] };
  for (let at = 0; at < found.directories.length; at++) {
    const directory = found.directories[at] ?? '';
    const entries = readdirSync(Buffer.from(`${root}/${directory}`, 'latin1'), {
      withFileTypes: true,
      encoding: 'latin1',
    });
    for (const entry of entries.sort((one, other) => (one.name < other.name ? -1 : 1))) {
      const path = below(directory, entry.name);
      if (entry.isDirectory()) found.directories.push(path);
      else if (entry.isFile()) found.files.push(path);
      else found.others.push(path);
    }
  }
  return found;
}

type Make = (random: Random, found: Found) => Operation | undefined;

function below(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

function newPath(random: Random, { directories }: Found): string {
  const shallow = directories.filter((path) => path.split('/').length < 5);
  return below(random.pick(shallow), random.pick(NAMES));
}

/** A file, now and then none that is there. */
function aFile(random: Random, { files }: Found): string {
  return files.length === 0 ? 'nothing' : random.pick(files);
}

function anything(random: Random, { files, directories, others }: Found): string {
  return random.pick([...files, ...directories.slice(1), ...others, 'nothing']);
}

function length(random: Random): number {
  return random.weighted<() => number>([
    [8, () => random.between(1, 200)],
    [5, () => random.between(4000, 4200)],
    [3, () => random.between(1, 40 * KIB)],
    [1, () => random.between(120 * KIB, LARGE_BYTES)],
  ])();
}

function write(random: Random, path: string, appends: boolean): Operation {
  const offset = appends ? 0 : random.below(random.chance(0.1) ? 9 * KIB * KIB : 140 * KIB);
  return { kind: 'write', path, offset, appends, length: length(random), fill: random.below(1 << 20), sync: false };
}

const KINDS: readonly (readonly [weight: number, make: Make])[] = [
  [
    14,
    (random, found) => {
      if (found.files.length + found.directories.length > MOST_NAMES) return undefined;
      return { kind: 'create', path: newPath(random, found), mode: random.pick([0o644, 0o600, 0o755]) };
    },
  ],
  [18, (random, found) => write(random, aFile(random, found), false)],
  [10, (random, found) => write(random, aFile(random, found), true)],
  [6, (random, found) => ({ kind: 'truncate', path: aFile(random, found), size: random.below(200 * KIB) })],
  [2, (random, found) => ({ kind: 'truncate', path: aFile(random, found), size: 0 })],
  [
    3,
    (random, found) => ({
      kind: 'punch',
      path: aFile(random, found),
      offset: random.below(150 * KIB),
      length: random.between(1, 200 * KIB),
    }),
  ],
  [6, (random, found) => ({ kind: 'mkdir', path: newPath(random, found) })],
  [4, (random, found) => ({ kind: 'rmdir', path: random.pick([...found.directories.slice(1), 'nothing']) })],
  [12, (random, found) => ({ kind: 'unlink', path: anything(random, found) })],
  [8, (random, found) => ({ kind: 'rename', from: anything(random, found), path: newPath(random, found) })],
  [5, (random, found) => ({ kind: 'rename', from: aFile(random, found), path: aFile(random, found) })],
  [2, (random, found) => ({ kind: 'exchange', from: anything(random, found), path: anything(random, found) })],
  [5, (random, found) => ({ kind: 'link', from: aFile(random, found), path: newPath(random, found) })],
  [3, (random, found) => ({ kind: 'symlink', path: newPath(random, found), target: `../${random.below(99)}` })],
  [
    4,
    (random, found) => ({
      kind: 'chmod',
      path: random.pick([...found.files, ...found.directories]),
      mode: random.pick([0o600, 0o644, 0o755, 0o711]),
    }),
  ],
  [
    2,
    (random, found) => ({
      kind: 'chown',
      path: random.pick([...found.files, ...found.directories]),
      uid: random.below(9),
      gid: random.below(9),
    }),
  ],
  [
    4,
    (random, found) => ({
      kind: 'setxattr',
      path: random.pick([...found.files, ...found.directories]),
      name: `user.${random.pick(['a', 'b'])}`,
      value: `${random.below(99)}`,
    }),
  ],
];

/** The next operation on a tree like this one; it may be one that fails. */
export function nextOperation(random: Random, root: string): Operation {
  const found = listed(root);
  for (;;) {
    const operation = random.weighted(KINDS)(random, found);
    if (operation !== undefined) return operation;
  }
}
