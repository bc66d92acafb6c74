import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync, rmdirSync, unlinkSync } from 'node:fs';

/** A file of a tree, as a comparison of two trees sees it. */
export interface PlainFile {
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly mode: number;
  readonly owner: string;
  readonly ino: number;
  readonly size: number;
  /** Of a regular file, a hash; of a symbolic link, its target. */
  readonly content: string;
  /** As `wc -l` counts, a last line without its end included. */
  readonly lines: number;
}

/** Files by path; paths are byte strings. */
export type PlainTree = ReadonlyMap<string, PlainFile>;

function full(root: string, path: string): Buffer {
  return Buffer.from(`${root}/${path}`, 'latin1');
}

export function plainTree(root: string, below = '', found = new Map<string, PlainFile>()): PlainTree {
  for (const name of readdirSync(full(root, below), { encoding: 'latin1' })) {
    const path = below === '' ? name : `${below}/${name}`;
    const stats = lstatSync(full(root, path));
    const base = { mode: stats.mode & 0o7777, owner: `${stats.uid}:${stats.gid}`, ino: stats.ino, size: stats.size };
    if (stats.isDirectory()) {
      found.set(path, { ...base, type: 'directory', content: '', lines: 0 });
      plainTree(root, path, found);
    } else if (stats.isSymbolicLink()) {
      found.set(path, { ...base, type: 'symlink', content: readlinkSync(full(root, path), 'latin1'), lines: 0 });
    } else if (stats.isFile()) {
      const bytes = readFileSync(full(root, path));
      const content = createHash('sha256').update(bytes).digest('hex');
      found.set(path, { ...base, type: 'file', content, lines: linesOf(bytes) });
    } else found.set(path, { ...base, type: 'other', content: '', lines: 0 });
  }
  return found;
}

function linesOf(bytes: Buffer): number {
  const ends = bytes.filter((byte) => byte === 10).length;
  return bytes.length > 0 && bytes[bytes.length - 1] !== 10 ? ends + 1 : ends;
}

/** What patches know of a tree: files, whether they're executable, and symbolic links. A line each. */
export function patchableTree(root: string): string[] {
  return [...plainTree(root)]
    .filter(([, { type }]) => type === 'file' || type === 'symlink')
    .map(
      ([path, { type, mode, content }]) =>
        `${JSON.stringify(path)} ${type} ${type === 'file' ? (mode & 0o100) > 0 : ''} ${content}`,
    )
    .sort();
}

/** Removes what patches don't know, and would be in their way: special files and directories without files. */
export function removeUnpatchable(root: string): void {
  const paths = [...plainTree(root)].sort(([one], [other]) => (one < other ? 1 : -1));
  for (const [path, { type }] of paths) {
    if (type === 'other') unlinkSync(full(root, path));
    if (type === 'directory' && readdirSync(full(root, path)).length === 0) rmdirSync(full(root, path));
  }
}
