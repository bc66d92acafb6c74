import { errno } from '../../errno.ts';
import type { Inode } from '../../vfs/inode.ts';
import { read, resize, write } from '../../vfs/ops/data.ts';
import { allocate, copyRange, seek } from '../../vfs/ops/sparse.ts';
import { dropPrivileges } from '../../vfs/permission.ts';
import type { Workspace } from '../../vfs/workspace.ts';
import { CONTROL_VIEW, type Context, SNAPSHOT_VIEW } from '../context.ts';
import { PARKED, PAYLOAD } from '../session.ts';
import {
  copyFileRangeIn,
  copyFileRangeOut,
  fallocateIn,
  lseekIn,
  lseekOut,
  openIn,
  openOut,
  readIn,
  writeIn,
  writeOut,
} from '../wire/abi.ts';
import { FALLOC, O, OPEN_IN, SEEK, WRITE } from '../wire/flags.ts';

const ARGUMENT = 40;
const MAX_OFFSET = Number.MAX_SAFE_INTEGER;

const readOpen = openIn.reader();
const readRead = readIn.reader();
const readWrite = writeIn.reader();
const readFallocate = fallocateIn.reader();
const readLseek = lseekIn.reader();
const readCopy = copyFileRangeIn.reader();
const writeOpen = openOut.writer();
const writeWritten = writeOut.writer();
const writeSeek = lseekOut.writer();
const writeCopied = copyFileRangeOut.writer();
const opened = openOut.blank();
const written = writeOut.blank();
const sought = lseekOut.blank();
const copied = copyFileRangeOut.blank();

/** O_TRUNC, which the kernel leaves to the OPEN that carries it. */
export function truncateOnOpen(workspace: Workspace, inode: Inode, openFlags: number): void {
  resize(workspace, inode, 0);
  dropPrivileges(inode, (openFlags & OPEN_IN.KILL_SUIDGID) !== 0);
  workspace.touchContent(inode);
}

export function opensWithTruncation(context: Context): boolean {
  return (readOpen(context.request, ARGUMENT).flags & O.TRUNC) !== 0;
}

/** Handles carry no state but that they're open: everything that an operation needs is in its inode and its request. */
export function handleOpen(context: Context): number {
  const { flags, openFlags } = readOpen(context.request, ARGUMENT);
  const inode = context.workspace.inode(context.ino);
  // After ESTALE the kernel looks the path up again: what a switch has changed meanwhile has another number now.
  if (context.frozen !== undefined && (flags & O.ACCMODE) !== O.RDONLY)
    return context.view >= SNAPSHOT_VIEW ? -errno.EROFS : -errno.ESTALE;
  if ((flags & O.TRUNC) !== 0) truncateOnOpen(context.workspace, inode, openFlags);
  opened.openFlags = context.openFlags;
  writeOpen(context.reply, PAYLOAD, opened);
  context.live.handles.opened(context.view, context.ino);
  return openOut.size;
}

export function handleRelease(context: Context): number {
  context.live.handles.closed(context.view, context.ino);
  return 0;
}

/** Closing waits for nothing unless it was configured to: the kernel then stops asking. */
export function handleFlush(context: Context): number {
  if (!context.services.closeWaits) return context.view === CONTROL_VIEW ? 0 : -errno.ENOSYS;
  return handleFsync(context);
}

export function handleFsync(context: Context): number {
  context.after = context.services.sync();
  return PARKED;
}

export function handleRead(context: Context): number {
  const { offset, size } = readRead(context.request, ARGUMENT);
  const inode = context.workspace.inode(context.ino);
  const room = context.reply.length - PAYLOAD;
  return read(context.workspace, inode, offset, Math.min(size, room), context.reply, PAYLOAD);
}

export function handleWrite(context: Context): number {
  const { offset, size, writeFlags, flags } = readWrite(context.request, ARGUMENT);
  const data = ARGUMENT + writeIn.size;
  context.require(data + size);
  if (offset + size > MAX_OFFSET) return -errno.EFBIG;
  const inode = context.workspace.inode(context.ino);
  write(context.workspace, inode, offset, context.request, data, size);
  // Writing through a mapping takes no privileges away; where a write did, the kernel saw to it before caching it.
  const isCached = (writeFlags & WRITE.CACHE) !== 0;
  if (!isCached) dropPrivileges(inode, (writeFlags & WRITE.KILL_SUIDGID) !== 0);
  written.size = size;
  writeWritten(context.reply, PAYLOAD, written);
  // A handle that the daemon writes for on its own (from the page cache) has no flags of its own.
  if ((flags & O.DSYNC) !== 0 && !isCached) context.after = context.services.sync();
  return writeOut.size;
}

export function handleFallocate(context: Context): number {
  const { offset, length, mode } = readFallocate(context.request, ARGUMENT);
  const known = FALLOC.KEEP_SIZE | FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE;
  if ((mode & ~known) !== 0) return -errno.EOPNOTSUPP;
  if (length === 0) return -errno.EINVAL;
  if (offset + length > MAX_OFFSET) return -errno.EFBIG;
  const inode = context.workspace.inode(context.ino);
  const allocation = {
    keepSize: (mode & FALLOC.KEEP_SIZE) !== 0,
    zero: (mode & (FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE)) !== 0,
  };
  allocate(context.workspace, inode, offset, length, allocation, context.caller);
  return 0;
}

export function handleLseek(context: Context): number {
  const { offset, whence } = readLseek(context.request, ARGUMENT);
  if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return -errno.EINVAL;
  sought.offset = seek(context.workspace.inode(context.ino), offset, whence === SEEK.DATA);
  writeSeek(context.reply, PAYLOAD, sought);
  return lseekOut.size;
}

/** The reply's 32 bits bound a call; the kernel asks again for the rest. */
const MAX_COPY = 2 ** 31;

function copyFileRange(context: Context): number {
  const { offIn, nodeidOutLo, nodeidOutHi, offOut, len } = readCopy(context.request, ARGUMENT);
  const { workspace, caller } = context;
  const target = workspace.inode(context.liveIno(nodeidOutLo, nodeidOutHi));
  return copyRange(workspace, workspace.inode(context.ino), offIn, target, offOut, Math.min(len, MAX_COPY), caller);
}

export function handleCopyFileRange(context: Context): number {
  written.size = copyFileRange(context);
  writeWritten(context.reply, PAYLOAD, written);
  return writeOut.size;
}

export function handleCopyFileRange64(context: Context): number {
  copied.bytesCopied = copyFileRange(context);
  writeCopied(context.reply, PAYLOAD, copied);
  return copyFileRangeOut.size;
}
