/** System calls that Node lacks, by way of koffi. The C library is loaded on the first call of `libc()`. */
import koffi, { type KoffiFunc } from 'koffi';
import { errnoName } from '../errno.ts';
import { O } from './wire/flags.ts';

/** A pointer as koffi takes it: a Buffer's bytes, an address, or null. */
type Pointer = Buffer | bigint | null;

/** What mmap(2) returns when it failed, as the address it is. */
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/**
 * Each is the call of that name in section 2 of the manual: a negative result is a failure, and `lastErrno()` gives
 * its reason until the next call of the same thread. `x.async(…, (error, result) => …)` runs a call on a worker
 * thread; inside its callback `lastErrno()` is that call's.
 */
interface Libc {
  readonly open: KoffiFunc<(path: string, flags: number, mode: number) => number>;
  readonly close: KoffiFunc<(fd: number) => number>;
  readonly read: KoffiFunc<(fd: number, into: Pointer, count: number) => number>;
  readonly write: KoffiFunc<(fd: number, from: Pointer, count: number) => number>;
  /** `iov`: for each part, its address and its length as 64-bit words. */
  readonly writev: KoffiFunc<(fd: number, iov: Pointer, count: number) => number>;
  /** `fds`: for each, an i32 fd, a u16 of events, a u16 of returned events. */
  readonly poll: KoffiFunc<(fds: Pointer, count: number, timeoutMs: number) => number>;
  readonly mount: KoffiFunc<
    (source: string, target: string, type: string | null, flags: number, data: string | null) => number
  >;
  readonly umount2: KoffiFunc<(target: string, flags: number) => number>;
  readonly memfdCreate: KoffiFunc<(name: string, flags: number) => number>;
  readonly ftruncate: KoffiFunc<(fd: number, length: number) => number>;
  /** The address, or MAP_FAILED. `koffi.view(address, length)` gives the memory. */
  readonly mmap: KoffiFunc<
    (at: bigint | null, length: number, protection: number, flags: number, fd: number, offset: number) => bigint
  >;
  readonly munmap: KoffiFunc<(address: bigint, length: number) => number>;
  readonly ioctl: KoffiFunc<(fd: number, request: number, argument: Pointer) => number>;
  readonly fcntl: KoffiFunc<(fd: number, command: number, argument: number) => number>;
}

let loaded: Libc | undefined;

/** The calls; loads the C library once. */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

/** Why the last call on this thread failed. */
export function lastErrno(): number {
  return koffi.errno();
}

/** Every declaration below is the C prototype of the signature in `Libc`, which is what the casts rely on. */
function load(): Libc {
  const library = koffi.load(null);
  const call = <F extends (...args: never) => unknown>(prototype: string): KoffiFunc<F> =>
    library.func(prototype) as KoffiFunc<F>;
  return {
    open: call('int open(const char *path, int flags, uint mode)'),
    close: call('int close(int fd)'),
    read: call('intptr_t read(int fd, void *into, size_t count)'),
    write: call('intptr_t write(int fd, const void *from, size_t count)'),
    writev: call('intptr_t writev(int fd, const void *iov, int count)'),
    poll: call('int poll(void *fds, ulong count, int timeout)'),
    mount: call('int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)'),
    umount2: call('int umount2(const char *target, int flags)'),
    memfdCreate: call('int memfd_create(const char *name, uint flags)'),
    ftruncate: call('int ftruncate(int fd, int64_t length)'),
    mmap: call('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)'),
    munmap: call('int munmap(void *address, size_t length)'),
    ioctl: call('int ioctl(int fd, ulong request, void *argument)'),
    fcntl: call('int fcntl(int fd, int command, intptr_t argument)'),
  };
}

/** Closes a handle; one that isn't open is left alone. */
export function closeHandle(fd: number): void {
  libc().close(fd);
}

const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** Keeps a handle to this process: no program that it starts gets it. */
export function keepHandle(fd: number): void {
  libc().fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/** FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and the flag, of <linux/fs.h>. */
const GETFLAGS = 0x8008_6601;
const SETFLAGS = 0x4008_6602;
const IMMUTABLE_FLAG = 0x10;

/**
 * Sets whether nothing can be made, changed or removed in a directory, by root neither (chattr(1), `i`). A file system
 * can be mounted there all the same. Returns why it couldn't be done, if so: the directory's file system has no such
 * flag, or CAP_LINUX_IMMUTABLE is missing.
 */
export function setImmutable(directory: string, immutable: boolean): string | undefined {
  const { open, ioctl } = libc();
  const fd = open(directory, O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0);
  if (fd < 0) return errnoName(lastErrno());
  const flags = Buffer.alloc(8);
  let code = ioctl(fd, GETFLAGS, flags) < 0 ? lastErrno() : 0;
  const before = flags.readInt32LE();
  flags.writeInt32LE(immutable ? before | IMMUTABLE_FLAG : before & ~IMMUTABLE_FLAG);
  if (code === 0 && flags.readInt32LE() !== before && ioctl(fd, SETFLAGS, flags) < 0) code = lastErrno();
  closeHandle(fd);
  return code === 0 ? undefined : errnoName(code);
}

const MFD_CLOEXEC = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/**
 * Memory that lives as long as any process holds the handle; zeros at first. `name` shows in /proc/<pid>/fd.
 *
 * @throws {Error} with the size and the errno's name.
 */
export function makeSharedMemory(name: string, bytes: number): number {
  const fd = libc().memfdCreate(name, MFD_CLOEXEC);
  if (fd < 0) throw new Error(`cannot make shared memory: ${errnoName(lastErrno())}`);
  if (libc().ftruncate(fd, bytes) < 0) {
    const code = lastErrno();
    closeHandle(fd);
    throw new Error(`cannot make ${bytes} bytes of shared memory: ${errnoName(code)}`);
  }
  return fd;
}

/**
 * The first `bytes` of shared memory, for reading and writing, until the process ends. `bytes` must not pass its size:
 * touching what lies beyond ends the process (SIGBUS).
 *
 * @throws {Error} with the size and the errno's name.
 */
export function mapSharedMemory(fd: number, bytes: number): ArrayBuffer {
  const address = libc().mmap(null, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  if (address === MAP_FAILED) throw new Error(`cannot map ${bytes} bytes of shared memory: ${errnoName(lastErrno())}`);
  return koffi.view(address, bytes);
}
