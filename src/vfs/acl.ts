import type { Inode } from './inode.ts';
import type { ByteString } from './store.ts';

/**
 * POSIX ACLs as the kernel stores them in extended attributes: version 2, then entries of tag (u16),
 * permissions (u16) and id (u32), little-endian (linux/posix_acl_xattr.h). The kernel checks permissions by them;
 * inheritance and agreement with the mode are the file system's part (acl(5), posix_acl.c).
 */
export const ACL_ACCESS: ByteString = 'system.posix_acl_access';
export const ACL_DEFAULT: ByteString = 'system.posix_acl_default';

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const PERMISSIONS = 0o777;

const tag = { userOwner: 0x01, user: 0x02, groupOwner: 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;

/** Whether this is a well-formed ACL: its owner, group and other entries once each, and a mask where names need one. */
export function isValidAcl(acl: Buffer): boolean {
  if (acl.length < HEADER_BYTES || (acl.length - HEADER_BYTES) % ENTRY_BYTES !== 0) return false;
  if (acl.readUInt32LE(0) !== VERSION) return false;
  const count = new Map<number, number>();
  for (let at = HEADER_BYTES; at < acl.length; at += ENTRY_BYTES) {
    const kind = acl.readUInt16LE(at);
    if (!Object.values<number>(tag).includes(kind) || acl.readUInt16LE(at + 2) > 7) return false;
    count.set(kind, (count.get(kind) ?? 0) + 1);
  }
  const one = (kind: number) => count.get(kind) === 1;
  const named = count.has(tag.user) || count.has(tag.group);
  return (
    one(tag.userOwner) && one(tag.groupOwner) && one(tag.other) && (one(tag.mask) || (!named && !count.has(tag.mask)))
  );
}

function entryOf(acl: Buffer, kind: number): number {
  for (let at = HEADER_BYTES; at < acl.length; at += ENTRY_BYTES) if (acl.readUInt16LE(at) === kind) return at;
  return -1;
}

function permissionsOf(acl: Buffer, kind: number): number {
  const at = entryOf(acl, kind);
  return at < 0 ? 0 : acl.readUInt16LE(at + 2);
}

function setPermissions(acl: Buffer, kind: number, permissions: number): void {
  const at = entryOf(acl, kind);
  if (at >= 0) acl.writeUInt16LE(permissions & 7, at + 2);
}

/** Which entry the group bits of the mode stand for. */
function groupClass(acl: Buffer): number {
  return entryOf(acl, tag.mask) >= 0 ? tag.mask : tag.groupOwner;
}

/** The permission bits that an access ACL shows in the mode. */
export function modeOfAcl(acl: Buffer): number {
  return (
    (permissionsOf(acl, tag.userOwner) << 6) |
    (permissionsOf(acl, groupClass(acl)) << 3) |
    permissionsOf(acl, tag.other)
  );
}

/** Whether the mode alone says everything that this ACL says; then it isn't kept. */
export function isMinimalAcl(acl: Buffer): boolean {
  return acl.length === HEADER_BYTES + 3 * ENTRY_BYTES;
}

/** Brings the access ACL, if there is one, in line with a mode that chmod has set. */
export function chmodAcl(inode: Inode): void {
  const old = inode.xattrs?.get(ACL_ACCESS);
  if (old === undefined) return;
  const acl = Buffer.from(old);
  setPermissions(acl, tag.userOwner, inode.mode >> 6);
  setPermissions(acl, groupClass(acl), inode.mode >> 3);
  setPermissions(acl, tag.other, inode.mode);
  inode.xattrs?.set(ACL_ACCESS, acl);
}

/**
 * Mode and ACLs of a new file or directory: from the parent's default ACL where it has one (the umask doesn't
 * count then), otherwise the mode asked for less the umask.
 */
export function inheritAcl(
  parent: Inode,
  mode: number,
  umask: number,
  isDirectory: boolean,
): { mode: number; access: Buffer | undefined; defaults: Buffer | undefined } {
  const defaults = parent.xattrs?.get(ACL_DEFAULT);
  if (defaults === undefined) return { mode: mode & ~(umask & PERMISSIONS), access: undefined, defaults: undefined };
  const access = Buffer.from(defaults);
  setPermissions(access, tag.userOwner, permissionsOf(access, tag.userOwner) & (mode >> 6));
  const group = groupClass(access);
  setPermissions(access, group, permissionsOf(access, group) & (mode >> 3));
  setPermissions(access, tag.other, permissionsOf(access, tag.other) & mode);
  return {
    mode: (mode & ~PERMISSIONS) | modeOfAcl(access),
    access: isMinimalAcl(access) ? undefined : access,
    defaults: isDirectory ? defaults : undefined,
  };
}
