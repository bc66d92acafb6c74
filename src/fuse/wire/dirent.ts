/**
 * Packing of directory listings (READDIR, READDIRPLUS): entries one after the other, each starting at a multiple
 * of 8 bytes. The length of an answer is the position after the last entry that fitted.
 */
import { dirent, entryOut } from './abi.ts';

/** Bytes of `fuse_dirent` before the name (FUSE_NAME_OFFSET), and of `fuse_direntplus`. */
const NAME_OFFSET = dirent.size;
const PLUS_NAME_OFFSET = entryOut.size + dirent.size;

const writeDirent = dirent.writer();
const header = dirent.blank();

/** Bytes that an entry with a name of this length takes in READDIR's answer. */
export function direntBytes(nameBytes: number): number {
  return (NAME_OFFSET + nameBytes + 7) & ~7;
}

/** Bytes that an entry with a name of this length takes in READDIRPLUS's answer. */
export function direntPlusBytes(nameBytes: number): number {
  return (PLUS_NAME_OFFSET + nameBytes + 7) & ~7;
}

/**
 * Writes an entry at `at` and returns the position after it, or -1 when it would pass `end`; then nothing is written.
 * `ino` is st_ino, `cookie` the offset that continues after this entry, `type` a DT, `name` one byte a character.
 */
export function appendDirent(
  buffer: Buffer,
  at: number,
  end: number,
  ino: number,
  cookie: number,
  type: number,
  name: string,
): number {
  const next = at + direntBytes(name.length);
  if (next > end) return -1;
  put(buffer, at, ino, cookie, type, name, next);
  return next;
}

/**
 * The same for READDIRPLUS, whose entry has an `entryOut` in front. Returns where that goes, which is `at`, or -1
 * when the entry would pass `end`. The caller writes all of the `entryOut` there (a nodeid of 0 says "not looked
 * up", and takes no reference) and goes on at `at + direntPlusBytes(name.length)`.
 */
export function appendDirentPlus(
  buffer: Buffer,
  at: number,
  end: number,
  ino: number,
  cookie: number,
  type: number,
  name: string,
): number {
  const next = at + direntPlusBytes(name.length);
  if (next > end) return -1;
  put(buffer, at + entryOut.size, ino, cookie, type, name, next);
  return at;
}

function put(buffer: Buffer, at: number, ino: number, cookie: number, type: number, name: string, next: number): void {
  header.ino = ino;
  header.off = cookie;
  header.namelen = name.length;
  header.type = type;
  writeDirent(buffer, at, header);
  const nameEnd = at + NAME_OFFSET + name.length;
  buffer.write(name, at + NAME_OFFSET, 'latin1');
  for (let i = nameEnd; i < next; i++) buffer[i] = 0;
}
