/**
 * Pieces of memory of one size, used again and again: fresh memory for every group of chunks costs more than looking for
 * what compresses in it, in page faults and in collecting what was dropped. Not shared among threads but handed from one
 * to the other: copying into shared memory takes four times as long, as the engine must do it word by word.
 */
export class Slabs {
  readonly #bytes: number;
  readonly #most: number;
  readonly #free: ArrayBuffer[] = [];

  /** Keeps `most` at most, of `bytes` each. */
  constructor(most: number, bytes: number) {
    this.#most = most;
    this.#bytes = bytes;
  }

  /** At least this many bytes, which hold anything. */
  take(bytes: number): ArrayBuffer {
    if (bytes > this.#bytes) return new ArrayBuffer(bytes);
    return this.#free.pop() ?? new ArrayBuffer(this.#bytes);
  }

  /** Takes one back that nobody uses any more. */
  give(slab: ArrayBuffer): void {
    if (slab.byteLength === this.#bytes && this.#free.length < this.#most) this.#free.push(slab);
  }
}
