import { diffArrays } from 'diff';

/** Lines of one text that are lines of the other, too, in a row. */
export interface Run {
  readonly a: number;
  readonly b: number;
  readonly length: number;
}

/**
 * What may still be spent on shortest diffs, in steps of the algorithm: what it costs doesn't depend on how fast the
 * machine is, so that the same texts always have the same diff.
 */
export interface Budget {
  steps: number;
}

/** A second or two. */
export const FULL_BUDGET_STEPS = 10_000_000;
/** Edits between two texts beyond which they're split where lines that occur once in each agree. */
const MOST_EDITS = 1500;

/**
 * Lines that stay, in order, as many as can be found within the budget: a longest common subsequence for texts with few
 * differences.
 */
export function commonRuns(a: readonly string[], b: readonly string[], budget: Budget): Run[] {
  const runs: Run[] = [];
  const add = (run: Run) => {
    const last = runs[runs.length - 1];
    if (last !== undefined && last.a + last.length === run.a && last.b + last.length === run.b)
      runs[runs.length - 1] = { ...last, length: last.length + run.length };
    else if (run.length > 0) runs.push(run);
  };
  // Ranges still to be looked at, the next one last; a Run among them is settled.
  const pending: (Range | Run)[] = [{ aFrom: 0, aTo: a.length, bFrom: 0, bTo: b.length }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop())
    if ('length' in next) add(next);
    else for (const part of splitRange(a, b, next, budget).reverse()) pending.push(part);
  return runs;
}

interface Range {
  readonly aFrom: number;
  readonly aTo: number;
  readonly bFrom: number;
  readonly bTo: number;
}

/** The parts of a range in order: what is the same at its ends, and what is found between. */
function splitRange(a: readonly string[], b: readonly string[], range: Range, budget: Budget): (Range | Run)[] {
  let { aFrom, aTo, bFrom, bTo } = range;
  while (aFrom < aTo && bFrom < bTo && a[aFrom] === b[bFrom]) {
    aFrom++;
    bFrom++;
  }
  while (aFrom < aTo && bFrom < bTo && a[aTo - 1] === b[bTo - 1]) {
    aTo--;
    bTo--;
  }
  const before: Run = { a: range.aFrom, b: range.bFrom, length: aFrom - range.aFrom };
  const after: Run = { a: aTo, b: bTo, length: range.aTo - aTo };
  if (aFrom === aTo || bFrom === bTo) return [before, after];
  const middle = { aFrom, aTo, bFrom, bTo };
  return [before, ...(shortest(a, b, middle, budget) ?? anchored(a, b, middle)), after];
}

/** The runs of a shortest diff; undefined when that takes too long. */
function shortest(a: readonly string[], b: readonly string[], range: Range, budget: Budget): Run[] | undefined {
  // Lines that only one of them has can't be in common: without them there's less to do, and the result is the same.
  const inA = new Set(a.slice(range.aFrom, range.aTo));
  const inB = new Set(b.slice(range.bFrom, range.bTo));
  const fromA = indexesOf(a, range.aFrom, range.aTo, inB);
  const fromB = indexesOf(b, range.bFrom, range.bTo, inA);
  if (fromA.length === 0 || fromB.length === 0) return [];
  const most = Math.min(MOST_EDITS, Math.floor(Math.sqrt(Math.max(0, budget.steps) * 2)));
  const changes = diffArrays(
    fromA.map((index) => a[index]),
    fromB.map((index) => b[index]),
    { maxEditLength: most },
  );
  if (changes === undefined) {
    budget.steps -= most ** 2 / 2;
    return undefined;
  }
  const runs: Run[] = [];
  let edits = 0;
  let atA = 0;
  let atB = 0;
  for (const { added, removed, count } of changes) {
    if (added || removed) edits += count;
    else for (let n = 0; n < count; n++) runs.push({ a: fromA[atA + n] ?? 0, b: fromB[atB + n] ?? 0, length: 1 });
    if (!added) atA += count;
    if (!removed) atB += count;
  }
  budget.steps -= edits ** 2 / 2;
  return runs;
}

function indexesOf(lines: readonly string[], from: number, to: number, wanted: ReadonlySet<string>): number[] {
  const found: number[] = [];
  for (let index = from; index < to; index++) if (wanted.has(lines[index] ?? '')) found.push(index);
  return found;
}

/**
 * Splits a range at lines that occur once in each text, as "patience diff" does: the longest series of them that is in
 * the same order in both. Without any, nothing in it is taken for common.
 */
function anchored(a: readonly string[], b: readonly string[], range: Range): (Range | Run)[] {
  const anchors = longestRising(uniquePairs(a, b, range));
  const parts: (Range | Run)[] = [];
  let { aFrom, bFrom } = range;
  for (const pair of anchors) {
    parts.push({ aFrom, aTo: pair.a, bFrom, bTo: pair.b }, { ...pair, length: 1 });
    aFrom = pair.a + 1;
    bFrom = pair.b + 1;
  }
  if (anchors.length > 0) parts.push({ aFrom, aTo: range.aTo, bFrom, bTo: range.bTo });
  return parts;
}

interface Pair {
  readonly a: number;
  readonly b: number;
}

const TWICE = -1;

/** Lines that occur once in each text, in the order of the first. */
function uniquePairs(a: readonly string[], b: readonly string[], range: Range): Pair[] {
  const inA = onceIn(a, range.aFrom, range.aTo);
  const inB = onceIn(b, range.bFrom, range.bTo);
  const pairs: Pair[] = [];
  for (const [line, index] of inA) {
    const other = inB.get(line) ?? TWICE;
    if (index !== TWICE && other !== TWICE) pairs.push({ a: index, b: other });
  }
  return pairs.sort((one, other) => one.a - other.a);
}

function onceIn(lines: readonly string[], from: number, to: number): Map<string, number> {
  const found = new Map<string, number>();
  for (let index = from; index < to; index++) {
    const line = lines[index] ?? '';
    found.set(line, found.has(line) ? TWICE : index);
  }
  return found;
}

/** The longest series of these whose `b` rises, by patience sorting. */
function longestRising(pairs: readonly Pair[]): Pair[] {
  const ends: number[] = [];
  const previous = new Int32Array(pairs.length);
  for (const [index, { b }] of pairs.entries()) {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((pairs[ends[middle] ?? 0]?.b ?? 0) < b) low = middle + 1;
      else high = middle;
    }
    previous[index] = ends[low - 1] ?? -1;
    ends[low] = index;
  }
  const series: Pair[] = [];
  for (let at = ends[ends.length - 1] ?? -1; at >= 0; at = previous[at] ?? -1) {
    const pair = pairs[at];
    if (pair !== undefined) series.push(pair);
  }
  return series.reverse();
}
