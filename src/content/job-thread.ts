import { Worker } from 'node:worker_threads';

interface Waiting<Done> {
  readonly resolve: (done: Done) => void;
  readonly reject: (problem: Error) => void;
}

/**
 * A thread that does jobs one after the other: its file takes `{ id, job }` and answers `{ id, done }`. It starts with
 * the first job, and anew with one that comes after it has ended, whichever way. Any number of jobs may wait.
 */
export class JobThread<Job, Done> {
  readonly #file: URL;
  readonly #ended: string;
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiting = new Map<number, Waiting<Done>>();

  constructor(name: string, file: URL) {
    this.#file = file;
    this.#ended = `the ${name} thread ended`;
  }

  get busy(): boolean {
    return this.#waiting.size > 0;
  }

  /** `memory` is the thread's from now on. Rejects when the thread ends before the job is done. */
  perform(job: Job, memory: ArrayBuffer[] = []): Promise<Done> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker ??= this.#start();
      this.#worker.postMessage({ id, job }, memory);
    });
  }

  #start(): Worker {
    const worker = new Worker(this.#file);
    worker.unref();
    worker.on('message', ({ id, done }: { id: number; done: Done }) => {
      this.#waiting.get(id)?.resolve(done);
      this.#waiting.delete(id);
    });
    worker.on('error', (problem) => this.#failed(worker, problem));
    worker.on('exit', () => this.#failed(worker, new Error(this.#ended)));
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
  async end(): Promise<void> {
    const worker = this.#worker;
    if (worker === undefined) return;
    this.#failed(worker, new Error(this.#ended));
    await worker.terminate();
  }
}
