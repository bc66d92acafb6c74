import { FsError } from '../errno.ts';
import { type SegmentPlan, segmentImage, settleChanges, slotsToStore, type Taken, takeChanges } from '../vfs/record.ts';
import { type Batch, type ByteString, type Commits, type NewChunk, StoreError } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { LocalLog } from './log.ts';

export interface JournalOptions {
  /** Changes are committed no later than this after they were made. */
  readonly intervalMs: number;
  /** Content that may wait for its commit; beyond it, writers wait. */
  readonly dirtyLimitBytes: number;
}

/** How storing goes: as it should, not at present, or never again (another epoch holds the tenant). */
export type JournalState = 'ok' | 'degraded' | 'lost';

export interface JournalParts {
  readonly workspace: Workspace;
  readonly commits: Commits;
  readonly hash: (data: Uint8Array) => ByteString;
  readonly localLog: LocalLog | undefined;
  /** Resolves when all loads that run now have ended. */
  readonly loadsSettled: () => Promise<void>;
  readonly onState: (state: JournalState, reason: string) => void;
}

interface Waiter {
  readonly sequence: number;
  readonly resolve: () => void;
  readonly reject: (problem: FsError) => void;
}

/** Inodes that start a commit before the interval is over, so that no batch gets large enough to be felt. */
const EARLY_INODES = 4000;
/** Chunk bytes hashed and sent at a time; two such groups are on their way at once. */
const GROUP_BYTES = 4 * 1024 * 1024;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 2000;

/**
 * The changes that are accepted and not yet committed. One commit runs at a time, while the next one's changes
 * gather; each takes everything there is, so what PostgreSQL holds is always the result of a prefix of the operations.
 */
export class Journal {
  readonly #parts: JournalParts;
  readonly #options: JournalOptions;
  readonly #earlyBytes: number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #inFlightBytes = 0;
  #committed: number;
  #waiters: Waiter[] = [];
  #roomWaiters: Waiter[] = [];
  #state: JournalState = 'ok';
  #failure: FsError | undefined;
  #stopping = false;
  #wakeRetry: (() => void) | undefined;

  constructor(parts: JournalParts, options: JournalOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#earlyBytes = Math.floor(options.dirtyLimitBytes / 4);
    this.#committed = parts.workspace.sequence;
  }

  /** To be called after each operation that changed something. Cheap: sees to it that a commit will follow. */
  changed(): void {
    const { workspace, localLog } = this.#parts;
    if (
      workspace.dirtyBytes >= this.#earlyBytes ||
      workspace.changed.size >= EARLY_INODES ||
      (localLog !== undefined && localLog.usedBytes * 4 >= localLog.capacityBytes)
    )
      this.#start();
    else if (this.#timer === undefined && this.#running === undefined) this.#arm();
  }

  #arm(): void {
    this.#timer = setTimeout(() => this.#start(), this.#options.intervalMs);
  }

  /**
   * Whether a change that takes this many bytes of request must wait for a commit first.
   *
   * @throws {FsError} EROFS when another epoch holds the tenant; ENOSPC or EIO when it would have to wait for
   *   storage that refuses what it's given.
   */
  mustWait(requestBytes: number): boolean {
    if (this.#state === 'lost' && this.#failure !== undefined) throw this.#failure;
    const { workspace, localLog } = this.#parts;
    const full =
      workspace.dirtyBytes + this.#inFlightBytes >= this.#options.dirtyLimitBytes ||
      (localLog !== undefined && !localLog.hasRoom(requestBytes));
    if (!full) return false;
    if (this.#failure !== undefined) throw this.#failure;
    return true;
  }

  /** Resolves when a commit has made room. @throws as `mustWait` */
  room(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#roomWaiters.push({ sequence: 0, resolve, reject });
      this.#start();
    });
  }

  /**
   * Resolves when every change made before this call is committed.
   * A caller that arrives during a commit waits for the next one, if it has anything to wait for.
   *
   * @throws {FsError} EROFS when another epoch holds the tenant; ENOSPC when PostgreSQL has no space; EIO when it
   *   refused the batch. The changes are kept and tried again all the same, save after EROFS.
   */
  sync(): Promise<void> {
    if (this.#state === 'lost') return Promise.reject(this.#failure);
    if (this.#committed >= this.#parts.workspace.sequence && this.#running === undefined && !this.#hasChanges())
      return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ sequence: this.#parts.workspace.sequence, resolve, reject });
      this.#start();
    });
  }

  get state(): JournalState {
    return this.#state;
  }

  /** Bytes of content that wait for their commit. */
  get dirtyBytes(): number {
    return this.#parts.workspace.dirtyBytes + this.#inFlightBytes;
  }

  /** Commits what is left. @throws as `sync` */
  async stop(): Promise<void> {
    try {
      await this.sync();
    } finally {
      this.#stopping = true;
      clearTimeout(this.#timer);
      this.#wakeRetry?.();
      await this.#running;
    }
  }

  /** Ends all commits for good, because the lease is gone. */
  lose(reason: string): void {
    if (this.#state === 'lost') return;
    this.#failure = new FsError('EROFS', reason);
    this.#setState('lost', reason);
    this.#rejectAll(this.#failure);
    this.#wakeRetry?.();
  }

  #hasChanges(): boolean {
    return this.#parts.workspace.changed.size > 0;
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#running !== undefined || this.#state === 'lost') return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      if (this.#state === 'lost' || this.#stopping) return;
      if (this.#waiters.length > 0 || this.#roomWaiters.length > 0) this.#start();
      else if (this.#hasChanges()) this.changed();
    });
  }

  async #run(): Promise<void> {
    const { workspace, localLog } = this.#parts;
    const mark = localLog?.mark();
    const taken = takeChanges(workspace);
    this.#inFlightBytes = taken.bytes;
    const done = await this.#writeUntilDone(taken);
    if (!done) return;
    await this.#parts.loadsSettled();
    settleChanges(workspace, taken);
    this.#inFlightBytes = 0;
    this.#committed = taken.batch.sequence;
    if (mark !== undefined) localLog?.trim(mark);
    this.#resolveUpTo(taken.batch.sequence);
  }

  /** Tries until it's committed; false when it never will be. */
  async #writeUntilDone(taken: Taken): Promise<boolean> {
    let retryMs = FIRST_RETRY_MS;
    for (;;) {
      try {
        await this.#write(taken);
        this.#failure = undefined;
        this.#setState('ok', '');
        return true;
      } catch (problem) {
        if (this.#state === 'lost') return false;
        this.#failed(problem);
        if (this.#lost() || this.#stopping) return false;
      }
      await this.#pause(retryMs);
      if (this.#lost()) return false;
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  }

  #lost(): boolean {
    return this.#state === 'lost';
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#wakeRetry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #failed(problem: unknown): void {
    const failure = problem instanceof StoreError ? problem.failure : 'refused';
    const reason = problem instanceof Error ? problem.message : String(problem);
    if (failure === 'lease-lost') {
      this.lose(reason);
      return;
    }
    this.#setState('degraded', reason);
    if (failure === 'unavailable') return;
    this.#failure = new FsError(failure === 'full' ? 'ENOSPC' : 'EIO', reason, { cause: problem });
    this.#rejectAll(this.#failure);
  }

  async #write(taken: Taken): Promise<void> {
    await this.#storeChunks(taken.plans);
    const batch: Batch = { ...taken.batch, segments: taken.plans.map(segmentImage) };
    await this.#parts.commits.commit(batch);
  }

  async #storeChunks(plans: readonly SegmentPlan[]): Promise<void> {
    const uploads: Promise<void>[] = [];
    let group = new Map<ByteString, NewChunk>();
    let groupBytes = 0;
    const send = async () => {
      // Two groups at most are on their way; awaiting also lets requests be served between two groups of hashing.
      if (uploads.length > 1) await uploads[uploads.length - 2];
      const upload = this.#parts.commits.putChunks([...group.values()]);
      upload.catch(() => {}); // seen below, by Promise.all
      uploads.push(upload);
      group = new Map();
      groupBytes = 0;
    };
    for (const slot of slotsToStore(plans)) {
      if (slot.data === undefined) continue;
      const data = slot.data.subarray(0, slot.length);
      if (slot.hash === '') slot.hash = this.#parts.hash(data);
      group.set(slot.hash, { hash: slot.hash, data });
      groupBytes += data.length;
      if (groupBytes >= GROUP_BYTES) await send();
    }
    if (group.size > 0) await send();
    await Promise.all(uploads);
  }

  #setState(state: JournalState, reason: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#parts.onState(state, reason);
  }

  #resolveUpTo(sequence: number): void {
    const waiting = this.#waiters;
    this.#waiters = waiting.filter((waiter) => waiter.sequence > sequence);
    for (const waiter of waiting) if (waiter.sequence <= sequence) waiter.resolve();
    const forRoom = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const waiter of forRoom) waiter.resolve();
  }

  #rejectAll(problem: FsError): void {
    const all = [...this.#waiters, ...this.#roomWaiters];
    this.#waiters = [];
    this.#roomWaiters = [];
    for (const waiter of all) waiter.reject(problem);
  }
}
