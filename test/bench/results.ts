import type { LayerResults } from './layers/measure.ts';
import type { Machine } from './machine.ts';
import type { Options } from './options.ts';
import type { Resident } from './resident.ts';
import type { StorageResults } from './storage/measure.ts';
import type { Row, Unit } from './workloads/workload.ts';

/** One measurement. */
export interface Sample {
  readonly row: string;
  readonly unit: Unit;
  readonly target: string;
  readonly round: number;
  /** In the row's unit; undefined when it failed. */
  readonly value: number | undefined;
  /** Processor seconds that the target's processes used meanwhile, by role. */
  readonly processor: Readonly<Record<string, number>>;
  /** Why it failed. */
  readonly failure?: string;
}

export interface TargetNote {
  readonly name: string;
  readonly subject: boolean;
  readonly description: string;
}

/** Everything that a run of the bench found out. */
export interface Results {
  readonly machine: Machine;
  readonly options: Options;
  readonly targets: readonly TargetNote[];
  /** Targets that were left out, and why. */
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
  readonly rows: readonly Row[];
  readonly samples: readonly Sample[];
  readonly resident: readonly Resident[];
  readonly layers: readonly LayerResults[];
  /** Undefined when it wasn't asked for. */
  readonly storage: StorageResults | undefined;
}

/** The middle of the measurements of a row on a target; undefined where there is none, or one failed. */
export function medianOf(samples: readonly Sample[], row: string, target: string): number | undefined {
  const found = samples.filter((sample) => sample.row === row && sample.target === target);
  const values = found.map(({ value }) => value).filter((value) => value !== undefined);
  return values.length < found.length ? undefined : median(values);
}

/** How many times as fast `value` is as `reference`; above 1 is faster. */
export function speedRatio(unit: Unit, value: number, reference: number): number {
  return unit === 's' ? reference / value : value / reference;
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  return upper === undefined || lower === undefined ? undefined : (lower + upper) / 2;
}
