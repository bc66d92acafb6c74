import { Worker } from 'node:worker_threads';
import type { ByteString } from '../vfs/store.ts';
import { batchOf, partsOf } from './batch.ts';
import type { Encoded } from './compress.ts';
import { type Done, type Job, perform } from './jobs.ts';

/** A chunk as it's stored, and the hash of its raw bytes. */
export interface EncodedChunk extends Encoded {
  readonly hash: ByteString;
}

interface Waiting {
  readonly resolve: (done: Done) => void;
  readonly reject: (problem: Error) => void;
}

/** A job this small costs less here than handing it over does. */
const HERE_BYTES = 16 * 1024;

/** Hashes, compresses and restores chunks on a thread of its own. Any number of calls may be under way. */
export class Coder {
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiting = new Map<number, Waiting>();

  /** Hashes each chunk, and compresses it where that helps. The chunks are copied before this returns. */
  async encode(chunks: readonly Uint8Array[]): Promise<EncodedChunk[]> {
    const raw = batchOf(chunks);
    const done = await this.#perform({ kind: 'encode', raw }, raw.bytes);
    if (done.kind !== 'encode') throw new Error(`the coder answered ${done.kind}`);
    const { codecs, hashes } = done;
    return partsOf(done.stored).map((data, index) => ({ data, codec: codecs[index] ?? -1, hash: hashes[index] ?? '' }));
  }

  /** The raw bytes of each chunk; undefined for one that's damaged. */
  async decode(chunks: readonly EncodedChunk[]): Promise<(Buffer | undefined)[]> {
    const stored = batchOf(chunks.map(({ data }) => data));
    const codecs = chunks.map(({ codec }) => codec);
    const hashes = chunks.map(({ hash }) => hash);
    const done = await this.#perform({ kind: 'decode', stored, codecs, hashes }, stored.bytes);
    if (done.kind !== 'decode') throw new Error(`the coder answered ${done.kind}`);
    return done.raw.map((bytes) => (bytes === null ? undefined : Buffer.from(bytes)));
  }

  #perform(job: Job, bytes: ArrayBuffer): Promise<Done> {
    if (bytes.byteLength <= HERE_BYTES) return Promise.resolve(perform(job));
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker ??= this.#start();
      this.#worker.postMessage({ id, job }, [bytes]);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL('./thread.ts', import.meta.url));
    worker.unref();
    worker.on('message', ({ id, done }: { id: number; done: Done }) => {
      this.#waiting.get(id)?.resolve(done);
      this.#waiting.delete(id);
    });
    worker.on('error', (problem) => this.#failed(worker, problem));
    worker.on('exit', () => this.#failed(worker, new Error('the coder thread ended')));
    return worker;
  }

  #failed(worker: Worker, problem: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of all) reject(problem instanceof Error ? problem : new Error(String(problem)));
  }

  /** Ends the thread; what is under way is rejected. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }
}
