import type { Ino } from '../brand.ts';
import type { Content } from './content.ts';
import type { Directory } from './directory.ts';
import type { ByteString, InodeImage } from './store.ts';
import { packXattrs, unpackXattrs, type Xattrs } from './xattr.ts';

/** File type bits of `mode` (POSIX sys/stat.h). */
export const fileType = {
  mask: 0o170000,
  socket: 0o140000,
  symlink: 0o120000,
  regular: 0o100000,
  blockDevice: 0o060000,
  directory: 0o040000,
  characterDevice: 0o020000,
  fifo: 0o010000,
} as const;

export const SETUID = 0o4000;
export const SETGID = 0o2000;
export const GROUP_EXECUTE = 0o010;

/**
 * A file, directory or other node, loaded. It lives in the workspace's cache from its load or creation until
 * eviction; one with changes that aren't committed is never evicted.
 * Regular files have `content` and directories have `directory` once something needed them.
 */
export interface Inode {
  readonly ino: Ino;
  mode: number;
  uid: number;
  gid: number;
  /** 0 while it's an orphan: unlinked, and still referred to by the kernel. */
  nlink: number;
  size: number;
  allocated: number;
  atimeSec: number;
  atimeNsec: number;
  mtimeSec: number;
  mtimeNsec: number;
  ctimeSec: number;
  ctimeNsec: number;
  readonly btimeSec: number;
  readonly btimeNsec: number;
  readonly rdev: number;
  parent: Ino;
  readonly target: ByteString;
  xattrs: Xattrs | undefined;
  directory: Directory | undefined;
  content: Content | undefined;
  /**
   * A name that it has (of several, the one used last; of none, the last one), and the directory that this is in: 0 for
   * the root, and where no name is known. Undefined until someone asked.
   */
  name: ByteString;
  namedIn: Ino | 0 | undefined;
  /** Other names that it has, as far as they're known: a few at most. */
  otherNames: { readonly parent: Ino; readonly name: ByteString }[] | undefined;
  /** References that the kernel was given and hasn't returned; 0 for those given to an earlier daemon. */
  lookups: number;
  /** Whether PostgreSQL has, or may have by a commit under way, a row of it. */
  stored: boolean;
  /** Whether it has changes that no batch has taken yet. */
  dirty: boolean;
  /** Batches under way that hold changes of it. */
  commits: number;
  /** Gone for good: no name and no reference is left. */
  removed: boolean;
}

export function inodeFromImage(image: InodeImage, stored: boolean): Inode {
  return {
    ino: image.ino,
    mode: image.mode,
    uid: image.uid,
    gid: image.gid,
    nlink: image.nlink,
    size: image.size,
    allocated: image.allocated,
    atimeSec: image.atimeSec,
    atimeNsec: image.atimeNsec,
    mtimeSec: image.mtimeSec,
    mtimeNsec: image.mtimeNsec,
    ctimeSec: image.ctimeSec,
    ctimeNsec: image.ctimeNsec,
    btimeSec: image.btimeSec,
    btimeNsec: image.btimeNsec,
    rdev: image.rdev,
    parent: image.parent,
    target: image.target,
    xattrs: image.xattrs === null ? undefined : unpackXattrs(image.xattrs),
    directory: undefined,
    content: undefined,
    name: '',
    namedIn: undefined,
    otherNames: undefined,
    lookups: 0,
    stored,
    dirty: false,
    commits: 0,
    removed: false,
  };
}

const OTHER_NAMES = 16;

/** Notes a name that an inode has, as the one used last. */
export function noteName(inode: Inode, parent: Ino, name: ByteString): void {
  const { namedIn, name: last } = inode;
  if (namedIn !== undefined && namedIn !== 0 && inode.nlink > 1 && !isDirectory(inode)) {
    if (namedIn === parent && last === name) return;
    const others = (inode.otherNames ?? []).filter((one) => one.parent !== parent || one.name !== name);
    inode.otherNames = [...others.slice(1 - OTHER_NAMES), { parent: namedIn, name: last }];
  }
  inode.namedIn = parent;
  inode.name = name;
}

/** A file with several names, or one that gets another, loses this one. */
export function dropName(inode: Inode, parent: Ino, name: ByteString): void {
  if (inode.namedIn !== parent || inode.name !== name) {
    inode.otherNames = inode.otherNames?.filter((one) => one.parent !== parent || one.name !== name);
    return;
  }
  const other = inode.otherNames?.pop();
  inode.namedIn = other?.parent;
  inode.name = other?.name ?? '';
}

export function imageOf(inode: Inode): InodeImage {
  return {
    ino: inode.ino,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    nlink: inode.nlink,
    size: inode.size,
    allocated: inode.allocated,
    atimeSec: inode.atimeSec,
    atimeNsec: inode.atimeNsec,
    mtimeSec: inode.mtimeSec,
    mtimeNsec: inode.mtimeNsec,
    ctimeSec: inode.ctimeSec,
    ctimeNsec: inode.ctimeNsec,
    btimeSec: inode.btimeSec,
    btimeNsec: inode.btimeNsec,
    rdev: inode.rdev,
    parent: inode.parent,
    target: inode.target,
    xattrs: inode.xattrs === undefined ? null : packXattrs(inode.xattrs),
  };
}

export function isDirectory(inode: Inode): boolean {
  return (inode.mode & fileType.mask) === fileType.directory;
}

export function isRegular(inode: Inode): boolean {
  return (inode.mode & fileType.mask) === fileType.regular;
}

/** The DT_* value of a mode, as directory listings carry it. */
export function direntType(mode: number): number {
  return (mode & fileType.mask) >>> 12;
}
