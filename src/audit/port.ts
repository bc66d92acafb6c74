import type { Event } from './record.ts';

/** Which events are wanted; what is left out doesn't matter. */
export interface Filter {
  /** Codes of operations. */
  readonly ops?: readonly number[];
  /** The path, or the other one of a rename or link, byte for byte. */
  readonly path?: Buffer;
  /** What either path starts with. */
  readonly prefix?: Buffer;
  readonly uid?: number;
  readonly pid?: number;
  readonly comm?: Buffer;
  readonly layer?: number;
  /** An errno; 0 is success, -1 any failure. */
  readonly result?: number;
  /** Microseconds since 1970, half-open. */
  readonly sinceUs?: number;
  readonly untilUs?: number;
  readonly newestFirst: boolean;
}

/** A place among the events. */
export interface Mark {
  readonly timeUs: number;
  readonly event: number;
}

/** One row of the counts. What a count is of is in one field, the others are null. */
export interface Count {
  readonly by: 'op' | 'uid' | 'comm' | 'prefix' | 'hour';
  readonly op: number | null;
  readonly uid: number | null;
  readonly comm: Buffer | null;
  /** The first name of the path, with its slash. */
  readonly prefix: Buffer | null;
  readonly hourUs: number | null;
  readonly events: number;
  readonly failed: number;
}

/**
 * Storage of one tenant's events. Writing and asking are on connections of their own, and the calls of each run one
 * after the other. Writing rejects with {StoreError}; asking with {FsError}: EAGAIN when it took too long, EIO, the
 * reason of `signal`, which also ends what the server does for it.
 */
export interface AuditStore {
  /** Makes the tables of these days, counted from 1970, where there are none. */
  makeDays(days: readonly number[]): Promise<void>;
  /** Stores all these rows of COPY's binary format, durably, or none of them. */
  append(rows: readonly Uint8Array[]): Promise<void>;
  /** The last of the events from one number to another that is stored. */
  lastStored(firstTimeUs: number, firstEvent: number, lastEvent: number): Promise<number | undefined>;
  /**
   * The tenant's events are kept for so many days. Drops the tables of days that no tenant keeps; returns their names.
   */
  retain(days: number, today: number): Promise<readonly string[]>;
  /** At most `limit` events, behind `after` in the order asked for. */
  select(filter: Filter, after: Mark | undefined, limit: number, signal: AbortSignal): Promise<readonly Event[]>;
  /** Whether there are events of a path, and of paths below it. */
  find(path: Buffer, signal: AbortSignal): Promise<{ readonly itself: boolean; readonly below: boolean }>;
  /** Names in a directory that there are events of, at most `limit`. */
  names(
    directory: Buffer,
    limit: number,
    signal: AbortSignal,
  ): Promise<readonly { readonly name: Buffer; readonly directory: boolean }[]>;
  /** Counts of the events since then. */
  counts(sinceUs: number, signal: AbortSignal): Promise<readonly Count[]>;
}
