import type { LayerId } from '../brand.ts';
import type { ByteString, InodeImage, Place } from '../vfs/store.ts';
import { sortKeys } from './diff-order.ts';
import { takeRenames } from './diff-renames.ts';
import { loadTrees, type TwoTrees } from './diff-trees.ts';
import { isFile, kindOf } from './kinds.ts';
import type { Moment } from './port.ts';
import { readContents, sameContent } from './reader.ts';
import { sortedInTurns, Turns } from './turns.ts';

export type Change = 'added' | 'modified' | 'deleted' | 'renamed' | 'metadata';

/** A path that isn't the same in two trees. */
export interface Entry {
  readonly path: ByteString;
  readonly change: Change;
  /** Where a renamed one was; otherwise the same as `path`. */
  readonly from: ByteString;
  readonly before: InodeImage | undefined;
  readonly after: InodeImage | undefined;
  /** The content is known to be the same in both. */
  readonly sameContent: boolean;
}

/**
 * Every path that isn't the same in two trees, in the order of their bytes; where a file has taken a directory's place,
 * what was in that comes first. Times are no difference. One that is of another type is deleted and added.
 */
export async function entriesBetween(
  moment: Moment,
  from: Place,
  to: Place,
  between: readonly LayerId[],
): Promise<Entry[]> {
  const trees = await loadTrees(moment, from, to, between);
  const deleted = new Map<ByteString, InodeImage>();
  const added = new Map<ByteString, InodeImage>();
  const kept: Entry[] = [];
  const turns = new Turns();
  for (const [path, before] of trees.before) {
    const after = trees.after.get(path);
    if (after !== undefined && kindOf(after) === kindOf(before)) kept.push(keptEntry(path, path, before, after));
    else deleted.set(path, before);
    await turns.step();
  }
  for (const [path, after] of trees.after) {
    const before = trees.before.get(path);
    if (before === undefined || kindOf(after) !== kindOf(before)) added.set(path, after);
    await turns.step();
  }
  const renames = await takeRenames(moment, from, to, trees, { deleted, added });
  for (const { path, from: source, before, after } of renames)
    kept.push({ ...keptEntry(path, source, before, after), change: 'renamed' });
  const settled = await settleContents(moment, from, to, kept, trees);
  for (const [path, before] of deleted)
    settled.push({ path, change: 'deleted', from: path, before, after: undefined, sameContent: false });
  for (const [path, after] of added)
    settled.push({ path, change: 'added', from: path, before: undefined, after, sameContent: false });
  return sortedInTurns(settled, sortKeys(trees));
}

/** `modified` until it's known to be no more than `metadata`. */
function keptEntry(path: ByteString, from: ByteString, before: InodeImage, after: InodeImage): Entry {
  return { path, change: 'modified', from, before, after, sameContent: false };
}

const ENTRIES_AT_ONCE = 250;

/** Finds out whose content is the same, and leaves out what doesn't differ after all. */
async function settleContents(
  moment: Moment,
  from: Place,
  to: Place,
  entries: readonly Entry[],
  { isChanged }: TwoTrees,
): Promise<Entry[]> {
  const settled: Entry[] = [];
  const isSame = (entry: Entry, same: boolean) => {
    const { before, after } = entry;
    const change = entry.change === 'modified' && same ? 'metadata' : entry.change;
    if (change !== 'metadata' || (before !== undefined && after !== undefined && !sameAttributes(before, after)))
      settled.push({ ...entry, change, sameContent: same });
  };
  const unknown: Entry[] = [];
  const turns = new Turns();
  for (const entry of entries) {
    const { before, after } = entry;
    if (before === undefined || after === undefined) continue;
    if (before.ino === after.ino && !isChanged(before.ino)) isSame(entry, true);
    else if (!isFile(before)) isSame(entry, before.target === after.target && before.rdev === after.rdev);
    else if (before.size !== after.size) isSame(entry, false);
    else if (before.size === 0) isSame(entry, true);
    else unknown.push(entry);
    await turns.step();
  }
  for (let at = 0; at < unknown.length; at += ENTRIES_AT_ONCE) {
    const some = unknown.slice(at, at + ENTRIES_AT_ONCE);
    const olds = await readContents(
      moment.tree(from),
      some.flatMap(({ before }) => before ?? []),
    );
    const news = await readContents(
      moment.tree(to),
      some.flatMap(({ after }) => after ?? []),
    );
    for (const entry of some) {
      const before = entry.before && olds.get(entry.before.ino);
      const after = entry.after && news.get(entry.after.ino);
      isSame(entry, before !== undefined && after !== undefined && sameContent(before, after));
    }
  }
  return settled;
}

/** Whether mode, owner and extended attributes are the same. */
export function sameAttributes(a: InodeImage, b: InodeImage): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && sameXattrs(a, b);
}

export function sameXattrs({ xattrs: a }: InodeImage, { xattrs: b }: InodeImage): boolean {
  if (a === null || b === null) return a === b;
  return Buffer.compare(a, b) === 0;
}
