import type { Device } from './device.ts';
import { outHeader } from './wire/abi.ts';

/** What serving a request came to, instead of the number of bytes of its answer or a negative errno. */
export const NO_REPLY = -1_000_000;
/** Answered later, by `Session.reply`. */
export const PARKED = -1_000_001;

/** Errnos of read(2) and write(2) on the device (Documentation/filesystems/fuse). */
const EAGAIN = 11;
const EINTR = 4;
const ENOENT = 2;
const ENODEV = 19;

/**
 * How often in a row reading may fail for no reason that is known. The runtime may wait for another of its threads
 * before it gets to the errno of a call, and leave that of its own there.
 */
const UNKNOWN_FAILURES = 10;

/** Answers start here in the reply buffer; the header goes before. */
export const PAYLOAD = 16;

/** How long to go on asking for the next request before sleeping: waking up costs a client 25 to 40 µs. */
const SPIN_MS = 0.05;
/** How long to serve before the event loop gets a turn, on which storage's sockets depend. */
const TURN_MS = 1.5;

/** Serves one request of `length` bytes. Returns the bytes written at PAYLOAD, a negative errno, NO_REPLY or PARKED. */
export type Serve = (request: Buffer, length: number, reply: Buffer) => number;

export interface SessionOptions {
  /** Largest data of a read or write. */
  readonly maxDataBytes: number;
  readonly serve: Serve;
  /** Called with each answer as it goes out, when tracing. */
  readonly traceReply: ((uniqueLo: number, uniqueHi: number, error: number, payload: Buffer) => void) | undefined;
  /** Called when the device takes an answer with an error other than that nobody waits for it any more. */
  readonly onWriteError: (errno: number) => void;
}

/** One connection to the kernel: reads requests, has them served one after the other, writes the answers. */
export class Session {
  readonly #device: Device;
  readonly #options: SessionOptions;
  readonly #request: Buffer;
  readonly #reply: Buffer;
  readonly #header = outHeader.blank();
  readonly #writeHeader = outHeader.writer();
  #ended = false;
  #onDrained: (() => void)[] = [];

  constructor(device: Device, options: SessionOptions) {
    this.#device = device;
    this.#options = options;
    this.#request = Buffer.alloc(options.maxDataBytes + 8192);
    this.#reply = Buffer.alloc(options.maxDataBytes + 8192);
  }

  /** Where answers are built that are given later; free until the next request is served. */
  get replyBuffer(): Buffer {
    return this.#reply;
  }

  /** Serves until the file system is unmounted or `stop` is called. */
  async run(): Promise<void> {
    while (!this.#ended) {
      if (this.#serveTurn()) await this.#device.waitReadable(1000);
      else await new Promise(setImmediate);
    }
  }

  stop(): void {
    this.#ended = true;
  }

  /** Resolves when every request that waits now has been read and served, or parked. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained.push(resolve);
    });
  }

  /**
   * Serves what waits now, without waiting for the event loop. Returns how many requests there were, at most `most`.
   * Never call it while a request is being served.
   */
  serveWaiting(most: number): number {
    let served = 0;
    while (!this.#ended && served < most) {
      const length = this.#device.read(this.#request);
      if (length > 0) {
        this.#serve(length);
        served++;
      } else if (length !== -EINTR && length !== -ENOENT) break;
    }
    return served;
  }

  /** Serves what there is, for one turn. True when nothing more came and it's time to sleep. */
  #serveTurn(): boolean {
    const started = performance.now();
    let lastServed = started;
    let failures = 0;
    while (!this.#ended) {
      const length = this.#device.read(this.#request);
      const now = performance.now();
      if (length > 0) {
        this.#serve(length);
        lastServed = now;
        if (now - started > TURN_MS) return false;
      } else if (length === -EAGAIN) {
        if (this.#onDrained.length > 0) for (const resolve of this.#onDrained.splice(0)) resolve();
        if (now - lastServed > SPIN_MS) return true;
      } else if (length === -ENODEV) this.#ended = true;
      else if (length !== -EINTR && length !== -ENOENT && ++failures > UNKNOWN_FAILURES)
        throw new Error(`reading the FUSE device failed: errno ${-length}`);
    }
    return false;
  }

  #serve(length: number): void {
    // The header's unique number, wherever the rest may be damaged.
    const uniqueLo = this.#request.readUInt32LE(8);
    const uniqueHi = this.#request.readUInt32LE(12);
    const result = this.#options.serve(this.#request, length, this.#reply);
    if (result !== NO_REPLY && result !== PARKED) this.reply(uniqueLo, uniqueHi, result);
  }

  /** Answers a request: with a negative errno, or with `result` bytes at PAYLOAD of the reply buffer. */
  reply(uniqueLo: number, uniqueHi: number, result: number): void {
    const bytes = Math.max(result, 0);
    const header = this.#header;
    header.len = PAYLOAD + bytes;
    header.error = Math.min(result, 0);
    header.uniqueLo = uniqueLo;
    header.uniqueHi = uniqueHi;
    this.#writeHeader(this.#reply, 0, header);
    this.#options.traceReply?.(uniqueLo, uniqueHi, header.error, this.#reply.subarray(PAYLOAD, PAYLOAD + bytes));
    const written = this.#device.write(this.#reply, PAYLOAD + bytes);
    // ENOENT: whoever asked was interrupted and is gone.
    if (written < 0 && written !== -ENOENT && !this.#ended) this.#options.onWriteError(-written);
  }

  /** Sends a notification that a packer of notify.ts has built. Returns 0 or a negative errno. */
  notify(message: Buffer, length: number): number {
    return Math.min(0, this.#device.write(message, length));
  }
}
