import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Config } from '../config/config.ts';
import { type Embedded, startEmbedded } from '../embedded/server.ts';
import { mountFuse, mountOf, openFuseDevice, setReadAhead, unmount } from '../fuse/device.ts';
import type { Negotiated } from '../fuse/init.ts';
import { closeHandle, makeSharedMemory, openDirectory, syncFileSystem } from '../fuse/libc.ts';
import type { Logger } from '../log.ts';
import type { DatabaseOptions } from '../store/connection.ts';
import { localLogBytes } from './memory.ts';
import type { FromDaemon, StartMessage, ToDaemon } from './messages.ts';
import { EMBEDDED_OWNER, ownerName } from './owner.ts';

/** How often a daemon may fail within a minute before the supervisor gives up. */
const MAX_RESTARTS = 10;
const RESTART_WINDOW_MS = 60_000;
/** How long an unmount waits for those who have files open. */
const UNMOUNT_GRACE_MS = 3000;
/** How long a daemon may take to commit what is left. */
const STOP_GRACE_MS = 30_000;
/** What the kernel reads ahead of a sequential reader. */
const READ_AHEAD_KIB = 1024;

/** A problem that a person has to solve; its message is the one line that says how. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/**
 * Holds what must outlive a daemon: the device, the log in memory, the mount, the embedded server. Starts the daemon,
 * and another one on the same device when it dies.
 */
export class Supervisor {
  readonly #config: Config;
  readonly #log: Logger;
  #embedded: Embedded | undefined;
  #device = -1;
  #memory = -1;
  #daemon: Daemon | undefined;
  #negotiated: Negotiated | undefined;
  #mounted = false;
  #stopping: Promise<void> | undefined;
  #restarts: number[] = [];
  #syncTimer: NodeJS.Timeout | undefined;
  #syncHandle = -1;
  #ended: (code: number) => void = () => {};
  /** Resolves to the exit code when everything has stopped. */
  readonly done: Promise<number>;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.done = new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  /** Resolves when the workspace is mounted and served. @throws {StartError} and others, after undoing what was done. */
  async start(): Promise<{ mount: string; supervisorPid: number; daemonPid: number; databasePid: number | undefined }> {
    const { mount } = this.#config;
    try {
      await prepareMountPoint(mount, this.#log);
      this.#device = openFuseDevice();
      this.#memory = makeSharedMemory('tarbox-log', localLogBytes(this.#config.dirtyLimitBytes));
      if (this.#config.database.url === undefined)
        this.#embedded = await startEmbedded({ dataDir: this.#config.data, log: this.#log });
      await this.#startDaemon();
      await this.#startSyncing();
    } catch (problem) {
      await this.stop();
      throw problem;
    }
    return {
      mount,
      supervisorPid: process.pid,
      daemonPid: this.#daemon?.pid ?? 0,
      databasePid: this.#embedded?.pid,
    };
  }

  #database(): DatabaseOptions {
    const { url, connectTimeoutMs } = this.#config.database;
    if (url !== undefined) return { url, connectTimeoutMs };
    const embedded = this.#embedded;
    if (embedded === undefined) throw new Error('there is no database');
    const { socketDirectory, user, database } = embedded;
    return { socketDirectory, user, database, connectTimeoutMs };
  }

  /** Starts a daemon and waits until it serves. */
  async #startDaemon(): Promise<void> {
    const daemon = spawnDaemon(this.#device, this.#memory);
    this.#daemon = daemon;
    const start: StartMessage = {
      type: 'start',
      owner: this.#embedded === undefined ? ownerName() : EMBEDDED_OWNER,
      database: this.#database(),
      mount: this.#config.mount,
      databaseDirectory: this.#embedded === undefined ? undefined : this.#config.data,
      resume: this.#negotiated,
    };
    const serving = this.#followDaemon(daemon);
    await send(daemon, start);
    await serving;
  }

  /** Resolves when the daemon serves; sees to what happens to it later. */
  #followDaemon(daemon: Daemon): Promise<void> {
    return new Promise((resolve, reject) => {
      let serving = false;
      daemon.on('message', (message: FromDaemon) => {
        if (message.type === 'fatal') reject(new StartError(message.message));
        else if (message.type === 'negotiated') this.#negotiated = message.negotiated;
        else if (message.type === 'prepared') this.#mount(daemon).catch(reject);
        else {
          if (this.#negotiated !== undefined && this.#restarts.length > 0)
            this.#log.info('daemon-restarted', { daemonPid: daemon.pid, replayed: message.replayed });
          serving = true;
          resolve();
        }
      });
      daemon.then(({ exitCode, signal }) => {
        reject(new StartError(`the daemon ended before it served (${signal ?? exitCode})`));
        if (serving && this.#stopping === undefined) this.#daemonDied(`${signal ?? `exit code ${exitCode}`}`);
      }, reject);
    });
  }

  async #mount(daemon: Daemon): Promise<void> {
    const { mount } = this.#config;
    mountFuse({ deviceHandle: this.#device, directory: mount, allowOther: true, defaultPermissions: true });
    this.#mounted = true;
    setReadAhead(mount, READ_AHEAD_KIB);
    await send(daemon, { type: 'mounted' });
  }

  #daemonDied(how: string): void {
    this.#log.warn('daemon-died', { how });
    const now = performance.now();
    this.#restarts = [...this.#restarts.filter((at) => now - at < RESTART_WINDOW_MS), now];
    if (this.#restarts.length > MAX_RESTARTS) {
      this.#log.error('giving-up', { reason: `the daemon died ${MAX_RESTARTS} times within a minute` });
      this.#fail();
      return;
    }
    this.#restart().catch((problem: unknown) => {
      this.#log.error('restart-failed', { problem });
      this.#fail();
    });
  }

  async #restart(): Promise<void> {
    if (this.#negotiated?.flags.HAS_RESEND !== true) {
      // An older kernel can't ask again for what the daemon took with it: those who wait get an error.
      this.#log.warn('remount', { reason: 'this kernel cannot resend requests (Linux 6.9 and newer can)' });
      await this.#leaveMount();
      closeHandle(this.#device);
      this.#device = openFuseDevice();
      this.#negotiated = undefined;
    }
    await this.#startDaemon();
    if (this.#syncHandle < 0) await this.#startSyncing();
  }

  #fail(): void {
    this.stop().then(
      () => this.#ended(1),
      () => this.#ended(1),
    );
  }

  /**
   * Pages that programs changed through shared mappings are in the kernel until something asks for them. Doing that
   * once an interval gives them the same bound on loss as every other change.
   */
  async #startSyncing(): Promise<void> {
    this.#syncHandle = await openDirectory(this.#config.mount);
    const tick = () => {
      if (this.#syncHandle < 0) return;
      void syncFileSystem(this.#syncHandle).finally(() => {
        if (this.#syncHandle >= 0) this.#syncTimer = setTimeout(tick, this.#config.commitIntervalMs);
      });
    };
    this.#syncTimer = setTimeout(tick, this.#config.commitIntervalMs);
  }

  #stopSyncing(): void {
    clearTimeout(this.#syncTimer);
    if (this.#syncHandle >= 0) closeHandle(this.#syncHandle);
    this.#syncHandle = -1;
  }

  /** Unmounts, has everything committed, and stops what was started. Safe to call at any time, and again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop().finally(() => this.#ended(0));
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const started = performance.now();
    this.#stopSyncing();
    if (this.#mounted) await this.#leaveMount();
    await this.#stopDaemon();
    if (this.#embedded !== undefined) await this.#embedded.stop();
    for (const handle of [this.#device, this.#memory]) if (handle >= 0) closeHandle(handle);
    this.#device = -1;
    this.#memory = -1;
    this.#log.info('stopped', { seconds: Number(((performance.now() - started) / 1000).toFixed(1)) });
  }

  /** Takes the mount out of the tree; those who still have files open keep it for themselves. */
  async #leaveMount(): Promise<void> {
    const { mount } = this.#config;
    const deadline = performance.now() + UNMOUNT_GRACE_MS;
    for (;;) {
      try {
        await unmount(mount, { lazy: performance.now() > deadline });
        this.#mounted = false;
        return;
      } catch (problem) {
        if (mountOf(mount)?.type !== 'fuse.tarbox') return;
        if (performance.now() > deadline + UNMOUNT_GRACE_MS) {
          this.#log.error('unmount-failed', { mount, problem });
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async #stopDaemon(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    await send(daemon, { type: 'stop' });
    const timer = setTimeout(() => {
      this.#log.error('daemon-killed', { reason: `it did not stop within ${STOP_GRACE_MS / 1000} s` });
      daemon.kill('SIGKILL');
    }, STOP_GRACE_MS);
    await daemon.catch(() => {});
    clearTimeout(timer);
  }
}

type Daemon = ReturnType<typeof spawnDaemon>;

/** In a process group of its own, so that Ctrl-C reaches the supervisor first. */
function spawnDaemon(device: number, memory: number) {
  return execa(process.execPath, [...process.execArgv, join(import.meta.dirname, 'daemon.ts')], {
    ipc: true,
    serialization: 'json',
    // execa's types name the handles 3 to 9 only; it takes any.
    stdio: ['ignore', 'inherit', 'inherit', device as 3, memory as 3],
    reject: false,
    detached: true,
    cleanup: true,
    buffer: false,
  });
}

async function send(daemon: Daemon, message: ToDaemon): Promise<void> {
  // A daemon that is gone needs no message: its end is seen to where it's followed.
  await daemon.sendMessage(JSON.parse(JSON.stringify(message))).catch(() => {});
}

/** Sees to it that the mount point is an empty directory that nothing is mounted on. */
async function prepareMountPoint(directory: string, log: Logger): Promise<void> {
  const found = mountOf(directory);
  if (found?.type === 'fuse.tarbox') {
    if (await answers(directory))
      throw new StartError(`${directory} is in use: a Tarbox serves it already; stop that one, or set TARBOX_MOUNT`);
    log.warn('stale-mount-cleared', { mount: directory });
    await unmount(directory, { lazy: true });
  } else if (found !== undefined && found.mountPoint === directory)
    throw new StartError(`${directory} is in use: ${found.type} is mounted there; unmount it, or set TARBOX_MOUNT`);
  try {
    mkdirSync(directory, { recursive: true });
  } catch (problem) {
    throw new StartError(
      `cannot make the mount point ${directory} (${(problem as NodeJS.ErrnoException).code}); set TARBOX_MOUNT`,
    );
  }
  if (!statSync(directory).isDirectory()) throw new StartError(`${directory} is not a directory; set TARBOX_MOUNT`);
  if (readdirSync(directory).length > 0)
    throw new StartError(`${directory} is not empty: what is in it would be hidden; move it away, or set TARBOX_MOUNT`);
}

/** Whether someone serves the mount: asked by another process, which may be left waiting. */
async function answers(directory: string): Promise<boolean> {
  const { exitCode, stderr, timedOut } = await execa('stat', ['-t', directory], {
    reject: false,
    timeout: 2000,
    killSignal: 'SIGKILL',
  });
  return exitCode === 0 || timedOut || !stderr.includes('not connected');
}
