import type { Ino } from '../brand.ts';
import type { Inode } from './inode.ts';
import { Missing } from './miss.ts';
import type { ByteString, DentryImage } from './store.ts';
import type { Workspace } from './workspace.ts';

/** A name in a directory. */
export interface Dentry {
  readonly name: ByteString;
  ino: Ino;
  type: number;
  readonly cookie: number;
  /** Whether PostgreSQL has, or may have by a commit under way, a row of it. */
  stored: boolean;
  /** False once it's removed; listings skip it. */
  live: boolean;
}

/** The names of a directory, as far as they are loaded. */
export interface Directory {
  /** What is known of a name: its dentry, or null when it's known to be absent from a directory not loaded whole. */
  readonly names: Map<ByteString, Dentry | null>;
  /** Dentries by cookie, removed ones among them until the next compaction. */
  order: Dentry[];
  sorted: boolean;
  dead: number;
  /** Every name is loaded: a name that isn't here doesn't exist. */
  complete: boolean;
  /** Every name with a cookie up to this one is loaded. */
  loadedTo: number;
  /** Names that were asked for by themselves. */
  lookedUp: number;
  /** Names whose row must be written or removed, and whether PostgreSQL had a row when they first changed. */
  unsaved: Map<ByteString, boolean>;
}

/** Cookies of `.` and `..`; names start above. */
export const DOT_COOKIE = 1;
export const DOT_DOT_COOKIE = 2;
export const FIRST_COOKIE = 16;

const COMPACT_ABOVE = 64;

export function newDirectory(complete: boolean): Directory {
  return {
    names: new Map(),
    order: [],
    sorted: true,
    dead: 0,
    complete,
    loadedTo: 0,
    lookedUp: 0,
    unsaved: new Map(),
  };
}

/** The directory of an inode of type directory; starts out with nothing loaded. */
export function directoryOf(inode: Inode): Directory {
  inode.directory ??= newDirectory(false);
  return inode.directory;
}

/**
 * The dentry of a name, or undefined when the directory hasn't got it.
 *
 * @throws {Missing} when that isn't known yet.
 */
export function findName(parent: Inode, name: ByteString): Dentry | undefined {
  const directory = directoryOf(parent);
  const dentry = directory.names.get(name);
  if (dentry !== undefined) return dentry ?? undefined;
  if (directory.complete) return undefined;
  throw new Missing({ kind: 'name', parent: parent.ino, name });
}

/** Adds a name that the directory hasn't got. */
export function insertName(workspace: Workspace, parent: Inode, name: ByteString, ino: Ino, type: number): void {
  const directory = directoryOf(parent);
  const dentry: Dentry = { name, ino, type, cookie: workspace.nextCookie++, stored: false, live: true };
  directory.names.set(name, dentry);
  directory.order.push(dentry);
  if (!directory.unsaved.has(name)) directory.unsaved.set(name, false);
}

export function removeName(parent: Inode, dentry: Dentry): void {
  const directory = directoryOf(parent);
  if (directory.complete) directory.names.delete(dentry.name);
  else directory.names.set(dentry.name, null);
  dentry.live = false;
  directory.dead++;
  if (!directory.unsaved.has(dentry.name)) directory.unsaved.set(dentry.name, dentry.stored);
  if (directory.dead > COMPACT_ABOVE && directory.dead * 2 > directory.order.length) compact(directory);
}

/** Lets a name stand for another inode; its place in listings stays. */
export function retargetName(parent: Inode, dentry: Dentry, ino: Ino, type: number): void {
  dentry.ino = ino;
  dentry.type = type;
  const directory = directoryOf(parent);
  if (!directory.unsaved.has(dentry.name)) directory.unsaved.set(dentry.name, dentry.stored);
}

/** @throws {Missing} when the names that are loaded don't tell. */
export function isEmptyDirectory(inode: Inode): boolean {
  const directory = directoryOf(inode);
  if (directory.order.length > directory.dead) return false;
  if (directory.complete) return true;
  throw new Missing({ kind: 'directory', parent: inode.ino, after: directory.loadedTo });
}

function compact(directory: Directory): void {
  directory.order = directory.order.filter((dentry) => dentry.live);
  directory.dead = 0;
}

/** Dentries in listing order. Valid until the directory changes. */
export function orderedNames(directory: Directory): readonly Dentry[] {
  if (!directory.sorted) {
    directory.order.sort((a, b) => a.cookie - b.cookie);
    directory.sorted = true;
  }
  return directory.order;
}

/** Index of the first dentry with a cookie above `cookie`. */
export function indexAfter(order: readonly Dentry[], cookie: number): number {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const dentry = order[middle];
    if (dentry !== undefined && dentry.cookie <= cookie) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Adds a stored name, unless something newer is known of it. */
export function addStoredName(directory: Directory, image: DentryImage): void {
  if (directory.names.has(image.name)) return;
  const dentry: Dentry = {
    name: image.name,
    ino: image.ino,
    type: image.type,
    cookie: image.cookie,
    stored: true,
    live: true,
  };
  directory.names.set(image.name, dentry);
  const last = directory.order[directory.order.length - 1];
  if (last !== undefined && last.cookie > image.cookie) directory.sorted = false;
  directory.order.push(dentry);
}

/** Takes in a page of stored names that follow `after` in cookie order. */
export function addStoredPage(
  directory: Directory,
  after: number,
  dentries: readonly DentryImage[],
  complete: boolean,
): void {
  // Whole already, or names were dropped in between and the page doesn't join what is loaded.
  if (directory.complete || after > directory.loadedTo) return;
  for (const image of dentries) addStoredName(directory, image);
  const last = dentries[dentries.length - 1];
  if (last !== undefined && last.cookie > directory.loadedTo) directory.loadedTo = last.cookie;
  if (!complete) return;
  directory.complete = true;
  for (const [name, dentry] of directory.names) if (dentry === null) directory.names.delete(name);
}
