import { FsError } from '../errno.ts';
import { Pause } from '../pause.ts';
import type { Slot } from '../vfs/content.ts';
import { type SegmentPlan, segmentImage, settleChanges, slotsToStore, type Taken, takeChanges } from '../vfs/record.ts';
import { type Batch, type Commits, type Seal, StoreError } from '../vfs/store.ts';
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
  readonly localLog: LocalLog | undefined;
  /** Resolves when all loads that run now have ended. */
  readonly loadsSettled: () => Promise<void>;
  readonly onState: (state: JournalState, reason: string) => void;
}

/** A layer that is to be frozen by the next commit. */
interface Sealing {
  readonly make: () => Seal;
  readonly resolve: () => void;
  readonly reject: (problem: FsError) => void;
}

/** Something that is to be done while no commit is under way. */
interface Between {
  /** Never rejects. */
  readonly run: () => Promise<void>;
  readonly reject: (problem: FsError) => void;
}

interface Waiter {
  readonly sequence: number;
  readonly resolve: () => void;
  readonly reject: (problem: FsError) => void;
}

/** Inodes that start a commit before the interval is over, so that no batch gets large enough to be felt. */
const EARLY_INODES = 4000;
/** Chunk bytes stored at a time; two such groups are on their way at once. */
const GROUP_BYTES = 4 * 1024 * 1024;
/** A commit that takes longer is told of. */
const LATE_MS = 5000;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 2000;

/**
 * The changes that are accepted and not yet committed. One commit runs at a time, while the next one's changes
 * gather; each takes everything there is, so what PostgreSQL holds is always the result of a prefix of the operations.
 */
export class Journal {
  readonly #parts: JournalParts;
  readonly #options: JournalOptions;
  #intervalMs: number;
  readonly #earlyBytes: number;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #inFlightBytes = 0;
  #committed: number;
  #waiters: Waiter[] = [];
  #roomWaiters: Waiter[] = [];
  #sealings: Sealing[] = [];
  #betweens: Between[] = [];
  #state: JournalState = 'ok';
  #failure: FsError | undefined;
  #stopping = false;
  readonly #retry = new Pause();

  constructor(parts: JournalParts, options: JournalOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#intervalMs = options.intervalMs;
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
    this.#timer = setTimeout(() => this.#start(), this.#intervalMs);
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

  /**
   * Freezes the working layer with every change made so far. `make` is called at the cut: what is changed before it is
   * in the frozen layer, and nothing that is changed after it.
   *
   * @throws as `sync`; then the layer stays what it was
   */
  seal(make: () => Seal): Promise<void> {
    if (this.#state === 'lost') return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#sealings.push({ make, resolve, reject });
      this.#start();
    });
  }

  /**
   * Runs `work` while no commit is under way; those that are due wait until it's over.
   *
   * @throws what `work` throws; {FsError} EROFS when another epoch holds the tenant
   */
  between<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state === 'lost') return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#betweens.push({ run: () => work().then(resolve, reject), reject });
      this.#start();
    });
  }

  /** Resolves once no commit is under way, and none is waited for. */
  async quiet(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  get state(): JournalState {
    return this.#state;
  }

  /** Bytes of content that wait for their commit. */
  get dirtyBytes(): number {
    return this.#parts.workspace.dirtyBytes + this.#inFlightBytes;
  }

  /** Changes `intervalMs`, for the changes that come. */
  setInterval(intervalMs: number): void {
    this.#intervalMs = intervalMs;
  }

  /** Commits what is left. @throws as `sync` */
  async stop(): Promise<void> {
    try {
      await this.sync();
    } finally {
      this.#stopping = true;
      clearTimeout(this.#timer);
      this.#retry.end();
      await this.#running;
    }
  }

  /** Ends all commits for good, because the lease is gone. */
  lose(reason: string): void {
    if (this.#state === 'lost') return;
    this.#failure = new FsError('EROFS', reason);
    this.#setState('lost', reason);
    this.#rejectAll(this.#failure);
    for (const { reject } of this.#betweens.splice(0)) reject(this.#failure);
    this.#retry.end();
  }

  #hasChanges(): boolean {
    return this.#parts.workspace.changed.size > 0;
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#running !== undefined || this.#state === 'lost') return;
    const between = this.#betweens.shift();
    this.#running = (between === undefined ? this.#run() : between.run()).finally(() => {
      this.#running = undefined;
      if (this.#state === 'lost' || this.#stopping) return;
      if (this.#waits) this.#start();
      else if (this.#hasChanges()) this.changed();
    });
  }

  get #waits(): boolean {
    return [this.#waiters, this.#roomWaiters, this.#sealings, this.#betweens].some(({ length }) => length > 0);
  }

  async #run(): Promise<void> {
    const { workspace, localLog } = this.#parts;
    const mark = localLog?.mark();
    const sealing = this.#sealings.shift();
    const taken = takeChanges(workspace, sealing?.make());
    this.#inFlightBytes = taken.bytes;
    const late = setTimeout(() => {
      if (this.#state === 'ok') this.#setState('degraded', `a commit has not ended for ${LATE_MS / 1000} s`);
    }, LATE_MS);
    const done = await this.#writeUntilDone(taken, sealing);
    clearTimeout(late);
    if (!done) return;
    await this.#parts.loadsSettled();
    settleChanges(workspace, taken);
    this.#inFlightBytes = 0;
    this.#committed = taken.batch.sequence;
    this.#resolveUpTo(taken.batch.sequence);
    sealing?.resolve();
    // Those who waited for this commit are answered in the turn that follows. Until then the log is the only place
    // that knows of it that they have been served.
    await new Promise(setImmediate);
    if (mark !== undefined) localLog?.trim(mark);
    this.#resolveRoom();
  }

  /** Tries until it's committed; false when it never will be. */
  async #writeUntilDone(first: Taken, sealing: Sealing | undefined): Promise<boolean> {
    let taken = first;
    let retryMs = FIRST_RETRY_MS;
    let isKnown = true;
    for (;;) {
      try {
        await this.#write(taken);
        // It was given up meanwhile: that it was the last to get through changes nothing.
        if (this.#lost()) return false;
        this.#failure = undefined;
        this.#setState('ok', '');
        return true;
      } catch (problem) {
        if (this.#state === 'lost') return false;
        isKnown &&= !isUnavailable(problem);
        this.#failed(problem);
        if (this.#lost() || this.#stopping) {
          sealing?.reject(this.#failure ?? new FsError('EIO', 'stopped before it was committed'));
          return false;
        }
        // Nothing may have changed for a command that fails. One that may have been carried out goes on.
        if (isKnown && taken.batch.seal !== undefined && this.#failure !== undefined) {
          this.#parts.workspace.place = taken.batch.place;
          taken = { ...taken, batch: { ...taken.batch, seal: undefined } };
          sealing?.reject(this.#failure);
        }
      }
      await this.#retry.for(retryMs);
      if (this.#lost()) {
        if (this.#failure !== undefined) sealing?.reject(this.#failure);
        return false;
      }
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  }

  #lost(): boolean {
    return this.#state === 'lost';
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
    let group: Slot[] = [];
    let groupBytes = 0;
    const send = async () => {
      // Two groups at most are on their way, so that their copies stay few.
      if (uploads.length > 1) await uploads[uploads.length - 2];
      const upload = this.#storeGroup(group);
      upload.catch(() => {}); // seen below, by Promise.all
      uploads.push(upload);
      group = [];
      groupBytes = 0;
    };
    for (const slot of slotsToStore(plans)) {
      group.push(slot);
      groupBytes += slot.length;
      if (groupBytes >= GROUP_BYTES) await send();
    }
    if (group.length > 0) await send();
    await Promise.all(uploads);
  }

  async #storeGroup(slots: readonly Slot[]): Promise<void> {
    const chunks = slots.flatMap(({ data, length }) => data?.subarray(0, length) ?? []);
    const hashes = await this.#parts.commits.putChunks(chunks);
    for (const [index, slot] of slots.entries()) slot.hash = hashes[index] ?? '';
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
  }

  #resolveRoom(): void {
    const forRoom = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const waiter of forRoom) waiter.resolve();
  }

  #rejectAll(problem: FsError): void {
    const all = [...this.#waiters, ...this.#roomWaiters, ...this.#sealings];
    this.#waiters = [];
    this.#roomWaiters = [];
    this.#sealings = [];
    for (const waiter of all) waiter.reject(problem);
  }
}

function isUnavailable(problem: unknown): boolean {
  return problem instanceof StoreError && problem.failure === 'unavailable';
}
