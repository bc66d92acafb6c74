import { type Ino, ROOT_INO } from '../../brand.ts';
import { errno } from '../../errno.ts';
import {
  type Dentry,
  type Directory,
  DOT_COOKIE,
  DOT_DOT_COOKIE,
  directoryOf,
  indexAfter,
  orderedNames,
} from '../../vfs/directory.ts';
import { type Inode, noteName } from '../../vfs/inode.ts';
import { Missing } from '../../vfs/miss.ts';
import { forget } from '../../vfs/ops/remove.ts';
import { type Context, inoOf, viewIn } from '../context.ts';
import type { Placeholder } from '../placeholders.ts';
import { controlIno, placeholderIno, putControlEntry, putEntry, putUnreferenced } from '../reply.ts';
import { NO_REPLY, PAYLOAD } from '../session.ts';
import { batchForgetIn, forgetIn, forgetOne, openOut, readIn } from '../wire/abi.ts';
import { appendDirent, appendDirentPlus } from '../wire/dirent.ts';
import { DT } from '../wire/flags.ts';
import { forgetControl } from './control.ts';
import { CONTROL_NAME } from './names.ts';

const ARGUMENT = 40;
/** Cookie of `.tarbox` where it's listed; names of the tree start at 16. */
const CONTROL_COOKIE = 3;
/** Cookies of placeholders, in the order of their numbers: above those of any name. */
const PLACEHOLDER_COOKIES = 2 ** 52;
/** Inodes that one listing asks for at once, at most: an answer of a page or two names no more. */
const INODES_AT_ONCE = 512;

const writeOpen = openOut.writer();
const opened = openOut.blank();
const readReaddir = readIn.reader();
const readForget = forgetIn.reader();
const readBatch = batchForgetIn.reader();
const readOne = forgetOne.reader();

/** Listings need no handle: the kernel stops asking, and keeps listings (NO_OPENDIR_SUPPORT), unless it's to keep nothing. */
export function handleOpendir(context: Context): number {
  if (context.validSec > 0) return -errno.ENOSYS;
  opened.openFlags = 0;
  writeOpen(context.reply, PAYLOAD, opened);
  return openOut.size;
}

export function handleReaddir(context: Context): number {
  return list(context, false);
}

export function handleReaddirplus(context: Context): number {
  return list(context, true);
}

/** Fills one answer. @throws {Missing} before anything is referenced. */
function list(context: Context, plus: boolean): number {
  const { offset, size } = readReaddir(context.request, ARGUMENT);
  const inode = context.workspace.directory(context.ino);
  const end = PAYLOAD + Math.min(size, context.reply.length - PAYLOAD);
  let at = PAYLOAD;
  if (offset < DOT_DOT_COOKIE) at = listDots(context, inode, offset, plus, at, end);
  if (offset < CONTROL_COOKIE && inode.ino === ROOT_INO && !context.frozen && context.services.control.visible)
    at = listControl(context, plus, at, end);
  const directory = directoryOf(inode);
  const order = orderedNames(directory);
  const first = indexAfter(order, offset);
  const last = lastLoaded(directory, order);
  if (first >= last && !directory.complete)
    throw new Missing({ kind: 'directory', parent: inode.ino, after: directory.loadedTo });
  const placeholders = context.frozen ? [] : context.services.placeholders.within(context.workspace, inode.ino);
  if (offset === 0) context.workspace.listing(inode);
  if (plus) requireInodes(context, order, first, last, end - at);
  for (let index = first; index < last; index++) {
    const dentry = order[index];
    if (dentry === undefined || !dentry.live) continue;
    if (placeholders.some(({ path }) => path.at(-1) === dentry.name)) continue; // hidden by it
    const next = plus ? appendPlus(context, inode.ino, dentry, at, end) : append(context, dentry, at, end);
    if (next < 0) return at - PAYLOAD;
    at = next;
  }
  if (last === order.length && directory.complete) at = listPlaceholders(context, placeholders, offset, plus, at, end);
  return at - PAYLOAD;
}

/** After all the others. None takes a reference: whoever wants one looks it up. */
function listPlaceholders(
  context: Context,
  placeholders: readonly Placeholder[],
  offset: number,
  plus: boolean,
  start: number,
  end: number,
): number {
  const append = plus ? appendDirentPlus : appendDirent;
  let at = start;
  for (const { id, path, directory } of placeholders) {
    const name = path.at(-1) ?? '';
    const cookie = PLACEHOLDER_COOKIES + id;
    if (cookie <= offset) continue;
    const next = append(context.reply, at, end, placeholderIno(id), cookie, directory ? DT.DIR : DT.REG, name);
    if (next < 0) break;
    if (plus) putUnreferenced(context.reply, next);
    at = plus ? next + plusBytes(name.length) : next;
  }
  return at;
}

/** Index behind the dentries that no unloaded one can come before. */
function lastLoaded(directory: Directory, order: readonly Dentry[]): number {
  return directory.complete ? order.length : indexAfter(order, directory.loadedTo);
}

function append(context: Context, dentry: Dentry, at: number, end: number): number {
  const ino = (context.frozen?.inoBase ?? 0) + dentry.ino;
  return appendDirent(context.reply, at, end, ino, dentry.cookie, dentry.type, dentry.name);
}

function appendPlus(context: Context, parent: Ino, dentry: Dentry, at: number, end: number): number {
  const ino = (context.frozen?.inoBase ?? 0) + dentry.ino;
  const start = appendDirentPlus(context.reply, at, end, ino, dentry.cookie, dentry.type, dentry.name);
  if (start < 0) return -1;
  const inode = context.workspace.inode(dentry.ino);
  if (inode.namedIn === undefined) noteName(inode, parent, dentry.name);
  putEntry(context, start, inode);
  return start + plusBytes(dentry.name.length);
}

function plusBytes(nameBytes: number): number {
  return (152 + nameBytes + 7) & ~7;
}

/** @throws {Missing} with the inodes that the answer will name and that aren't loaded. */
function requireInodes(context: Context, order: readonly Dentry[], first: number, last: number, room: number): void {
  let absent: Ino[] | undefined;
  let bytes = 0;
  for (let index = first; index < last && bytes < room; index++) {
    const dentry = order[index];
    if (dentry === undefined || !dentry.live) continue;
    bytes += plusBytes(dentry.name.length);
    if (context.workspace.cached(dentry.ino) !== undefined) continue;
    absent ??= [];
    absent.push(dentry.ino);
    if (absent.length >= INODES_AT_ONCE) break;
  }
  if (absent !== undefined) throw new Missing({ kind: 'inodes', inos: absent });
}

function listDots(context: Context, inode: Inode, offset: number, plus: boolean, at: number, end: number): number {
  let position = at;
  if (offset < DOT_COOKIE) position = appendDot(context, inode.ino, DOT_COOKIE, '.', plus, position, end);
  return appendDot(context, inode.parent, DOT_DOT_COOKIE, '..', plus, position, end);
}

/** `.` and `..` are named without a reference: the kernel doesn't count those (fuse_direntplus_link). */
function appendDot(
  context: Context,
  ino: number,
  cookie: number,
  name: string,
  plus: boolean,
  at: number,
  end: number,
): number {
  const shown = (context.frozen?.inoBase ?? 0) + ino;
  if (!plus) return Math.max(at, appendDirent(context.reply, at, end, shown, cookie, DT.DIR, name));
  const start = appendDirentPlus(context.reply, at, end, shown, cookie, DT.DIR, name);
  if (start < 0) return at;
  putUnreferenced(context.reply, start);
  return start + plusBytes(name.length);
}

function listControl(context: Context, plus: boolean, at: number, end: number): number {
  const { control } = context.services;
  if (!plus)
    return Math.max(at, appendDirent(context.reply, at, end, controlIno(0), CONTROL_COOKIE, DT.DIR, CONTROL_NAME));
  const start = appendDirentPlus(context.reply, at, end, controlIno(0), CONTROL_COOKIE, DT.DIR, CONTROL_NAME);
  if (start < 0) return at;
  putControlEntry(context.reply, start, 0, control.attributes(0));
  return start + plusBytes(CONTROL_NAME.length);
}

export function handleForget(context: Context): number {
  if (context.frozen === undefined)
    forget(context.workspace, context.ino, readForget(context.request, ARGUMENT).nlookup);
  return NO_REPLY;
}

/** Whether the request lets go of a file that has no name any more, and so changes something. */
export function forgetsOrphan(context: Context): boolean {
  const { orphans } = context.workspace;
  if (orphans.size === 0) return false;
  if (context.header.opcode !== 42) return context.frozen === undefined && orphans.has(context.ino);
  const count = forgottenCount(context);
  for (let index = 0; index < count; index++) if (orphans.has(forgottenIno(context, index))) return true;
  return false;
}

function forgottenCount(context: Context): number {
  const { count } = readBatch(context.request, ARGUMENT);
  context.require(ARGUMENT + batchForgetIn.size + count * forgetOne.size);
  return count;
}

function forgottenIno(context: Context, index: number): Ino {
  const one = readOne(context.request, ARGUMENT + batchForgetIn.size + index * forgetOne.size);
  const ino = inoOf(one.nodeidLo, one.nodeidHi);
  return one.nodeidHi >>> 12 === viewIn(context.live, ino) ? ino : (0 as Ino); // 0 is no inode
}

export function handleBatchForget(context: Context): number {
  const count = forgottenCount(context);
  const { workspace } = context;
  // First what may be missing, so that no reference is taken back twice when the request is served again.
  const absent: Ino[] = [];
  for (let index = 0; index < count; index++) {
    const ino = forgottenIno(context, index);
    if (workspace.orphans.has(ino) && workspace.cached(ino) === undefined) absent.push(ino);
  }
  if (absent.length > 0) throw new Missing({ kind: 'inodes', inos: absent });
  for (let index = 0; index < count; index++) {
    const ino = forgottenIno(context, index);
    const { nlookup } = readOne(context.request, ARGUMENT + batchForgetIn.size + index * forgetOne.size);
    if (ino !== 0) forget(workspace, ino, nlookup);
  }
  forgetControl(context);
  return NO_REPLY;
}
