import { statfs } from 'node:fs/promises';
import { AUDIT_BYTES } from '../audit/log.ts';
import { type LayerId, ROOT_INO } from '../brand.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Reload } from '../config/live.ts';
import { Auditing } from '../fuse/auditing.ts';
import type { SpaceReport } from '../fuse/context.ts';
import { type Device, openDevice, unmount } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import { type Negotiated, negotiate } from '../fuse/init.ts';
import { keepHandle, mapSharedMemory } from '../fuse/libc.ts';
import { packIncEpoch, packResend } from '../fuse/notify.ts';
import { PAYLOAD, Session } from '../fuse/session.ts';
import { traceReply, traceRequest } from '../fuse/trace.ts';
import { initIn, initOut } from '../fuse/wire/abi.ts';
import { OPCODE } from '../fuse/wire/operations.ts';
import { Journal } from '../journal/journal.ts';
import { LocalLog } from '../journal/log.ts';
import type { Logger } from '../log.ts';
import type { NativeNotice } from '../native/mounts.ts';
import { Loader } from '../vfs/load.ts';
import type { LoadMiss, Miss } from '../vfs/miss.ts';
import type { Loads, Place } from '../vfs/store.ts';
import { Workspace } from '../vfs/workspace.ts';
import { AuditTrail } from './auditing.ts';
import { AutoCheckpoints } from './auto-checkpoint.ts';
import { whenAvailable } from './available.ts';
import { type Comparing, comparing } from './comparing.ts';
import { controlPort } from './control.ts';
import { Health } from './health.ts';
import { takeKernelPages } from './kernel-pages.ts';
import { isKilled } from './killed.ts';
import { Layering } from './layering.ts';
import { localLogBytes } from './memory.ts';
import { AUDIT_HANDLE, DEVICE_HANDLE, type FromDaemon, LOG_HANDLE, type StartMessage } from './messages.ts';
import { NativePart } from './native.ts';
import { type Recovered, recover } from './recovery.ts';
import { Statistics } from './statistics.ts';
import { Tenancy } from './tenancy.ts';
import { Upkeep } from './upkeep.ts';

const MAX_DATA_BYTES = 1024 * 1024;
/** How old the figure of free disk space may be. */
const FREE_SPACE_MS = 5000;
/** What statfs shows where nothing limits the workspace. */
const UNLIMITED_BYTES = 2 ** 50;
const UNLIMITED_INODES = 2 ** 32;

/** Requests served before the event loop gets a turn. */
const SERVED_AT_ONCE = 256;
/** Until the layers are loaded. */
const UNKNOWN_PLACE: Place = { layer: 0 as LayerId, ranges: [], firstIno: 0, firstCookie: 0 }; // no layer has id 0

/** The parts of a daemon, joined: one tenant's workspace between the kernel and PostgreSQL. */
export class Engine {
  #config: Config;
  readonly #log: Logger;
  readonly #start: StartMessage;
  readonly #tell: (message: FromDaemon) => void;
  readonly #clock: Clock = systemClock();
  readonly #health = new Health();
  readonly #localLog: LocalLog;
  readonly #tenancy: Tenancy;
  readonly #device: Device;
  readonly #native: NativePart;
  readonly #statistics = new Statistics();
  #workspace!: Workspace;
  #journal!: Journal;
  #loads!: Loads;
  #loader!: Loader;
  #layering!: Layering;
  #comparing!: Comparing;
  #upkeep!: Upkeep;
  #autoCheckpoints!: AutoCheckpoints;
  #audit!: AuditTrail;
  #session!: Session;
  #dispatcher: Dispatcher | undefined;
  #recovered: Recovered | undefined;
  #freeBytes = UNLIMITED_BYTES;
  #freeTimer: NodeJS.Timeout | undefined;
  #served: Promise<void> | undefined;

  constructor(config: Config, log: Logger, start: StartMessage, tell: (message: FromDaemon) => void) {
    this.#config = config;
    this.#log = log;
    this.#start = start;
    this.#tell = tell;
    for (const handle of [DEVICE_HANDLE, LOG_HANDLE]) keepHandle(handle);
    this.#localLog = new LocalLog(mapSharedMemory(LOG_HANDLE, localLogBytes(config.dirtyLimitBytes)));
    this.#device = openDevice(DEVICE_HANDLE);
    this.#native = new NativePart({
      device: this.#device,
      health: this.#health,
      load: (miss) => this.#load(miss),
    });
    this.#tenancy = new Tenancy(config, log, start, this.#health, (reason) => this.#journal?.lose(reason));
  }

  /**
   * Takes the tenant, loads what every request needs, and carries out again what an earlier daemon left behind.
   * Resolves to the tenant's number.
   */
  async prepare(): Promise<number> {
    const taken = await this.#tenancy.take();
    // At once: the next daemon asks whether the log continues this epoch, whatever this one gets to do.
    const continues = this.#localLog.adopt(taken);
    const config = this.#config;
    this.#workspace = new Workspace(
      taken.state,
      UNKNOWN_PLACE,
      { maxFileBytes: config.maxFileBytes, maxBytes: config.quota.bytes, maxInodes: config.quota.inodes },
      { metadataBytes: config.cache.metadataBytes, chunkBytes: config.cache.chunkBytes },
    );
    this.#loads = this.#tenancy.store.loads(() => this.#workspace.place);
    this.#loader = new Loader(this.#workspace, this.#loads);
    this.#journal = new Journal(
      {
        workspace: this.#workspace,
        commits: this.#statistics.measured(this.#tenancy.commits),
        localLog: this.#localLog,
        loadsSettled: () => this.#loader.settled(),
        onState: (state, reason) => {
          this.#health.setJournal(state, reason);
          if (state === 'ok') this.#log.info('storing-again');
          else this.#log.warn('storing-fails', { state, reason });
        },
      },
      { intervalMs: config.commitIntervalMs, dirtyLimitBytes: config.dirtyLimitBytes },
    );
    this.#layering = this.#makeLayering();
    this.#comparing = comparing({
      store: this.#tenancy.store,
      layers: this.#layering.layers,
      workspace: this.#workspace,
      now: () => this.#clock.now(),
      takeKernelPages: () => this.#takeKernelPages(),
      commit: () => this.#journal.sync(),
    });
    this.#autoCheckpoints = new AutoCheckpoints(this.#layering.layers, this.#log);
    this.#upkeep = new Upkeep({
      store: this.#tenancy.store,
      workspace: this.#workspace,
      layering: this.#layering,
      journal: this.#journal,
      loadsSettled: () => this.#loader.settled(),
      onPackFailure: (problem) => this.#log.warn('packing-failed', { problem }),
    });
    this.#audit = new AuditTrail({
      memory: mapSharedMemory(AUDIT_HANDLE, AUDIT_BYTES),
      tenantId: taken.tenantId,
      config,
      store: this.#tenancy.store,
      layers: this.#layering.layers,
      workspace: this.#workspace,
      loads: this.#loads,
      clock: this.#clock,
      log: this.#log,
      health: this.#health,
    });
    this.#audit.start();
    await whenAvailable(() => this.#layering.layers.load(this.#start.resume !== undefined));
    await this.#load({ kind: 'inodes', inos: [ROOT_INO] });
    await this.#measureSpace();
    this.#makeSession();
    const { resume } = this.#start;
    if (resume !== undefined) await this.#recover(resume, taken.epoch, continues);
    else {
      await this.#dropOrphans();
      await this.#journal.sync();
      this.#localLog.reset(taken.epoch);
    }
    // What was carried out again was so before there were such names.
    if (this.#start.native !== undefined) this.#native.adopt(this.#start.native);
    return taken.tenantId;
  }

  async #dropOrphans(): Promise<void> {
    // Those of frozen layers take no space that is counted, and nobody can come upon them.
    const orphans = await this.#loads.orphans(true);
    for (const orphan of orphans) {
      this.#workspace.adoptOrphan(orphan);
      await this.#load({ kind: 'inodes', inos: [orphan.ino] });
    }
    for (const { ino } of orphans) this.#workspace.remove(this.#workspace.inode(ino));
    this.#workspace.mutated = false;
    if (orphans.length > 0) this.#log.info('orphans-removed', { count: orphans.length });
  }

  async #recover(resume: Negotiated, epoch: number, continues: boolean): Promise<void> {
    this.#workspace.handles.uncounted = true;
    for (const orphan of await whenAvailable(() => this.#loads.orphans(false))) this.#workspace.adoptOrphan(orphan);
    const parts = {
      workspace: this.#workspace,
      journal: this.#journal,
      localLog: this.#localLog,
      dispatcher: this.#makeDispatcher(resume),
      session: this.#session,
      device: this.#device,
      log: this.#log,
      epoch,
      continues,
    };
    this.#recovered = await recover(parts);
  }

  #makeLayering(): Layering {
    return new Layering({
      store: this.#tenancy.store,
      workspace: this.#workspace,
      device: this.#device,
      native: this.#native,
      now: () => this.#clock.now(),
      takeKernelPages: () => this.#takeKernelPages(),
      commit: () => this.#journal.sync(),
      seal: async (make) => {
        await this.#journal.seal(make);
        this.#upkeep.pack();
      },
      closeGate: async () => {
        this.#dispatcher?.closeGate();
        await this.#loader.settled();
      },
      openGate: () => this.#dispatcher?.openGate(),
    });
  }

  /**
   * Takes in what programs changed through mappings. The kernel sends those pages as requests that it doesn't wait for
   * (wait_sb_inodes leaves FUSE out), and only so many at a time: they're served here until no more come.
   */
  async #takeKernelPages(): Promise<void> {
    await takeKernelPages(this.#config.mount);
    while (this.#session.serveWaiting(SERVED_AT_ONCE) > 0 || this.#dispatcher?.hasParkedWrites === true)
      await new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** What a request waits for is loaded when the database is there. */
  #load(miss: Miss, workspace = this.#workspace): Promise<void> {
    if (miss.kind === 'releases') return this.#takeReleases();
    return whenAvailable(() => this.#loadNow(miss, workspace));
  }

  #loadNow(miss: LoadMiss, workspace: Workspace): Promise<void> {
    return this.#layering.load(workspace, miss) ?? this.#loader.load(miss);
  }

  /** The kernel tells of what it lets go of among the requests, and has told of all when none waits. */
  async #takeReleases(): Promise<void> {
    if (this.#served !== undefined) await this.#session.drained();
    this.#workspace.releasesTaken = true;
  }

  #makeSession(): void {
    const tracing = this.#config.trace === 'fuse';
    const readInit = initIn.reader();
    const opcodes = new Map<number, number>();
    this.#session = new Session(this.#device, {
      maxDataBytes: MAX_DATA_BYTES,
      traceReply: tracing
        ? (lo, hi, error, payload) => {
            process.stderr.write(`${traceReply(lo, hi, -error, opcodes.get(lo) ?? 0, payload)}\n`);
            opcodes.delete(lo);
          }
        : undefined,
      onWriteError: (code) => this.#log.warn('reply-failed', { errno: code }),
      serve: (request, length, reply) => {
        if (tracing) {
          opcodes.set(request.readUInt32LE(8), request.readUInt32LE(4));
          process.stderr.write(`${traceRequest(request, length)}\n`);
        }
        if (this.#dispatcher !== undefined) return this.#dispatcher.serve(request, length, reply);
        return this.#initialize(readInit(request, 40), request.readUInt32LE(4), reply);
      },
    });
  }

  /** The first request on a connection. */
  #initialize(asked: ReturnType<ReturnType<typeof initIn.reader>>, opcode: number, reply: Buffer): number {
    if (opcode !== OPCODE.INIT) return -5;
    const { reply: answer, replyBytes, negotiated } = negotiate(asked);
    initOut.writer()(reply, PAYLOAD, answer);
    if (negotiated === undefined) return replyBytes;
    this.#log.debug('negotiated', { minor: negotiated.minor });
    this.#makeDispatcher(negotiated);
    this.#tell({ type: 'negotiated', negotiated });
    this.#tell({ type: 'serving', replayed: 0 });
    return replyBytes;
  }

  #makeDispatcher(negotiated: Negotiated): Dispatcher {
    const journal = this.#journal;
    const { durability } = this.#config;
    const dispatcher = new Dispatcher({
      workspace: this.#workspace,
      services: {
        sync: () => journal.sync(),
        space: () => this.#space(),
        placeholders: this.#native.placeholders,
        control: controlPort({
          config: () => this.#config,
          health: this.#health,
          journal,
          workspace: this.#workspace,
          layers: this.#layering.layers,
          comparing: this.#comparing,
          upkeep: this.#upkeep,
          native: this.#native,
          statistics: this.#statistics,
          usage: this.#tenancy.store.usage,
          audit: this.#audit,
          takeKernelPages: () => this.#takeKernelPages(),
          negotiated,
          startedMs: this.#clock.now(),
        }),
        closeWaits: durability !== 'relaxed',
        frozen: (view, ino) => this.#layering.frozen(view, ino),
      },
      clock: this.#clock,
      load: (workspace, miss) => this.#load(miss, workspace),
      loadPath: async (tree, ino) => this.#loadNow({ kind: 'named', ino }, tree),
      mustWait: (bytes) => this.#tenancy.suspended() || journal.mustWait(bytes),
      room: () => (this.#tenancy.suspended() ? this.#tenancy.confirm() : journal.room()),
      accept: (accepted) => {
        this.#localLog.append(accepted);
        journal.changed();
      },
      strict: durability === 'strict',
      reply: (lo, hi, result) => this.#session.reply(lo, hi, result),
      replyBuffer: () => this.#session.replyBuffer,
      onDefect: (request, problem) => this.#log.error('request-failed', { request, problem }),
      isKilled,
      traffic: this.#statistics.traffic,
      setxattrExtended: negotiated.flags.SETXATTR_EXT,
      auditing: new Auditing(this.#audit.events, this.#workspace, this.#clock, this.#audit.lines),
    });
    dispatcher.setCaching(this.#audit.mayCache);
    this.#dispatcher = dispatcher;
    return dispatcher;
  }

  /** Serves until the file system is unmounted. */
  async serve(): Promise<void> {
    this.#freeTimer = setInterval(() => {
      this.#measureSpace().catch((problem: unknown) => this.#log.warn('statfs-failed', { problem }));
    }, FREE_SPACE_MS).unref();
    if (this.#recovered !== undefined) this.#resume(this.#recovered);
    this.#autoCheckpoints.configure(this.#config.layer);
    this.#upkeep.pack();
    this.#served = this.#session.run();
    await this.#served;
  }

  /** Has the kernel ask again for what the last daemon left unanswered. */
  #resume({ replayed, whileServing }: Recovered): void {
    const message = Buffer.alloc(64);
    const code = this.#session.notify(message, packResend(message));
    if (code < 0) this.#log.warn('resend-failed', { errno: -code });
    this.#tell({ type: 'serving', replayed });
    const failed = (problem: unknown) => this.#log.error('recovery-failed', { problem });
    // Before any command that comes again.
    this.#layering.layers.resume(this.#session.drained()).catch(failed);
    whileServing().catch(failed);
  }

  /** Takes over what may change while the sidecar runs. */
  reconfigure({ config, needRestart }: Reload): void {
    this.#config = config;
    this.#workspace.resizeCaches(config.cache);
    this.#journal.setInterval(config.commitIntervalMs);
    this.#autoCheckpoints.configure(config.layer);
    this.#reconfigureAudit();
    this.#health.set('config', 'ok', '');
    if (needRestart.length > 0)
      this.#health.set(
        'config',
        'degraded',
        `these settings need a restart to come into force: ${needRestart.join(', ')}`,
      );
  }

  /** What the kernel may not keep any more, it forgets. */
  #reconfigureAudit(): void {
    const couldCache = this.#audit.mayCache;
    this.#audit.configure(this.#config);
    this.#dispatcher?.setCaching(this.#audit.mayCache);
    if (!couldCache || this.#audit.mayCache) return;
    const message = Buffer.alloc(64);
    const failed = this.#session.notify(message, packIncEpoch(message));
    if (failed < 0)
      this.#log.warn('audit-caches-stay', { reason: 'this kernel keeps what it has cached until the next start' });
  }

  /** The configuration file is wrong: what was in force stays. */
  refuseConfig(reason: string): void {
    this.#health.set('config', 'degraded', `the old configuration is kept: ${reason}`);
  }

  /** Knows other mount points of native mounts; resolves when the kernel does, too. */
  async setNative(notice: NativeNotice): Promise<void> {
    await this.#native.apply(this.#workspace, notice);
  }

  /** Takes the mount out of the tree, for when nobody else is there to do it. */
  async leave(): Promise<void> {
    await unmount(this.#config.mount, { lazy: true });
  }

  /** Commits everything and gives the tenant back. */
  async stop(): Promise<void> {
    clearInterval(this.#freeTimer);
    this.#statistics.stop();
    this.#session?.stop();
    this.#upkeep?.stop();
    this.#autoCheckpoints?.stop();
    try {
      await this.#journal?.stop();
    } finally {
      await this.#audit?.stop().catch((problem: unknown) => this.#log.error('audit-lost', { problem }));
      await this.#tenancy.release();
    }
  }

  async #measureSpace(): Promise<void> {
    const { databaseDirectory } = this.#start;
    if (databaseDirectory === undefined) return;
    const { bavail, bsize } = await statfs(databaseDirectory);
    this.#freeBytes = bavail * bsize;
  }

  #space(): SpaceReport {
    const { usedBytes, usedInodes } = this.#workspace;
    const { bytes, inodes } = this.#config.quota;
    const freeBytes = bytes > 0 ? Math.min(this.#freeBytes, Math.max(0, bytes - usedBytes)) : this.#freeBytes;
    const freeInodes = inodes > 0 ? Math.max(0, inodes - usedInodes) : UNLIMITED_INODES;
    return { totalBytes: usedBytes + freeBytes, freeBytes, totalInodes: usedInodes + freeInodes, freeInodes };
  }
}
