/** Where the time comes from. Tests and log replay bring their own. */
export interface Clock {
  /** Wall-clock time in milliseconds since 1970, with a fraction; never runs backwards by less than a second. */
  now(): number;
}

const RECALIBRATE_MS = 1000;

/**
 * The system's clock with sub-millisecond steps: the monotonic clock, set to the wall clock once a second,
 * so that two operations in one millisecond still get distinct, ordered times.
 */
export function systemClock(): Clock {
  let offset = Date.now() - performance.now();
  let calibratedAt = performance.now();
  return {
    now() {
      const monotonic = performance.now();
      if (monotonic - calibratedAt > RECALIBRATE_MS) {
        calibratedAt = monotonic;
        const drift = Date.now() - (monotonic + offset);
        // Date.now() is whole milliseconds: a difference within one is not a change of the clock.
        if (drift > 1 || drift < -1) offset += drift;
      }
      return monotonic + offset;
    },
  };
}
