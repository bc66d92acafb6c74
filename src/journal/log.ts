/**
 * The local log: operations that were carried out and not yet committed, as the raw requests that asked for them.
 * It lives in memory that the supervisor holds, so it survives the daemon: a new daemon carries them out again,
 * in order and with their times, on top of the last commit, and arrives at the same state. A commit's end trims it.
 *
 * Layout: a header of 32 bytes (magic u32, pad, epoch f64, tail offset f64), then a ring of records that never
 * wrap: length u32 (of the whole record, 8-aligned; WRAP sends the reader to the start), bytes u32, sequence f64,
 * time f64, the request. A record becomes valid by its length, which is written last; sequences grow by one, so
 * whatever an earlier round left behind the newest record doesn't continue it.
 */
const MAGIC = 0x7a_62_6c_31;
const HEADER_BYTES = 32;
const RECORD_BYTES = 24;
const WRAP = 0xff_ff_ff_ff;

export interface LogRecord {
  readonly sequence: number;
  readonly timeMs: number;
  readonly request: Buffer;
}

export class LocalLog {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  /** Where the next record goes, and where the oldest that is needed starts; equal only when it's empty. */
  #head = HEADER_BYTES;
  #tail = HEADER_BYTES;
  /** Largest record that always fits when the log is empty. */
  readonly capacityBytes: number;

  constructor(memory: ArrayBuffer) {
    this.#bytes = Buffer.from(memory);
    this.#view = new DataView(memory);
    this.capacityBytes = memory.byteLength - HEADER_BYTES - 2 * RECORD_BYTES;
  }

  get usedBytes(): number {
    const used = this.#head - this.#tail;
    return used >= 0 ? used : used + this.#bytes.length - HEADER_BYTES;
  }

  /** Whether a request of this many bytes can be appended now. */
  hasRoom(requestBytes: number): boolean {
    const need = recordBytes(requestBytes) + RECORD_BYTES;
    if (this.#head < this.#tail) return this.#head + need < this.#tail;
    return this.#head + need <= this.#bytes.length || HEADER_BYTES + need < this.#tail;
  }

  /** Call it only where `hasRoom` said yes, with the next sequence. */
  append(sequence: number, timeMs: number, request: Buffer, length: number): void {
    const total = recordBytes(length);
    if (this.#head >= this.#tail && this.#head + total + RECORD_BYTES > this.#bytes.length) {
      this.#view.setUint32(this.#head, WRAP, true);
      this.#head = HEADER_BYTES;
    }
    const at = this.#head;
    const next = at + total;
    // What follows must not look like a record before this one counts.
    this.#view.setUint32(next, 0, true);
    this.#view.setUint32(at + 4, length, true);
    this.#view.setFloat64(at + 8, sequence, true);
    this.#view.setFloat64(at + 16, timeMs, true);
    request.copy(this.#bytes, at + RECORD_BYTES, 0, length);
    this.#view.setUint32(at, total, true);
    this.#head = next;
  }

  /** The place behind the newest record, for `trim`. */
  mark(): number {
    return this.#head;
  }

  /** Forgets what was appended before `mark` was taken. */
  trim(mark: number): void {
    this.#tail = mark;
    if (this.#tail === this.#head) {
      // Empty: start over, so that light use touches little memory.
      this.#view.setUint32(HEADER_BYTES, 0, true);
      this.#head = HEADER_BYTES;
      this.#tail = HEADER_BYTES;
    }
    this.#view.setFloat64(16, this.#tail, true);
  }

  /** Starts an empty log under this epoch. */
  reset(epoch: number): void {
    this.#head = HEADER_BYTES;
    this.#tail = HEADER_BYTES;
    this.#view.setUint32(HEADER_BYTES, 0, true);
    this.#view.setFloat64(16, HEADER_BYTES, true);
    this.#view.setFloat64(8, epoch, true);
    this.#view.setUint32(0, MAGIC, true);
  }

  /** The epoch under which the records were made; undefined where there is no log. */
  epoch(): number | undefined {
    return this.#view.getUint32(0, true) === MAGIC ? this.#view.getFloat64(8, true) : undefined;
  }

  /** The records that an earlier daemon left, oldest first. Stops at the first that isn't whole or in sequence. */
  recover(): LogRecord[] {
    const records: LogRecord[] = [];
    let at = this.#view.getFloat64(16, true);
    let expected: number | undefined;
    let wrapped = false;
    while (at >= HEADER_BYTES && at + RECORD_BYTES <= this.#bytes.length) {
      const total = this.#view.getUint32(at, true);
      if (total === WRAP) {
        if (wrapped) break;
        wrapped = true;
        at = HEADER_BYTES;
        continue;
      }
      const length = this.#view.getUint32(at + 4, true);
      const sequence = this.#view.getFloat64(at + 8, true);
      if (total !== recordBytes(length) || at + total > this.#bytes.length) break;
      if (expected !== undefined && sequence !== expected) break;
      const start = at + RECORD_BYTES;
      const request = Buffer.from(this.#bytes.subarray(start, start + length));
      records.push({ sequence, timeMs: this.#view.getFloat64(at + 16, true), request });
      expected = sequence + 1;
      at += total;
    }
    return records;
  }
}

function recordBytes(requestBytes: number): number {
  return (RECORD_BYTES + requestBytes + 7) & ~7;
}
