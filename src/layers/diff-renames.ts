import { createHash } from 'node:crypto';
import type { Ino } from '../brand.ts';
import type { ByteString, InodeImage, Place } from '../vfs/store.ts';
import { turnedTest } from './diff-order.ts';
import type { TwoTrees } from './diff-trees.ts';
import { isFile } from './kinds.ts';
import type { Moment } from './port.ts';
import { type Content, readContents } from './reader.ts';
import { Turns } from './turns.ts';

export interface Rename {
  readonly path: ByteString;
  readonly from: ByteString;
  readonly before: InodeImage;
  readonly after: InodeImage;
}

const FILES_AT_ONCE = 250;

type Paths = Map<ByteString, InodeImage>;

/** What is left of the deleted and the added paths. */
interface Left {
  readonly deleted: Paths;
  readonly added: Paths;
}

/**
 * Takes those out of the deleted and the added paths that are one thing under another name: the same inode, or else a
 * file with the same content, which isn't empty.
 */
export async function takeRenames(
  moment: Moment,
  from: Place,
  to: Place,
  trees: TwoTrees,
  left: Left,
): Promise<Rename[]> {
  const isTurned = turnedTest(trees);
  const canMove = (paths: Paths) => [...paths].filter(([path]) => !isTurned(path));
  const inoOf = ({ ino }: InodeImage) => ino;
  const byInode = await take(left, keyed(canMove(left.deleted), inoOf), keyed(canMove(left.added), inoOf));
  const deleted = canMove(left.deleted).filter(([, image]) => isFile(image) && image.size > 0);
  const added = canMove(left.added).filter(([, image]) => isFile(image) && image.size > 0);
  const before = await contentKeys(moment, from, deleted, sizesOf(added));
  const after = await contentKeys(moment, to, added, sizesOf(deleted));
  const byContent = await take(
    left,
    keyed(deleted, ({ ino }) => before.get(ino)),
    keyed(added, ({ ino }) => after.get(ino)),
  );
  return [...byInode, ...byContent];
}

type Paired = readonly [path: ByteString, image: InodeImage];

interface Keyed {
  readonly path: ByteString;
  readonly image: InodeImage;
  readonly key: string | number | undefined;
}

function keyed(paths: readonly Paired[], keyOf: (image: InodeImage) => Keyed['key']): Keyed[] {
  return paths.map(([path, image]) => ({ path, image, key: keyOf(image) }));
}

/** Takes pairs with equal keys: those with the same last name first, others in the order of their paths. */
async function take(left: Left, deleted: readonly Keyed[], added: readonly Keyed[]): Promise<Rename[]> {
  const turns = new Turns();
  const targets = new Set(added.map(({ key }) => key));
  const sources = new Map<Keyed['key'], Keyed[]>();
  for (const source of deleted.filter(({ key }) => key !== undefined && targets.has(key)).sort(byPath)) {
    const list = sources.get(source.key);
    if (list === undefined) sources.set(source.key, [source]);
    else list.push(source);
    await turns.step();
  }
  const renames: Rename[] = [];
  for (const { path, image, key } of added.filter((one) => sources.has(one.key)).sort(byPath)) {
    const candidates = sources.get(key) ?? [];
    const named = candidates.findIndex((source) => lastName(source.path) === lastName(path));
    const [source] = candidates.splice(Math.max(named, 0), 1);
    if (source === undefined) continue;
    left.deleted.delete(source.path);
    left.added.delete(path);
    renames.push({ path, from: source.path, before: source.image, after: image });
    await turns.step();
  }
  return renames;
}

function byPath(one: Keyed, other: Keyed): number {
  return one.path < other.path ? -1 : 1;
}

function lastName(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1);
}

function sizesOf(files: readonly Paired[]): Set<number> {
  return new Set(files.map(([, { size }]) => size));
}

/** Something that files with the same content, and no others, have in common; for files of these sizes. */
async function contentKeys(
  moment: Moment,
  place: Place,
  files: readonly Paired[],
  sizes: ReadonlySet<number>,
): Promise<Map<Ino, string>> {
  const wanted = files.flatMap(([, image]) => (sizes.has(image.size) ? [image] : []));
  const keys = new Map<Ino, string>();
  for (let at = 0; at < wanted.length; at += FILES_AT_ONCE)
    for (const [ino, content] of await readContents(moment.tree(place), wanted.slice(at, at + FILES_AT_ONCE)))
      keys.set(ino, contentKey(content));
  return keys;
}

function contentKey({ size, head, chunks }: Content): string {
  const hash = createHash('sha256').update(`${size}\n`);
  if (head !== undefined) hash.update(`head ${head.length}\n`).update(head);
  for (const index of [...chunks.keys()].sort((a, b) => a - b)) {
    const { hash: name = '', length = 0 } = chunks.get(index) ?? {};
    hash.update(`${index} ${length} ${name}\n`, 'latin1');
  }
  return hash.digest('hex');
}
