import { Worker } from 'node:worker_threads';
import { batchOf } from '../content/batch.ts';
import type { Compared, Pair, Placed, ToThread, Want } from './diff-jobs.ts';

/** Threads at a time; whoever needs another one waits. */
const MOST_THREADS = 2;
/** After which an idle thread gives its memory back. */
const IDLE_MS = 30_000;
/** Longest time for one job: far more than any should need. */
const JOB_MS = 60_000;
/** The largest job is two files of this many lines, which are split into strings. */
const HEAP_MIB = 1024;

/** A comparison took too much time or memory. */
export class TooMuch extends Error {
  override readonly name = 'TooMuch';
}

/** Bytes, and where they belong in a job's files. */
export interface Part {
  readonly bytes: Uint8Array;
  readonly places: readonly Placed[];
}

/** Threads that compare files, so that nobody else waits for it. */
export class DiffThreads {
  readonly #idle: DiffThread[] = [];
  readonly #waiting: (() => void)[] = [];
  #count = 0;

  /**
   * Hands `work` a thread of its own for one job. When `signal` aborts, so does what the thread does.
   *
   * @throws {TooMuch}; the signal's reason; what `work` throws
   */
  async use<T>(signal: AbortSignal, work: (thread: DiffThread) => Promise<T>): Promise<T> {
    while (this.#idle.length === 0 && this.#count >= MOST_THREADS)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const thread = this.#idle.pop() ?? this.#start();
    const stop = () => thread.end(signal.reason);
    signal.addEventListener('abort', stop);
    try {
      signal.throwIfAborted();
      return await work(thread);
    } catch (problem) {
      thread.end(problem); // a job may be half done
      throw problem;
    } finally {
      signal.removeEventListener('abort', stop);
      if (!thread.ended) this.#rest(thread);
    }
  }

  #start(): DiffThread {
    this.#count++;
    return new DiffThread((ended) => {
      this.#count--;
      const at = this.#idle.indexOf(ended);
      if (at >= 0) this.#idle.splice(at, 1);
      this.#waiting.shift()?.();
    });
  }

  #rest(thread: DiffThread): void {
    this.#idle.push(thread);
    thread.rest();
    this.#waiting.shift()?.();
  }
}

interface Answer {
  readonly resolve: (results: readonly Compared[]) => void;
  readonly reject: (problem: unknown) => void;
}

/** One thread, used by one job at a time: `begin`, `give` any number of times, `compare`. */
export class DiffThread {
  readonly #worker: Worker;
  readonly #onEnd: (thread: DiffThread) => void;
  #answer: Answer | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Why it ended. */
  #reason: unknown;
  ended = false;

  constructor(onEnd: (thread: DiffThread) => void) {
    this.#onEnd = onEnd;
    this.#worker = new Worker(new URL('./diff-thread.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    });
    this.#worker.unref();
    this.#worker.on('message', (results: readonly Compared[]) => this.#settle()?.resolve(results));
    this.#worker.on('error', (problem) => this.end(reasonOf(problem)));
    this.#worker.on('exit', () => this.end(new Error('a diff thread ended')));
  }

  begin(sizes: readonly number[]): void {
    clearTimeout(this.#timer);
    this.#send({ kind: 'files', sizes });
  }

  /** The bytes are copied before this returns. */
  give(parts: readonly Part[]): void {
    const batch = batchOf(parts.map(({ bytes }) => bytes));
    this.#send({ kind: 'bytes', batch, places: parts.map(({ places }) => places) }, [batch.bytes]);
  }

  /** Results in the order of the pairs. @throws {TooMuch} and then it has ended; what it was ended with */
  compare(pairs: readonly Pair[], want: Want): Promise<readonly Compared[]> {
    return new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
      this.#timer = setTimeout(() => this.end(new TooMuch(`not done within ${JOB_MS / 1000} s`)), JOB_MS);
      this.#send({ kind: 'compare', pairs, want });
    });
  }

  #send(message: ToThread, memory: ArrayBuffer[] = []): void {
    if (this.ended) this.#settle()?.reject(this.#reason);
    else this.#worker.postMessage(message, memory);
  }

  #settle(): Answer | undefined {
    clearTimeout(this.#timer);
    const answer = this.#answer;
    this.#answer = undefined;
    return answer;
  }

  /** Nothing to do at present. */
  rest(): void {
    this.#timer = setTimeout(() => this.end(new Error('a diff thread was idle')), IDLE_MS).unref();
  }

  /** Ends it, and with this reason what it was doing. */
  end(reason: unknown): void {
    if (this.ended) return;
    this.ended = true;
    this.#reason = reason;
    this.#settle()?.reject(reason);
    void this.#worker.terminate();
    this.#onEnd(this);
  }
}

function reasonOf(problem: unknown): unknown {
  const code = problem instanceof Error && 'code' in problem ? problem.code : undefined;
  return code === 'ERR_WORKER_OUT_OF_MEMORY' ? new TooMuch('out of memory') : problem;
}
