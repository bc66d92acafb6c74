/** Delta debugging: the fewest steps of a sequence that still fail (Zeller and Hildebrandt, ddmin). */

export interface ShrinkLimits {
  readonly tries: number;
  readonly milliseconds: number;
}

export interface Shrunk<T> {
  readonly steps: readonly T[];
  readonly tries: number;
  /** No single step can be left out; false when a limit ended the search. */
  readonly minimal: boolean;
}

/**
 * Leaves out ever smaller pieces of the sequence while `fails` still says yes.
 *
 * @param fails whether these steps, from a fresh start, still fail in the same way
 */
export async function shrink<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => Promise<boolean>,
  limits: ShrinkLimits,
): Promise<Shrunk<T>> {
  const deadline = performance.now() + limits.milliseconds;
  let current = steps;
  let tries = 0;
  let pieces = 2;
  while (current.length > 1) {
    const size = Math.ceil(current.length / pieces);
    let shorter: readonly T[] | undefined;
    // From the end: what matters most lies close to the failure, so early pieces are left out last.
    for (let start = 0; start < current.length && shorter === undefined; start += size) {
      if (tries >= limits.tries || performance.now() > deadline) return { steps: current, tries, minimal: false };
      const rest = [...current.slice(0, start), ...current.slice(start + size)];
      tries++;
      if (await fails(rest)) shorter = rest;
    }
    if (shorter !== undefined) {
      current = shorter;
      pieces = Math.max(2, pieces - 1);
    } else if (size > 1) pieces = Math.min(current.length, pieces * 2);
    else break;
  }
  return { steps: current, tries, minimal: true };
}
