import { FsError } from '../errno.ts';

/** Makes a text in pieces, from its start, for as long as someone reads. */
export type MakeText = (signal: AbortSignal) => AsyncIterable<Buffer>;

/**
 * A text that is made as it's read, from its start to its end. One piece of it is held at a time. Whoever asks for
 * something again that is gone has it made again.
 */
export class TextStream {
  readonly #make: MakeText;
  #abort = new AbortController();
  #pieces: AsyncIterator<Buffer> | undefined;
  /** What has been made and may be asked for, and its place in the text. */
  #held: Buffer = Buffer.alloc(0);
  #at = 0;
  #ended = false;
  #failure: { readonly problem: unknown } | undefined;
  /** One read after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(make: MakeText) {
    this.#make = make;
  }

  /** At most `size` bytes at a place; none only at the end. @throws what making it throws; the same again later */
  read(offset: number, size: number): Promise<Buffer> {
    const turn = this.#last.then(() => this.#read(offset, size));
    this.#last = turn.catch(() => {}); // whoever asked sees it; the next one only waits
    return turn;
  }

  async #read(offset: number, size: number): Promise<Buffer> {
    if (offset < this.#at) this.#restart();
    this.#pieces ??= this.#make(this.#abort.signal)[Symbol.asyncIterator]();
    while (!this.#ended && offset >= this.#at + this.#held.length) await this.#goOn(this.#pieces);
    const start = Math.min(offset - this.#at, this.#held.length);
    return this.#held.subarray(start, start + size);
  }

  async #goOn(pieces: AsyncIterator<Buffer>): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.problem;
    this.#at += this.#held.length;
    this.#held = Buffer.alloc(0);
    try {
      const { value, done } = await pieces.next();
      if (done === true) this.#ended = true;
      else this.#held = value;
    } catch (problem) {
      this.#failure = { problem };
      throw problem;
    }
  }

  #restart(): void {
    this.close();
    this.#abort = new AbortController();
    this.#pieces = undefined;
    this.#held = Buffer.alloc(0);
    this.#at = 0;
    this.#ended = false;
    this.#failure = undefined;
  }

  /** Nobody reads any more: what is being made of it stops. */
  close(): void {
    this.#abort.abort(new FsError('EINTR', 'nobody reads this any more'));
    // Lets it clean up; what it still throws concerns nobody.
    this.#pieces?.return?.().catch(() => {});
  }
}
