/** Who makes the calls: users of the kernel's own checks, switched on the calling thread alone. */
import { nativeCall, resultOf } from './syscalls.ts';

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export const ROOT: User = { name: 'root', uid: 0, gid: 0, groups: [0] };
/** Both share group 2000; 1000 is also in 1001's own group. */
export const USERS: readonly User[] = [
  ROOT,
  { name: 'alice', uid: 1000, gid: 1000, groups: [1000, 1001, 2000] },
  { name: 'bob', uid: 1001, gid: 1001, groups: [1001, 2000] },
  { name: 'alice-as-2000', uid: 1000, gid: 2000, groups: [1000] },
];

/** System call number of setgroups(2). The C library's function switches every thread; the system call only one. */
const SETGROUPS = process.arch === 'arm64' ? 159 : 116;
const CLONE_FS = 0x200;
const CAPABILITY_VERSION = 0x20080522;

const calls = {
  setgroups: nativeCall<(number: number, count: number, groups: Buffer) => number>(
    'long syscall(long number, long count, const void *groups)',
  ),
  getgroups: nativeCall<(count: number, groups: Buffer) => number>('int getgroups(int count, void *groups)'),
  setfsuid: nativeCall<(uid: number) => number>('int setfsuid(uint uid)'),
  setfsgid: nativeCall<(gid: number) => number>('int setfsgid(uint gid)'),
  capget: nativeCall<(header: Buffer, data: Buffer) => number>('int capget(void *header, void *data)'),
  capset: nativeCall<(header: Buffer, data: Buffer) => number>('int capset(void *header, const void *data)'),
  umask: nativeCall<(mask: number) => number>('uint umask(uint mask)'),
  unshare: nativeCall<(flags: number) => number>('int unshare(int flags)'),
};

function packGroups(groups: readonly number[]): Buffer {
  const packed = Buffer.alloc(groups.length * 4);
  for (const [index, gid] of groups.entries()) packed.writeUInt32LE(gid, index * 4);
  return packed;
}

function must(result: number, what: string): void {
  if (result < 0) throw new Error(`cannot ${what}: errno ${-resultOf(result)}`);
}

/** `struct __user_cap_header_struct` for the calling thread. */
function capabilityHeader(): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(CAPABILITY_VERSION, 0);
  return header;
}

/**
 * The calling thread as other users. Its umask and working directory become its own for good, its user, groups and
 * capabilities until `leave`. Needs root.
 */
export class Impersonation {
  readonly #ownGroups: Buffer;
  readonly #allCapabilities = Buffer.alloc(24);
  readonly #noCapabilities: Buffer;
  readonly #packed = new Map<User, Buffer>();
  readonly #ownUmask: number;
  #user: User | undefined;

  constructor() {
    must(calls.unshare(CLONE_FS), 'give the thread a umask and working directory of its own');
    this.#ownUmask = calls.umask(0);
    calls.umask(this.#ownUmask);
    const groups = Buffer.alloc(65_536 * 4);
    this.#ownGroups = Buffer.from(groups.subarray(0, Math.max(0, calls.getgroups(65_536, groups)) * 4));
    must(calls.capget(capabilityHeader(), this.#allCapabilities), 'read the capabilities');
    this.#noCapabilities = Buffer.from(this.#allCapabilities);
    // Two of (effective, permitted, inheritable): nothing is in effect, everything can come back.
    this.#noCapabilities.writeUInt32LE(0, 0);
    this.#noCapabilities.writeUInt32LE(0, 12);
  }

  enter(user: User, umask: number): void {
    calls.umask(umask);
    if (user.uid === 0) return;
    let groups = this.#packed.get(user);
    if (groups === undefined) {
      groups = packGroups(user.groups);
      this.#packed.set(user, groups);
    }
    must(calls.setgroups(SETGROUPS, groups.length / 4, groups), 'set groups');
    calls.setfsgid(user.gid);
    calls.setfsuid(user.uid);
    must(calls.capset(capabilityHeader(), this.#noCapabilities), 'drop capabilities');
    this.#user = user;
  }

  leave(): void {
    calls.umask(this.#ownUmask);
    if (this.#user === undefined) return;
    this.#user = undefined;
    must(calls.capset(capabilityHeader(), this.#allCapabilities), 'take capabilities back');
    calls.setfsuid(0);
    calls.setfsgid(0);
    must(calls.setgroups(SETGROUPS, this.#ownGroups.length / 4, this.#ownGroups), 'restore groups');
  }
}
