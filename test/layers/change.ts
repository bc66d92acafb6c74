import { packAcl } from '../model/acl.ts';
import { systemCalls } from '../model/syscalls.ts';

/** Changes that node:fs has no call for. Each throws when it fails. */

const RENAME_EXCHANGE = 2;

function done(call: string, path: string, result: number): void {
  if (result < 0) throw new Error(`${call} of '${path}' failed with errno ${-result}`);
}

/** The path's bytes, one character each. */
function bytesOf(path: string): string {
  return Buffer.from(path).toString('latin1');
}

export function setXattr(path: string, name: string, value: string): void {
  done('setxattr', path, systemCalls().setxattr(bytesOf(path), name, Buffer.from(value, 'latin1'), 0, false));
}

export function removeXattr(path: string, name: string): void {
  done('removexattr', path, systemCalls().removexattr(bytesOf(path), name, false));
}

/** Lets a user do everything with a file by its access control list. */
export function allowUser(path: string, uid: number): void {
  const acl = packAcl([
    { tag: 'owner', permissions: 6 },
    { tag: 'user', id: uid, permissions: 7 },
    { tag: 'owning group', permissions: 4 },
    { tag: 'mask', permissions: 7 },
    { tag: 'other', permissions: 4 },
  ]);
  done('setxattr', path, systemCalls().setxattr(bytesOf(path), 'system.posix_acl_access', acl, 0, true));
}

export function exchange(one: string, other: string): void {
  done('exchange', one, systemCalls().rename(bytesOf(one), bytesOf(other), RENAME_EXCHANGE));
}
