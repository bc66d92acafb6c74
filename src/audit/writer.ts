import { Pause } from '../pause.ts';
import { StoreError } from '../vfs/store.ts';
import type { AuditLog } from './log.ts';
import type { AuditStore } from './port.ts';
import type { Piece } from './ring.ts';

/** How storing goes. */
export type WriterState = 'ok' | 'degraded';

export interface WriterParts {
  readonly log: AuditLog;
  readonly store: AuditStore;
  readonly now: () => number;
  readonly onState: (state: WriterState, reason: string) => void;
  /** Tables of days that nobody keeps are gone, or couldn't be dropped now. */
  readonly onRetained: (tables: readonly string[], problem: unknown) => void;
}

export interface WriterOptions {
  /** Events that are stored without waiting for the interval. */
  readonly batchSize: number;
  readonly retentionDays: number;
}

/** An event is stored no later than this after it was recorded, and the time that storing takes. */
const INTERVAL_MS = 400;
/** Events in one transaction. */
const MOST_EVENTS = 20_000;
const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 2000;
const DAY_MS = 86_400_000;
/** Days for which there are tables before they begin. */
const DAYS_AHEAD = 2;
/** How often it's seen to that there are, and that old ones go. */
const UPKEEP_MS = 3600_000;

/** Stores what is recorded, in order: one batch at a time, each in one transaction. */
export class AuditWriter {
  readonly #parts: WriterParts;
  options: WriterOptions;
  #timer: NodeJS.Timeout | undefined;
  #upkeep: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #days = new Set<number>();
  #retained = '';
  #state: WriterState = 'ok';
  #waiters: { readonly ordinal: number; readonly resolve: () => void; readonly reject: (problem: unknown) => void }[] =
    [];
  #stopping = false;
  /** It isn't known whether the batch before this one was stored. */
  #unsure: boolean;
  readonly #retry = new Pause();

  /** `unsure`: an earlier daemon left events behind, some of which may be stored. */
  constructor(parts: WriterParts, options: WriterOptions, unsure: boolean) {
    this.#parts = parts;
    this.options = options;
    this.#unsure = unsure;
  }

  /** Makes the tables of today and the days to come, and goes on doing so. Storage may be away. */
  start(): void {
    this.#upkeep = setInterval(() => this.#start(), UPKEEP_MS).unref();
    this.#start();
  }

  /** So many events wait. Cheap: sees to it that they're stored in time. */
  recorded(waiting: number): void {
    if (this.#running !== undefined) return;
    if (waiting >= this.options.batchSize) this.#start();
    else if (this.#timer === undefined) this.#timer = setTimeout(() => this.#start(), INTERVAL_MS);
  }

  /**
   * Resolves when every event recorded before the call is stored; waits while the database is away.
   *
   * @throws {StoreError} when it refuses them, or the signal's reason
   */
  flush(signal?: AbortSignal): Promise<void> {
    const { ring } = this.#parts.log;
    const ordinal = ring.count;
    if (ring.stored >= ordinal) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiters.push({ ordinal, resolve, reject });
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.#start();
    });
  }

  /** Stores what is left. @throws {StoreError} when that can't be done */
  async stop(): Promise<void> {
    clearInterval(this.#upkeep);
    try {
      await this.flush();
    } finally {
      this.#stopping = true;
      clearTimeout(this.#timer);
      this.#retry.end();
      await this.#running;
    }
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      const { ring } = this.#parts.log;
      const waiting = ring.count - ring.stored;
      if (waiting > 0 && !this.#stopping) this.recorded(waiting);
    });
  }

  async #run(): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!this.#stopping) {
      try {
        await this.#keepDays();
        if (!(await this.#storeNext())) return;
        retryMs = FIRST_RETRY_MS;
      } catch (problem) {
        this.#unsure = true;
        this.#failed(problem, retryMs > FIRST_RETRY_MS);
        await this.#retry.for(retryMs);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  }

  /** Stores one batch; false when none was due. */
  async #storeNext(): Promise<boolean> {
    const { log, store } = this.#parts;
    const { ring } = log;
    if (this.#unsure) await this.#skipStored();
    const piece = ring.next(MOST_EVENTS, log.settled);
    if (piece === undefined) return false;
    const days = [...ring.days(piece.from, piece.to)].filter((day) => !this.#days.has(day));
    if (days.length > 0) await this.#makeDays(days);
    await store.append(piece.rows);
    this.#setState('ok', '');
    this.#stored(piece.to);
    // What came meanwhile may wait for its interval, unless it's much or someone waits for it.
    return this.#waiters.length > 0 || ring.count - ring.stored >= this.options.batchSize;
  }

  /** Goes on behind what is stored, where that isn't known. A batch is stored as a whole. */
  async #skipStored(): Promise<void> {
    const { ring } = this.#parts.log;
    const all: Piece | undefined = ring.next(Number.POSITIVE_INFINITY, ring.count);
    if (all !== undefined) {
      const last = await this.#parts.store.lastStored(all.firstTimeUs, all.firstEvent, all.lastEvent);
      if (last !== undefined) this.#stored(ring.ordinalAfter(last));
    }
    this.#unsure = false;
  }

  #stored(ordinal: number): void {
    const { log } = this.#parts;
    log.ring.stored = ordinal;
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => waiter.ordinal > ordinal);
    for (const waiter of waiters) if (waiter.ordinal <= ordinal) waiter.resolve();
    log.madeRoom();
  }

  async #keepDays(): Promise<void> {
    const { store, now, onRetained } = this.#parts;
    const today = Math.floor(now() / DAY_MS);
    const kept = `${today} ${this.options.retentionDays}`;
    if (this.#retained === kept) return;
    await this.#makeDays(Array.from({ length: DAYS_AHEAD + 1 }, (_, index) => today + index));
    this.#retained = kept;
    try {
      const dropped = await store.retain(this.options.retentionDays, today);
      if (dropped.length === 0) return;
      this.#days = new Set();
      onRetained(dropped, undefined);
    } catch (problem) {
      // Someone may be reading them. They go tomorrow.
      onRetained([], problem);
    }
  }

  async #makeDays(days: readonly number[]): Promise<void> {
    await this.#parts.store.makeDays(days);
    for (const day of days) this.#days.add(day);
  }

  /** What is refused once may be a batch that was given up and carried out after all: the next try finds it stored. */
  #failed(problem: unknown, again: boolean): void {
    const reason = problem instanceof Error ? problem.message : String(problem);
    this.#setState('degraded', reason);
    if (!again || (problem instanceof StoreError && problem.failure === 'unavailable')) return;
    for (const { reject } of this.#waiters.splice(0)) reject(problem);
  }

  #setState(state: WriterState, reason: string): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#parts.onState(state, reason);
  }
}
