import { statfs } from 'node:fs/promises';
import { ROOT_INO } from '../brand.ts';
import { type Clock, systemClock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { sha256 } from '../content/hash.ts';
import type { SpaceReport } from '../fuse/context.ts';
import { type Device, openDevice } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import { type Negotiated, negotiate } from '../fuse/init.ts';
import { mapSharedMemory } from '../fuse/libc.ts';
import { packIncEpoch, packResend } from '../fuse/notify.ts';
import { PAYLOAD, Session } from '../fuse/session.ts';
import { traceReply, traceRequest } from '../fuse/trace.ts';
import { initIn, initOut } from '../fuse/wire/abi.ts';
import { OPCODE } from '../fuse/wire/operations.ts';
import { Journal } from '../journal/journal.ts';
import { LocalLog } from '../journal/log.ts';
import type { Logger } from '../log.ts';
import { Loader } from '../vfs/load.ts';
import type { Miss } from '../vfs/miss.ts';
import { Workspace } from '../vfs/workspace.ts';
import { controlPort } from './control.ts';
import { Health } from './health.ts';
import { isKilled } from './killed.ts';
import { localLogBytes } from './memory.ts';
import { DEVICE_HANDLE, type FromDaemon, LOG_HANDLE, type StartMessage } from './messages.ts';
import { Tenancy } from './tenancy.ts';

const MAX_DATA_BYTES = 1024 * 1024;
/** How old the figure of free disk space may be. */
const FREE_SPACE_MS = 5000;
/** What statfs shows where nothing limits the workspace. */
const UNLIMITED_BYTES = 2 ** 50;
const UNLIMITED_INODES = 2 ** 32;

/** The parts of a daemon, joined: one tenant's workspace between the kernel and PostgreSQL. */
export class Engine {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #start: StartMessage;
  readonly #tell: (message: FromDaemon) => void;
  readonly #clock: Clock = systemClock();
  readonly #health = new Health();
  readonly #localLog: LocalLog;
  readonly #tenancy: Tenancy;
  readonly #device: Device;
  #workspace!: Workspace;
  #journal!: Journal;
  #loader!: Loader;
  #session!: Session;
  #dispatcher: Dispatcher | undefined;
  #replaying = false;
  #replayed = 0;
  #freeBytes = UNLIMITED_BYTES;
  #freeTimer: NodeJS.Timeout | undefined;
  #served: Promise<void> | undefined;

  constructor(config: Config, log: Logger, start: StartMessage, tell: (message: FromDaemon) => void) {
    this.#config = config;
    this.#log = log;
    this.#start = start;
    this.#tell = tell;
    this.#localLog = new LocalLog(mapSharedMemory(LOG_HANDLE, localLogBytes(config.dirtyLimitBytes)));
    this.#device = openDevice(DEVICE_HANDLE);
    this.#tenancy = new Tenancy(config, log, start, this.#health, (reason) => this.#journal?.lose(reason));
  }

  /** Takes the tenant, loads what every request needs, and carries out again what an earlier daemon left behind. */
  async prepare(): Promise<void> {
    const taken = await this.#tenancy.take();
    const config = this.#config;
    this.#workspace = new Workspace(
      taken.state,
      { maxFileBytes: config.maxFileBytes, maxBytes: config.quota.bytes, maxInodes: config.quota.inodes },
      { metadataBytes: config.cache.metadataBytes, chunkBytes: config.cache.chunkBytes },
    );
    this.#loader = new Loader(this.#workspace, this.#tenancy.store.loads);
    this.#journal = new Journal(
      {
        workspace: this.#workspace,
        commits: this.#tenancy.store.commits,
        hash: sha256,
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
    await this.#loadRoot();
    await this.#measureSpace();
    this.#makeSession();
    const { resume } = this.#start;
    if (resume !== undefined) {
      this.#makeDispatcher(resume);
      await this.#recover(taken.epoch);
    } else {
      await this.#dropOrphans();
      await this.#journal.sync();
    }
    this.#localLog.reset(taken.epoch);
  }

  /** The root, made when the workspace is new. */
  async #loadRoot(): Promise<void> {
    const workspace = this.#workspace;
    const [root] = await this.#tenancy.store.loads.inodes([ROOT_INO]);
    if (root === undefined) {
      workspace.setTime(this.#clock.now());
      workspace.makeRoot(this.#config.rootMode, this.#config.owner.uid, this.#config.owner.gid);
      workspace.mutated = false;
    } else await this.#loader.load({ kind: 'inodes', inos: [ROOT_INO] });
  }

  async #dropOrphans(): Promise<void> {
    const orphans = await this.#tenancy.store.loads.orphans();
    for (const { ino } of orphans) await this.#load({ kind: 'inodes', inos: [ino] });
    for (const { ino } of orphans) this.#workspace.remove(this.#workspace.inode(ino));
    this.#workspace.mutated = false;
    if (orphans.length > 0) this.#log.info('orphans-removed', { count: orphans.length });
  }

  /**
   * Goes on where the last daemon ended: its operations that weren't committed are carried out again from the log,
   * so nothing that the kernel has cached is wrong. Where there's no such log, the kernel forgets every name, and what
   * existed only there answers ESTALE.
   */
  async #recover(epoch: number): Promise<void> {
    const workspace = this.#workspace;
    for (const { ino } of await this.#tenancy.store.loads.orphans()) workspace.orphans.add(ino);
    const continues = this.#localLog.epoch() === epoch - 1;
    const records = continues ? this.#localLog.recover().filter(({ sequence }) => sequence > workspace.sequence) : [];
    this.#replaying = true;
    for (const { sequence, timeMs, request } of records) await this.#dispatcher?.replay(sequence, timeMs, request);
    this.#replaying = false;
    this.#replayed = records.length;
    await this.#journal.sync();
    if (continues) return;
    this.#log.warn('caches-dropped', { reason: 'the local log does not continue the last commit' });
    const message = Buffer.alloc(64);
    this.#session.notify(message, packIncEpoch(message));
  }

  #load(miss: Miss): Promise<void> {
    return this.#loader.load(miss);
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

  #makeDispatcher(negotiated: Negotiated): void {
    const journal = this.#journal;
    const { durability } = this.#config;
    this.#dispatcher = new Dispatcher({
      workspace: this.#workspace,
      services: {
        sync: () => journal.sync(),
        space: () => this.#space(),
        control: controlPort({
          config: this.#config,
          health: this.#health,
          journal,
          workspace: this.#workspace,
          tenancy: this.#tenancy,
          negotiated,
          startedMs: this.#clock.now(),
        }),
        closeWaits: durability !== 'relaxed',
      },
      clock: this.#clock,
      load: (miss) => this.#load(miss),
      mustWait: (bytes) => this.#tenancy.suspended() || journal.mustWait(bytes),
      room: () => (this.#tenancy.suspended() ? this.#tenancy.confirm() : journal.room()),
      accept: (sequence, timeMs, request, length) => {
        if (!this.#replaying) this.#localLog.append(sequence, timeMs, request, length);
        journal.changed();
      },
      strict: durability === 'strict',
      reply: (lo, hi, result) => this.#session.reply(lo, hi, result),
      replyBuffer: () => this.#session.replyBuffer,
      onDefect: (request, problem) => this.#log.error('request-failed', { request, problem }),
      isKilled,
      setxattrExtended: negotiated.flags.SETXATTR_EXT,
    });
  }

  /** Serves until the file system is unmounted. */
  async serve(): Promise<void> {
    this.#freeTimer = setInterval(() => {
      this.#measureSpace().catch((problem: unknown) => this.#log.warn('statfs-failed', { problem }));
    }, FREE_SPACE_MS).unref();
    if (this.#start.resume !== undefined) {
      const message = Buffer.alloc(64);
      const failed = this.#session.notify(message, packResend(message));
      if (failed < 0) this.#log.warn('resend-failed', { errno: -failed });
      this.#tell({ type: 'serving', replayed: this.#replayed });
    }
    this.#served = this.#session.run();
    await this.#served;
  }

  /** Commits everything and gives the tenant back. */
  async stop(): Promise<void> {
    clearInterval(this.#freeTimer);
    this.#session?.stop();
    try {
      await this.#journal?.stop();
    } finally {
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
