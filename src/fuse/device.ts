/**
 * The FUSE device and the mount that hangs on it.
 *
 * Life cycle: `openFuseDevice` gives a handle that isn't connected; `mountFuse` connects it; the kernel then sends
 * INIT. The connection lives as long as any process holds the handle: closing the last one makes the mount answer
 * ENOTCONN. After the mount is gone, reading answers ENODEV.
 *
 * The process that serves a mount must never touch it synchronously (not even `stat`, and not through a path below
 * it): the request would wait for itself. What is here reads /proc and /sys instead, and unmounts on another thread.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import koffi from 'koffi';
import { type ErrnoName, errnoName, errno as errnos, FsError } from '../errno.ts';
import { lastErrno, libc } from './libc.ts';
import { O } from './wire/flags.ts';

const DEVICE = '/dev/fuse';

/**
 * Opens /dev/fuse for reading and writing, non-blocking, closed on exec.
 *
 * @throws {FsError} ENOENT, ENODEV, EPERM, EACCES and what else open(2) knows, saying what is missing and what to do.
 */
export function openFuseDevice(): number {
  const fd = libc().open(DEVICE, O.RDWR | O.CLOEXEC | O.NONBLOCK, 0);
  if (fd < 0) throw failure(lastErrno(), `cannot open ${DEVICE}`, OPEN_REMEDIES);
  return fd;
}

type Remedies = { readonly [code in ErrnoName]?: string };

const OPEN_REMEDIES: Remedies = {
  ENOENT:
    'the container has no FUSE device; start it with `--device /dev/fuse` (compose: `devices: [/dev/fuse]`; Kubernetes: `privileged: true`)',
  ENODEV: 'the host kernel has no FUSE; run `modprobe fuse` on the host',
  ENXIO: 'the host kernel has no FUSE; run `modprobe fuse` on the host',
  EPERM:
    'the container may not use the device; start it with `--device /dev/fuse` (compose: `devices: [/dev/fuse]`) or `--privileged` (Kubernetes: `privileged: true`)',
  EACCES: 'only root may open it here; run as root, or `chmod 666 /dev/fuse` on the host',
};

/** What mount(2) is asked for. */
export interface MountRequest {
  /** From `openFuseDevice`. */
  readonly deviceHandle: number;
  /** An existing directory, absolute. */
  readonly directory: string;
  /** First column of /proc/mounts; default `tarbox`. */
  readonly source?: string;
  /** Users other than the one that mounted may enter. */
  readonly allowOther: boolean;
  /** The kernel checks permissions by mode, owner and ACL before it asks. */
  readonly defaultPermissions: boolean;
  /** Upper bound of one READ. */
  readonly maxReadBytes?: number;
  readonly readOnly?: boolean;
}

const MS_RDONLY = 1;
const MS_NOATIME = 1024;

/**
 * Mounts the device on the directory. setuid bits and device nodes work (neither nosuid nor nodev); access times are
 * kept by the filesystem, not by the kernel. Returns at once: nothing is asked of the device until INIT is answered.
 *
 * @throws {FsError} EPERM, EBUSY, ENOTDIR, ENOENT and what else mount(2) knows, with the remedy.
 */
export function mountFuse(request: MountRequest): void {
  const options = [
    `fd=${request.deviceHandle}`,
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    ...(request.allowOther ? ['allow_other'] : []),
    ...(request.defaultPermissions ? ['default_permissions'] : []),
    ...(request.maxReadBytes === undefined ? [] : [`max_read=${request.maxReadBytes}`]),
  ];
  const flags = MS_NOATIME | (request.readOnly ? MS_RDONLY : 0);
  const source = request.source ?? 'tarbox';
  const result = libc().mount(source, request.directory, 'fuse.tarbox', flags, options.join(','));
  if (result < 0) throw failure(lastErrno(), `cannot mount on ${request.directory}`, MOUNT_REMEDIES);
}

const MOUNT_REMEDIES: Remedies = {
  EPERM:
    'mounting needs CAP_SYS_ADMIN; start the container with `--cap-add SYS_ADMIN` (compose: `cap_add: [SYS_ADMIN]`; where AppArmor is on, also `security_opt: [apparmor:unconfined]`) or `--privileged` (Kubernetes: `privileged: true`)',
  EACCES:
    'a security module forbids it; start the container with `--security-opt apparmor=unconfined` or `--privileged`',
  EBUSY: 'the directory is in use by another mount or as a root; unmount that, or choose another directory',
  ENOTDIR: 'it is not a directory; name one',
  ENOENT: 'there is no such directory; create it first',
  ENOTCONN: 'a mount without a server is still there; `umount -l` it first',
  EINVAL: 'the kernel refused the options; the device may be mounted already',
  ENODEV: 'the host kernel has no FUSE; run `modprobe fuse` on the host',
};

const MNT_DETACH = 2;

/**
 * Unmounts what is on the directory, on a worker thread: the kernel may send the last dirty pages first, so the
 * session must go on serving until this resolves. `lazy` takes the mount out of the tree at once, and lets those
 * who still use it finish.
 *
 * @throws {FsError} EBUSY while something is open there and not `lazy`; EINVAL when nothing is mounted; EPERM.
 */
export async function unmount(directory: string, options: { readonly lazy: boolean }): Promise<void> {
  const call = libc().umount2.async;
  const code = await new Promise<number>((done, fail) => {
    call(directory, options.lazy ? MNT_DETACH : 0, (error, result) => {
      if (error) fail(error);
      else done(result < 0 ? lastErrno() : 0);
    });
  });
  if (code !== 0) throw failure(code, `cannot unmount ${directory}`, UNMOUNT_REMEDIES);
}

const UNMOUNT_REMEDIES: Remedies = {
  EPERM: 'unmounting needs CAP_SYS_ADMIN; start the container with `--cap-add SYS_ADMIN` or `--privileged`',
  EBUSY: 'something is still open there; `fuser -vm` shows what, and a lazy unmount leaves it to finish',
  EINVAL: 'nothing is mounted there',
  ENOENT: 'there is no such directory',
};

/** An error of a system call, with its remedy where one is known; codes that Tarbox has no name for become EIO. */
function failure(code: number, what: string, remedies: Remedies): FsError {
  const name = errnoName(code);
  const known = isErrnoName(name) ? name : undefined;
  const remedy = known && remedies[known];
  return new FsError(known ?? 'EIO', `${what}: ${remedy ?? 'the kernel refused'} (${name})`);
}

function isErrnoName(name: string): name is ErrnoName {
  return name in errnos;
}

/**
 * One process's end of the connection. Reads and writes don't block.
 * Only one caller may wait at a time.
 */
export interface Device {
  readonly fd: number;
  /**
   * Reads one whole request. The buffer must hold the largest: max_write and a page (EINVAL otherwise).
   * Bytes read, or a negative errno: EAGAIN nothing waits; ENOENT the request was withdrawn (read again);
   * EINTR (read again); ENODEV unmounted; ECONNABORTED (103) the connection was aborted; EPERM not mounted yet.
   */
  read(buffer: Buffer): number;
  /**
   * Writes one whole reply or notification, the first `length` bytes of the buffer.
   * Bytes written, or a negative errno: ENOENT the request is gone (interrupted, killed), or a notification's
   * inode or name isn't cached; ENODEV unmounted; EINVAL malformed.
   */
  write(buffer: Buffer, length: number): number;
  /** As `write`, on another thread: the kernel may keep it waiting until a request has been answered. */
  writeAway(buffer: Buffer, length: number): Promise<number>;
  /**
   * Resolves true when there is something to read, or the connection ended and reading tells how;
   * false after `timeoutMs` (negative: never), or when the device is closed here. Costs no thread.
   */
  waitReadable(timeoutMs: number): Promise<boolean>;
  /** Ends a wait with false and closes this process's handle. May be called twice. */
  close(): void;
}

/** Takes over a handle of /dev/fuse that is open, non-blocking, and mounted or about to be. */
export function openDevice(fd: number): Device {
  const { read, write, close } = libc();
  // uv_poll under the hood: it can be stopped at any time, where poll(2) on a worker thread can't.
  const readiness = koffi.node.poll(fd, { readable: true }, () => {});
  readiness.stop();
  let finish: ((readable: boolean) => void) | undefined;
  let isOpen = true;

  return {
    fd,
    read(buffer) {
      const bytes = read(fd, buffer, buffer.length);
      return bytes < 0 ? -lastErrno() : bytes;
    },
    write(buffer, length) {
      const bytes = write(fd, buffer, length);
      return bytes < 0 ? -lastErrno() : bytes;
    },
    writeAway(buffer, length) {
      return new Promise((done, fail) => {
        write.async(fd, buffer, length, (error, bytes) => {
          if (error) fail(error);
          else done(bytes < 0 ? -lastErrno() : bytes);
        });
      });
    },
    waitReadable(timeoutMs) {
      if (!isOpen) return Promise.resolve(false);
      if (finish) throw new Error('two callers wait for the FUSE device');
      return new Promise((done) => {
        const timer = timeoutMs < 0 ? undefined : setTimeout(() => finish?.(false), timeoutMs);
        finish = (readable) => {
          finish = undefined;
          clearTimeout(timer);
          readiness.stop();
          done(readable);
        };
        readiness.start({ readable: true }, () => finish?.(true));
      });
    },
    close() {
      if (!isOpen) return;
      isOpen = false;
      finish?.(false);
      readiness.close();
      close(fd);
    },
  };
}

/** One line of /proc/self/mountinfo (proc(5)). */
export interface Mount {
  readonly mountId: number;
  readonly parentId: number;
  /** `major:minor` of st_dev. */
  readonly device: string;
  /** The directory of the filesystem that is mounted; `/` unless it is a bind mount. */
  readonly root: string;
  /** Where it is in the tree, one byte a character. */
  readonly mountPoint: string;
  readonly options: string;
  /** What is mounted below it appears in its peers, such as the same directory in another container. */
  readonly shared: boolean;
  readonly type: string;
  readonly source: string;
  readonly superOptions: string;
}

/**
 * The mount whose mount point is exactly this directory, the topmost where several are. The path is absolute and
 * without symbolic links, as the kernel has it: resolving one here could walk into the mount that this process serves.
 */
export function mountOf(directory: string): Mount | undefined {
  const wanted = Buffer.from(resolve(directory)).toString('latin1');
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')).findLast(
    (mount) => mount.mountPoint === wanted,
  );
}

/** The mount that a path is in; a path as for `mountOf`. */
export function mountThatHolds(path: string): Mount | undefined {
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1'));
  for (let at = resolve(path); ; at = dirname(at)) {
    const wanted = Buffer.from(at).toString('latin1');
    const found = mounts.findLast((mount) => mount.mountPoint === wanted);
    if (found !== undefined || at === dirname(at)) return found;
  }
}

/** Whether anything is mounted exactly on this directory; a path as for `mountOf`. */
export function isMounted(directory: string): boolean {
  return mountOf(directory) !== undefined;
}

/** Parses the text of a mountinfo file, read as latin1; lines that aren't of its form are left out. Pure. */
export function parseMountinfo(text: string): readonly Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ', 2);
    const [mountId, parentId, device, root, mountPoint, options, ...propagation] = before?.split(' ') ?? [];
    const [type, source, superOptions] = after?.split(' ') ?? [];
    if (options === undefined || superOptions === undefined || !device || !root || !mountPoint || !type) continue;
    mounts.push({
      mountId: Number(mountId),
      parentId: Number(parentId),
      device,
      root: unescapeOctal(root),
      mountPoint: unescapeOctal(mountPoint),
      options,
      shared: propagation.some((field) => field.startsWith('shared:')),
      type,
      source: unescapeOctal(source ?? ''),
      superOptions,
    });
  }
  return mounts;
}

/** Space, tab, newline and backslash are written as `\ooo`. */
function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/**
 * Sets how far the kernel reads ahead on this mount, which is 128 KiB at first; INIT's answer can only lower it, once,
 * when it arrives. False when it couldn't be: nothing is mounted there, or /sys is read-only or another namespace's.
 */
export function setReadAhead(directory: string, kib: number): boolean {
  const mount = mountOf(directory);
  if (!mount) return false;
  try {
    writeFileSync(`/sys/class/bdi/${mount.device}/read_ahead_kb`, `${kib}\n`);
    return true;
  } catch {
    return false;
  }
}
