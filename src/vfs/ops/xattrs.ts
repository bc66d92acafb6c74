import { FsError } from '../../errno.ts';
import { ACL_ACCESS, ACL_DEFAULT, isMinimalAcl, isValidAcl, modeOfAcl } from '../acl.ts';
import { fileType, type Inode, isDirectory, SETGID } from '../inode.ts';
import type { ByteString } from '../store.ts';
import type { Caller, Workspace } from '../workspace.ts';
import { packedXattrsBytes, XATTR_NAME_MAX_BYTES, XATTR_TOTAL_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../xattr.ts';

const PERMISSIONS = 0o777;
const KEPT_PREFIXES = ['user.', 'trusted.', 'security.'];

function isAclName(name: ByteString): boolean {
  return name === ACL_ACCESS || name === ACL_DEFAULT;
}

/** @throws {FsError} EOPNOTSUPP for another namespace, EINVAL for a namespace without a name (xattr_resolve_name). */
function checkXattrName(name: ByteString): void {
  if (isAclName(name)) return;
  const prefix = KEPT_PREFIXES.find((each) => name.startsWith(each));
  if (prefix === undefined)
    throw new FsError('EOPNOTSUPP', `extended attributes are kept in ${KEPT_PREFIXES.join(' ')}`);
  if (name === prefix) throw new FsError('EINVAL', 'the name of the attribute is empty');
}

/** An attribute's value, or undefined when it isn't set. @throws {FsError} what `checkXattrName` throws */
export function getXattr(inode: Inode, name: ByteString): Buffer | undefined {
  checkXattrName(name);
  return inode.xattrs?.get(name);
}

/** What `setXattr` demands of the name: nothing, that it's new, that it's there, or both at once (setxattr(2)). */
export type XattrMode = 'any' | 'create' | 'replace' | 'create and replace';

/**
 * Sets an extended attribute; one that has this value already stays untouched, times included, as in ext4. An access
 * ACL also sets the mode's permission bits, and is kept only when it says more than they do.
 *
 * @param killSetgid an ACL from a caller outside the file's group takes setgid away
 * @throws {FsError} EEXIST, ENODATA, ERANGE, E2BIG, ENOSPC, EINVAL, EACCES, and what `checkXattrName` throws
 */
export function setXattr(
  workspace: Workspace,
  inode: Inode,
  name: ByteString,
  value: Buffer,
  mode: XattrMode,
  killSetgid: boolean,
): void {
  checkXattrName(name);
  if (name.length > XATTR_NAME_MAX_BYTES) throw new FsError('ERANGE', 'the name of the attribute is too long');
  if (value.length > XATTR_VALUE_MAX_BYTES)
    throw new FsError('E2BIG', `an attribute may have ${XATTR_VALUE_MAX_BYTES} bytes at most`);
  const old = inode.xattrs?.get(name);
  const demands = (what: 'create' | 'replace') => mode === what || mode === 'create and replace';
  if (demands('create') && old !== undefined) throw new FsError('EEXIST', 'the attribute exists');
  if (demands('replace') && old === undefined) throw new FsError('ENODATA', 'there is no such attribute');
  const total = inode.xattrs === undefined ? 0 : packedXattrsBytes(inode.xattrs);
  if (total + name.length + value.length - (old?.length ?? 0) > XATTR_TOTAL_MAX_BYTES)
    throw new FsError('ENOSPC', `the attributes of a file may have ${XATTR_TOTAL_MAX_BYTES} bytes at most`);
  const changed = isAclName(name) ? setAcl(inode, name, value, killSetgid) : put(inode, name, value);
  if (changed) workspace.touchStatus(inode);
}

/** Returns whether that is a change. */
function put(inode: Inode, name: ByteString, value: Buffer): boolean {
  if (inode.xattrs?.get(name)?.equals(value)) return false;
  inode.xattrs ??= new Map();
  inode.xattrs.set(name, Buffer.from(value));
  return true;
}

/** Returns whether that is a change, of the mode or of the list. */
function setAcl(inode: Inode, name: ByteString, acl: Buffer, killSetgid: boolean): boolean {
  if (!isValidAcl(acl)) throw new FsError('EINVAL', 'that is not an access control list');
  if (name === ACL_DEFAULT) {
    if (!isDirectory(inode)) throw new FsError('EACCES', 'only directories have default access control lists');
    return put(inode, name, acl);
  }
  const oldMode = inode.mode;
  const kept = inode.mode & (fileType.mask | ~PERMISSIONS);
  inode.mode = kept | modeOfAcl(acl);
  if (killSetgid) inode.mode &= ~SETGID;
  const changed = isMinimalAcl(acl) ? take(inode, name) : put(inode, name, acl);
  return changed || inode.mode !== oldMode;
}

function take(inode: Inode, name: ByteString): boolean {
  const had = inode.xattrs?.delete(name) === true;
  if (inode.xattrs?.size === 0) inode.xattrs = undefined;
  return had;
}

/**
 * Removing an ACL that isn't there is no error (posix_acl.c), and no change.
 *
 * @throws {FsError} ENODATA, and what `checkXattrName` throws
 */
export function removeXattr(workspace: Workspace, inode: Inode, name: ByteString): void {
  checkXattrName(name);
  if (take(inode, name)) workspace.touchStatus(inode);
  else if (!isAclName(name)) throw new FsError('ENODATA', 'there is no such attribute');
}

/**
 * The names, each with a NUL behind it, as listxattr(2) gives them. Only root sees those in `trusted.` (xattr(7); whether
 * a caller has CAP_SYS_ADMIN isn't told).
 */
export function listXattrs(inode: Inode, caller: Caller): ByteString {
  if (inode.xattrs === undefined) return '';
  let names = '';
  for (const name of inode.xattrs.keys()) if (caller.uid === 0 || !name.startsWith('trusted.')) names += `${name}\0`;
  return names;
}
