import type { Programs } from '../build.ts';
import type { Goal } from '../goals.ts';
import type { Target } from '../targets/target.ts';
import type { Archive } from '../tree/archive.ts';

/** Of a row's figures: rates are better when larger, seconds when smaller. */
export type Unit = 'ops/s' | 'MB/s' | 's';

/** One line of the table. */
export interface Row {
  readonly name: string;
  readonly unit: Unit;
  readonly goals: readonly Goal[];
}

/**
 * What the caches hold when a step starts: whatever the steps before left there; nothing of the target's and the
 * kernel's, the database's own memory aside; or nothing at all, because the target was stopped and started.
 */
export type Temperature = 'as it is' | 'cold' | 'restarted';

/** Where a step works. */
export interface Place {
  readonly target: Target;
  /** The suite's own directory on the target; new in each round. */
  readonly directory: string;
  readonly round: number;
  readonly programs: Programs;
  readonly signal: AbortSignal;
  /** The archive of the round: no two rounds unpack the same bytes, which would be stored once. */
  archive(): Promise<Archive>;
}

/** A measured action. Everything dirty is on the disk, and the caches are as `temperature` says, when it starts. */
export interface Step {
  readonly rows: readonly Row[];
  /** Names of rows whose steps must run before in the same directory. */
  readonly needs: readonly string[];
  readonly temperature: Temperature;
  /** Makes what the action needs. Outside of the time. */
  prepare?(place: Place): Promise<void>;
  /** Returns a figure for each row. @throws {Error} when the result isn't right. */
  measure(place: Place): Promise<readonly number[]>;
}

/** Steps that share a directory. */
export interface Suite {
  readonly name: string;
  /** Targets it runs on beside plain and Tarbox. */
  readonly opponents: readonly string[];
  readonly steps: readonly Step[];
}
