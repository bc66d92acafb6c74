/**
 * The system calls that the model test makes, by way of koffi: on the calling thread, so that they are made as the
 * user that thread is (users.ts). Paths and names are byte strings: one character a byte.
 */
import { constants } from 'node:fs';
import koffi, { type KoffiFunc } from 'koffi';

/** A pointer as koffi takes it: a Buffer's bytes, an address, or null. */
type Pointer = Buffer | bigint | null;

/** What statx(2) tells. */
export interface Attributes {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: number;
  readonly size: number;
  readonly rdev: string;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Undefined where the file system doesn't keep it. */
  readonly btimeNs: bigint | undefined;
}

/** A time for utimensat(2); `now` and `omit` as UTIME_NOW and UTIME_OMIT. */
export type NewTime = 'now' | 'omit' | { readonly sec: number; readonly nsec: number };

/**
 * Each is the call of that name in section 2 of the manual. The result is what the call gives, or the errno as a
 * negative number. A handle in place of a path is the handle's own file (AT_EMPTY_PATH, or the call's f-variant).
 */
export interface Syscalls {
  open(path: string, flags: number, mode: number): number;
  close(handle: number): number;
  read(handle: number, into: Buffer): number;
  pread(handle: number, into: Buffer, offset: number): number;
  write(handle: number, from: Buffer): number;
  pwrite(handle: number, from: Buffer, offset: number): number;
  lseek(handle: number, offset: number, whence: number): number;
  truncate(at: string | number, size: number): number;
  fallocate(handle: number, mode: number, offset: number, length: number): number;
  /** An undefined offset is the handle's own. */
  copyFileRange(
    from: number,
    fromOffset: number | undefined,
    to: number,
    toOffset: number | undefined,
    length: number,
  ): number;
  fsync(handle: number): number;
  fdatasync(handle: number): number;
  flock(handle: number, operation: number): number;
  /** The flags of an open handle (F_GETFL). */
  flags(handle: number): number;
  /** Copies between `bytes` and the file through a shared mapping, and waits until what was written is taken. */
  mapped(handle: number, offset: number, bytes: Buffer, writes: boolean): number;
  mkdir(path: string, mode: number): number;
  mknod(path: string, mode: number, major: number, minor: number): number;
  symlink(target: string, path: string): number;
  readlink(path: string, into: Buffer): number;
  /** Flags: AT.SYMLINK_FOLLOW; AT.EMPTY_PATH with a handle. */
  link(from: string | number, to: string, flags: number): number;
  unlink(path: string): number;
  rmdir(path: string): number;
  rename(from: string, to: string, flags: number): number;
  chmod(at: string | number, mode: number): number;
  chown(at: string | number, uid: number, gid: number, follow: boolean): number;
  utimens(at: string | number, atime: NewTime, mtime: NewTime, follow: boolean): number;
  /** Checks for the thread's own user (AT_EACCESS). */
  access(path: string, mask: number, follow: boolean): number;
  setxattr(at: string | number, name: string, value: Buffer, flags: number, follow: boolean): number;
  getxattr(at: string | number, name: string, into: Buffer, follow: boolean): number;
  listxattr(at: string | number, into: Buffer, follow: boolean): number;
  removexattr(at: string | number, name: string, follow: boolean): number;
  /** The attributes, or the negative errno. */
  stat(at: string | number, follow: boolean): Attributes | number;
  /** Fills `into` with dirents of the layout that `direntsOf` reads. */
  getdents(handle: number, into: Buffer): number;
  fchdir(handle: number): number;
}

export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  EACCESS: 0x200,
  SYMLINK_FOLLOW: 0x400,
  EMPTY_PATH: 0x1000,
} as const;

/** Open flags by name. Those that Node knows differ between architectures. */
export const OPEN_FLAGS = {
  O_RDONLY: constants.O_RDONLY,
  O_WRONLY: constants.O_WRONLY,
  O_RDWR: constants.O_RDWR,
  O_CREAT: constants.O_CREAT,
  O_EXCL: constants.O_EXCL,
  O_TRUNC: constants.O_TRUNC,
  O_APPEND: constants.O_APPEND,
  O_DIRECTORY: constants.O_DIRECTORY,
  O_NOFOLLOW: constants.O_NOFOLLOW,
  O_NONBLOCK: constants.O_NONBLOCK,
  O_SYNC: constants.O_SYNC,
  O_DSYNC: constants.O_DSYNC,
  O_DIRECT: constants.O_DIRECT,
  O_NOATIME: constants.O_NOATIME,
  O_PATH: 0o10000000,
  O_TMPFILE: 0o20000000 | constants.O_DIRECTORY,
  O_CLOEXEC: 0o2000000,
} as const;

export type OpenFlag = keyof typeof OPEN_FLAGS;

export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;

const F_GETFL = 3;
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;
const STATX_BASIC_AND_BTIME = 0xfff;
const STATX_BTIME = 0x800;
const STATX_BYTES = 256;
const MAP_SHARED = 1;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MS_SYNC = 4;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** System call numbers that differ between architectures (asm/unistd.h). */
const GETDENTS64 = process.arch === 'arm64' ? 61 : 217;
/** faccessat2 is younger than the split: one number everywhere. The C library may emulate its own. */
const FACCESSAT2 = 439;

let made: Syscalls | undefined;

/** The calls; loads the C library once. */
export function systemCalls(): Syscalls {
  made ??= make();
  return made;
}

const EAGAIN = 11;

/**
 * A C function by its prototype, which the caller's type must say again. The runtime may wait for another of its threads
 * before it gets to reading errno, which is EAGAIN then: a call that failed, it seems, with that fails once more.
 */
export function nativeCall<F extends (...args: never[]) => unknown>(prototype: string): F {
  const call = koffi.load(null).func(prototype) as KoffiFunc<F>; // koffi builds the function from the prototype
  const again = (...args: never[]) => {
    const result = call(...args);
    return typeof result === 'number' && result < 0 && koffi.errno() === EAGAIN ? call(...args) : result;
  };
  return again as F; // it takes and gives what `call` does
}

/** The result of a call, or the errno of its failure as a negative number. */
export function resultOf(result: number): number {
  return result < 0 ? -koffi.errno() : Number(result);
}

function cString(bytes: string): Buffer {
  return Buffer.from(`${bytes}\0`, 'latin1');
}

/** The device number of a major and a minor (sys/sysmacros.h, gnu_dev_makedev). */
function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

function timespecs(atime: NewTime, mtime: NewTime): Buffer {
  const buffer = Buffer.alloc(32);
  [atime, mtime].forEach((time, index) => {
    const sec = typeof time === 'string' ? 0 : time.sec;
    const nsec = time === 'now' ? UTIME_NOW : time === 'omit' ? UTIME_OMIT : time.nsec;
    buffer.writeBigInt64LE(BigInt(sec), index * 16);
    buffer.writeBigInt64LE(BigInt(nsec), index * 16 + 8);
  });
  return buffer;
}

/** Reads a `struct statx` (linux/stat.h). */
function attributesOf(buffer: Buffer): Attributes {
  const time = (at: number) => buffer.readBigInt64LE(at) * 1_000_000_000n + BigInt(buffer.readUInt32LE(at + 8));
  return {
    nlink: buffer.readUInt32LE(16),
    uid: buffer.readUInt32LE(20),
    gid: buffer.readUInt32LE(24),
    mode: buffer.readUInt16LE(28),
    ino: Number(buffer.readBigUInt64LE(32)),
    size: Number(buffer.readBigUInt64LE(40)),
    atimeNs: time(64),
    btimeNs: (buffer.readUInt32LE(0) & STATX_BTIME) === 0 ? undefined : time(80),
    ctimeNs: time(96),
    mtimeNs: time(112),
    rdev: `${buffer.readUInt32LE(128)}:${buffer.readUInt32LE(132)}`,
  };
}

/** A name as a listing gives it. */
export interface Dirent {
  readonly name: string;
  readonly ino: number;
  /** DT_* */
  readonly type: number;
}

/** The dirents in the first `length` bytes of a buffer that `getdents` filled (`struct linux_dirent64`). */
export function direntsOf(buffer: Buffer, length: number): Dirent[] {
  const dirents: Dirent[] = [];
  for (let at = 0; at < length; at += buffer.readUInt16LE(at + 16)) {
    const end = buffer.indexOf(0, at + 19);
    const ino = Number(buffer.readBigUInt64LE(at));
    dirents.push({ name: buffer.toString('latin1', at + 19, end), ino, type: buffer.readUInt8(at + 18) });
  }
  return dirents;
}

function make(): Syscalls {
  return { ...contentCalls(), ...nameCalls(), ...attributeCalls() };
}

type ContentCalls = Pick<
  Syscalls,
  | 'open'
  | 'close'
  | 'read'
  | 'pread'
  | 'write'
  | 'pwrite'
  | 'lseek'
  | 'truncate'
  | 'fallocate'
  | 'copyFileRange'
  | 'fsync'
  | 'fdatasync'
  | 'flock'
  | 'flags'
  | 'mapped'
>;

function contentCalls(): ContentCalls {
  const open = nativeCall<(path: Pointer, flags: number, mode: number) => number>(
    'int open(const void *path, int flags, uint mode)',
  );
  const close = nativeCall<(fd: number) => number>('int close(int fd)');
  const read = nativeCall<(fd: number, into: Pointer, count: number) => number>(
    'intptr_t read(int fd, void *into, size_t count)',
  );
  const pread = nativeCall<(fd: number, into: Pointer, count: number, offset: number) => number>(
    'intptr_t pread(int fd, void *into, size_t count, int64_t offset)',
  );
  const write = nativeCall<(fd: number, from: Pointer, count: number) => number>(
    'intptr_t write(int fd, const void *from, size_t count)',
  );
  const pwrite = nativeCall<(fd: number, from: Pointer, count: number, offset: number) => number>(
    'intptr_t pwrite(int fd, const void *from, size_t count, int64_t offset)',
  );
  const lseek = nativeCall<(fd: number, offset: number, whence: number) => number>(
    'int64_t lseek(int fd, int64_t offset, int whence)',
  );
  const truncate = nativeCall<(path: Pointer, size: number) => number>('int truncate(const void *path, int64_t size)');
  const ftruncate = nativeCall<(fd: number, size: number) => number>('int ftruncate(int fd, int64_t size)');
  const fallocate = nativeCall<(fd: number, mode: number, offset: number, length: number) => number>(
    'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
  );
  const copy = nativeCall<
    (from: number, fromOffset: Pointer, to: number, toOffset: Pointer, length: number, flags: number) => number
  >('intptr_t copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint flags)');
  const fsync = nativeCall<(fd: number) => number>('int fsync(int fd)');
  const fdatasync = nativeCall<(fd: number) => number>('int fdatasync(int fd)');
  const flock = nativeCall<(fd: number, operation: number) => number>('int flock(int fd, int operation)');
  const fcntl = nativeCall<(fd: number, command: number, argument: number) => number>(
    'int fcntl(int fd, int command, intptr_t argument)',
  );
  return {
    open: (path, flags, mode) => resultOf(open(cString(path), flags | OPEN_FLAGS.O_CLOEXEC, mode)),
    close: (handle) => resultOf(close(handle)),
    read: (handle, into) => resultOf(read(handle, into, into.length)),
    pread: (handle, into, offset) => resultOf(pread(handle, into, into.length, offset)),
    write: (handle, from) => resultOf(write(handle, from, from.length)),
    pwrite: (handle, from, offset) => resultOf(pwrite(handle, from, from.length, offset)),
    lseek: (handle, offset, whence) => resultOf(lseek(handle, offset, whence)),
    truncate: (at, size) => resultOf(typeof at === 'number' ? ftruncate(at, size) : truncate(cString(at), size)),
    fallocate: (handle, mode, offset, length) => resultOf(fallocate(handle, mode, offset, length)),
    copyFileRange: (from, fromOffset, to, toOffset, length) =>
      resultOf(copy(from, offsetCell(fromOffset), to, offsetCell(toOffset), length, 0)),
    fsync: (handle) => resultOf(fsync(handle)),
    fdatasync: (handle) => resultOf(fdatasync(handle)),
    flock: (handle, operation) => resultOf(flock(handle, operation)),
    flags: (handle) => resultOf(fcntl(handle, F_GETFL, 0)),
    mapped: mappedCopy(),
  };
}

function offsetCell(offset: number | undefined): Buffer | null {
  if (offset === undefined) return null;
  const cell = Buffer.alloc(8);
  cell.writeBigInt64LE(BigInt(offset));
  return cell;
}

type Map = (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => bigint;
const MMAP = 'void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)';
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** Memory that starts at a page, for good. @throws {Error} when there is none. */
export function pageMemory(bytes: number): Buffer {
  const address = nativeCall<Map>(MMAP)(null, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (address === MAP_FAILED) throw new Error(`cannot map ${bytes} bytes of memory: errno ${koffi.errno()}`);
  return Buffer.from(koffi.view(address, bytes));
}

function mappedCopy(): Syscalls['mapped'] {
  const mmap = nativeCall<Map>(MMAP);
  const munmap = nativeCall<(at: bigint, length: number) => number>('int munmap(void *at, size_t length)');
  const msync = nativeCall<(at: bigint, length: number, flags: number) => number>(
    'int msync(void *at, size_t length, int flags)',
  );
  const copyOut = nativeCall<(to: Pointer, from: Pointer, length: number) => unknown>(
    'void *memcpy(void *to, const void *from, size_t length)',
  );
  return (handle, offset, bytes, writes) => {
    const protection = writes ? PROT_READ | PROT_WRITE : PROT_READ;
    const address = mmap(null, bytes.length, protection, MAP_SHARED, handle, offset);
    if (address === MAP_FAILED) return -koffi.errno();
    if (writes) copyOut(address, bytes, bytes.length);
    else copyOut(bytes, address, bytes.length);
    const synced = writes ? resultOf(msync(address, bytes.length, MS_SYNC)) : 0;
    munmap(address, bytes.length);
    return synced;
  };
}

type NameCalls = Pick<
  Syscalls,
  'mkdir' | 'mknod' | 'symlink' | 'readlink' | 'link' | 'unlink' | 'rmdir' | 'rename' | 'getdents' | 'fchdir'
>;

function nameCalls(): NameCalls {
  const mkdir = nativeCall<(path: Pointer, mode: number) => number>('int mkdir(const void *path, uint mode)');
  const mknod = nativeCall<(path: Pointer, mode: number, device: number) => number>(
    'int mknod(const void *path, uint mode, uint64_t device)',
  );
  const symlink = nativeCall<(target: Pointer, path: Pointer) => number>(
    'int symlink(const void *target, const void *path)',
  );
  const readlink = nativeCall<(path: Pointer, into: Pointer, size: number) => number>(
    'intptr_t readlink(const void *path, void *into, size_t size)',
  );
  const linkat = nativeCall<(fromFd: number, from: Pointer, toFd: number, to: Pointer, flags: number) => number>(
    'int linkat(int fromFd, const void *from, int toFd, const void *to, int flags)',
  );
  const unlink = nativeCall<(path: Pointer) => number>('int unlink(const void *path)');
  const rmdir = nativeCall<(path: Pointer) => number>('int rmdir(const void *path)');
  const renameat2 = nativeCall<(fromFd: number, from: Pointer, toFd: number, to: Pointer, flags: number) => number>(
    'int renameat2(int fromFd, const void *from, int toFd, const void *to, uint flags)',
  );
  const getdents = nativeCall<(number: number, fd: number, into: Pointer, size: number) => number>(
    'long syscall(long number, long fd, void *into, size_t size)',
  );
  const fchdir = nativeCall<(fd: number) => number>('int fchdir(int fd)');
  return {
    mkdir: (path, mode) => resultOf(mkdir(cString(path), mode)),
    mknod: (path, mode, major, minor) => resultOf(mknod(cString(path), mode, deviceNumber(major, minor))),
    symlink: (target, path) => resultOf(symlink(cString(target), cString(path))),
    readlink: (path, into) => resultOf(readlink(cString(path), into, into.length)),
    link: (from, to, flags) =>
      resultOf(
        typeof from === 'number'
          ? linkat(from, cString(''), AT.FDCWD, cString(to), flags)
          : linkat(AT.FDCWD, cString(from), AT.FDCWD, cString(to), flags),
      ),
    unlink: (path) => resultOf(unlink(cString(path))),
    rmdir: (path) => resultOf(rmdir(cString(path))),
    rename: (from, to, flags) => resultOf(renameat2(AT.FDCWD, cString(from), AT.FDCWD, cString(to), flags)),
    getdents: (handle, into) => resultOf(getdents(GETDENTS64, handle, into, into.length)),
    fchdir: (handle) => resultOf(fchdir(handle)),
  };
}

type AttributeCalls = Pick<Syscalls, 'chmod' | 'chown' | 'utimens' | 'access' | 'stat' | keyof XattrCalls>;

function attributeCalls(): AttributeCalls {
  const chmod = nativeCall<(path: Pointer, mode: number) => number>('int chmod(const void *path, uint mode)');
  const fchmod = nativeCall<(fd: number, mode: number) => number>('int fchmod(int fd, uint mode)');
  const chown = nativeCall<(path: Pointer, uid: number, gid: number) => number>(
    'int chown(const void *path, uint uid, uint gid)',
  );
  const lchown = nativeCall<(path: Pointer, uid: number, gid: number) => number>(
    'int lchown(const void *path, uint uid, uint gid)',
  );
  const fchown = nativeCall<(fd: number, uid: number, gid: number) => number>('int fchown(int fd, uint uid, uint gid)');
  const utimensat = nativeCall<(fd: number, path: Pointer, times: Pointer, flags: number) => number>(
    'int utimensat(int fd, const void *path, const void *times, int flags)',
  );
  const futimens = nativeCall<(fd: number, times: Pointer) => number>('int futimens(int fd, const void *times)');
  const faccessat = nativeCall<(number: number, fd: number, path: Pointer, mask: number, flags: number) => number>(
    'long syscall(long number, long fd, const void *path, long mask, long flags)',
  );
  const statx = nativeCall<(fd: number, path: Pointer, flags: number, mask: number, into: Pointer) => number>(
    'int statx(int fd, const void *path, int flags, uint mask, void *into)',
  );
  const statxBuffer = Buffer.alloc(STATX_BYTES);
  return {
    chmod: (at, mode) => resultOf(typeof at === 'number' ? fchmod(at, mode) : chmod(cString(at), mode)),
    chown: (at, uid, gid, follow) =>
      resultOf(typeof at === 'number' ? fchown(at, uid, gid) : (follow ? chown : lchown)(cString(at), uid, gid)),
    utimens: (at, atime, mtime, follow) =>
      resultOf(
        typeof at === 'number'
          ? futimens(at, timespecs(atime, mtime))
          : utimensat(AT.FDCWD, cString(at), timespecs(atime, mtime), follow ? 0 : AT.SYMLINK_NOFOLLOW),
      ),
    access: (path, mask, follow) =>
      resultOf(faccessat(FACCESSAT2, AT.FDCWD, cString(path), mask, AT.EACCESS | (follow ? 0 : AT.SYMLINK_NOFOLLOW))),
    stat: (at, follow) => {
      const flags = typeof at === 'number' ? AT.EMPTY_PATH : follow ? 0 : AT.SYMLINK_NOFOLLOW;
      const [handle, path] = typeof at === 'number' ? [at, ''] : [AT.FDCWD, at];
      const result = resultOf(statx(handle, cString(path), flags, STATX_BASIC_AND_BTIME, statxBuffer));
      return result < 0 ? result : attributesOf(statxBuffer);
    },
    ...xattrCalls(),
  };
}

type XattrCalls = Pick<Syscalls, 'setxattr' | 'getxattr' | 'listxattr' | 'removexattr'>;

function xattrCalls(): XattrCalls {
  type Set = (path: Pointer, name: Pointer, value: Pointer, size: number, flags: number) => number;
  type SetOfHandle = (fd: number, name: Pointer, value: Pointer, size: number, flags: number) => number;
  type Get = (path: Pointer, name: Pointer, into: Pointer, size: number) => number;
  type GetOfHandle = (fd: number, name: Pointer, into: Pointer, size: number) => number;
  type List = (path: Pointer, into: Pointer, size: number) => number;
  type ListOfHandle = (fd: number, into: Pointer, size: number) => number;
  type Remove = (path: Pointer, name: Pointer) => number;
  type RemoveOfHandle = (fd: number, name: Pointer) => number;
  const path = 'const void *path';
  const set = 'const void *name, const void *value, size_t size, int flags';
  const setxattr = nativeCall<Set>(`int setxattr(${path}, ${set})`);
  const lsetxattr = nativeCall<Set>(`int lsetxattr(${path}, ${set})`);
  const fsetxattr = nativeCall<SetOfHandle>(`int fsetxattr(int fd, ${set})`);
  const get = 'const void *name, void *into, size_t size';
  const getxattr = nativeCall<Get>(`intptr_t getxattr(${path}, ${get})`);
  const lgetxattr = nativeCall<Get>(`intptr_t lgetxattr(${path}, ${get})`);
  const fgetxattr = nativeCall<GetOfHandle>(`intptr_t fgetxattr(int fd, ${get})`);
  const listxattr = nativeCall<List>(`intptr_t listxattr(${path}, void *into, size_t size)`);
  const llistxattr = nativeCall<List>(`intptr_t llistxattr(${path}, void *into, size_t size)`);
  const flistxattr = nativeCall<ListOfHandle>('intptr_t flistxattr(int fd, void *into, size_t size)');
  const removexattr = nativeCall<Remove>(`int removexattr(${path}, const void *name)`);
  const lremovexattr = nativeCall<Remove>(`int lremovexattr(${path}, const void *name)`);
  const fremovexattr = nativeCall<RemoveOfHandle>('int fremovexattr(int fd, const void *name)');
  return {
    setxattr: (at, name, value, flags, follow) =>
      resultOf(
        typeof at === 'number'
          ? fsetxattr(at, cString(name), value, value.length, flags)
          : (follow ? setxattr : lsetxattr)(cString(at), cString(name), value, value.length, flags),
      ),
    getxattr: (at, name, into, follow) =>
      resultOf(
        typeof at === 'number'
          ? fgetxattr(at, cString(name), into, into.length)
          : (follow ? getxattr : lgetxattr)(cString(at), cString(name), into, into.length),
      ),
    listxattr: (at, into, follow) =>
      resultOf(
        typeof at === 'number'
          ? flistxattr(at, into, into.length)
          : (follow ? listxattr : llistxattr)(cString(at), into, into.length),
      ),
    removexattr: (at, name, follow) =>
      resultOf(
        typeof at === 'number'
          ? fremovexattr(at, cString(name))
          : (follow ? removexattr : lremovexattr)(cString(at), cString(name)),
      ),
  };
}
