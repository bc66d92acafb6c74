import { type Draft, decode, type Event, encode, eventAt, patchLines, timeAt } from './record.ts';

/**
 * The newest events, in memory that the supervisor holds: those that aren't stored yet, and as many of the others as
 * there's room for. It survives the daemon, so nothing recorded is lost with it. Events are counted from 0 by
 * *ordinals*; an event's number is its ordinal and a base.
 *
 * Layout: a header of doubles; for each of the last INDEXED ordinals where its event starts and ends; the events, each in
 * one piece, one behind the other, from the start again where the end is near. An event counts once the header's count
 * does: that is one aligned store, which a killed process has done or not.
 */
const MAGIC = 0x7a_61_75_31;
const SLOT = {
  magic: 0,
  /** Events so far. */
  count: 1,
  /** Those that are stored. */
  stored: 2,
  base: 3,
  /** Events dropped since the last one that tells of it. */
  dropped: 4,
  /** Twice, by turns: the last change of the tree, and the last request, whose event was recorded. */
  last: 5,
} as const;
const HEADER_BYTES = 128;
const INDEXED = 131_072;
/** Where the events start. */
const DATA_AT = HEADER_BYTES + INDEXED * 8;
/** While nothing waits, no more than this is used, so that light use touches little memory. */
const SOFT_BYTES = 2 * 1024 * 1024;

/** Room for events in memory of this size. */
export const RING_BYTES = DATA_AT + 32 * 1024 * 1024;

/** Bytes to store, in order, and what they hold. */
export interface Piece {
  readonly rows: readonly Uint8Array[];
  /** Ordinals, half-open. */
  readonly from: number;
  readonly to: number;
  readonly firstEvent: number;
  readonly lastEvent: number;
  /** Microseconds since 1970; as many may lie between as clocks are set. */
  readonly firstTimeUs: number;
}

export class Ring {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #header: Float64Array;
  readonly #index: Uint32Array;
  readonly #end: number;
  /** Where the next event goes. */
  #head = DATA_AT;
  /** The oldest ordinal whose event is still whole. */
  #oldest = 0;
  /** The first ordinal since events went on from the start. */
  #lap = 0;

  /** In the memory from `offset` on, which is a multiple of 8. */
  constructor(memory: ArrayBuffer, offset: number) {
    this.#bytes = Buffer.from(memory, offset);
    this.#view = new DataView(memory, offset);
    this.#header = new Float64Array(memory, offset, HEADER_BYTES / 8);
    this.#index = new Uint32Array(memory, offset + HEADER_BYTES, INDEXED * 2);
    this.#end = memory.byteLength - offset;
  }

  /** Goes on with what an earlier daemon left; starts empty, with events numbered from `base`, where there's nothing. */
  open(base: number): void {
    if (this.#header[SLOT.magic] !== MAGIC) {
      this.#header.fill(0);
      this.#header[SLOT.base] = base;
      this.#header[SLOT.magic] = MAGIC;
    }
    let first = this.count;
    if (first === 0) return;
    this.#head = this.#endOf(first - 1);
    while (
      first > 0 &&
      this.count - first < INDEXED &&
      (first === this.count || this.#startOf(first - 1) < this.#startOf(first))
    )
      first--;
    this.#lap = first;
    this.#oldest = Math.min(first, this.stored);
  }

  get count(): number {
    return this.#header[SLOT.count] ?? 0;
  }

  /** Every event with a lower ordinal is stored. */
  get stored(): number {
    return this.#header[SLOT.stored] ?? 0;
  }

  set stored(ordinal: number) {
    this.#header[SLOT.stored] = ordinal;
  }

  get dropped(): number {
    return this.#header[SLOT.dropped] ?? 0;
  }

  set dropped(count: number) {
    this.#header[SLOT.dropped] = count;
  }

  /** The oldest event that is still here. */
  get oldest(): number {
    return Math.max(this.#oldest, this.count - INDEXED);
  }

  /** Number of the last change of the tree whose event was recorded. */
  get sequence(): number {
    return this.#header[SLOT.last + (this.count & 1) * 2] ?? 0;
  }

  /** Number of the last request whose event was recorded. */
  get request(): number {
    return this.#header[SLOT.last + (this.count & 1) * 2 + 1] ?? 0;
  }

  /** Bytes that an event may have which is recorded now; less than there are, where none may. */
  get room(): number {
    const { count, stored } = this;
    if (count - stored >= INDEXED - 1) return 0;
    if (stored === count) return this.#end - DATA_AT;
    const pending = this.#startOf(stored);
    if (pending < this.#head) return Math.max(this.#end - this.#head, pending - DATA_AT - 1);
    return pending - this.#head - 1;
  }

  /**
   * Records an event. `sequence` is that of the change that it tells of, or of the last one before it; `request` the
   * kernel's number of the request. False when there's no room.
   */
  append(draft: Draft, tenant: number, sequence: number, request: number): boolean {
    const { size } = draft;
    const at = this.#place(size);
    if (at < 0) return false;
    const ordinal = this.count;
    encode(draft, tenant, (this.#header[SLOT.base] ?? 0) + ordinal, this.#bytes, this.#view, at);
    const entry = (ordinal % INDEXED) * 2;
    this.#index[entry] = at;
    this.#index[entry + 1] = at + size;
    this.#head = at + size;
    const last = SLOT.last + ((ordinal + 1) & 1) * 2;
    this.#header[last] = sequence;
    this.#header[last + 1] = request;
    this.#header[SLOT.count] = ordinal + 1;
    return true;
  }

  /** Where an event of this size goes; -1 for nowhere. What it overwrites is forgotten. */
  #place(size: number): number {
    const { count, stored } = this;
    if (count - stored >= INDEXED - 1) return -1;
    let at = this.#head;
    if (stored === count) {
      if (at + size > this.#end || at - DATA_AT > SOFT_BYTES) at = DATA_AT;
    } else {
      const pending = this.#startOf(stored);
      const wrapped = pending >= at;
      if (wrapped) {
        if (at + size >= pending) return -1;
      } else if (at + size > this.#end) {
        if (DATA_AT + size >= pending) return -1;
        at = DATA_AT;
      }
    }
    if (at < this.#head) {
      // What is older than the round that ends now lies anywhere.
      this.#oldest = Math.max(this.#oldest, this.#lap);
      this.#lap = count;
    }
    while (this.#oldest < count && this.#startOf(this.#oldest) < at + size && this.#endOf(this.#oldest) > at)
      this.#oldest++;
    return at;
  }

  #startOf(ordinal: number): number {
    return this.#index[(ordinal % INDEXED) * 2] ?? 0;
  }

  #endOf(ordinal: number): number {
    return this.#index[(ordinal % INDEXED) * 2 + 1] ?? 0;
  }

  /** An event that is still here. */
  event(ordinal: number): Event {
    return decode(this.#bytes, this.#view, this.#startOf(ordinal));
  }

  /** Fills in lines of an event that isn't stored yet. */
  patchLines(ordinal: number, added: number, deleted: number): void {
    patchLines(this.#view, this.#startOf(ordinal), added, deleted);
  }

  /** What is to be stored next: at most `most` events, none from ordinal `end` on. Undefined where there's nothing. */
  next(most: number, end: number): Piece | undefined {
    const from = this.stored;
    const to = Math.min(from + most, end, this.count);
    if (to <= from) return undefined;
    const rows: Uint8Array[] = [];
    let start = this.#startOf(from);
    for (let ordinal = from; ordinal < to; ordinal++) {
      const isLast = ordinal + 1 === to;
      if (!isLast && this.#startOf(ordinal + 1) === this.#endOf(ordinal)) continue;
      rows.push(this.#bytes.subarray(start, this.#endOf(ordinal)));
      if (!isLast) start = this.#startOf(ordinal + 1);
    }
    return {
      rows,
      from,
      to,
      firstEvent: eventAt(this.#view, this.#startOf(from)),
      lastEvent: eventAt(this.#view, this.#startOf(to - 1)),
      firstTimeUs: timeAt(this.#view, this.#startOf(from)),
    };
  }

  /** Days, counted from 1970, of the events from one ordinal to another. */
  days(from: number, to: number): Set<number> {
    const days = new Set<number>();
    for (let ordinal = from; ordinal < to; ordinal++)
      days.add(Math.floor(timeAt(this.#view, this.#startOf(ordinal)) / 86_400_000_000));
    return days;
  }

  /** The ordinal behind an event's number, as far as they are here. */
  ordinalAfter(event: number): number {
    return event - (this.#header[SLOT.base] ?? 0) + 1;
  }
}
