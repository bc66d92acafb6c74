import { Worker } from 'node:worker_threads';
import type { ByteString } from '../vfs/store.ts';
import type { Encoded } from './compress.ts';
import type { StoredChunk } from './delta.ts';
import { bytesOfJob, type DeltaDone, type DeltaJob, type DeltaPair, performDelta } from './delta-jobs.ts';

interface Waiting {
  readonly resolve: (done: DeltaDone) => void;
  readonly reject: (problem: Error) => void;
}

/** A job this small costs less here than handing it over does. */
const HERE_BYTES = 16 * 1024;
/** After which the thread gives its memory back. */
const IDLE_MS = 10_000;

/**
 * Makes deltas and restores chunks from them, on a thread of its own: what the packer does never holds up what is being
 * stored. Any number of calls may be under way.
 */
export class DeltaCoder {
  #worker: Worker | undefined;
  #nextId = 0;
  #idle: NodeJS.Timeout | undefined;
  readonly #waiting = new Map<number, Waiting>();

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

  #perform(job: DeltaJob): Promise<DeltaDone> {
    if (bytesOfJob(job) <= HERE_BYTES) return Promise.resolve(performDelta(job));
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      clearTimeout(this.#idle);
      this.#worker ??= this.#start();
      this.#worker.postMessage({ id, job: copyOf(job) });
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL('./delta-thread.ts', import.meta.url));
    worker.unref();
    worker.on('message', ({ id, done }: { id: number; done: DeltaDone }) => {
      this.#waiting.get(id)?.resolve(done);
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) this.#idle = setTimeout(() => void this.close(), IDLE_MS).unref();
    });
    worker.on('error', (problem) => this.#failed(worker, problem));
    worker.on('exit', () => this.#failed(worker, new Error('the delta thread ended')));
    return worker;
  }

  #failed(worker: Worker | undefined, problem: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of all) reject(problem instanceof Error ? problem : new Error(String(problem)));
  }

  /** Ends the thread; what is under way is rejected. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    this.#failed(worker, new Error('the delta thread was ended'));
    await worker?.terminate();
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
