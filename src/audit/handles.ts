import { COMM_MAX_BYTES, type Draft, type Text } from './record.ts';

/**
 * Open handles with what was read and written through them, in memory that the supervisor holds. A handle's number is
 * given to the kernel, which sends it with every read, write and close: its low 16 bits are its slot, the others tell
 * apart who has had that slot.
 *
 * A slot: the handle's number (0 while it's free), bytes read, bytes written, as doubles; uid, gid, pid, length of the
 * command's name; the name. Who opened a file is who closes it: when the kernel says that it was closed, the process
 * may be gone.
 */
const SLOTS = 65_536;
const SLOT_BYTES = 56;
const DOUBLES = SLOT_BYTES / 8;
const WORDS = SLOT_BYTES / 4;
const COMM_AT = 40;

/** What the paths of open handles may take; other handles go without. */
const MOST_PATH_BYTES = 8 * 1024 * 1024;

/** Memory for as many handles as there can be; others have no totals. */
export const HANDLE_BYTES = SLOTS * SLOT_BYTES;

export class HandleTotals {
  readonly #doubles: Float64Array;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;
  /** Free slots that have been used, the last one freed on top. */
  readonly #free: number[] = [];
  /** Slots from this one on have never been used. */
  #unused = 0;
  #generation: number;
  /** Of this daemon's handles, the paths by which they were opened. */
  readonly #paths = new Map<number, Buffer>();
  #pathBytes = 0;

  constructor(memory: ArrayBuffer, offset: number, nowMs: number) {
    this.#doubles = new Float64Array(memory, offset, SLOTS * DOUBLES);
    this.#words = new Uint32Array(memory, offset, SLOTS * WORDS);
    this.#bytes = new Uint8Array(memory, offset, SLOTS * SLOT_BYTES);
    // Above those of an earlier daemon.
    this.#generation = Math.floor(nowMs / 1000);
    for (let slot = SLOTS - 1; slot >= 0; slot--) {
      if (this.#doubles[slot * DOUBLES] === 0) {
        if (this.#unused > 0) this.#free.push(slot);
      } else if (this.#unused === 0) this.#unused = slot + 1;
    }
  }

  /** A number for a handle that `draft` tells of opening; 0 when there are too many. */
  open(draft: Draft): number {
    const slot = this.#free.pop() ?? (this.#unused < SLOTS ? this.#unused++ : -1);
    if (slot < 0) return 0;
    const number = ++this.#generation * SLOTS + slot;
    const word = slot * WORDS;
    this.#doubles[slot * DOUBLES + 1] = 0;
    this.#doubles[slot * DOUBLES + 2] = 0;
    this.#words[word + 6] = draft.uid;
    this.#words[word + 7] = draft.gid;
    this.#words[word + 8] = draft.pid;
    this.#words[word + 9] = draft.commBytes;
    for (let index = 0; index < COMM_MAX_BYTES; index++)
      this.#bytes[slot * SLOT_BYTES + COMM_AT + index] = draft.comm[index] ?? 0;
    this.#doubles[slot * DOUBLES] = number;
    this.#keepPath(number, draft.path);
    return number;
  }

  #keepPath(number: number, path: Text): void {
    if (!path.known || this.#pathBytes + path.length > MOST_PATH_BYTES) return;
    this.#pathBytes += path.length;
    this.#paths.set(number, Buffer.from(path.bytes.subarray(path.start)));
  }

  /** The path by which a handle was opened, as far as it's known. */
  path(number: number): Buffer | undefined {
    return this.#paths.get(number);
  }

  /** The slot of a handle; -1 of one that has none. */
  #slotOf(number: number): number {
    const slot = number % SLOTS;
    return number > 0 && this.#doubles[slot * DOUBLES] === number ? slot : -1;
  }

  read(number: number, bytes: number): void {
    const slot = this.#slotOf(number);
    if (slot >= 0) this.#doubles[slot * DOUBLES + 1]! += bytes;
  }

  wrote(number: number, bytes: number): void {
    const slot = this.#slotOf(number);
    if (slot >= 0) this.#doubles[slot * DOUBLES + 2]! += bytes;
  }

  /** Tells in a draft who opened a handle. False of one that has no slot. */
  describe(number: number, draft: Draft): boolean {
    const slot = this.#slotOf(number);
    if (slot < 0) return false;
    const word = slot * WORDS;
    draft.uid = this.#words[word + 6] ?? 0;
    draft.gid = this.#words[word + 7] ?? 0;
    draft.pid = this.#words[word + 8] ?? 0;
    draft.commBytes = this.#words[word + 9] ?? 0;
    for (let index = 0; index < draft.commBytes; index++)
      draft.comm[index] = this.#bytes[slot * SLOT_BYTES + COMM_AT + index] ?? 0;
    return true;
  }

  bytesRead(number: number): number {
    const slot = this.#slotOf(number);
    return slot < 0 ? -1 : (this.#doubles[slot * DOUBLES + 1] ?? 0);
  }

  bytesWritten(number: number): number {
    const slot = this.#slotOf(number);
    return slot < 0 ? -1 : (this.#doubles[slot * DOUBLES + 2] ?? 0);
  }

  close(number: number): void {
    const slot = this.#slotOf(number);
    if (slot < 0) return;
    this.#doubles[slot * DOUBLES] = 0;
    this.#free.push(slot);
    this.#pathBytes -= this.#paths.get(number)?.length ?? 0;
    this.#paths.delete(number);
  }
}
