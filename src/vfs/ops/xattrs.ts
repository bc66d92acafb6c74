import { FsError } from '../../errno.ts';
import { ACL_ACCESS, ACL_DEFAULT, isMinimalAcl, isValidAcl, modeOfAcl } from '../acl.ts';
import { fileType, type Inode, isDirectory, SETGID } from '../inode.ts';
import type { ByteString } from '../store.ts';
import type { Workspace } from '../workspace.ts';
import { packedXattrsBytes, XATTR_NAME_MAX_BYTES, XATTR_TOTAL_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../xattr.ts';

const PERMISSIONS = 0o777;
const KEPT_PREFIXES = ['user.', 'trusted.', 'security.'];

/** What `setXattr` demands of the name: nothing, that it's new, or that it's there (setxattr(2)). */
export type XattrMode = 'any' | 'create' | 'replace';

/**
 * Sets an extended attribute. An access ACL also sets the mode's permission bits, and is kept only when it says
 * more than they do.
 *
 * @param killSetgid an ACL from a caller outside the file's group takes setgid away
 * @throws {FsError} EOPNOTSUPP for another namespace, EEXIST, ENODATA, ERANGE, E2BIG, ENOSPC, EINVAL, EACCES
 */
export function setXattr(
  workspace: Workspace,
  inode: Inode,
  name: ByteString,
  value: Buffer,
  mode: XattrMode,
  killSetgid: boolean,
): void {
  const isAcl = name === ACL_ACCESS || name === ACL_DEFAULT;
  if (!isAcl && !KEPT_PREFIXES.some((prefix) => name.startsWith(prefix)))
    throw new FsError('EOPNOTSUPP', `extended attributes are kept in ${KEPT_PREFIXES.join(' ')}`);
  if (name.length > XATTR_NAME_MAX_BYTES) throw new FsError('ERANGE', 'the name of the attribute is too long');
  if (value.length > XATTR_VALUE_MAX_BYTES)
    throw new FsError('E2BIG', `an attribute may have ${XATTR_VALUE_MAX_BYTES} bytes at most`);
  const old = inode.xattrs?.get(name);
  if (mode === 'create' && old !== undefined) throw new FsError('EEXIST', 'the attribute exists');
  if (mode === 'replace' && old === undefined) throw new FsError('ENODATA', 'there is no such attribute');
  const total = inode.xattrs === undefined ? 0 : packedXattrsBytes(inode.xattrs);
  if (total + name.length + value.length - (old?.length ?? 0) > XATTR_TOTAL_MAX_BYTES)
    throw new FsError('ENOSPC', `the attributes of a file may have ${XATTR_TOTAL_MAX_BYTES} bytes at most`);
  if (isAcl) setAcl(inode, name, value, killSetgid);
  else put(inode, name, value);
  workspace.touchStatus(inode);
}

function put(inode: Inode, name: ByteString, value: Buffer): void {
  inode.xattrs ??= new Map();
  inode.xattrs.set(name, Buffer.from(value));
}

function setAcl(inode: Inode, name: ByteString, acl: Buffer, killSetgid: boolean): void {
  if (!isValidAcl(acl)) throw new FsError('EINVAL', 'that is not an access control list');
  if (name === ACL_DEFAULT) {
    if (!isDirectory(inode)) throw new FsError('EACCES', 'only directories have default access control lists');
    put(inode, name, acl);
    return;
  }
  const kept = inode.mode & (fileType.mask | ~PERMISSIONS);
  inode.mode = kept | modeOfAcl(acl);
  if (killSetgid) inode.mode &= ~SETGID;
  if (isMinimalAcl(acl)) take(inode, name);
  else put(inode, name, acl);
}

function take(inode: Inode, name: ByteString): boolean {
  const had = inode.xattrs?.delete(name) === true;
  if (inode.xattrs?.size === 0) inode.xattrs = undefined;
  return had;
}

/** @throws {FsError} ENODATA; removing an ACL that isn't there is no error (posix_acl.c). */
export function removeXattr(workspace: Workspace, inode: Inode, name: ByteString): void {
  const isAcl = name === ACL_ACCESS || name === ACL_DEFAULT;
  if (!take(inode, name) && !isAcl) throw new FsError('ENODATA', 'there is no such attribute');
  workspace.touchStatus(inode);
}

/** All names, each with a NUL behind it, as listxattr(2) gives them. */
export function listXattrs(inode: Inode): ByteString {
  if (inode.xattrs === undefined) return '';
  let names = '';
  for (const name of inode.xattrs.keys()) names += `${name}\0`;
  return names;
}
