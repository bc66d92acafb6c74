import type { Ino } from '../brand.ts';
import type { InodeImage } from '../vfs/store.ts';
import type { Blob } from './blob.ts';

/** Columns of `inodes` as loads name them, from a row called `i`. */
export const INODE_COLUMNS =
  'i.ino, i.parent, i.size, i.allocated, i.atime, i.mtime, i.ctime, i.btime, i.mode, i.nlink, i.uid, i.gid, i.rdev, i.target, i.xattrs';

/** A row of INODE_COLUMNS as the client library gives it: 64-bit numbers are text. */
export interface InodeRow {
  ino: string;
  parent: string;
  size: string;
  allocated: string;
  atime: string;
  mtime: string;
  ctime: string;
  btime: string;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  target: Buffer | null;
  xattrs: Buffer | null;
}

const NSEC_DIGITS = 9;
const NSEC = 1_000_000_000;

/** Seconds of a time in nanoseconds, rounded down. */
function secondsOf(ns: string): number {
  if (ns.startsWith('-')) return Number((BigInt(ns) - 999_999_999n) / 1_000_000_000n);
  return ns.length <= NSEC_DIGITS ? 0 : Number(ns.slice(0, -NSEC_DIGITS));
}

function nanosecondsOf(ns: string, seconds: number): number {
  if (ns.startsWith('-')) return Number(BigInt(ns) - BigInt(seconds) * BigInt(NSEC));
  return Number(ns.slice(-NSEC_DIGITS));
}

/** A time as text of nanoseconds since 1970. */
export function timeText(sec: number, nsec: number): string {
  if (sec < 0) return String(BigInt(sec) * BigInt(NSEC) + BigInt(nsec));
  return sec === 0 ? String(nsec) : `${sec}${String(nsec).padStart(NSEC_DIGITS, '0')}`;
}

export function inodeImage(row: InodeRow): InodeImage {
  const atimeSec = secondsOf(row.atime);
  const mtimeSec = secondsOf(row.mtime);
  const ctimeSec = secondsOf(row.ctime);
  const btimeSec = secondsOf(row.btime);
  return {
    ino: Number(row.ino) as Ino, // the column holds inode numbers
    parent: Number(row.parent) as Ino,
    size: Number(row.size),
    allocated: Number(row.allocated),
    atimeSec,
    atimeNsec: nanosecondsOf(row.atime, atimeSec),
    mtimeSec,
    mtimeNsec: nanosecondsOf(row.mtime, mtimeSec),
    ctimeSec,
    ctimeNsec: nanosecondsOf(row.ctime, ctimeSec),
    btimeSec,
    btimeNsec: nanosecondsOf(row.btime, btimeSec),
    mode: row.mode,
    nlink: row.nlink,
    uid: row.uid,
    gid: row.gid,
    rdev: row.rdev,
    target: row.target === null ? '' : row.target.toString('latin1'),
    xattrs: row.xattrs,
  };
}

/** The parameters with which a commit writes inodes: a list for each column. See commit.ts. */
export function inodeLists(inodes: readonly InodeImage[], blob: Blob): string[] {
  const list = (value: (inode: InodeImage) => number | string) => `{${inodes.map(value).join()}}`;
  return [
    list((inode) => inode.ino),
    list((inode) => inode.parent),
    list((inode) => inode.size),
    list((inode) => inode.allocated),
    list((inode) => timeText(inode.atimeSec, inode.atimeNsec)),
    list((inode) => timeText(inode.mtimeSec, inode.mtimeNsec)),
    list((inode) => timeText(inode.ctimeSec, inode.ctimeNsec)),
    list((inode) => timeText(inode.btimeSec, inode.btimeNsec)),
    list((inode) => inode.mode),
    list((inode) => inode.nlink),
    list((inode) => inode.uid),
    list((inode) => inode.gid),
    list((inode) => inode.rdev),
    ...blob.lists(inodes.map((inode) => (inode.target === '' ? null : Buffer.from(inode.target, 'latin1')))),
    ...blob.lists(inodes.map((inode) => inode.xattrs)),
  ];
}
