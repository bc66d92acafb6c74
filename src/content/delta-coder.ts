import type { ByteString } from '../vfs/store.ts';
import type { Encoded } from './compress.ts';
import type { StoredChunk } from './delta.ts';
import { bytesOfJob, type DeltaDone, type DeltaJob, type DeltaPair, performDelta } from './delta-jobs.ts';
import { JobThread } from './job-thread.ts';

/** A job this small costs less here than handing it over does. */
const HERE_BYTES = 16 * 1024;
/** After which the thread gives its memory back. */
const IDLE_MS = 10_000;

/**
 * Makes deltas and restores chunks from them, on a thread of its own: what the packer does never holds up what is being
 * stored. Any number of calls may be under way.
 */
export class DeltaCoder {
  #idle: NodeJS.Timeout | undefined;
  readonly #thread = new JobThread<DeltaJob, DeltaDone>('delta', new URL('./delta-thread.ts', import.meta.url));

  /** A delta for each pair, undefined where there is none; and each of `wholes` compressed where that helps. */
  async encode(
    pairs: readonly DeltaPair[],
    wholes: readonly Uint8Array[],
  ): Promise<{ deltas: readonly (Uint8Array | undefined)[]; wholes: readonly Encoded[] }> {
    const done = await this.#perform({ kind: 'encode', pairs, wholes });
    if (done.kind !== 'encode') throw new Error(`the delta thread answered ${done.kind}`);
    return done;
  }

  /** See `restore`; each is in memory of its own. */
  async restore(
    wanted: readonly ByteString[],
    stored: readonly StoredChunk[],
    known: readonly (readonly [ByteString, Uint8Array])[],
  ): Promise<(Buffer | undefined)[]> {
    const done = await this.#perform({ kind: 'restore', wanted, stored, known });
    if (done.kind !== 'restore') throw new Error(`the delta thread answered ${done.kind}`);
    return done.raw.map((bytes) => bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  }

  async #perform(job: DeltaJob): Promise<DeltaDone> {
    if (bytesOfJob(job) <= HERE_BYTES) return performDelta(job);
    clearTimeout(this.#idle);
    try {
      return await this.#thread.perform(copyOf(job));
    } finally {
      clearTimeout(this.#idle);
      if (!this.#thread.busy) this.#idle = setTimeout(() => void this.#thread.end(), IDLE_MS).unref();
    }
  }

  /** Ends the thread; what is under way is rejected. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#thread.end();
  }
}

/** What is sent to a thread takes all the memory along that its parts are views of. */
function copyOf(job: DeltaJob): DeltaJob {
  if (job.kind === 'encode')
    return {
      ...job,
      pairs: job.pairs.map(({ data, base }) => ({ data: new Uint8Array(data), base: new Uint8Array(base) })),
      wholes: job.wholes.map((data) => new Uint8Array(data)),
    };
  return {
    ...job,
    stored: job.stored.map((chunk) => ({ ...chunk, data: new Uint8Array(chunk.data) })),
    known: job.known.map(([hash, raw]) => [hash, new Uint8Array(raw)]),
  };
}
