import type { Ino } from '../../brand.ts';
import { FsError } from '../../errno.ts';
import { ACL_ACCESS, ACL_DEFAULT, inheritAcl } from '../acl.ts';
import { findName, insertName } from '../directory.ts';
import { LINK_MAX, NAME_MAX_BYTES, TARGET_MAX_BYTES } from '../geometry.ts';
import { direntType, fileType, type Inode, isDirectory, noteName, SETGID } from '../inode.ts';
import type { ByteString } from '../store.ts';
import type { Caller, Workspace } from '../workspace.ts';

const PERMISSION_BITS = 0o7777;

/** @throws {FsError} ENAMETOOLONG, EINVAL for a name that no directory can have. */
export function checkName(name: ByteString): void {
  if (name.length > NAME_MAX_BYTES)
    throw new FsError('ENAMETOOLONG', `a name may have ${NAME_MAX_BYTES} bytes at most, this one has ${name.length}`);
  if (name === '' || name === '.' || name === '..' || name.includes('/'))
    throw new FsError('EINVAL', 'that is not a file name');
}

/** A directory that new names may go into. @throws {FsError} ENOTDIR, ENOENT when it was removed; {Missing} */
export function directoryForNames(workspace: Workspace, ino: Ino): Inode {
  const parent = workspace.directory(ino);
  if (parent.nlink === 0) throw new FsError('ENOENT', `directory ${ino} was removed`);
  return parent;
}

/** @throws {FsError} EEXIST, ENAMETOOLONG, EINVAL; {Missing} */
export function requireAbsent(parent: Inode, name: ByteString): void {
  checkName(name);
  if (findName(parent, name) !== undefined) throw new FsError('EEXIST', 'the name is taken');
}

/** What to make: type and permission bits before the umask, and what the type needs. */
export interface NewNode {
  readonly mode: number;
  readonly umask: number;
  readonly rdev: number;
  readonly target: ByteString;
}

/**
 * Makes a file, directory or other node under a new name. It belongs to the caller; its group is the directory's
 * where that has setgid set, which a new directory passes on (inode_init_owner).
 *
 * @throws {FsError} EEXIST, ENOTDIR, ENOENT, ENAMETOOLONG, EINVAL, EMLINK, ENOSPC; {Missing}
 */
export function createNode(
  workspace: Workspace,
  parentIno: Ino,
  name: ByteString,
  node: NewNode,
  caller: Caller,
): Inode {
  const parent = directoryForNames(workspace, parentIno);
  requireAbsent(parent, name);
  if (node.target.length > TARGET_MAX_BYTES) throw new FsError('ENAMETOOLONG', 'the target of the link is too long');
  const makesDirectory = (node.mode & fileType.mask) === fileType.directory;
  if (makesDirectory && parent.nlink >= LINK_MAX)
    throw new FsError('EMLINK', `a directory may have ${LINK_MAX - 2} directories in it`);
  workspace.reserve(0, 1);
  const inode = unnamedNode(workspace, parent, node, caller);
  insertName(workspace, parent, name, inode.ino, direntType(inode.mode));
  noteName(inode, parent.ino, name);
  if (makesDirectory) parent.nlink++;
  workspace.touchContent(parent);
  return inode;
}

/** A regular file without a name (O_TMPFILE); it's an orphan until a link gives it one. @throws as `createNode` */
export function createTemporary(workspace: Workspace, parentIno: Ino, node: NewNode, caller: Caller): Inode {
  const parent = directoryForNames(workspace, parentIno);
  workspace.reserve(0, 1);
  const inode = unnamedNode(workspace, parent, node, caller);
  inode.nlink = 0;
  workspace.orphans.set(inode.ino, inode.allocated);
  return inode;
}

function unnamedNode(workspace: Workspace, parent: Inode, node: NewNode, caller: Caller): Inode {
  const type = node.mode & fileType.mask;
  const makesDirectory = type === fileType.directory;
  const inheritsGroup = (parent.mode & SETGID) !== 0;
  const permissions = node.mode & PERMISSION_BITS;
  const isLink = type === fileType.symlink;
  const inherited = isLink ? undefined : inheritAcl(parent, permissions, node.umask, makesDirectory);
  const setgid = makesDirectory && inheritsGroup ? SETGID : 0;
  const inode = workspace.newInode(
    type | (inherited?.mode ?? 0o777) | setgid,
    caller.uid,
    inheritsGroup ? parent.gid : caller.gid,
    parent.ino,
    node.rdev,
    node.target,
  );
  if (inherited?.access !== undefined) setXattr(inode, ACL_ACCESS, inherited.access);
  if (inherited?.defaults !== undefined) setXattr(inode, ACL_DEFAULT, inherited.defaults);
  return inode;
}

function setXattr(inode: Inode, name: ByteString, value: Buffer): void {
  inode.xattrs ??= new Map();
  inode.xattrs.set(name, value);
}

/**
 * Gives a file another name.
 *
 * @throws {FsError} EPERM for a directory, EMLINK, ENOENT when its last name is gone (unless it never had one:
 *   O_TMPFILE), EEXIST, ENOTDIR, ENAMETOOLONG, EINVAL; {Missing}
 */
export function link(workspace: Workspace, ino: Ino, parentIno: Ino, name: ByteString): Inode {
  const inode = workspace.inode(ino);
  const parent = directoryForNames(workspace, parentIno);
  if (isDirectory(inode)) throw new FsError('EPERM', 'a directory has one name only');
  requireAbsent(parent, name);
  if (inode.nlink >= LINK_MAX) throw new FsError('EMLINK', `a file may have ${LINK_MAX} names`);
  if (inode.nlink++ === 0) workspace.orphans.delete(ino);
  inode.parent = parent.ino;
  insertName(workspace, parent, name, inode.ino, direntType(inode.mode));
  noteName(inode, parent.ino, name);
  workspace.touchStatus(inode);
  workspace.touchContent(parent);
  return inode;
}
