import { HANDLE_BYTES, HandleTotals } from './handles.ts';
import { Levels, type Overflow } from './levels.ts';
import { OFF, OPERATIONS } from './operations.ts';
import { Processes } from './processes.ts';
import { Draft, EVENT_MAX_BYTES } from './record.ts';
import { RING_BYTES, Ring } from './ring.ts';

/** Memory that the log needs of the supervisor. */
export const AUDIT_BYTES = HANDLE_BYTES + RING_BYTES;

/** Room that is left to those who can't wait. */
const RESERVE_BYTES = 64 * EVENT_MAX_BYTES;

export interface LogParts {
  readonly memory: ArrayBuffer;
  readonly tenant: number;
  readonly nowMs: number;
  /** Events wait to be stored. */
  readonly onRecord: (waiting: number) => void;
}

/**
 * The events of one tenant, from the moment that they happen. Recording one allocates nothing and waits for nothing:
 * whoever must wait for room asks before.
 */
export class AuditLog {
  readonly ring: Ring;
  readonly handles: HandleTotals;
  readonly processes = new Processes();
  /** What is being told of now; `record` takes it. */
  readonly draft = new Draft();
  levels = new Levels(OFF, []);
  overflow: Overflow = 'block';
  readonly #tenant: number;
  readonly #onRecord: (waiting: number) => void;
  readonly #gap = new Draft();
  /** Ordinals of events of which something is still being found out, in order. */
  readonly #unsettled: number[] = [];
  #watchers: (() => void)[] = [];
  #waiters: (() => void)[] = [];
  /** Events dropped since this daemon started. */
  drops = 0;

  constructor({ memory, tenant, nowMs, onRecord }: LogParts) {
    this.handles = new HandleTotals(memory, 0, nowMs);
    this.ring = new Ring(memory, HANDLE_BYTES);
    // Numbers that grow from one daemon to the next, and from one sidecar to the next, without anyone keeping count.
    this.ring.open(Math.floor(nowMs) * 1000);
    this.#tenant = tenant;
    this.#onRecord = onRecord;
  }

  /** Whether who would add to the log has to wait for `room`. */
  get full(): boolean {
    return this.overflow === 'block' && this.ring.room < RESERVE_BYTES;
  }

  /** Resolves when there may be room. */
  room(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Some events are stored now. */
  madeRoom(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  /**
   * Records the draft, and lets it be filled anew. Returns its ordinal; -1 when it had to be dropped. `sequence`: the
   * change that it tells of, or the last one before it.
   */
  record(sequence: number, request: number): number {
    const { ring } = this;
    // One gap ends only when there's room for more than a few.
    const drops = ring.dropped > 0 && ring.room < RESERVE_BYTES;
    if (ring.dropped > 0 && !drops) this.#recordGap(sequence, request);
    const ordinal = ring.count;
    if (drops || !ring.append(this.draft, this.#tenant, sequence, request)) {
      ring.dropped++;
      this.drops++;
      return -1;
    }
    this.#onRecord(ordinal + 1 - ring.stored);
    if (this.#watchers.length > 0) this.#wake();
    return ordinal;
  }

  /** Tells of those that were dropped. */
  #recordGap(sequence: number, request: number): void {
    const gap = this.#gap;
    gap.clear();
    gap.op = OPERATIONS.gap.code;
    gap.timeUs = this.draft.timeUs;
    gap.layer = this.draft.layer;
    gap.bytes = this.ring.dropped;
    if (this.ring.append(gap, this.#tenant, sequence, request)) this.ring.dropped = 0;
  }

  /** An event is neither stored nor streamed before `settle` says that all is known of it. */
  unsettle(ordinal: number): void {
    this.#unsettled.push(ordinal);
  }

  settle(ordinal: number, added: number, deleted: number): void {
    const at = this.#unsettled.indexOf(ordinal);
    if (at < 0) return;
    this.#unsettled.splice(at, 1);
    if (added >= 0) this.ring.patchLines(ordinal, added, deleted);
    this.#onRecord(this.ring.count - this.ring.stored);
    this.#wake();
  }

  /** All is known of the events below this ordinal. */
  get settled(): number {
    return this.#unsettled[0] ?? this.ring.count;
  }

  /** Resolves when something is recorded or settled. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.#watchers = this.#watchers.filter((watcher) => watcher !== wake);
        reject(signal.reason);
      };
      const wake = () => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      this.#watchers.push(wake);
    });
  }

  #wake(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const wake of watchers) wake();
  }
}
