import type { Clock } from '../clock.ts';
import { errno, FsError } from '../errno.ts';
import { type Miss, Missing } from '../vfs/miss.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { CONTROL_VIEW, Context, LIVE_VIEW, type Services } from './context.ts';
import { serveControl } from './handlers/control.ts';
import { type HandlerRow, handlerTable } from './handlers/table.ts';
import { NO_REPLY, PARKED, PAYLOAD } from './session.ts';
import { interruptIn } from './wire/abi.ts';
import { UNIQUE_RESEND_HI } from './wire/flags.ts';
import { OPCODE, operationOf } from './wire/operations.ts';

/** What the dispatcher needs of the journal and the rest, each a plain call. */
export interface DispatchParts {
  readonly workspace: Workspace;
  readonly services: Services;
  readonly clock: Clock;
  readonly load: (miss: Miss) => Promise<void>;
  /** Whether a change must wait for a commit first. @throws {FsError} where waiting is no use. */
  readonly mustWait: (requestBytes: number) => boolean;
  readonly room: () => Promise<void>;
  /** An operation changed something: keeps its request for a new daemon, and sees to its commit. */
  readonly accept: (sequence: number, timeMs: number, request: Buffer, length: number) => void;
  /** Every change waits for its commit before it's answered. */
  readonly strict: boolean;
  /** Answers a parked request; see `Session.reply`. */
  readonly reply: (uniqueLo: number, uniqueHi: number, result: number) => void;
  readonly replyBuffer: () => Buffer;
  /** A defect, or a request that can't be parsed; `request` says which. */
  readonly onDefect: (request: string, problem: unknown) => void;
  /** Whether the process was killed, so that nobody waits for what it asked for. */
  readonly isKilled: (pid: number) => boolean;
  readonly setxattrExtended: boolean;
}

/** A request that waits, by its unique number. */
interface Parked {
  readonly request: Buffer;
  cancelled: boolean;
}

/**
 * Turns requests into operations on the workspace. What misses something is parked, and served again from its start
 * once that is loaded; what must wait for a commit is parked until then.
 */
export class Dispatcher {
  readonly #parts: DispatchParts;
  readonly #context: Context;
  readonly #rows: readonly (HandlerRow | undefined)[];
  readonly #parked = new Map<number, Parked>();
  readonly #readInterrupt = interruptIn.reader();
  /** Answers of operations that were carried out again from the log, for those who still wait for them. */
  #answers: Map<number, Buffer | number> | undefined;
  #timeMs = 0;

  constructor(parts: DispatchParts) {
    this.#parts = parts;
    this.#context = new Context(parts.workspace, parts.services);
    this.#rows = handlerTable(parts.setxattrExtended);
  }

  /** Serves a request as it came from the kernel. See `Serve` of session.ts. */
  serve(request: Buffer, length: number, reply: Buffer): number {
    const context = this.#context;
    try {
      context.take(request, length, reply);
    } catch (problem) {
      return this.#failed(problem);
    }
    if (context.header.opcode === OPCODE.INTERRUPT) return this.#interrupt();
    if (this.#answers !== undefined) {
      const answered = this.#answered(reply);
      if (answered !== undefined) return answered;
    }
    return this.#serveTaken(length);
  }

  #serveTaken(length: number): number {
    const context = this.#context;
    const row = this.#rows[context.header.opcode];
    if (row === undefined) return -errno.ENOSYS;
    try {
      if (context.view === CONTROL_VIEW) return this.#finish(serveControl(context), length);
      if (context.view !== LIVE_VIEW) return -errno.ESTALE;
      if (context.end < 40 + row.argumentBytes) throw new FsError('EIO', 'the request is too short');
      if (row.changes(context)) {
        if (this.#parts.mustWait(length)) return this.#park(length, this.#parts.room());
        this.#timeMs = this.#parts.clock.now();
        this.#parts.workspace.setTime(this.#timeMs);
      }
      return this.#finish(row.handle(context), length);
    } catch (problem) {
      if (problem instanceof Missing) return this.#park(length, this.#parts.load(problem.miss));
      if (this.#parts.workspace.mutated) this.#accept(length);
      return row.forgets ? NO_REPLY : this.#failed(problem);
    }
  }

  /** What is left to do once a handler has returned. */
  #finish(result: number, length: number): number {
    const { workspace, strict, services } = this.#parts;
    const context = this.#context;
    if (workspace.mutated) {
      this.#accept(length);
      if (strict && result !== NO_REPLY) context.after ??= services.sync();
    }
    if (context.after === undefined) return result;
    this.#answerAfter(context.after, result);
    return PARKED;
  }

  #accept(length: number): void {
    const { workspace, accept } = this.#parts;
    workspace.mutated = false;
    workspace.sequence++;
    accept(workspace.sequence, this.#timeMs, this.#context.request, length);
  }

  /** Errors become errnos here and nowhere else. */
  #failed(problem: unknown): number {
    if (problem instanceof FsError && problem.code !== 'EIO') return -problem.errno;
    const { header } = this.#context;
    const name = operationOf(header.opcode)?.name ?? `opcode ${header.opcode}`;
    this.#parts.onDefect(`${name} of inode ${this.#context.ino}`, problem);
    return -errno.EIO;
  }

  /** Keeps a copy of the request and serves it again, as a whole, when `ready` resolves. */
  #park(length: number, ready: Promise<void>): number {
    const request = Buffer.from(this.#context.request.subarray(0, length));
    const { uniqueLo, uniqueHi } = this.#context.header;
    const forgets = this.#rows[this.#context.header.opcode]?.forgets === true;
    const parked: Parked = { request, cancelled: false };
    const key = keyOf(uniqueLo, uniqueHi);
    this.#parked.set(key, parked);
    const again = (result: () => number) => {
      if (parked.cancelled) return;
      this.#parked.delete(key);
      const code = result();
      if (code !== NO_REPLY && code !== PARKED && !forgets) this.#parts.reply(uniqueLo, uniqueHi, code);
    };
    ready.then(
      () => again(() => this.serve(request, request.length, this.#parts.replyBuffer())),
      (problem: unknown) =>
        again(() => {
          this.#context.take(request, request.length, this.#parts.replyBuffer());
          return this.#failed(problem);
        }),
    );
    return PARKED;
  }

  /** Answers when `after` resolves: with what was built, or with the bytes that it resolves to. */
  #answerAfter(after: Promise<unknown>, result: number): void {
    const { uniqueLo, uniqueHi } = this.#context.header;
    const built = result > 0 ? Buffer.from(this.#context.reply.subarray(PAYLOAD, PAYLOAD + result)) : undefined;
    const request = Buffer.from(this.#context.request.subarray(0, 40));
    const key = keyOf(uniqueLo, uniqueHi);
    const parked: Parked = { request, cancelled: false };
    this.#parked.set(key, parked);
    const answer = (code: number, bytes: Buffer | undefined) => {
      if (parked.cancelled) return;
      this.#parked.delete(key);
      bytes?.copy(this.#parts.replyBuffer(), PAYLOAD);
      this.#parts.reply(uniqueLo, uniqueHi, code);
    };
    after.then(
      (value) => {
        const bytes = value instanceof Buffer ? value : built;
        answer(bytes === undefined ? Math.min(0, result === PARKED ? 0 : result) : bytes.length, bytes);
      },
      (problem: unknown) => answer(this.#errnoOf(problem, request), undefined),
    );
  }

  #errnoOf(problem: unknown, request: Buffer): number {
    if (problem instanceof FsError) return -problem.errno;
    this.#parts.onDefect(`${operationOf(request.readUInt32LE(4))?.name}`, problem);
    return -errno.EIO;
  }

  /**
   * A signal reached someone who waits for an answer. Regular file operations go on through signals, except that a
   * process that was killed is let go.
   */
  #interrupt(): number {
    const { uniqueLo, uniqueHi } = this.#readInterrupt(this.#context.request, 40);
    const key = keyOf(uniqueLo, uniqueHi);
    const parked = this.#parked.get(key);
    if (parked === undefined || !this.#parts.isKilled(parked.request.readUInt32LE(32))) return NO_REPLY;
    parked.cancelled = true;
    this.#parked.delete(key);
    this.#parts.reply(uniqueLo, uniqueHi, -errno.EINTR);
    return NO_REPLY;
  }

  /** Whether nothing waits any more. */
  get idle(): boolean {
    return this.#parked.size === 0;
  }

  /**
   * Carries out a request from the log again, at the time it had. Its answer is kept for whoever still waits.
   *
   * @throws what loading throws; {Error} when it doesn't lead where it led before.
   */
  async replay(sequence: number, timeMs: number, request: Buffer): Promise<void> {
    const { workspace } = this.#parts;
    const context = this.#context;
    const reply = this.#parts.replyBuffer();
    for (;;) {
      context.take(request, request.length, reply);
      this.#timeMs = timeMs;
      workspace.setTime(timeMs);
      let result: number;
      try {
        result = this.#rows[context.header.opcode]?.handle(context) ?? -errno.ENOSYS;
      } catch (problem) {
        if (problem instanceof Missing) {
          await this.#parts.load(problem.miss);
          continue;
        }
        result = this.#failed(problem);
      }
      if (!workspace.mutated)
        throw new Error(`request ${sequence} of the local log changed nothing when carried out again`);
      this.#accept(request.length);
      if (workspace.sequence !== sequence)
        throw new Error(`the local log goes on with ${sequence} where ${workspace.sequence} was due`);
      this.#answers ??= new Map();
      const { uniqueLo, uniqueHi } = context.header;
      const answer = result > 0 ? Buffer.from(reply.subarray(PAYLOAD, PAYLOAD + result)) : result;
      this.#answers.set(keyOf(uniqueLo, uniqueHi), answer);
      return;
    }
  }

  /** Nobody waits for answers from before any more. */
  forgetAnswers(): void {
    this.#answers = undefined;
  }

  /** The answer of a request that an earlier daemon carried out without answering it. */
  #answered(reply: Buffer): number | undefined {
    const { uniqueLo, uniqueHi } = this.#context.header;
    if ((uniqueHi & UNIQUE_RESEND_HI) === 0) return undefined;
    const key = keyOf(uniqueLo, uniqueHi);
    const answer = this.#answers?.get(key);
    if (answer === undefined) return undefined;
    this.#answers?.delete(key);
    if (typeof answer === 'number') return answer;
    return answer.copy(reply, PAYLOAD);
  }
}

/** Unique numbers grow from 0 by two and stay far below 2^53; the resend bit isn't part of the identity. */
function keyOf(uniqueLo: number, uniqueHi: number): number {
  return (uniqueHi & 0x1f_ffff) * 4294967296 + uniqueLo;
}
