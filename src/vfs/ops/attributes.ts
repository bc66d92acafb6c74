import { FsError } from '../../errno.ts';
import { chmodAcl } from '../acl.ts';
import { fileType, type Inode, isDirectory } from '../inode.ts';
import { dropPrivileges, dropPrivilegesOnChown } from '../permission.ts';
import type { Caller, Workspace } from '../workspace.ts';
import { resize } from './data.ts';

const PERMISSION_BITS = 0o7777;

/** A time to set: given, or now. */
export interface NewTime {
  readonly now: boolean;
  readonly sec: number;
  readonly nsec: number;
}

/** What to change; undefined stays. The caller's right to do it was checked by the kernel. */
export interface AttributeChange {
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly size: number | undefined;
  readonly atime: NewTime | undefined;
  readonly mtime: NewTime | undefined;
  readonly ctime: NewTime | undefined;
  /** The caller may not keep setuid and setgid bits on a truncation. */
  readonly killPrivileges: boolean;
}

/**
 * chmod, chown, truncate and utimens in one, as SETATTR carries them. A change of nothing at all is a chown that
 * names no owner: it drops setuid bits, as the others do. The kernel lets anyone do that, and also sends it ahead of a
 * write to a file with such bits (file_remove_privs), so from someone who doesn't own the file it drops nothing.
 *
 * @throws {FsError} EFBIG, EISDIR, EINVAL; {Missing} before anything has changed.
 */
export function setAttributes(workspace: Workspace, inode: Inode, change: AttributeChange, caller: Caller): void {
  if (change.size !== undefined) {
    if (isDirectory(inode)) throw new FsError('EISDIR', `inode ${inode.ino} is a directory`);
    resize(workspace, inode, change.size);
    dropPrivileges(inode, change.killPrivileges);
    workspace.touchContent(inode);
  }
  const { mode, uid, gid, atime, mtime, ctime } = change;
  const changesOwner = uid !== undefined || gid !== undefined;
  if (changesOwner || (changesNothing(change) && (caller.uid === 0 || caller.uid === inode.uid)))
    dropPrivilegesOnChown(inode);
  if (uid !== undefined) inode.uid = uid;
  if (gid !== undefined) inode.gid = gid;
  if (mode !== undefined) {
    inode.mode = (inode.mode & fileType.mask) | (mode & PERMISSION_BITS);
    chmodAcl(inode);
  }
  if (atime !== undefined) {
    inode.atimeSec = atime.now ? workspace.nowSec : workspace.clampSeconds(atime.sec);
    inode.atimeNsec = atime.now ? workspace.nowNsec : atime.nsec;
  }
  if (mtime !== undefined) {
    inode.mtimeSec = mtime.now ? workspace.nowSec : workspace.clampSeconds(mtime.sec);
    inode.mtimeNsec = mtime.now ? workspace.nowNsec : mtime.nsec;
  }
  workspace.touchStatus(inode);
  if (ctime !== undefined) {
    inode.ctimeSec = workspace.clampSeconds(ctime.sec);
    inode.ctimeNsec = ctime.nsec;
  }
}

function changesNothing({ mode, uid, gid, size, atime, mtime, ctime }: AttributeChange): boolean {
  return [mode, uid, gid, size, atime, mtime, ctime].every((value) => value === undefined);
}
