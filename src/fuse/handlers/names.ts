import { type Ino, ROOT_INO } from '../../brand.ts';
import { errno, FsError } from '../../errno.ts';
import { findName } from '../../vfs/directory.ts';
import { NAME_MAX_BYTES } from '../../vfs/geometry.ts';
import { fileType, type Inode, noteName } from '../../vfs/inode.ts';
import { createNode, createTemporary, link } from '../../vfs/ops/create.ts';
import { rmdir, unlink } from '../../vfs/ops/remove.ts';
import { type RenameMode, rename } from '../../vfs/ops/rename.ts';
import { type Context, viewIn } from '../context.ts';
import { putAbsent, putControlEntry, putEntry, putPlaceholderEntry } from '../reply.ts';
import { PAYLOAD } from '../session.ts';
import { createIn, linkIn, mkdirIn, mknodIn, openOut, rename2In, renameIn } from '../wire/abi.ts';
import { O, RENAME } from '../wire/flags.ts';
import { truncateOnOpen } from './files.ts';

/** The name of the control directory, reserved in the root. */
export const CONTROL_NAME = '.tarbox';
const ARGUMENT = 40;

const readMknod = mknodIn.reader();
const readMkdir = mkdirIn.reader();
const readLink = linkIn.reader();
const readRename = renameIn.reader();
const readRename2 = rename2In.reader();
const readCreate = createIn.reader();
const writeOpen = openOut.writer();
const opened = openOut.blank();

/** @throws {FsError} EPERM when a change would touch the control directory's name. */
function requireUnreserved(parent: number, name: string): void {
  if (parent === ROOT_INO && name === CONTROL_NAME)
    throw new FsError('EPERM', `/${CONTROL_NAME} is reserved: it holds the control files`);
}

/** Something is to be made by this name. @throws {FsError} EPERM, EEXIST when that's a name of ours */
function requireFree(context: Context, parent: Ino, name: string): void {
  requireUnreserved(parent, name);
  context.services.placeholders.requireFree(context.live, parent, name);
}

/** What has this name is to be removed, renamed or replaced. @throws {FsError} EPERM, EBUSY when that's ours to keep */
function requireIdle(context: Context, parent: Ino, name: string): void {
  requireUnreserved(parent, name);
  context.services.placeholders.requireIdle(context.live, parent, name);
}

export function handleLookup(context: Context): number {
  const { workspace, reply } = context;
  const { placeholders } = context.services;
  const name = context.name(ARGUMENT);
  const parentIno = context.ino;
  if (parentIno === ROOT_INO && name === CONTROL_NAME && context.frozen === undefined)
    return putControlEntry(reply, PAYLOAD, 0, context.services.control.attributes(0));
  const placeholder = context.frozen === undefined ? placeholders.find(workspace, parentIno, name) : undefined;
  if (placeholder !== undefined) return putPlaceholderEntry(context, PAYLOAD, placeholder, workspace.inode(ROOT_INO));
  const parent = workspace.directory(parentIno);
  if (name === '.' || name === '..')
    return putEntry(context, PAYLOAD, name === '.' ? parent : workspace.directory(parent.parent));
  if (name.length > NAME_MAX_BYTES) return -errno.ENAMETOOLONG;
  const dentry = findName(parent, name);
  if (dentry === undefined) return putAbsent(context, PAYLOAD);
  const inode = workspace.inode(dentry.ino);
  noteName(inode, parentIno, name);
  return putEntry(context, PAYLOAD, inode);
}

export function handleMknod(context: Context): number {
  const { mode, rdev, umask } = readMknod(context.request, ARGUMENT);
  return create(context, context.name(ARGUMENT + mknodIn.size), { mode, umask, rdev, target: '' });
}

export function handleMkdir(context: Context): number {
  const { mode, umask } = readMkdir(context.request, ARGUMENT);
  const directoryMode = fileType.directory | (mode & ~fileType.mask);
  return create(context, context.name(ARGUMENT + mkdirIn.size), { mode: directoryMode, umask, rdev: 0, target: '' });
}

export function handleSymlink(context: Context): number {
  const nameEnd = context.nameEnd(ARGUMENT);
  const target = context.name(nameEnd + 1);
  return create(context, context.name(ARGUMENT), { mode: fileType.symlink | 0o777, umask: 0, rdev: 0, target });
}

function create(context: Context, name: string, node: Parameters<typeof createNode>[3]): number {
  const parent = context.ino;
  requireFree(context, parent, name);
  return putEntry(context, PAYLOAD, createNode(context.workspace, parent, name, node, context.caller));
}

export function handleLink(context: Context): number {
  const { oldnodeidLo, oldnodeidHi } = readLink(context.request, ARGUMENT);
  const name = context.name(ARGUMENT + linkIn.size);
  requireFree(context, context.ino, name);
  const inode = link(context.workspace, context.liveIno(oldnodeidLo, oldnodeidHi), context.ino, name);
  return putEntry(context, PAYLOAD, inode);
}

export function handleUnlink(context: Context): number {
  const name = context.name(ARGUMENT);
  requireIdle(context, context.ino, name);
  unlink(context.workspace, context.ino, name);
  return 0;
}

export function handleRmdir(context: Context): number {
  const name = context.name(ARGUMENT);
  requireIdle(context, context.ino, name);
  rmdir(context.workspace, context.ino, name);
  return 0;
}

export function handleRename(context: Context): number {
  const { newdirLo, newdirHi } = readRename(context.request, ARGUMENT);
  return moveName(context, ARGUMENT + renameIn.size, context.liveIno(newdirLo, newdirHi), 'replace');
}

export function handleRename2(context: Context): number {
  const { newdirLo, newdirHi, flags } = readRename2(context.request, ARGUMENT);
  const mode = renameMode(flags);
  if (mode === undefined) return -errno.EINVAL;
  return moveName(context, ARGUMENT + rename2In.size, context.liveIno(newdirLo, newdirHi), mode);
}

/** RENAME_WHITEOUT, and flags to come, aren't offered (renameat2(2): EINVAL). */
function renameMode(flags: number): RenameMode | undefined {
  if (flags === 0) return 'replace';
  if (flags === RENAME.NOREPLACE) return 'noreplace';
  return flags === RENAME.EXCHANGE ? 'exchange' : undefined;
}

function moveName(context: Context, at: number, newParent: Ino, mode: RenameMode): number {
  const oldName = context.name(at);
  const newName = context.name(context.nameEnd(at) + 1);
  requireIdle(context, context.ino, oldName);
  requireIdle(context, newParent, newName);
  rename(context.workspace, context.ino, oldName, newParent, newName, mode);
  return 0;
}

/** Makes and opens a file; one that another name of the kernel's cache hid is opened as it is. */
export function handleCreate(context: Context): number {
  const { workspace } = context;
  const { flags, mode, umask, openFlags } = readCreate(context.request, ARGUMENT);
  const name = context.name(ARGUMENT + createIn.size);
  const parentIno = context.ino;
  requireFree(context, parentIno, name);
  const existing = findName(workspace.directory(parentIno), name);
  if (existing === undefined) {
    const node = { mode: fileType.regular | (mode & ~fileType.mask), umask, rdev: 0, target: '' };
    return putOpened(context, createNode(workspace, parentIno, name, node, context.caller));
  }
  if ((flags & O.EXCL) !== 0) return -errno.EEXIST;
  const inode = workspace.inode(existing.ino);
  if ((flags & O.TRUNC) !== 0) truncateOnOpen(workspace, inode, openFlags);
  return putOpened(context, inode);
}

export function handleTmpfile(context: Context): number {
  const { mode, umask } = readCreate(context.request, ARGUMENT);
  const node = { mode: fileType.regular | (mode & ~fileType.mask), umask, rdev: 0, target: '' };
  const inode = createTemporary(context.workspace, context.ino, node, context.caller);
  return putOpened(context, inode);
}

function putOpened(context: Context, inode: Inode): number {
  const entryBytes = putEntry(context, PAYLOAD, inode);
  context.live.handles.opened(viewIn(context.live, inode.ino), inode.ino);
  opened.openFlags = context.openFlags;
  writeOpen(context.reply, PAYLOAD + entryBytes, opened);
  return entryBytes + openOut.size;
}
