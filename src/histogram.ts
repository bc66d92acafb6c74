/** Durations are sorted by ticks of 100 ns; each power of two of them has four buckets, so a bucket is 25 % wide. */
const TICKS_PER_MS = 10_000;
const MAX_TICKS = 2 ** 31 - 1;
const BUCKETS = 128;

/** What a series of durations came to. */
export interface Durations {
  readonly count: number;
  readonly totalMs: number;
  readonly maxMs: number;
}

/** The bucket of a duration of so many ticks. */
function bucketOf(ticks: number): number {
  const exponent = 31 - Math.clz32(ticks | 1);
  return exponent < 2 ? ticks : exponent * 4 + ((ticks >>> (exponent - 2)) & 3);
}

/** The duration below which all of a bucket is. */
function endOf(bucket: number): number {
  const exponent = bucket >>> 2;
  const ticks = exponent < 2 ? bucket + 1 : 2 ** (exponent - 2) * (4 + (bucket & 3) + 1);
  return ticks / TICKS_PER_MS;
}

/**
 * How long things took, in several series. Recording allocates nothing and costs some nanoseconds; what is read from it is
 * at most 25 % too long. Durations above 214 s count as that.
 */
export class Histogram {
  readonly #buckets: Float64Array;
  readonly #counts: Float64Array;
  readonly #totalMs: Float64Array;
  readonly #maxMs: Float64Array;

  constructor(series: number) {
    this.#buckets = new Float64Array(series * BUCKETS);
    this.#counts = new Float64Array(series);
    this.#totalMs = new Float64Array(series);
    this.#maxMs = new Float64Array(series);
  }

  record(series: number, ms: number): void {
    const ticks = Math.min(Math.max(ms * TICKS_PER_MS, 0), MAX_TICKS) | 0;
    const at = series * BUCKETS + bucketOf(ticks);
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1;
    this.#counts[series] = (this.#counts[series] ?? 0) + 1;
    this.#totalMs[series] = (this.#totalMs[series] ?? 0) + ms;
    if (ms > (this.#maxMs[series] ?? 0)) this.#maxMs[series] = ms;
  }

  of(series: number): Durations {
    return {
      count: this.#counts[series] ?? 0,
      totalMs: this.#totalMs[series] ?? 0,
      maxMs: this.#maxMs[series] ?? 0,
    };
  }

  /** The counts of all series, for the rate since then. */
  counts(): Float64Array {
    return this.#counts.slice();
  }

  /** The duration that a share of them, 0 to 1, didn't exceed; 0 where there are none. */
  quantileMs(series: number, share: number): number {
    const { count, maxMs } = this.of(series);
    const rank = Math.ceil(count * share);
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS && count > 0; bucket++) {
      seen += this.#buckets[series * BUCKETS + bucket] ?? 0;
      if (seen >= rank) return Math.min(endOf(bucket), maxMs);
    }
    return 0;
  }

  /** How many are in the buckets that end at these durations or before; the bounds rise. */
  below(series: number, boundsMs: readonly number[]): number[] {
    const counts = boundsMs.map(() => 0);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const found = this.#buckets[series * BUCKETS + bucket] ?? 0;
      if (found === 0) continue;
      for (const [at, bound] of boundsMs.entries())
        if (endOf(bucket) <= bound * 1.0001) counts[at] = (counts[at] ?? 0) + found;
    }
    return counts;
  }
}
