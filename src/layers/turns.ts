/** Steps of a long computation after which others have their turn: about a millisecond. */
const STEPS = 5000;

/** Lets requests be served in the middle of a long computation. To be called at every step. */
export class Turns {
  #steps = 0;

  step(): Promise<void> | undefined {
    if (++this.#steps % STEPS !== 0) return undefined;
    return new Promise((resolve) => setImmediate(resolve));
  }
}

/** The items in order of their keys (of UTF-16 code units), those with equal keys as they were. */
export async function sortedInTurns<T>(items: readonly T[], keyOf: (item: T) => string): Promise<T[]> {
  const turns = new Turns();
  const compare = (one: T, other: T) => {
    const [a, b] = [keyOf(one), keyOf(other)];
    return a < b ? -1 : a > b ? 1 : 0;
  };
  let runs: T[][] = [];
  for (let from = 0; from < items.length; from += STEPS) {
    runs.push(items.slice(from, from + STEPS).sort(compare));
    await new Promise((resolve) => setImmediate(resolve));
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let at = 0; at < runs.length; at += 2)
      merged.push(await merge(runs[at] ?? [], runs[at + 1] ?? [], compare, turns));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge<T>(
  one: readonly T[],
  other: readonly T[],
  compare: (a: T, b: T) => number,
  turns: Turns,
): Promise<T[]> {
  const all: T[] = [];
  for (let [a, b] = [0, 0]; a < one.length || b < other.length; ) {
    const [left, right] = [one[a], other[b]];
    const takesLeft = right === undefined || (left !== undefined && compare(left, right) <= 0);
    const next = takesLeft ? left : right;
    if (takesLeft) a++;
    else b++;
    if (next !== undefined) all.push(next);
    await turns.step();
  }
  return all;
}
