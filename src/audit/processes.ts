import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { COMM_MAX_BYTES } from './record.ts';

/** A process that asked for something. */
export interface Process {
  /** Of the process: requests carry the number of their thread. */
  readonly pid: number;
  /** Its name, as far as `commBytes`; none where it can't be seen. */
  readonly comm: Buffer;
  readonly commBytes: number;
}

interface Known extends Process {
  pid: number;
  /** An open handle on its /proc/<pid>/comm; reading that fails once the process is gone, whoever has its number then. */
  handle: number;
  commBytes: number;
  readAtMs: number;
}

/** Processes whose files are kept open. */
const MOST = 128;
/**
 * How long a name that was read is taken for true. A program that is replaced by another one (execve) takes several
 * times as long to begin.
 */
const TRUE_MS = 0.2;

const NOBODY: Process = { pid: 0, comm: Buffer.alloc(0), commBytes: 0 };

/** Finds out who asks: the process of a thread, and its name at this moment. */
export class Processes {
  readonly #known = new Map<number, Known>();

  /** `thread`: the number in a request; 0 is one that this process can't see. */
  of(thread: number, nowMs: number): Process {
    if (thread === 0) return NOBODY;
    const known = this.#known.get(thread);
    if (known !== undefined) {
      if (nowMs - known.readAtMs < TRUE_MS && nowMs >= known.readAtMs) return known;
      if (read(known, nowMs)) return known;
      this.#forget(thread, known);
    }
    return this.#find(thread, nowMs);
  }

  #find(thread: number, nowMs: number): Process {
    for (const [oldest, known] of this.#known) {
      if (this.#known.size < MOST) break;
      this.#forget(oldest, known);
    }
    const found: Known = { pid: thread, comm: Buffer.alloc(COMM_MAX_BYTES), handle: -1, commBytes: 0, readAtMs: 0 };
    try {
      const status = readFileSync(`/proc/${thread}/status`, 'latin1');
      found.pid = Number(/^Tgid:\t(\d+)$/m.exec(status)?.[1] ?? thread);
      found.handle = openSync(`/proc/${found.pid}/comm`, 'r');
    } catch {
      return found; // it's gone
    }
    if (!read(found, nowMs)) {
      closeSync(found.handle);
      return found;
    }
    this.#known.set(thread, found);
    return found;
  }

  #forget(thread: number, { handle }: Known): void {
    this.#known.delete(thread);
    closeSync(handle);
  }
}

/** Reads a process's name. False when it's gone. */
function read(known: Known, nowMs: number): boolean {
  try {
    // It ends in a newline.
    known.commBytes = Math.max(0, readSync(known.handle, known.comm, 0, COMM_MAX_BYTES, 0) - 1);
  } catch {
    known.commBytes = 0;
    return false;
  }
  known.readAtMs = nowMs;
  return true;
}
