import type { ByteString } from '../vfs/store.ts';
import { batchOf } from './batch.ts';
import { codec, type Encoded } from './compress.ts';
import { sha256 } from './hash.ts';
import { JobThread } from './job-thread.ts';
import { type Done, type Job, type Laid, perform } from './jobs.ts';
import { Slabs } from './slabs.ts';

/** A chunk as it's stored, and the hash of its raw bytes. */
export interface EncodedChunk extends Encoded {
  readonly hash: ByteString;
}

/** Its data is in lent memory, and so is what's before it. */
export interface LentChunk extends EncodedChunk {
  readonly rawBytes: number;
  /** Room for the caller to fill, as many bytes as it asked for, and the data right behind. */
  readonly framed: Buffer;
}

/** Encoded chunks, in the order of the raw ones; they may be used until `giveBack` is called, which must happen. */
export interface LentChunks {
  readonly chunks: readonly LentChunk[];
  giveBack(): void;
}

/** A job this small costs less here than handing it over does. */
const HERE_BYTES = 16 * 1024;
/** Room for 4 MiB of chunks (what the journal stores at a time), the last of which may go over, and what frames them. */
const SLAB_BYTES = 4.5 * 1024 * 1024;
/** One whose chunks are being sent while the next one's are encoded. */
const SLABS = 2;

/** Hashes, compresses and restores chunks on a thread of its own. Any number of calls may be under way. */
export class Coder {
  #closed = false;
  readonly #thread = new JobThread<Job, Done>('coder', new URL('./thread.ts', import.meta.url));
  readonly #slabs = new Slabs(SLABS, SLAB_BYTES);

  /**
   * Hashes each chunk, and compresses it where that helps, with `frameBytes` of room before each. The chunks are
   * copied before this returns.
   */
  async encode(chunks: readonly Uint8Array[], frameBytes = 0): Promise<LentChunks> {
    const bytes = chunks.reduce((total, { length }) => total + frameBytes + length, 0);
    if (bytes <= HERE_BYTES) {
      const raw = lay(chunks, frameBytes, new ArrayBuffer(bytes));
      return { chunks: lentChunks(raw, frameBytes, perform({ kind: 'encode', raw })), giveBack: () => {} };
    }
    const slab = this.#slabs.take(bytes);
    const raw = lay(chunks, frameBytes, slab);
    const done = await this.#hand({ kind: 'encode', raw }, [slab]);
    if (done.kind !== 'encode') throw new Error(`the coder answered ${done.kind}`);
    return { chunks: lentChunks(raw, frameBytes, done), giveBack: () => this.#slabs.give(done.memory) };
  }

  /** The raw bytes of each chunk, in memory of its own, which may be the chunk's; undefined for one that's damaged. */
  async decode(chunks: readonly EncodedChunk[]): Promise<(Buffer | undefined)[]> {
    // Those that aren't compressed only need their hash checked, for which there's no need to copy them.
    const packed = chunks.filter((chunk) => chunk.codec !== codec.raw);
    const unpacked = packed.length === 0 ? [] : await this.#unpack(packed);
    let next = 0;
    return chunks.map((chunk) => (chunk.codec === codec.raw ? checked(chunk) : unpacked[next++]));
  }

  async #unpack(chunks: readonly EncodedChunk[]): Promise<(Buffer | undefined)[]> {
    const stored = batchOf(chunks.map(({ data }) => data));
    const codecs = chunks.map((chunk) => chunk.codec);
    const hashes = chunks.map(({ hash }) => hash);
    const job: Job = { kind: 'decode', stored, codecs, hashes };
    const done = stored.bytes.byteLength <= HERE_BYTES ? perform(job) : await this.#hand(job, [stored.bytes]);
    if (done.kind !== 'decode') throw new Error(`the coder answered ${done.kind}`);
    return done.raw.map((bytes) => (bytes === null ? undefined : Buffer.from(bytes)));
  }

  /** Has the thread do a job, for which it's given this memory. */
  #hand(job: Job, memory: ArrayBuffer[]): Promise<Done> {
    if (this.#closed) return Promise.reject(new Error('the coder thread ended'));
    return this.#thread.perform(job, memory);
  }

  /** Ends the thread; what is under way is rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#thread.end();
  }
}

/** Copies the chunks into `memory`, each behind its frame. */
function lay(chunks: readonly Uint8Array[], frameBytes: number, memory: Laid['memory']): Laid {
  const bytes = new Uint8Array(memory);
  const offsets: number[] = [];
  let at = 0;
  for (const chunk of chunks) {
    at += frameBytes;
    bytes.set(chunk, at);
    offsets.push(at);
    at += chunk.length;
  }
  return { memory, offsets, lengths: chunks.map(({ length }) => length) };
}

function lentChunks(raw: Laid, frameBytes: number, done: Done): LentChunk[] {
  if (done.kind !== 'encode') throw new Error(`the coder answered ${done.kind}`);
  return raw.offsets.map((offset, index) => {
    const framed = Buffer.from(done.memory, offset - frameBytes, frameBytes + (done.lengths[index] ?? 0));
    return {
      hash: done.hashes[index] ?? '',
      codec: done.codecs[index] ?? -1,
      rawBytes: raw.lengths[index] ?? 0,
      framed,
      data: framed.subarray(frameBytes),
    };
  });
}

/** The bytes of a chunk that's stored as it is, unless its hash says that they're damaged. */
function checked({ data, hash }: EncodedChunk): Buffer | undefined {
  if (sha256(data) !== hash) return undefined;
  const own = data.length === data.buffer.byteLength ? data : new Uint8Array(data);
  return Buffer.from(own.buffer);
}
