import { errno } from '../../errno.ts';
import { setAttributes } from '../../vfs/ops/attributes.ts';
import { getXattr, listXattrs, removeXattr, setXattr, type XattrMode } from '../../vfs/ops/xattrs.ts';
import type { Context } from '../context.ts';
import { putAttributes, putStatx } from '../reply.ts';
import { PAYLOAD } from '../session.ts';
import { getxattrIn, getxattrOut, setattrIn, setxattrIn, setxattrInCompat, statfsOut } from '../wire/abi.ts';
import { FATTR, SETXATTR, XATTR } from '../wire/flags.ts';

const ARGUMENT = 40;
const NAME_MAX = 255;
const BLOCK_BYTES = 4096;

const readSetattr = setattrIn.reader();
const readSetxattr = setxattrIn.reader();
const readSetxattrCompat = setxattrInCompat.reader();
const readGetxattr = getxattrIn.reader();
const writeSize = getxattrOut.writer();
const writeStatfs = statfsOut.writer();
const sized = getxattrOut.blank();
const space = statfsOut.blank();

export function handleGetattr(context: Context): number {
  return putAttributes(context, PAYLOAD, context.workspace.inode(context.ino));
}

export function handleStatx(context: Context): number {
  return putStatx(context, PAYLOAD, context.workspace.inode(context.ino));
}

export function handleSetattr(context: Context): number {
  const args = readSetattr(context.request, ARGUMENT);
  const has = (flag: number) => (args.valid & flag) !== 0;
  const inode = context.workspace.inode(context.ino);
  const change = {
    mode: has(FATTR.MODE) ? args.mode : undefined,
    uid: has(FATTR.UID) ? args.uid : undefined,
    gid: has(FATTR.GID) ? args.gid : undefined,
    size: has(FATTR.SIZE) ? args.size : undefined,
    atime: has(FATTR.ATIME) ? { now: has(FATTR.ATIME_NOW), sec: args.atime, nsec: args.atimensec } : undefined,
    mtime: has(FATTR.MTIME) ? { now: has(FATTR.MTIME_NOW), sec: args.mtime, nsec: args.mtimensec } : undefined,
    ctime: has(FATTR.CTIME) ? { now: false, sec: args.ctime, nsec: args.ctimensec } : undefined,
    killPrivileges: has(FATTR.KILL_SUIDGID),
  };
  setAttributes(context.workspace, inode, change, context.caller);
  return putAttributes(context, PAYLOAD, inode);
}

export function handleReadlink(context: Context): number {
  return context.reply.write(context.workspace.inode(context.ino).target, PAYLOAD, 'latin1');
}

export function handleStatfs(context: Context): number {
  const found = context.services.space();
  space.bsize = BLOCK_BYTES;
  space.frsize = BLOCK_BYTES;
  space.blocks = Math.floor(found.totalBytes / BLOCK_BYTES);
  space.bfree = Math.floor(found.freeBytes / BLOCK_BYTES);
  space.bavail = space.bfree;
  space.files = found.totalInodes;
  space.ffree = found.freeInodes;
  space.namelen = NAME_MAX;
  writeStatfs(context.reply, PAYLOAD, space);
  return statfsOut.size;
}

/** The size of the argument depends on what was negotiated (SETXATTR_EXT). */
export function setxattrHandler(extended: boolean): (context: Context) => number {
  return (context) => {
    const args = extended
      ? readSetxattr(context.request, ARGUMENT)
      : { ...readSetxattrCompat(context.request, ARGUMENT), setxattrFlags: 0 };
    const nameAt = ARGUMENT + (extended ? setxattrIn.size : setxattrInCompat.size);
    const name = context.name(nameAt);
    const valueAt = context.nameEnd(nameAt) + 1;
    context.require(valueAt + args.size);
    const value = context.request.subarray(valueAt, valueAt + args.size);
    const kill = (args.setxattrFlags & SETXATTR.ACL_KILL_SGID) !== 0;
    setXattr(context.workspace, context.workspace.inode(context.ino), name, value, xattrMode(args.flags), kill);
    return 0;
  };
}

function xattrMode(flags: number): XattrMode {
  const replaces = (flags & XATTR.REPLACE) !== 0;
  if ((flags & XATTR.CREATE) !== 0) return replaces ? 'create and replace' : 'create';
  return replaces ? 'replace' : 'any';
}

export function handleGetxattr(context: Context): number {
  const { size } = readGetxattr(context.request, ARGUMENT);
  const inode = context.workspace.inode(context.ino);
  const value = getXattr(inode, context.name(ARGUMENT + getxattrIn.size));
  if (value === undefined) return -errno.ENODATA;
  if (size === 0) return putSize(context, value.length);
  if (value.length > size) return -errno.ERANGE;
  return value.copy(context.reply, PAYLOAD);
}

export function handleListxattr(context: Context): number {
  const { size } = readGetxattr(context.request, ARGUMENT);
  const names = listXattrs(context.workspace.inode(context.ino), context.caller);
  if (size === 0) return putSize(context, names.length);
  if (names.length > size) return -errno.ERANGE;
  return context.reply.write(names, PAYLOAD, 'latin1');
}

function putSize(context: Context, size: number): number {
  sized.size = size;
  writeSize(context.reply, PAYLOAD, sized);
  return getxattrOut.size;
}

export function handleRemovexattr(context: Context): number {
  removeXattr(context.workspace, context.workspace.inode(context.ino), context.name(ARGUMENT));
  return 0;
}
