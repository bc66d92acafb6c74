import { createHash } from 'node:crypto';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Random } from '../model/random.ts';
import type { Entries, Entry } from './git.ts';
import type { Change } from './history.ts';

/** git's mode of a symbolic link. */
const LINK = '120000';

/**
 * Changes a tree as people's programs do: some write over a file, some put a new one in its place, as git and editors do;
 * directories go with the last file in them. `source` holds the version that comes of it.
 */
export function applyChanges(changes: readonly Change[], source: string, tree: string, random: Random): void {
  for (const [path, entry] of changes) {
    const to = join(tree, path);
    if (entry === undefined) {
      rmSync(to);
      removeEmpty(dirname(path), tree);
    } else {
      mkdirSync(dirname(to), { recursive: true });
      put(join(source, path), entry.mode, to, random);
    }
  }
}

function removeEmpty(folder: string, tree: string): void {
  if (folder === '.' || readdirSync(join(tree, folder)).length > 0) return;
  rmdirSync(join(tree, folder));
  removeEmpty(dirname(folder), tree);
}

function put(from: string, mode: string, to: string, random: Random): void {
  const old = lstatSync(to, { throwIfNoEntry: false });
  const isFile = mode !== LINK;
  const inPlace = isFile && old?.isFile() === true && random.chance(0.5);
  const target = inPlace || old === undefined ? to : `${to}.new`;
  if (!isFile) symlinkSync(readlinkSync(from), target);
  else {
    writeFileSync(target, readFileSync(from));
    chmodSync(target, Number.parseInt(mode, 8) & 0o7777);
  }
  if (target !== to) renameSync(target, to);
}

/** What is in a directory, as git would have it, its modes to the last bit. */
export function entriesIn(root: string): Entries {
  const entries = new Map<string, Entry>();
  for (const found of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(found.parentPath, found.name);
    if (found.isDirectory()) {
      if (readdirSync(path).length === 0) entries.set(relative(root, path), { mode: 'an empty directory', id: '' });
      continue;
    }
    const isLink = found.isSymbolicLink();
    const bytes = isLink ? readlinkSync(path, 'buffer') : readFileSync(path);
    const id = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
    entries.set(relative(root, path), { mode: isLink ? LINK : lstatSync(path).mode.toString(8), id });
  }
  return entries;
}
