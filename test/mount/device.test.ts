import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Device,
  isMounted,
  mountFuse,
  mountOf,
  openDevice,
  openFuseDevice,
  setReadAhead,
  unmount,
} from '../../src/fuse/device.ts';
import { type Negotiated, negotiate } from '../../src/fuse/init.ts';
import { closeHandle, lastErrno, libc, makeSharedMemory, mapSharedMemory } from '../../src/fuse/libc.ts';
import { packIncEpoch, packInvalEntry, packResend } from '../../src/fuse/notify.ts';
import { traceReply, traceRequest } from '../../src/fuse/trace.ts';
import { attrOut, inHeader, initIn, initOut, outHeader, statfsOut } from '../../src/fuse/wire/abi.ts';
import { OPCODE, operationOf } from '../../src/fuse/wire/operations.ts';
import { takeKernelPages } from '../../src/sidecar/kernel-pages.ts';

const run = promisify(execFile);

const EAGAIN = 11;
const ENODEV = 19;
const ENOENT = 2;
const EPERM = 1;
const ENOSYS = 38;

/** What this machine lacks for a mount, if anything. */
function missingFeature(): string | undefined {
  if (process.getuid?.() !== 0) return 'root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/fuse';
  }
  return canMount() ? undefined : 'the permission to mount (CAP_SYS_ADMIN)';
}

function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'tarbox-probe-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'probe', folder], { stdio: 'pipe' });
    execFileSync('umount', [folder], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  } finally {
    rmdirSync(folder);
  }
}

const missing = missingFeature();

/** A server with an empty root directory, by hand. Everything that touches its mount is another process. */
class EmptyServer {
  readonly lines: string[] = [];
  readonly device: Device;
  negotiated: Negotiated | undefined;
  /** Requests of this kind are read and left unanswered. */
  silentOn: number | undefined;
  private readonly capMinor: number;
  private readonly buffer = Buffer.alloc((1 << 20) + 4096);
  private readonly reply = Buffer.alloc(4096);

  constructor(device: Device, capMinor: number) {
    this.device = device;
    this.capMinor = capMinor;
  }

  /** Serves until the connection ends or the device is closed; resolves with the errno that ended it, or 0. */
  async serve(): Promise<number> {
    for (;;) {
      const length = this.device.read(this.buffer);
      if (length === -EAGAIN) {
        if (!(await this.device.waitReadable(-1))) return 0;
      } else if (length === -ENODEV) {
        return ENODEV;
      } else if (length > 0) {
        this.answer(length);
      } else if (length !== -ENOENT) {
        throw new Error(`reading the device answered ${length}`);
      }
    }
  }

  private answer(length: number): void {
    this.lines.push(traceRequest(this.buffer, length));
    const header = inHeader.decode(this.buffer, 0);
    if (header.opcode === this.silentOn) return;
    if (operationOf(header.opcode)?.reply === 'no reply') return;
    const { errno, bytes } = this.body(header.opcode);
    const value = { len: 16 + bytes, error: -errno, uniqueLo: header.uniqueLo, uniqueHi: header.uniqueHi };
    outHeader.writer()(this.reply, 0, value);
    const payload = this.reply.subarray(16, 16 + bytes);
    this.lines.push(traceReply(header.uniqueLo, header.uniqueHi, errno, header.opcode, payload));
    const sent = this.device.write(this.reply, 16 + bytes);
    if (sent !== 16 + bytes && sent !== -ENOENT) throw new Error(`writing the device answered ${sent}`);
  }

  private body(opcode: number): { errno: number; bytes: number } {
    if (opcode === OPCODE.INIT) {
      const agreed = negotiate(initIn.decode(this.buffer, inHeader.size), { capMinor: this.capMinor });
      this.negotiated = agreed.negotiated;
      initOut.writer()(this.reply, 16, agreed.reply);
      return { errno: 0, bytes: agreed.replyBytes };
    }
    if (opcode === OPCODE.GETATTR) {
      attrOut.writer()(this.reply, 16, {
        ...attrOut.blank(),
        ino: 1,
        mode: 0o40751,
        nlink: 2,
        uid: 7,
        mtime: 1234567890,
      });
      return { errno: 0, bytes: attrOut.size };
    }
    if (opcode === OPCODE.STATFS) {
      const value = {
        ...statfsOut.blank(),
        blocks: 1000,
        bfree: 900,
        bavail: 800,
        bsize: 4096,
        frsize: 4096,
        namelen: 255,
      };
      statfsOut.writer()(this.reply, 16, value);
      return { errno: 0, bytes: statfsOut.size };
    }
    return { errno: opcode === OPCODE.LOOKUP ? ENOENT : ENOSYS, bytes: 0 };
  }
}

describe.skipIf(missing)(`a mounted device${missing ? ` (skipped: this machine lacks ${missing})` : ''}`, () => {
  let directory: string;
  let server: EmptyServer;
  let ended: Promise<number>;
  const children: ChildProcess[] = [];

  function start(capMinor = 45, readOnly = false): void {
    const deviceHandle = openFuseDevice();
    server = new EmptyServer(openDevice(deviceHandle), capMinor);
    mountFuse({ deviceHandle, directory, source: 'tarbox', allowOther: true, defaultPermissions: true, readOnly });
    ended = server.serve();
  }

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tarbox-device-'));
  });

  afterEach(async () => {
    // First the connection, so that nothing can wait for an answer; then what is left of the mount.
    // Not there when the first test could not even open the device.
    (server as EmptyServer | undefined)?.device.close();
    for (const child of children.splice(0)) child.kill('SIGKILL');
    while (isMounted(directory)) await unmount(directory, { lazy: true });
    rmSync(directory, { recursive: true });
  });

  it('serves stat and statfs to another process', async () => {
    start();
    const stat = await run('stat', ['-c', '%i %a %u %h %Y %F', directory]);
    expect(stat.stdout).toBe('1 751 7 2 1234567890 directory\n');
    const statfs = await run('stat', ['-f', '-c', '%b %f %a %S %l', directory]);
    expect(statfs.stdout).toBe('1000 900 800 4096 255\n');
    expect(server.lines.find((line) => line.includes(' STATFS '))).toMatch(/^#\d+ STATFS node 1 uid 0 gid 0 pid \d+$/);
  });

  it('negotiates with this kernel, and answers no flag that was not offered', async () => {
    start();
    await run('stat', [directory]);
    expect(server.negotiated).toMatchObject({ major: 7, flags: { ASYNC_READ: true, MAX_PAGES: true } });
    expect(server.negotiated?.maxWriteBytes).toBe(1 << 20);
    expect(server.lines[0]).toMatch(/^#\d+ INIT node 0 major 7 minor \d+ maxReadahead \d+ flags 0x[0-9a-f]+ /);
  });

  it('works when it pretends to be as old as 7.31', async () => {
    start(31);
    expect((await run('stat', ['-c', '%a', directory])).stdout).toBe('751\n');
    expect(server.negotiated?.minor).toBe(31);
  });

  it('knows its mount without asking it', async () => {
    start();
    expect(isMounted(directory)).toBe(true);
    expect(mountOf(directory)).toMatchObject({ type: 'fuse.tarbox', source: 'tarbox', root: '/' });
    expect(mountOf(directory)?.options).toMatch(/^rw,(?!.*nosuid)(?!.*nodev).*noatime/);
    expect(mountOf(directory)?.superOptions).toMatch(/default_permissions.*allow_other/);
  });

  it('mounts read-only', async () => {
    start(45, true);
    await expect(run('mkdir', [join(directory, 'x')])).rejects.toThrow('Read-only file system');
  });

  it('raises read-ahead before INIT is answered and after, where /sys is writable', async ({ skip }) => {
    start();
    const path = `/sys/class/bdi/${mountOf(directory)?.device}/read_ahead_kb`;
    const raised = setReadAhead(directory, 1024);
    if (!raised) skip(`this machine lacks a writable ${path}`);
    await run('stat', [directory]);
    expect(server.negotiated).toBeDefined();
    expect(readFileSync(path, 'utf8')).toBe('1024\n');
    expect(setReadAhead(directory, 2048)).toBe(true);
    expect(readFileSync(path, 'utf8')).toBe('2048\n');
    expect(setReadAhead(join(directory, 'absent'), 1024)).toBe(false);
  });

  it('ends with ENODEV when it is unmounted, and leaves nothing behind', async () => {
    start();
    await run('stat', [directory]);
    await unmount(directory, { lazy: false });
    expect(await ended).toBe(ENODEV);
    expect(isMounted(directory)).toBe(false);
  });

  it('says that it is busy, and can be unmounted lazily', async () => {
    start();
    // Not spawn's `cwd`: this process would wait until its child has entered the directory.
    const script = 'cd "$1" && echo ready && read forever';
    const child = spawn('sh', ['-c', script, 'sh', directory], { stdio: ['pipe', 'pipe', 'ignore'] });
    children.push(child);
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    await expect(unmount(directory, { lazy: false })).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining(`cannot unmount ${directory}: something is still open there`),
    });
    await unmount(directory, { lazy: true });
    expect(isMounted(directory)).toBe(false);
    child.kill('SIGKILL');
    expect(await ended).toBe(ENODEV);
  });

  it('takes notifications', async () => {
    start();
    await run('stat', [directory]);
    const buffer = Buffer.alloc(64);
    const length = packInvalEntry(buffer, 1, 0, 'never-looked-up');
    expect(server.device.write(buffer, length)).toBe(-ENOENT);
    const minor = server.negotiated?.minor ?? 0;
    if (minor >= 44) expect(server.device.write(buffer, packIncEpoch(buffer))).toBe(16);
    expect(server.device.write(Buffer.alloc(16, 0xff), 16)).toBe(-22);
  });

  it('sends a request again after RESEND, marked', async ({ skip }) => {
    start();
    await run('stat', [directory]);
    if (!server.negotiated?.flags.HAS_RESEND) skip('this kernel lacks HAS_RESEND (6.9)');
    server.silentOn = OPCODE.LOOKUP;
    const lookup = run('stat', [join(directory, 'waiting')]).catch((error: Error) => error.message);
    await expect.poll(() => server.lines.some((line) => line.includes(' LOOKUP '))).toBe(true);
    server.silentOn = undefined;
    const buffer = Buffer.alloc(16);
    expect(server.device.write(buffer, packResend(buffer))).toBe(16);
    expect(await lookup).toContain('No such file or directory');
    expect(server.lines.some((line) => / again LOOKUP /.test(line))).toBe(true);
  });

  it('is asked for the pages that the kernel holds while it serves', async () => {
    start();
    await takeKernelPages(directory);
    await expect(takeKernelPages(join(directory, 'absent'))).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringContaining('No such file'),
    });
  });

  it('ends a wait that times out, and takes the next', async () => {
    start();
    await run('stat', [directory]);
    server.device.close();
    await unmount(directory, { lazy: false });
    const deviceHandle = openFuseDevice();
    const device = openDevice(deviceHandle);
    try {
      mountFuse({ deviceHandle, directory, allowOther: true, defaultPermissions: true });
      expect(await device.waitReadable(10_000)).toBe(true);
      expect(device.read(Buffer.alloc(1 << 16))).toBe(inHeader.size + initIn.size);
      expect(await device.waitReadable(5)).toBe(false);
      expect(await device.waitReadable(0)).toBe(false);
    } finally {
      device.close();
    }
  });

  it('has room for one wait, which ends when the device is closed', async () => {
    start();
    await run('stat', [directory]);
    expect(() => server.device.waitReadable(1)).toThrow('two callers wait');
    server.device.close();
    expect(await ended).toBe(0);
    expect(await server.device.waitReadable(-1)).toBe(false);
    await expect(run('stat', [directory])).rejects.toThrow('Transport endpoint is not connected');
  });
});

describe('shared memory', () => {
  it('is seen by everyone who maps it, and is zeros at first', () => {
    const fd = makeSharedMemory('tarbox-test', 8192);
    try {
      const one = Buffer.from(mapSharedMemory(fd, 8192));
      const other = Buffer.from(mapSharedMemory(fd, 4096));
      expect(one.every((byte) => byte === 0)).toBe(true);
      one[7] = 42;
      expect(other[7]).toBe(42);
      expect([one.length, other.length]).toEqual([8192, 4096]);
    } finally {
      closeHandle(fd);
    }
  });

  it('says what it could not map', () => {
    expect(() => mapSharedMemory(9999, 4096)).toThrow('cannot map 4096 bytes of shared memory: EBADF');
  });
});

describe.skipIf(missing)('a device that is not mounted', () => {
  it('answers EPERM, and a wait does not hang on it', async () => {
    const device = openDevice(openFuseDevice());
    try {
      expect(device.read(Buffer.alloc(1 << 16))).toBe(-EPERM);
      expect(await device.waitReadable(-1)).toBe(true);
    } finally {
      device.close();
      device.close();
    }
  });

  it('says which directory it cannot mount on, and why', () => {
    const deviceHandle = openFuseDevice();
    const request = { deviceHandle, allowOther: true, defaultPermissions: true };
    try {
      expect(() => mountFuse({ ...request, directory: '/no/such' })).toThrow(
        'cannot mount on /no/such: there is no such directory; create it first (ENOENT)',
      );
      expect(() => mountFuse({ ...request, directory: '/etc/hostname' })).toThrow(
        'cannot mount on /etc/hostname: it is not a directory; name one (ENOTDIR)',
      );
    } finally {
      libc().close(deviceHandle);
    }
  });

  it('refuses to unmount what is not mounted', async () => {
    await expect(unmount('/etc', { lazy: true })).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('is closed when a program is run', () => {
    const deviceHandle = openFuseDevice();
    try {
      const isClosedOnExec = (libc().fcntl(deviceHandle, 1, 0) & 1) !== 0;
      expect(isClosedOnExec).toBe(true);
    } finally {
      expect(libc().close(deviceHandle)).toBe(0);
    }
    expect(libc().close(deviceHandle)).toBe(-1);
    expect(lastErrno()).toBe(9);
  });
});
