import type { ControlAttributes } from '../control/port.ts';
import type { Inode } from '../vfs/inode.ts';
import { fileType, isDirectory } from '../vfs/inode.ts';
import { CONTROL_VIEW, type Context, FOREVER, nodeidHi, PLACEHOLDER_VIEW, viewIn } from './context.ts';
import type { Placeholder } from './placeholders.ts';
import { attrOut, entryOut, statxOut } from './wire/abi.ts';

const DIRECTORY_BYTES = 4096;
const PAGE_BYTES = 4096;
const SECTORS_PER_PAGE = 8;
const IO_BYTES = 4096;

const writeEntry = entryOut.writer();
const writeAttr = attrOut.writer();
const writeStatx = statxOut.writer();
const entry = entryOut.blank();
const attributes = attrOut.blank();
const extended = statxOut.blank();

interface AttributeFields {
  ino: number;
  size: number;
  blocks: number;
  atime: number;
  mtime: number;
  ctime: number;
  atimensec: number;
  mtimensec: number;
  ctimensec: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  blksize: number;
}

function fill(target: AttributeFields, inode: Inode, inoBase: number): void {
  const directory = isDirectory(inode);
  target.ino = inoBase + inode.ino;
  target.size = directory ? DIRECTORY_BYTES : inode.size;
  target.blocks = directory ? SECTORS_PER_PAGE : Math.ceil(inode.allocated / PAGE_BYTES) * SECTORS_PER_PAGE;
  target.atime = inode.atimeSec;
  target.mtime = inode.mtimeSec;
  target.ctime = inode.ctimeSec;
  target.atimensec = inode.atimeNsec;
  target.mtimensec = inode.mtimeNsec;
  target.ctimensec = inode.ctimeNsec;
  target.mode = inode.mode;
  target.nlink = inode.nlink;
  target.uid = inode.uid;
  target.gid = inode.gid;
  target.rdev = inode.rdev;
  target.blksize = IO_BYTES;
}

/**
 * Writes an `entryOut` that gives the kernel a reference to the inode, by a name that it may keep for so many seconds;
 * returns its size.
 */
export function putEntry(context: Context, at: number, inode: Inode, validSec = context.validSec): number {
  const { frozen, live, reply } = context;
  inode.lookups++;
  entry.nodeidLo = inode.ino >>> 0;
  entry.nodeidHi = nodeidHi(frozen === undefined ? viewIn(live, inode.ino) : frozen.view, inode.ino);
  entry.generation = 0;
  entry.entryValid = validSec;
  entry.attrValid = context.validSec;
  fill(entry, inode, frozen?.inoBase ?? 0);
  writeEntry(reply, at, entry);
  return entryOut.size;
}

const NOTHING = entryOut.blank();

/** Writes an `entryOut` that says that there's no such name, for the kernel to remember. */
export function putAbsent(context: Context, at: number): number {
  NOTHING.entryValid = context.validSec;
  writeEntry(context.reply, at, NOTHING);
  return entryOut.size;
}

/** Writes an `entryOut` for a listing that doesn't give a reference (`.` and `..`). */
export function putUnreferenced(reply: Buffer, at: number): void {
  NOTHING.entryValid = 0;
  writeEntry(reply, at, NOTHING);
}

export function putAttributes(context: Context, at: number, inode: Inode): number {
  const { frozen, reply } = context;
  attributes.attrValid = context.validSec;
  attributes.attrValidNsec = 0;
  fill(attributes, inode, frozen?.inoBase ?? 0);
  writeAttr(reply, at, attributes);
  return attrOut.size;
}

/** STATX_BASIC_STATS | STATX_BTIME */
const STATX_MASK = 0xfff;

/** Writes a `statxOut`, which is `attrOut` with the time of birth. */
export function putStatx(context: Context, at: number, inode: Inode): number {
  fill(FIELDS, inode, context.frozen?.inoBase ?? 0);
  return putFieldsExtended(context.reply, at, context.validSec, inode);
}

/** What FIELDS holds, with the time of birth of an inode. */
function putFieldsExtended(
  reply: Buffer,
  at: number,
  validSec: number,
  { btimeSec, btimeNsec }: Pick<Inode, 'btimeSec' | 'btimeNsec'>,
): number {
  Object.assign(extended, FIELDS);
  extended.attrValid = validSec;
  extended.mask = STATX_MASK;
  extended.btime = btimeSec;
  extended.btimensec = btimeNsec;
  extended.rdevMajor = (FIELDS.rdev >>> 8) & 0xfff;
  extended.rdevMinor = (FIELDS.rdev & 0xff) | ((FIELDS.rdev >>> 12) & 0xfff00);
  writeStatx(reply, at, extended);
  return statxOut.size;
}

const FIELDS: AttributeFields = attrOut.blank();

/**
 * Spaces for st_ino, which must stay below 2^53: the live tree's is the first, the control files' the last, and
 * snapshots share those between.
 */
const INO_SPACE = 2 ** 40;
const INO_SPACES = 2 ** 13;
const CONTROL_INO_BASE = (INO_SPACES - 1) * INO_SPACE;

/** What is added to the inode numbers of a layer's snapshot; 8190 layers in a row have different ones. */
export function snapshotInoBase(layer: number): number {
  return (1 + (layer % (INO_SPACES - 2))) * INO_SPACE;
}

function fillControl(target: AttributeFields, id: number, found: ControlAttributes): void {
  const sec = Math.floor(found.timeMs / 1000);
  const nsec = Math.floor((found.timeMs - sec * 1000) * 1e6);
  target.ino = CONTROL_INO_BASE + id;
  target.size = 0;
  target.blocks = 0;
  target.atime = sec;
  target.mtime = sec;
  target.ctime = sec;
  target.atimensec = nsec;
  target.mtimensec = nsec;
  target.ctimensec = nsec;
  target.mode = found.mode;
  target.nlink = found.nlink;
  target.uid = found.uid;
  target.gid = found.gid;
  target.rdev = 0;
  target.blksize = IO_BYTES;
}

/** Control files are never cached. */
export function putControlEntry(reply: Buffer, at: number, id: number, found: ControlAttributes): number {
  entry.nodeidLo = id;
  entry.nodeidHi = nodeidHi(CONTROL_VIEW, id);
  entry.generation = 0;
  entry.entryValid = 0;
  entry.attrValid = 0;
  fillControl(entry, id, found);
  writeEntry(reply, at, entry);
  return entryOut.size;
}

export function putControlAttributes(reply: Buffer, at: number, id: number, found: ControlAttributes): number {
  attributes.attrValid = 0;
  fillControl(attributes, id, found);
  writeAttr(reply, at, attributes);
  return attrOut.size;
}

export function putControlStatx(reply: Buffer, at: number, id: number, found: ControlAttributes): number {
  fillControl(FIELDS, id, found);
  return putFieldsExtended(reply, at, 0, { btimeSec: FIELDS.ctime, btimeNsec: FIELDS.ctimensec });
}

export function controlIno(id: number): number {
  return CONTROL_INO_BASE + id;
}

/** Placeholders have the upper half of the control files' numbers. */
const PLACEHOLDER_INO_BASE = CONTROL_INO_BASE + INO_SPACE / 2;

/** st_ino of a placeholder; nothing else has it. */
export function placeholderIno(id: number): number {
  return PLACEHOLDER_INO_BASE + id;
}

/** As the workspace's root, but that nothing can be made in it. */
function fillPlaceholder(target: AttributeFields, { id, directory }: Placeholder, root: Inode): void {
  fill(target, root, 0);
  target.ino = placeholderIno(id);
  target.mode = directory ? fileType.directory | 0o555 : fileType.regular | 0o444;
  target.nlink = directory ? 2 : 1;
  target.size = 0;
  target.blocks = 0;
}

/** The kernel may keep it until it's told otherwise: a path that leads through a native mount costs no request. */
export function putPlaceholderEntry(context: Context, at: number, placeholder: Placeholder, root: Inode): number {
  entry.nodeidLo = placeholder.id;
  entry.nodeidHi = nodeidHi(PLACEHOLDER_VIEW, placeholder.id);
  entry.generation = 0;
  entry.entryValid = FOREVER;
  entry.attrValid = FOREVER;
  fillPlaceholder(entry, placeholder, root);
  writeEntry(context.reply, at, entry);
  return entryOut.size;
}

export function putPlaceholderAttributes(context: Context, at: number, placeholder: Placeholder, root: Inode): number {
  attributes.attrValid = FOREVER;
  attributes.attrValidNsec = 0;
  fillPlaceholder(attributes, placeholder, root);
  writeAttr(context.reply, at, attributes);
  return attrOut.size;
}

export function putPlaceholderStatx(context: Context, at: number, placeholder: Placeholder, root: Inode): number {
  fillPlaceholder(FIELDS, placeholder, root);
  return putFieldsExtended(context.reply, at, FOREVER, root);
}
