import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Attributes, Syscalls } from '../model/syscalls.ts';
import { CallError, done } from './perform.ts';
import { type Description, describeVisible, hashOf } from './tree.ts';

const TYPE_MASK = 0o170000;
const DIRECTORY = 0o040000;
const SYMLINK = 0o120000;
const XATTR_BYTES = 64 * 1024;

/** What a tree looks like, by path from its root, in the form that the model gives. */
export type Observed = ReadonlyMap<string, Description>;

/** Looks at everything below a directory, and at itself. @throws {CallError} and what reading files throws. */
export function observe(system: Syscalls, root: string): Observed {
  const found = new Map<string, Attributes>();
  walk(system, root, '', found);
  const firstPaths = new Map<number, string>();
  for (const path of [...found.keys()].sort()) {
    const ino = found.get(path)?.ino ?? 0;
    if (!firstPaths.has(ino)) firstPaths.set(ino, path);
  }
  const observed = new Map<string, Description>();
  for (const [path, attributes] of found) {
    const firstPath = firstPaths.get(attributes.ino) ?? path;
    observed.set(path, describe(system, `${root}/${path}`, attributes, firstPath));
  }
  return observed;
}

function walk(system: Syscalls, root: string, path: string, found: Map<string, Attributes>): void {
  const attributes = system.stat(`${root}/${path}`, false);
  if (typeof attributes === 'number') throw new CallError(`stat of '${path}'`, -attributes);
  found.set(path, attributes);
  if ((attributes.mode & TYPE_MASK) !== DIRECTORY) return;
  for (const name of readdirSync(`${root}/${path}`)) walk(system, root, path === '' ? name : `${path}/${name}`, found);
}

function describe(system: Syscalls, path: string, attributes: Attributes, firstPath: string): Description {
  const type = attributes.mode & TYPE_MASK;
  const kind = type === DIRECTORY ? 'directory' : type === SYMLINK ? 'symlink' : 'file';
  const text = describeVisible({
    ...attributes,
    kind,
    hash: kind === 'file' ? hashOf(readFileSync(path)) : '',
    target: kind === 'symlink' ? readlinkSync(path) : '',
    xattrs: kind === 'symlink' ? new Map() : xattrsOf(system, path),
    firstPath,
  });
  return { text, mtimeNs: attributes.mtimeNs };
}

function xattrsOf(system: Syscalls, path: string): Map<string, string> {
  const names = Buffer.alloc(XATTR_BYTES);
  const length = done('listxattr', system.listxattr(path, names, true));
  const xattrs = new Map<string, string>();
  for (const name of names.toString('latin1', 0, length).split('\0').filter(Boolean)) {
    const value = Buffer.alloc(XATTR_BYTES);
    const bytes = done('getxattr', system.getxattr(path, name, value, true));
    xattrs.set(name, value.toString('latin1', 0, bytes));
  }
  return xattrs;
}
