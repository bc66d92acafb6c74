/** The type of messages that carry a COPY's data (PostgreSQL manual, Message Formats). */
const COPY_DATA = 0x64;
/** The type, a byte, and the length, which counts itself. */
const HEAD_BYTES = 5;

/** Takes part of what CopyData messages carry; the bytes are its own only until it returns. */
export type Taker = (part: Buffer) => void;

/**
 * The messages that arrive on an unencrypted connection, in parts that begin and end anywhere. What CopyData messages
 * carry can be diverted; everything else passes as it came.
 */
export class Inflow {
  readonly #pass: Taker;
  #taker: Taker | undefined;
  /** The head of the message that arrives, as far as it has, and the bytes to come behind a whole one. */
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  #bodyLeft = 0;
  /** Whether that message is diverted. */
  #taking = false;

  /** `pass` gets what isn't diverted, and may call `divert`, which then counts for the messages behind that part. */
  constructor(pass: Taker) {
    this.#pass = pass;
  }

  /** From the next message on, `taker` gets what CopyData messages carry; undefined ends that. */
  divert(taker: Taker | undefined): void {
    this.#taker = taker;
  }

  take(bytes: Buffer): void {
    let at = 0;
    /** Bytes from here to `at` are to be passed. */
    let from = 0;
    while (at < bytes.length) {
      if (this.#headBytes === 0) {
        this.#taking = bytes[at] === COPY_DATA && this.#taker !== undefined;
        if (this.#taking && at > from) this.#pass(bytes.subarray(from, at));
      }
      at += this.#takeHead(bytes, at);
      const end = Math.min(bytes.length, at + this.#bodyLeft);
      if (this.#taking && end > at) this.#taker?.(bytes.subarray(at, end));
      this.#bodyLeft -= end - at;
      at = end;
      if (this.#taking) from = at;
      if (this.#headBytes === HEAD_BYTES && this.#bodyLeft === 0) this.#headBytes = 0;
    }
    if (!this.#taking && at > from) this.#pass(bytes.subarray(from));
  }

  /** Completes the head as far as it's there; returns how many bytes that took. */
  #takeHead(bytes: Buffer, at: number): number {
    const taken = bytes.copy(this.#head, this.#headBytes, at);
    this.#headBytes += taken;
    if (taken > 0 && this.#headBytes === HEAD_BYTES) this.#bodyLeft = this.#head.readInt32BE(1) - 4;
    return taken;
  }
}
