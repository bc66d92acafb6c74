import { FsError } from '../errno.ts';
import { eventJson, type Telling, timeText, word } from './format.ts';
import type { AuditLog } from './log.ts';
import { operationName } from './operations.ts';
import type { AuditStore, Count, Filter } from './port.ts';
import { answerQuery, findEvents, parseQuery, type QueryContext } from './query.ts';
import { RecentLines } from './recent.ts';
import { followEvents } from './stream.ts';

export interface AuditFilesParts {
  readonly log: AuditLog;
  readonly store: AuditStore;
  /** Stores what was recorded before the call. @throws {StoreError}; the signal's reason */
  readonly flush: (signal: AbortSignal) => Promise<void>;
  readonly telling: Telling;
  readonly now: () => number;
  readonly layerOf: QueryContext['layerOf'];
  readonly retentionDays: () => number;
}

const DAY_MS = 86_400_000;
const NAMES = 1000;
/** How long what is asked waits for events to be stored; the database may be away. */
const FLUSH_MS = 10_000;
/** Rows of each kind in `stats`. */
const MOST_COUNTS = 100;

/** What the files of `audit/` tell. */
export class AuditFiles {
  readonly #parts: AuditFilesParts;
  readonly #recent: RecentLines;

  constructor(parts: AuditFilesParts) {
    this.#parts = parts;
    this.#recent = new RecentLines(parts.log);
  }

  /** The newest operations, a line each, from memory. */
  recent(): string {
    return this.#recent.text();
  }

  /** The operations that a query asks for, up to this moment. @throws {FsError} EINVAL, ENOENT, EAGAIN, EFBIG, EIO, EINTR */
  async query(text: string, signal: AbortSignal): Promise<string> {
    const { store, telling, now, layerOf } = this.#parts;
    const query = parseQuery(text, { nowMs: now(), layerOf });
    await this.#flush(signal);
    return answerQuery(store, { ...query, filter: this.#kept(query.filter) }, telling, signal);
  }

  /** As far back as events are kept: a table of a day may hold older ones of ours, for the sake of other tenants. */
  #kept(filter: Filter): Filter & { readonly sinceUs: number } {
    const { now, retentionDays } = this.#parts;
    const firstUs = (Math.floor(now() / DAY_MS) - retentionDays()) * DAY_MS * 1000;
    return { ...filter, sinceUs: Math.max(filter.sinceUs ?? firstUs, firstUs) };
  }

  async #flush(signal: AbortSignal): Promise<void> {
    const patience = AbortSignal.any([signal, AbortSignal.timeout(FLUSH_MS)]);
    try {
      await this.#parts.flush(patience);
    } catch (problem) {
      signal.throwIfAborted();
      const reason = problem instanceof Error ? problem.message : String(problem);
      throw new FsError('EIO', `the newest operations cannot be stored: ${reason}`, { cause: problem });
    }
  }

  /** What a path is: operations on it, or on what is below it. Paths are byte strings. */
  async find(path: string): Promise<{ readonly directory: boolean } | undefined> {
    const signal = AbortSignal.timeout(FLUSH_MS);
    await this.#flush(signal);
    const found = await this.#parts.store.find(Buffer.from(path, 'latin1'), signal);
    return found.itself || found.below ? { directory: found.below } : undefined;
  }

  async names(path: string): Promise<readonly { readonly name: string; readonly directory: boolean }[]> {
    const signal = AbortSignal.timeout(FLUSH_MS);
    await this.#flush(signal);
    const names = await this.#parts.store.names(Buffer.from(path, 'latin1'), NAMES, signal);
    return names.map(({ name, directory }) => ({ name: name.toString('latin1'), directory }));
  }

  /** A JSON array of the operations on one path, newest first. */
  async *operations(path: string, signal: AbortSignal): AsyncGenerator<Buffer> {
    const { store, telling } = this.#parts;
    await this.#flush(signal);
    const filter = this.#kept({ path: Buffer.from(path, 'latin1'), newestFirst: true });
    let lead = '[';
    for await (const page of findEvents(store, { filter, glob: undefined }, signal)) {
      if (page.length === 0) continue;
      yield Buffer.from(`${lead}${page.map((event) => eventJson(event, telling)).join(',\n')}`);
      lead = ',\n';
    }
    yield Buffer.from(lead === '[' ? '[]\n' : ']\n');
  }

  /** Tells of operations from this moment on. */
  stream(): (signal: AbortSignal) => AsyncGenerator<Buffer> {
    const { log, telling } = this.#parts;
    const from = log.ring.count;
    return (signal) => followEvents(log, from, telling, signal);
  }

  /** Counts of the operations of the last day. @throws {FsError} EAGAIN, EIO, EINTR */
  async stats(signal: AbortSignal): Promise<string> {
    const { store, now, log } = this.#parts;
    await this.#flush(signal);
    const untilMs = now();
    const { sinceUs } = this.#kept({ sinceUs: Math.floor((untilMs - DAY_MS) * 1000), newestFirst: true });
    const counts = await store.counts(sinceUs, signal);
    const of = (by: Count['by'], name: (count: Count) => string) =>
      counts
        .filter((count) => count.by === by)
        .slice(0, MOST_COUNTS)
        .map((count) => ({ [by]: name(count), events: count.events, failed: count.failed }));
    const hours = of('hour', ({ hourUs }) => timeText(hourUs ?? 0));
    const text = {
      since: timeText(sinceUs),
      until: timeText(Math.floor(untilMs * 1000)),
      events: hours.reduce((sum, { events }) => sum + Number(events), 0),
      failed: hours.reduce((sum, { failed }) => sum + Number(failed), 0),
      dropped_since_start: log.drops,
      by_op: of('op', ({ op }) => operationName(op ?? 0)),
      by_uid: of('uid', ({ uid }) => String(uid)),
      by_comm: of('comm', ({ comm }) => word(comm)),
      by_prefix: of('prefix', ({ prefix }) => word(prefix)),
      by_hour: hours.sort((a, b) => (String(a['hour']) < String(b['hour']) ? -1 : 1)),
    };
    return `${JSON.stringify(text, undefined, 2)}\n`;
  }
}
