import { type Ino, ROOT_INO } from '../../brand.ts';
import { FsError } from '../../errno.ts';
import { type Dentry, findName, insertName, isEmptyDirectory, removeName, retargetName } from '../directory.ts';
import { LINK_MAX } from '../geometry.ts';
import { dropName, type Inode, isDirectory, noteName } from '../inode.ts';
import type { ByteString } from '../store.ts';
import type { Workspace } from '../workspace.ts';
import { checkName, directoryForNames } from './create.ts';
import { dropLink } from './remove.ts';

/** `replace` as rename(2); the others as RENAME_NOREPLACE and RENAME_EXCHANGE of renameat2(2). */
export type RenameMode = 'replace' | 'noreplace' | 'exchange';

/**
 * Moves a name, as one step for everyone who looks. Where both names are links to one file nothing happens.
 *
 * @throws {FsError} ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR, EINVAL (into itself), EMLINK, ENAMETOOLONG; {Missing}
 */
export function rename(
  workspace: Workspace,
  fromIno: Ino,
  fromName: ByteString,
  toIno: Ino,
  toName: ByteString,
  mode: RenameMode,
): void {
  checkName(toName);
  const from = workspace.directory(fromIno);
  const to = directoryForNames(workspace, toIno);
  const source = findName(from, fromName);
  if (source === undefined) throw new FsError('ENOENT', 'no such file');
  const target = findName(to, toName);
  const moved = workspace.inode(source.ino);
  if (mode === 'noreplace' && target !== undefined) throw new FsError('EEXIST', 'the new name is taken');
  if (mode === 'exchange') {
    if (target === undefined) throw new FsError('ENOENT', 'there is nothing to exchange with');
    exchange(workspace, from, source, moved, to, target, workspace.inode(target.ino));
    return;
  }
  if (target === undefined) {
    checkMove(workspace, moved, from, to, 1);
  } else {
    if (target.ino === source.ino) return;
    replaceTarget(workspace, moved, from, to, target);
  }
  removeName(from, source);
  insertName(workspace, to, toName, source.ino, source.type);
  dropName(moved, from.ino, fromName);
  noteName(moved, to.ino, toName);
  if (isDirectory(moved) && from !== to) {
    from.nlink--;
    to.nlink++;
  }
  moved.parent = to.ino;
  workspace.touchStatus(moved);
  workspace.touchContent(from);
  workspace.touchContent(to);
}

/** Makes room for the moved name by taking the one that is there. */
function replaceTarget(workspace: Workspace, moved: Inode, from: Inode, to: Inode, target: Dentry): void {
  const replaced = workspace.inode(target.ino);
  if (isDirectory(moved) && !isDirectory(replaced)) throw new FsError('ENOTDIR', 'the new name is not a directory');
  if (!isDirectory(moved) && isDirectory(replaced)) throw new FsError('EISDIR', 'the new name is a directory');
  if (isDirectory(replaced) && !isEmptyDirectory(replaced))
    throw new FsError('ENOTEMPTY', 'the directory of the new name has names in it');
  checkMove(workspace, moved, from, to, 0);
  removeName(to, target);
  if (isDirectory(replaced)) to.nlink--;
  if (replaced.nlink > 1 && !isDirectory(replaced)) dropName(replaced, to.ino, target.name);
  dropLink(workspace, replaced);
}

/** @throws {FsError} EINVAL when a directory would go below itself, EMLINK; {Missing} */
function checkMove(workspace: Workspace, moved: Inode, from: Inode, to: Inode, moreDirectories: number): void {
  if (!isDirectory(moved) || from === to) return;
  if (isBelow(workspace, to, moved.ino)) throw new FsError('EINVAL', 'a directory cannot move below itself');
  if (to.nlink + moreDirectories > LINK_MAX)
    throw new FsError('EMLINK', 'the directory has too many directories in it');
}

function isBelow(workspace: Workspace, directory: Inode, ancestor: Ino): boolean {
  let at = directory;
  while (at.ino !== ROOT_INO) {
    if (at.ino === ancestor) return true;
    at = workspace.directory(at.parent);
  }
  return ancestor === ROOT_INO;
}

function exchange(
  workspace: Workspace,
  from: Inode,
  source: Dentry,
  moved: Inode,
  to: Inode,
  target: Dentry,
  other: Inode,
): void {
  if (source.ino === target.ino) return;
  checkMove(workspace, moved, from, to, isDirectory(other) ? 0 : 1);
  checkMove(workspace, other, to, from, isDirectory(moved) ? 0 : 1);
  const { ino, type } = source;
  retargetName(from, source, target.ino, target.type);
  retargetName(to, target, ino, type);
  dropName(moved, from.ino, source.name);
  dropName(other, to.ino, target.name);
  noteName(moved, to.ino, target.name);
  noteName(other, from.ino, source.name);
  if (from !== to) {
    const shift = (isDirectory(moved) ? 1 : 0) - (isDirectory(other) ? 1 : 0);
    to.nlink += shift;
    from.nlink -= shift;
    moved.parent = to.ino;
    other.parent = from.ino;
  }
  workspace.touchStatus(moved);
  workspace.touchStatus(other);
  workspace.touchContent(from);
  workspace.touchContent(to);
}
