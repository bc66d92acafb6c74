import { GROUP_EXECUTE, type Inode, isDirectory, SETGID, SETUID } from './inode.ts';
import type { Caller } from './workspace.ts';

const CAPABILITY_XATTR = 'security.capability';

/**
 * What every change of a file's content or owner does to its privileges: file capabilities go, and when
 * `killBits` says that the caller may not keep them, setuid goes, and setgid where the group may execute
 * (inode_drop; FUSE_HANDLE_KILLPRIV_V2 in linux/fuse.h).
 */
export function dropPrivileges(inode: Inode, killBits: boolean): void {
  if (inode.xattrs?.delete(CAPABILITY_XATTR) === true && inode.xattrs.size === 0) inode.xattrs = undefined;
  if (!killBits || (inode.mode & (SETUID | SETGID)) === 0) return;
  inode.mode &= ~SETUID;
  if ((inode.mode & GROUP_EXECUTE) !== 0) inode.mode &= ~SETGID;
}

/**
 * Whether a caller's changes take setuid and setgid away. Where the kernel doesn't say so in the request, everyone but
 * root counts as without CAP_FSETID.
 */
export function killsBits(caller: Caller): boolean {
  return caller.uid !== 0;
}

/**
 * What a change of owner or group does: Linux drops the bits whoever does it (chown(2)); directories keep them. A setgid
 * bit that the group may not execute stays: whether the caller is in the group, on which Linux makes it depend, isn't told.
 */
export function dropPrivilegesOnChown(inode: Inode): void {
  if (!isDirectory(inode)) dropPrivileges(inode, true);
}
