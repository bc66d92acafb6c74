import type { Ino } from '../brand.ts';
import type { Clock } from '../clock.ts';
import { errno, FsError } from '../errno.ts';
import { type Miss, Missing } from '../vfs/miss.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { PathMissing } from './audit-paths.ts';
import type { Auditing, Deferred } from './auditing.ts';
import {
  CONTROL_VIEW,
  Context,
  PLACEHOLDER_VIEW,
  requestNumber,
  type Services,
  SNAPSHOT_VIEW,
  VIEW_SHIFT_HI,
} from './context.ts';
import { serveControl } from './handlers/control.ts';
import { servePlaceholder } from './handlers/placeholder.ts';
import { type HandlerRow, handlerTable } from './handlers/table.ts';
import { NO_REPLY, PARKED, PAYLOAD } from './session.ts';
import { CONTROL_SERIES, type Traffic } from './traffic.ts';
import { inHeader, interruptIn } from './wire/abi.ts';
import { UNIQUE_RESEND_HI } from './wire/flags.ts';
import { OPCODE, operationOf } from './wire/operations.ts';

/** What the dispatcher needs of the journal and the rest, each a plain call. */
export interface DispatchParts {
  readonly workspace: Workspace;
  readonly services: Services;
  readonly clock: Clock;
  /** Waits while storage is away. */
  readonly load: (workspace: Workspace, miss: Miss) => Promise<void>;
  /** Loads the names of an inode and of everything above it; rejects at once when storage is away. */
  readonly loadPath: (tree: Workspace, ino: Ino) => Promise<void>;
  /** Whether a change must wait for a commit first. @throws {FsError} where waiting is no use. */
  readonly mustWait: (requestBytes: number) => boolean;
  readonly room: () => Promise<void>;
  /** An operation changed something: keeps its request and its answer for a new daemon, and sees to its commit. */
  readonly accept: (accepted: Accepted) => void;
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
  /** What is counted of the requests. */
  readonly traffic: Traffic;
  readonly auditing: Auditing;
}

/** An operation that changed something, as it was asked for and answered. */
export interface Accepted {
  readonly sequence: number;
  readonly timeMs: number;
  /** The request is the first `requestBytes` of it. */
  readonly request: Buffer;
  readonly requestBytes: number;
  /** The answer starts at `answerAt` of it. */
  readonly answer: Buffer;
  readonly answerAt: number;
  /** Bytes of the answer; without any, its errno as a negative number, or 0. */
  readonly result: number;
}

/** What an earlier daemon carried out and may not have answered. */
export interface Carried {
  readonly sequence: number;
  readonly timeMs: number;
  readonly request: Buffer;
  readonly answer: Buffer | number;
}

/** Events of a request that is answered later. */
interface LaterEvents {
  readonly always?: Deferred | undefined;
  readonly onFailure?: Deferred | undefined;
}

/** A request that waits, by its unique number. */
interface Parked {
  readonly request: Buffer;
  /** When it came. */
  readonly startedMs: number;
  readonly sinceMs: number;
  /** Ends what it waits for, where that can be. */
  readonly interrupt: (() => void) | undefined;
  /** Any signal ends it. */
  readonly endless: boolean;
  cancelled: boolean;
}

/** What has become of a request that had to wait. */
interface Attempt {
  /** When it came. */
  readonly sinceMs: number;
  /** How often it has waited for the names of its paths, and whether those could not be had the last time. */
  readonly pathLoads: number;
  pathFailed: boolean;
}

/**
 * A request that needs more tries than this for the names of its paths goes on without: its paths are at most two, and
 * it may find that what it has loaded has left the cache again.
 */
const MOST_PATH_LOADS = 6;

/** How often those that got a signal while they waited are looked at for one that ends them. */
const KILL_CHECK_MS = 250;

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
  /** Answers of an earlier daemon's operations, for those who still wait for them. */
  #answers: Map<number, KeptAnswer> | undefined;
  #timeMs = 0;
  /** When the request being served came, on the monotonic clock. */
  #startedMs = 0;
  /** Of the running request, if it had to wait. */
  #attempt: Attempt | undefined;
  #gate: { readonly opened: Promise<void>; readonly open: () => void } | undefined;
  readonly #accepted: { -readonly [K in keyof Accepted]: Accepted[K] };
  /** Those among the parked that a signal has reached; the kernel tells of the first one only. */
  readonly #signalled = new Map<number, Parked>();
  #killCheck: NodeJS.Timeout | undefined;

  constructor(parts: DispatchParts) {
    this.#parts = parts;
    this.#context = new Context(parts.workspace, parts.services);
    this.#rows = handlerTable(parts.setxattrExtended);
    const nothing = Buffer.alloc(0);
    this.#accepted = {
      sequence: 0,
      timeMs: 0,
      request: nothing,
      requestBytes: 0,
      answer: nothing,
      answerAt: PAYLOAD,
      result: 0,
    };
  }

  /** Serves a request as it came from the kernel. See `Serve` of session.ts. */
  serve(request: Buffer, length: number, reply: Buffer): number {
    return this.#serveSince(performance.now(), request, length, reply);
  }

  #serveSince(startedMs: number, request: Buffer, length: number, reply: Buffer): number {
    this.#startedMs = startedMs;
    const result = this.#serve(request, length, reply);
    if (result !== PARKED) this.#record(startedMs, this.#series, result === NO_REPLY ? 0 : result, length);
    return result;
  }

  get #series(): number {
    return this.#context.view === CONTROL_VIEW ? CONTROL_SERIES : this.#context.header.opcode;
  }

  #record(startedMs: number, series: number, result: number, requestBytes: number): void {
    this.#parts.traffic.record(series, performance.now() - startedMs, result, requestBytes);
  }

  #serve(request: Buffer, length: number, reply: Buffer): number {
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
    const { auditing, workspace } = this.#parts;
    const row = this.#rows[context.header.opcode];
    if (row === undefined) return -errno.ENOSYS;
    auditing.drop();
    try {
      if (context.end < 40 + row.argumentBytes) throw new FsError('EIO', 'the request is too short');
      if (context.view === CONTROL_VIEW) {
        this.#beginAuditing();
        return this.#finish(serveControl(context), length);
      }
      if (context.view === PLACEHOLDER_VIEW) return this.#finish(servePlaceholder(context), length);
      if (this.#gate !== undefined) return this.#park(length, this.#gate.opened);
      if (auditing.mustWait(context)) return this.#park(length, auditing.room());
      const isThere = context.enterTree();
      this.#beginAuditing();
      if (!isThere) return row.forgets ? NO_REPLY : this.#refuse(-errno.ESTALE);
      if (row.changes(context)) {
        if (context.frozen !== undefined) return this.#refuse(refusal(context));
        if (this.#parts.mustWait(length)) return this.#park(length, this.#parts.room());
        this.#timeMs = this.#parts.clock.now();
        workspace.setTime(this.#timeMs);
      }
      return this.#finish(row.handle(context), length);
    } catch (problem) {
      if (problem instanceof PathMissing) return this.#parkForPath(length, problem);
      if (problem instanceof Missing) {
        if (problem.miss.kind === 'chunks') this.#parts.traffic.chunkMisses++;
        else this.#parts.traffic.metadataMisses++;
        return this.#park(length, this.#parts.load(context.workspace, problem.miss));
      }
      const failed = this.#failed(problem);
      const result = row.forgets ? NO_REPLY : failed;
      if (workspace.mutated) this.#accept(length, result);
      auditing.end(context, failed);
      return result;
    }
  }

  #beginAuditing(): void {
    const attempt = this.#attempt;
    const mayMiss = attempt === undefined || (!attempt.pathFailed && attempt.pathLoads < MOST_PATH_LOADS);
    this.#parts.auditing.begin(this.#context, attempt?.sinceMs, mayMiss);
  }

  #refuse(result: number): number {
    this.#parts.auditing.end(this.#context, result);
    return result;
  }

  /** What is left to do once a handler has returned. */
  #finish(result: number, length: number): number {
    const { workspace, strict, services, auditing } = this.#parts;
    const context = this.#context;
    auditing.answered(context, result);
    if (workspace.mutated) {
      this.#accept(length, result);
      if (strict && result !== NO_REPLY) context.after ??= services.sync();
      // It's done, whatever becomes of its commit.
      const commit = context.after === undefined ? undefined : auditing.copy(context, 'commit');
      auditing.end(context, result);
      if (context.after !== undefined) return this.#answerAfter(context.after, result, { onFailure: commit });
    }
    if (context.after !== undefined)
      return this.#answerAfter(context.after, result, { always: auditing.copy(context) });
    auditing.end(context, result);
    return result;
  }

  #accept(length: number, result: number): void {
    const { workspace, accept } = this.#parts;
    workspace.mutated = false;
    workspace.sequence++;
    const accepted = this.#accepted;
    accepted.sequence = workspace.sequence;
    accepted.timeMs = this.#timeMs;
    accepted.request = this.#context.request;
    accepted.requestBytes = length;
    accepted.answer = this.#context.reply;
    accepted.result = result;
    accept(accepted);
  }

  /** Errors become errnos here and nowhere else. */
  #failed(problem: unknown): number {
    if (problem instanceof FsError && problem.code !== 'EIO') return -problem.errno;
    const { header } = this.#context;
    const name = operationOf(header.opcode)?.name ?? `opcode ${header.opcode}`;
    this.#parts.onDefect(`${name} of inode ${this.#context.ino}`, problem);
    return -errno.EIO;
  }

  /** As `#park`, for names that no operation but its event needs: without them it goes on. */
  #parkForPath(length: number, { tree, ino }: PathMissing): number {
    const attempt = this.#nextAttempt(1);
    const ready = this.#parts.loadPath(tree, ino).catch(() => {
      attempt.pathFailed = true;
    });
    return this.#parkAs(attempt, length, ready);
  }

  #nextAttempt(pathLoads: number): Attempt {
    const before = this.#attempt;
    return {
      sinceMs: before?.sinceMs ?? this.#parts.clock.now(),
      pathLoads: (before?.pathLoads ?? 0) + pathLoads,
      pathFailed: false,
    };
  }

  /** Keeps a copy of the request and serves it again, as a whole, when `ready` resolves. */
  #park(length: number, ready: Promise<void>): number {
    return this.#parkAs(this.#nextAttempt(0), length, ready);
  }

  #parkAs(attempt: Attempt, length: number, ready: Promise<void>): number {
    const request = Buffer.from(this.#context.request.subarray(0, length));
    const { uniqueLo, uniqueHi } = this.#context.header;
    const forgets = this.#rows[this.#context.header.opcode]?.forgets === true;
    const { sinceMs } = attempt;
    const waits = { startedMs: this.#startedMs, sinceMs, interrupt: undefined, endless: false };
    const parked: Parked = { request, ...waits, cancelled: false };
    const key = requestNumber(uniqueLo, uniqueHi);
    this.#parked.set(key, parked);
    const again = (result: () => number) => {
      if (parked.cancelled) return;
      this.#parked.delete(key);
      this.#attempt = attempt;
      const code = result();
      this.#attempt = undefined;
      if (code !== NO_REPLY && code !== PARKED && !forgets) this.#parts.reply(uniqueLo, uniqueHi, code);
    };
    ready.then(
      () => again(() => this.#serveSince(parked.startedMs, request, request.length, this.#parts.replyBuffer())),
      (problem: unknown) =>
        again(() => {
          this.#context.take(request, request.length, this.#parts.replyBuffer());
          if (this.#context.view < PLACEHOLDER_VIEW) this.#context.enterTree();
          this.#parts.auditing.begin(this.#context, sinceMs, false);
          return this.#refuse(this.#failed(problem));
        }),
    );
    return PARKED;
  }

  /**
   * Answers when `after` resolves: with what was built, or with the bytes that it resolves to. Then there's an event to
   * record, `always` or `onFailure`. Returns PARKED.
   */
  #answerAfter(after: Promise<unknown>, result: number, event: LaterEvents): number {
    const { uniqueLo, uniqueHi } = this.#context.header;
    const built = result > 0 ? Buffer.from(this.#context.reply.subarray(PAYLOAD, PAYLOAD + result)) : undefined;
    const request = Buffer.from(this.#context.request.subarray(0, 40));
    const key = requestNumber(uniqueLo, uniqueHi);
    const { auditing, clock } = this.#parts;
    const { interrupt, endless } = this.#context;
    const waits = { startedMs: this.#startedMs, sinceMs: clock.now(), interrupt, endless };
    const parked: Parked = { request, ...waits, cancelled: false };
    const series = this.#series;
    const requestBytes = this.#context.header.len;
    this.#parked.set(key, parked);
    const answer = (code: number, bytes: Buffer | undefined) => {
      const deferred = event.always ?? (code < 0 ? event.onFailure : undefined);
      if (deferred !== undefined) auditing.complete(deferred, code);
      if (parked.cancelled) return;
      this.#parked.delete(key);
      this.#record(parked.startedMs, series, code, requestBytes);
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
    return PARKED;
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
    const key = requestNumber(uniqueLo, uniqueHi);
    const parked = this.#parked.get(key);
    if (parked === undefined) return NO_REPLY;
    if (parked.endless) {
      this.#answerInterrupted(key, parked);
      return NO_REPLY;
    }
    if (this.#letGo(key, parked)) return NO_REPLY;
    this.#signalled.set(key, parked);
    this.#killCheck ??= setInterval(() => this.#checkSignalled(), KILL_CHECK_MS).unref();
    return NO_REPLY;
  }

  /** Ends the wait of a process that was killed; false for another. */
  #letGo(key: number, parked: Parked): boolean {
    const { request } = parked;
    if (!this.#parts.isKilled(request.readUInt32LE(32))) return false;
    this.#answerInterrupted(key, parked);
    return true;
  }

  #answerInterrupted(key: number, parked: Parked): void {
    parked.interrupt?.();
    parked.cancelled = true;
    this.#parked.delete(key);
    this.#parts.reply(parked.request.readUInt32LE(8), parked.request.readUInt32LE(12), -errno.EINTR);
  }

  #checkSignalled(): void {
    for (const [key, parked] of this.#signalled)
      if (this.#parked.get(key) !== parked || this.#letGo(key, parked)) this.#signalled.delete(key);
    if (this.#signalled.size > 0) return;
    clearInterval(this.#killCheck);
    this.#killCheck = undefined;
  }

  /** From now on requests on the tree wait, until `openGate`; what is being loaded for them goes on. */
  closeGate(): void {
    if (this.#gate !== undefined) throw new Error('the gate is closed already');
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#gate = { opened, open };
  }

  /** Has the kernel keep what it's told from now on, or ask every time. */
  setCaching(on: boolean): void {
    this.#context.setCaching(on);
  }

  openGate(): void {
    this.#gate?.open();
    this.#gate = undefined;
  }

  /** Whether there are writes to the tree that wait for something. */
  get hasParkedWrites(): boolean {
    for (const { request } of this.#parked.values()) {
      const { opcode, nodeidHi } = inHeader.decode(request, 0);
      if (opcode === OPCODE.WRITE && nodeidHi >>> VIEW_SHIFT_HI !== CONTROL_VIEW) return true;
    }
    return false;
  }

  /** Whether nothing waits any more. */
  get idle(): boolean {
    return this.#parked.size === 0;
  }

  /**
   * Carries an operation out again, at the time it had. Its answer is kept for whoever still waits.
   *
   * @throws what loading throws; {Error} when it doesn't lead where it led before.
   */
  async replay({ sequence, timeMs, request, answer }: Carried): Promise<void> {
    const { workspace, strict, auditing } = this.#parts;
    const context = this.#context;
    const result = typeof answer === 'number' ? answer : answer.length;
    for (let pathLoads = 0; ; ) {
      context.take(request, request.length, this.#parts.replyBuffer());
      this.#timeMs = timeMs;
      workspace.setTime(timeMs);
      try {
        if (auditing.isNew(sequence)) auditing.begin(context, timeMs, pathLoads < MOST_PATH_LOADS);
        else auditing.drop();
        this.#rows[context.header.opcode]?.handle(context);
      } catch (problem) {
        if (problem instanceof PathMissing) {
          pathLoads++;
          await this.#parts.loadPath(problem.tree, problem.ino).catch(() => {});
          continue;
        }
        if (problem instanceof Missing) {
          await this.#parts.load(workspace, problem.miss);
          continue;
        }
        // It failed before, too, after it had changed something.
      }
      break;
    }
    if (!workspace.mutated)
      throw new Error(`request ${sequence} of the local log changed nothing when carried out again`);
    workspace.mutated = false;
    workspace.sequence++;
    if (workspace.sequence !== sequence)
      throw new Error(`the local log goes on with ${sequence} where ${workspace.sequence} was due`);
    auditing.end(context, result);
    // A handler that has its answer wait has begun to wait for it; here that's done when there's someone to answer.
    context.after?.catch(() => {});
    this.#keepAnswer(request, answer, strict || context.after !== undefined);
  }

  /** Keeps the answer of an operation that is committed, for whoever still waits for it. */
  remember({ request, answer }: Carried): void {
    this.#keepAnswer(request, answer, false);
  }

  #keepAnswer(request: Buffer, answer: Buffer | number, waits: boolean): void {
    this.#answers ??= new Map();
    this.#answers.set(requestNumber(request.readUInt32LE(8), request.readUInt32LE(12)), { answer, waits });
  }

  /** Nobody waits for answers from before any more. */
  forgetAnswers(): void {
    this.#answers = undefined;
  }

  /** The answer of a request that an earlier daemon carried out without answering it. */
  #answered(reply: Buffer): number | undefined {
    const { uniqueLo, uniqueHi } = this.#context.header;
    if ((uniqueHi & UNIQUE_RESEND_HI) === 0) return undefined;
    const kept = this.#answers?.get(requestNumber(uniqueLo, uniqueHi));
    if (kept === undefined) return undefined;
    const { answer, waits } = kept;
    const result = typeof answer === 'number' ? answer : answer.copy(reply, PAYLOAD);
    if (!waits) return result;
    return this.#answerAfter(this.#parts.services.sync(), result, {});
  }
}

interface KeptAnswer {
  readonly answer: Buffer | number;
  /** It tells that the operation is committed. */
  readonly waits: boolean;
}

/** Why something in a frozen tree can't be changed. A copy out of it is left to the kernel, which reads and writes. */
function refusal(context: Context): number {
  if (context.header.opcode === OPCODE.COPY_FILE_RANGE || context.header.opcode === OPCODE.COPY_FILE_RANGE_64)
    return -errno.EXDEV;
  return context.view >= SNAPSHOT_VIEW ? -errno.EROFS : -errno.ESTALE;
}
