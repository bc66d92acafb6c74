/**
 * The local log: operations that were carried out and not yet committed, as the raw requests that asked for them, each
 * with its answer. It lives in memory that the supervisor holds, so it survives the daemon: a new daemon carries them
 * out again, in order and with their times, on top of the last commit, and arrives at the same state; and whoever still
 * waits for an answer gets the one that there was. A commit's end trims it.
 *
 * Layout: a header of 32 bytes (magic u32, pad, epoch f64, tail offset f64), then a ring of records that never
 * wrap: length u32 (of the whole record, 8-aligned; WRAP sends the reader to the start), bytes of the request u32,
 * sequence f64, time f64, the answer's bytes i32 (or, when it has none, its errno, negative or 0), pad, the request,
 * the answer. A record becomes valid by its length, which is written last; sequences grow by one, so whatever an
 * earlier round left behind the newest record doesn't continue it.
 */
const MAGIC = 0x7a_62_6c_32;
const HEADER_BYTES = 32;
const RECORD_BYTES = 32;
const WRAP = 0xff_ff_ff_ff;
/** More than any answer to a request that changes something. */
const ANSWER_BYTES = 512;

/** An operation that was carried out, for `append`. */
export interface Accepted {
  readonly sequence: number;
  readonly timeMs: number;
  /** The request is the first `requestBytes` of it. */
  readonly request: Buffer;
  readonly requestBytes: number;
  /** The answer starts at `answerAt` of it. */
  readonly answer: Buffer;
  readonly answerAt: number;
  /** Bytes of the answer, at most 512; without any, its errno as a negative number, or 0. */
  readonly result: number;
}

export interface LogRecord {
  readonly sequence: number;
  readonly timeMs: number;
  readonly request: Buffer;
  /** What was answered: bytes, or the errno as a negative number, or 0. */
  readonly answer: Buffer | number;
}

export class LocalLog {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  /** Where the next record goes, and where the oldest that is needed starts; equal only when it's empty. */
  #head = HEADER_BYTES;
  #tail = HEADER_BYTES;
  /** While an earlier daemon's records are needed, what is to be forgotten is noted here instead. */
  #held = false;
  #trimmedTo: number | undefined;
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

  /** Whether a request of this many bytes can be appended now, with its answer. */
  hasRoom(requestBytes: number): boolean {
    const need = recordBytes(requestBytes, ANSWER_BYTES) + RECORD_BYTES;
    if (this.#head < this.#tail) return this.#head + need < this.#tail;
    return this.#head + need <= this.#bytes.length || HEADER_BYTES + need < this.#tail;
  }

  /** Call it only where `hasRoom` said yes, with the next sequence. */
  append({ sequence, timeMs, request, requestBytes, answer, answerAt, result }: Accepted): void {
    if (result > ANSWER_BYTES) throw new Error(`an answer of ${result} bytes is too long for the local log`);
    const total = recordBytes(requestBytes, result);
    if (this.#head >= this.#tail && this.#head + total + RECORD_BYTES > this.#bytes.length) {
      // A length of an earlier round must not stand where the reader will go.
      this.#view.setUint32(HEADER_BYTES, 0, true);
      this.#view.setUint32(this.#head, WRAP, true);
      this.#head = HEADER_BYTES;
    }
    const at = this.#head;
    const next = at + total;
    // What follows must not look like a record before this one counts.
    this.#view.setUint32(next, 0, true);
    this.#view.setUint32(at + 4, requestBytes, true);
    this.#view.setFloat64(at + 8, sequence, true);
    this.#view.setFloat64(at + 16, timeMs, true);
    this.#view.setInt32(at + 24, result, true);
    const requestAt = at + RECORD_BYTES;
    request.copy(this.#bytes, requestAt, 0, requestBytes);
    if (result > 0) answer.copy(this.#bytes, requestAt + requestBytes, answerAt, answerAt + result);
    this.#view.setUint32(at, total, true);
    this.#head = next;
  }

  /** The place behind the newest record, for `trim`. */
  mark(): number {
    return this.#head;
  }

  /** Forgets what was appended before `mark` was taken, once nothing of it is held. */
  trim(mark: number): void {
    if (this.#held) {
      this.#trimmedTo = mark;
      return;
    }
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

  /** Undefined where there is no log. */
  epoch(): number | undefined {
    return this.#view.getUint32(0, true) === MAGIC ? this.#view.getFloat64(8, true) : undefined;
  }

  /**
   * Goes on, under `epoch`, with the log that an earlier daemon left; the epochs from `since` on were all ours. False
   * when it's from before: then there may be commits that the log knows nothing of.
   */
  adopt({ epoch, since }: { readonly epoch: number; readonly since: number }): boolean {
    const left = this.epoch();
    if (left === undefined || left < since) return false;
    this.#view.setFloat64(8, epoch, true);
    return true;
  }

  /** Nothing is forgotten from now on until `release`, so that a later daemon finds what this one did. */
  hold(): void {
    this.#held = true;
  }

  /** An earlier daemon's records aren't needed any more, but for what isn't committed. */
  release(): void {
    this.#held = false;
    if (this.#trimmedTo !== undefined) this.trim(this.#trimmedTo);
    this.#trimmedTo = undefined;
  }

  /** Finds the records that there are, oldest first. Stops at the first that isn't whole or in sequence. */
  recover(): LogRecord[] {
    const records: LogRecord[] = [];
    let at = this.#view.getFloat64(16, true);
    let expected: number | undefined;
    let wrapped = false;
    this.#tail = at;
    this.#head = at;
    while (at >= HEADER_BYTES && at + RECORD_BYTES <= this.#bytes.length) {
      const total = this.#view.getUint32(at, true);
      if (total === WRAP) {
        if (wrapped) break;
        wrapped = true;
        at = HEADER_BYTES;
        continue;
      }
      const record = this.#recordAt(at, total);
      if (record === undefined || (expected !== undefined && record.sequence !== expected)) break;
      records.push(record);
      expected = record.sequence + 1;
      at += total;
      this.#head = at;
    }
    return records;
  }

  #recordAt(at: number, total: number): LogRecord | undefined {
    const requestBytes = this.#view.getUint32(at + 4, true);
    const result = this.#view.getInt32(at + 24, true);
    if (total !== recordBytes(requestBytes, result) || at + total > this.#bytes.length) return undefined;
    const requestAt = at + RECORD_BYTES;
    const answerAt = requestAt + requestBytes;
    return {
      sequence: this.#view.getFloat64(at + 8, true),
      timeMs: this.#view.getFloat64(at + 16, true),
      request: Buffer.from(this.#bytes.subarray(requestAt, answerAt)),
      answer: result > 0 ? Buffer.from(this.#bytes.subarray(answerAt, answerAt + result)) : result,
    };
  }
}

function recordBytes(requestBytes: number, result: number): number {
  return (RECORD_BYTES + requestBytes + Math.max(0, result) + 7) & ~7;
}
