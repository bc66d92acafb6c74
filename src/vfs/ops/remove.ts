import type { Ino } from '../../brand.ts';
import { FsError } from '../../errno.ts';
import { findName, isEmptyDirectory, removeName } from '../directory.ts';
import { dropName, type Inode, isDirectory } from '../inode.ts';
import type { ByteString } from '../store.ts';
import type { Workspace } from '../workspace.ts';

/** Takes a name from a file that isn't a directory. @throws {FsError} ENOENT, EISDIR, ENOTDIR; {Missing} */
export function unlink(workspace: Workspace, parentIno: Ino, name: ByteString): Inode {
  const parent = workspace.directory(parentIno);
  const dentry = findName(parent, name);
  if (dentry === undefined) throw new FsError('ENOENT', 'no such file');
  const inode = workspace.inode(dentry.ino);
  if (isDirectory(inode)) throw new FsError('EISDIR', 'that is a directory');
  removeName(parent, dentry);
  workspace.touchContent(parent);
  if (inode.nlink > 1) dropName(inode, parentIno, name);
  dropLink(workspace, inode);
  return inode;
}

/** @throws {FsError} ENOENT, ENOTEMPTY, ENOTDIR; {Missing} */
export function rmdir(workspace: Workspace, parentIno: Ino, name: ByteString): Inode {
  const parent = workspace.directory(parentIno);
  const dentry = findName(parent, name);
  if (dentry === undefined) throw new FsError('ENOENT', 'no such directory');
  const inode = workspace.directory(dentry.ino);
  if (!isEmptyDirectory(inode)) throw new FsError('ENOTEMPTY', 'the directory has names in it');
  removeName(parent, dentry);
  parent.nlink--;
  workspace.touchContent(parent);
  dropLink(workspace, inode);
  return inode;
}

/**
 * Counts one name less. A file or directory without any lives on as an orphan until nobody refers to it (`forget`).
 */
export function dropLink(workspace: Workspace, inode: Inode): void {
  inode.nlink = isDirectory(inode) ? 0 : inode.nlink - 1;
  if (inode.nlink === 0) {
    workspace.orphans.set(inode.ino, inode.allocated);
    workspace.releasesTaken = false;
  }
  workspace.touchStatus(inode);
}

/**
 * Takes back `count` references. An orphan without any is removed with its content. The kernel sends the rest of
 * a file's references at once when it lets go of it, so those that an earlier daemon gave out make it 0 or less too.
 *
 * @throws {Missing} for an orphan that isn't loaded.
 */
export function forget(workspace: Workspace, ino: Ino, count: number): void {
  const inode = workspace.orphans.has(ino) ? workspace.inode(ino) : workspace.cached(ino);
  if (inode === undefined) return;
  inode.lookups = Math.max(0, inode.lookups - count);
  if (inode.lookups === 0 && inode.nlink === 0 && !inode.removed) workspace.remove(inode);
}
