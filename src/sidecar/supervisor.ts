import { join } from 'node:path';
import { execa } from 'execa';
import { AUDIT_BYTES } from '../audit/log.ts';
import type { Config, ConfigError } from '../config/config.ts';
import type { Environment } from '../config/env.ts';
import { followConfig, type Reload } from '../config/live.ts';
import { type Embedded, startEmbedded } from '../embedded/server.ts';
import { mountFuse, mountOf, openFuseDevice, setReadAhead, unmount } from '../fuse/device.ts';
import type { Negotiated } from '../fuse/init.ts';
import { closeHandle, makeSharedMemory } from '../fuse/libc.ts';
import type { Logger, LogLevel } from '../log.ts';
import { NativeMounts, type NativeNotice } from '../native/mounts.ts';
import type { DatabaseOptions } from '../store/connection.ts';
import { within } from '../within.ts';
import { takeKernelPages } from './kernel-pages.ts';
import { localLogBytes } from './memory.ts';
import type { FromDaemon, NativeMessage, StartMessage, ToDaemon } from './messages.ts';
import { prepareMountPoint } from './mount-point.ts';
import { EMBEDDED_OWNER, ownerName } from './owner.ts';
import { StartError } from './start-error.ts';

/** How often a daemon may fail within a minute before the supervisor gives up. */
const MAX_RESTARTS = 10;
const RESTART_WINDOW_MS = 60_000;
/** How long an unmount waits for those who have files open. */
const UNMOUNT_GRACE_MS = 3000;
/** How long a daemon may take to commit what is left. */
const STOP_GRACE_MS = 30_000;
/** How long taking the native mounts away, or handing over what the kernel holds, may take when it's time to stop. */
const LEAVE_GRACE_MS = 3000;
/** How long a database that ended is let be before another try, at first and at last. */
const FIRST_DATABASE_WAIT_MS = 100;
const LAST_DATABASE_WAIT_MS = 10_000;
/** What the kernel reads ahead of a sequential reader. */
const READ_AHEAD_KIB = 1024;

/** The daemon was gone before it served, without having said why: someone killed it. */
class DaemonDied extends StartError {
  readonly how: string;

  constructor(how: string) {
    super(`the daemon ended before it served (${how})`);
    this.how = how;
  }
}

/**
 * Holds what must outlive a daemon: the device, the log in memory, the mount, the embedded server. Starts the daemon,
 * and another one on the same device when it dies.
 */
export class Supervisor {
  #config: Config;
  readonly #environment: Environment;
  readonly #log: Logger;
  #embedded: Embedded | undefined;
  #device = -1;
  #memory = -1;
  #auditMemory = -1;
  #daemon: Daemon | undefined;
  #negotiated: Negotiated | undefined;
  #mounted = false;
  #tenantId = 0;
  #native: NativeMounts | undefined;
  /** What the daemon knows of native mounts, and who waits for it to. */
  #notice: { message: NativeMessage; readonly done: () => void } | undefined;
  #following: { close(): Promise<void> } | undefined;
  /** What the configuration file came to last, for the next daemon. */
  #reloaded: readonly ToDaemon[] = [];
  /** Settles when `start` has made everything that it will make. */
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #exitCode = 0;
  #restarts: number[] = [];
  #syncTimer: NodeJS.Timeout | undefined;
  #ended: (code: number) => void = () => {};
  /** Resolves to the exit code when everything has stopped. */
  readonly done: Promise<number>;

  /** `environment`: what the configuration was read from, to read it again when its file changes. */
  constructor(config: Config, environment: Environment, log: Logger) {
    this.#config = config;
    this.#environment = environment;
    this.#log = log;
    this.done = new Promise((resolve) => {
      this.#ended = resolve;
    });
  }

  /** Resolves when the workspace is mounted and served. @throws {StartError} and others, after undoing what was done. */
  async start(): Promise<{ mount: string; supervisorPid: number; daemonPid: number; databasePid: number | undefined }> {
    const starting = this.#start();
    this.#starting = starting.catch(() => {}); // seen below
    try {
      await starting;
    } catch (problem) {
      if (this.#stopping === undefined) this.#exitCode = 1;
      await this.stop();
      throw problem;
    }
    return {
      mount: this.#config.mount,
      supervisorPid: process.pid,
      daemonPid: this.#daemon?.pid ?? 0,
      databasePid: this.#embedded?.pid,
    };
  }

  /** What may be logged, which the configuration file changes. */
  get logLevel(): LogLevel {
    return this.#config.logLevel;
  }

  async #start(): Promise<void> {
    this.#config = { ...this.#config, mount: await prepareMountPoint(this.#config, this.#log) };
    this.#device = openFuseDevice();
    this.#memory = makeSharedMemory('tarbox-log', localLogBytes(this.#config.dirtyLimitBytes));
    this.#auditMemory = makeSharedMemory('tarbox-audit', AUDIT_BYTES);
    if (this.#config.database.url === undefined) await this.#startDatabase();
    await this.#startDaemon();
    this.#goOn();
    this.#startSyncing();
    this.#following = followConfig(this.#config, this.#environment, {
      onReload: (reload) => this.#reload(reload),
      onProblem: (problem) => this.#refuse(problem),
    });
    await this.#mountNatives();
  }

  #reload(reload: Reload): void {
    if (this.#stopping !== undefined) return;
    const { config, changed, needRestart } = reload;
    this.#config = { ...config, mount: this.#config.mount };
    this.#log.info('config-changed', { changed, needRestart });
    this.#tellOfConfig([{ type: 'reload', reload: { ...reload, config: this.#config } }]);
    void this.#mountNatives();
  }

  #refuse(problem: ConfigError): void {
    this.#log.warn('config-refused', { reason: problem.message });
    const [reload] = this.#reloaded.filter(({ type }) => type === 'reload');
    this.#tellOfConfig([...(reload === undefined ? [] : [reload]), { type: 'refuse', reason: problem.message }]);
  }

  #tellOfConfig(messages: readonly ToDaemon[]): void {
    this.#reloaded = messages;
    if (this.#daemon !== undefined) for (const message of messages) void send(this.#daemon, message);
  }

  /** Resolves when each rule is carried out, or has a state that says why not. */
  async #mountNatives(): Promise<void> {
    const { mount, owner, tenant, native } = this.#config;
    this.#goOn();
    this.#native ??= new NativeMounts({ mount, owner, log: this.#log, notify: (notice) => this.#notifyDaemon(notice) });
    await this.#native.configure(native.rules, { tenant, tenantId: this.#tenantId, allow: native.allow });
  }

  /** The kernel has forgotten what it was to forget: to the next daemon that isn't said, since it may be mounted on by then. */
  #noticed(number: number): void {
    const known = this.#notice;
    if (known === undefined || known.message.number !== number) return;
    known.message = { ...known.message, notice: { ...known.message.notice, refresh: [] } };
    known.done();
  }

  #notifyDaemon(notice: NativeNotice): Promise<void> {
    return new Promise((done) => {
      const number = (this.#notice?.message.number ?? 0) + 1;
      this.#notice = { message: { type: 'native', number, notice }, done };
      if (this.#daemon !== undefined) void send(this.#daemon, this.#notice.message);
    });
  }

  /** Starts the embedded server, and another one on its data whenever it ends. */
  async #startDatabase(): Promise<void> {
    const embedded = await startEmbedded({ dataDir: this.#config.data, log: this.#log });
    this.#embedded = embedded;
    void embedded.exited.then(() => this.#databaseEnded());
  }

  async #databaseEnded(): Promise<void> {
    for (
      let waitMs = FIRST_DATABASE_WAIT_MS;
      this.#stopping === undefined;
      waitMs = Math.min(waitMs * 2, LAST_DATABASE_WAIT_MS)
    ) {
      this.#log.error('database-ended', { reason: 'the embedded PostgreSQL has ended; it is started again' });
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      if (this.#stopping !== undefined) return;
      try {
        await this.#startDatabase();
        this.#log.info('database-restarted', { databasePid: this.#embedded?.pid });
        return;
      } catch (problem) {
        this.#log.error('database-restart-failed', { problem });
      }
    }
  }

  /** @throws {StartError} once `stop` was called, which waits only for what was started before. */
  #goOn(): void {
    if (this.#stopping !== undefined) throw new StartError('it was told to stop');
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
    this.#goOn();
    const daemon = spawnDaemon(this.#device, this.#memory, this.#auditMemory);
    this.#daemon = daemon;
    const start: StartMessage = {
      type: 'start',
      config: this.#config,
      owner: this.#embedded === undefined ? ownerName() : EMBEDDED_OWNER,
      database: this.#database(),
      databaseDirectory: this.#embedded === undefined ? undefined : this.#config.data,
      resume: this.#negotiated,
      native: this.#notice?.message.notice,
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
        else if (message.type === 'prepared') {
          this.#tenantId = message.tenantId;
          this.#mount(daemon).catch(reject);
        } else if (message.type === 'native') {
          this.#noticed(message.number);
        } else {
          if (this.#negotiated !== undefined && this.#restarts.length > 0)
            this.#log.info('daemon-restarted', { daemonPid: daemon.pid, replayed: message.replayed });
          serving = true;
          resolve();
          // What was said while there was no daemon.
          for (const missed of [...this.#reloaded, ...(this.#notice ? [this.#notice.message] : [])])
            void send(daemon, missed);
        }
      });
      daemon.then(({ exitCode, signal }) => {
        const how = `${signal ?? `exit code ${exitCode}`}`;
        reject(new DaemonDied(how));
        if (serving && this.#stopping === undefined) this.#daemonDied(how);
      }, reject);
    });
  }

  async #mount(daemon: Daemon): Promise<void> {
    this.#goOn();
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
      if (this.#stopping !== undefined) return;
      if (problem instanceof DaemonDied) {
        this.#daemonDied(problem.how);
        return;
      }
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
  }

  #fail(): void {
    this.#exitCode = 1;
    this.stop().catch((problem: unknown) => this.#log.error('stop-failed', { problem }));
  }

  /**
   * Pages that programs changed through shared mappings are in the kernel until something asks for them. Doing that
   * once an interval gives them the same bound on loss as every other change.
   */
  #startSyncing(): void {
    if (this.#stopping !== undefined) return;
    this.#syncTimer = setTimeout(() => {
      // What the kernel can't write back now it will be asked for again.
      void takeKernelPages(this.#config.mount)
        .catch((problem: unknown) => this.#log.debug('sync-failed', { problem }))
        .then(() => this.#startSyncing());
    }, this.#config.commitIntervalMs);
  }

  /** Unmounts, has everything committed, and stops what was started. Safe to call at any time, and again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop().finally(() => this.#ended(this.#exitCode));
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const started = performance.now();
    clearTimeout(this.#syncTimer);
    if (this.#native !== undefined) await within(LEAVE_GRACE_MS, this.#native.stop());
    // What the kernel holds of files that someone keeps open wouldn't be handed over by a lazy unmount.
    if (this.#mounted) await within(LEAVE_GRACE_MS, takeKernelPages(this.#config.mount));
    if (this.#mounted) await this.#leaveMount();
    await this.#stopDaemon();
    await this.#starting;
    await this.#following?.close();
    if (this.#embedded !== undefined) await this.#embedded.stop();
    for (const handle of [this.#device, this.#memory, this.#auditMemory]) if (handle >= 0) closeHandle(handle);
    this.#device = -1;
    this.#memory = -1;
    this.#auditMemory = -1;
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
    const { exitCode } = await daemon;
    clearTimeout(timer);
    if (exitCode !== 0) this.#exitCode = 1; // something may not be committed
  }
}

/**
 * Most of a daemon's memory is content, outside of the heap. By itself the engine lets the heap grow to three times what is
 * used (unpacking 24,000 files: 185 MB for 50); with these it's one and a half.
 */
const HEAP_FLAGS = ['--max-semi-space-size=4', '--heap-growing-percent=40'];
/** Has the C library give memory back that buffers leave (mallopt(3)): 90 MB of 550 after unpacking and streaming. */
const MALLOC = { MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: '1048576', MALLOC_MMAP_THRESHOLD_: '131072' };

type Daemon = ReturnType<typeof spawnDaemon>;

/** In a process group of its own, so that Ctrl-C reaches the supervisor first. */
function spawnDaemon(device: number, memory: number, auditMemory: number) {
  return execa(process.execPath, [...process.execArgv, ...HEAP_FLAGS, join(import.meta.dirname, 'daemon.ts')], {
    ipc: true,
    serialization: 'json',
    // execa's types name the handles 3 to 9 only; it takes any.
    stdio: ['ignore', 'inherit', 'inherit', device as 3, memory as 3, auditMemory as 3],
    env: MALLOC,
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
