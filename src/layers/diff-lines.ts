import { type Budget, commonRuns, FULL_BUDGET_STEPS, type Run } from './diff-runs.ts';

/** Lines of one text that lines of another replace; either may be none. Bytes and lines count from 0, half-open. */
export interface Edit {
  readonly aFrom: number;
  readonly aTo: number;
  readonly bFrom: number;
  readonly bTo: number;
  /** Lines before it. */
  readonly aLine: number;
  readonly bLine: number;
  readonly aLines: number;
  readonly bLines: number;
}

const NEWLINE = 10;
/** Up to this many bytes are looked at as a whole. */
const WHOLE_BYTES = 2 * 1024 * 1024;
/** More lines than this aren't looked at one by one. */
const MOST_LINES = 4_000_000;
/** In a larger text, how many lines of each are looked at to find where both go on alike, and how many must then be. */
const WINDOWS = [
  { lines: 200, alike: 20 },
  { lines: 3000, alike: 100 },
] as const;

/**
 * What makes the second text out of the first, line by line, in order. What is the same at the beginning, between
 * changes that are far apart, and at the end costs no more than comparing memory. With few differences nothing is
 * replaced that could stay.
 */
export function lineEdits(a: Buffer, b: Buffer): Edit[] {
  return new Comparison(a, b).run();
}

/** Two texts, compared up to some line of each. */
class Comparison {
  readonly #a: Text;
  readonly #b: Text;
  readonly #edits: Edit[] = [];
  readonly #budget: Budget = { steps: FULL_BUDGET_STEPS };

  constructor(a: Buffer, b: Buffer) {
    this.#a = new Text(a);
    this.#b = new Text(b);
  }

  run(): Edit[] {
    const [a, b] = [this.#a, this.#b];
    const tail = commonTail(a, b);
    a.end -= tail;
    b.end -= tail;
    for (;;) {
      const head = commonHead(a, b);
      const lines = countLines(a.bytes, a.at, a.at + head);
      a.skip(head, lines);
      b.skip(head, lines);
      if (a.left === 0 && b.left === 0) return this.#edits;
      if (a.left === 0 || b.left === 0 || a.left + b.left <= WHOLE_BYTES || !this.#findAlike()) this.#finish();
    }
  }

  /** Goes on to where many lines are alike, if that isn't far. */
  #findAlike(): boolean {
    for (const { lines, alike } of WINDOWS) {
      const a = this.#a.lines(lines);
      const b = this.#b.lines(lines);
      const runs = commonRuns(a.texts, b.texts, this.#budget);
      const last = runs.findLastIndex(({ length }) => length >= alike);
      if (last < 0) continue;
      this.#take(a, b, runs.slice(0, last + 1), false);
      return true;
    }
    return false;
  }

  /** All that is left. */
  #finish(): void {
    if (this.#a.left === 0 || this.#b.left === 0) {
      this.#replaceRest();
      return;
    }
    const a = this.#a.lines(MOST_LINES);
    const b = this.#b.lines(MOST_LINES);
    if (a.complete && b.complete) this.#take(a, b, commonRuns(a.texts, b.texts, this.#budget), true);
    else this.#replaceRest();
  }

  #replaceRest(): void {
    const rest = ({ bytes, at, end }: Text): Stretch => ({ to: end, lines: countLines(bytes, at, end) });
    this.#add(rest(this.#a), rest(this.#b));
  }

  /** Takes in what runs of common lines leave between them, and goes on to the end of the last one. */
  #take(a: Lines, b: Lines, runs: readonly Run[], toEnd: boolean): void {
    let [doneA, doneB] = [0, 0];
    const changeTo = (toA: number, toB: number) => {
      if (toA > doneA || toB > doneB)
        this.#add({ to: a.starts[toA] ?? 0, lines: toA - doneA }, { to: b.starts[toB] ?? 0, lines: toB - doneB });
      [doneA, doneB] = [toA, toB];
    };
    for (const run of runs) {
      changeTo(run.a, run.b);
      doneA += run.length;
      doneB += run.length;
      this.#a.skip((a.starts[doneA] ?? 0) - this.#a.at, run.length);
      this.#b.skip((b.starts[doneB] ?? 0) - this.#b.at, run.length);
    }
    if (toEnd) changeTo(a.texts.length, b.texts.length);
  }

  #add(a: Stretch, b: Stretch): void {
    const { at: aFrom, line: aLine } = this.#a;
    const { at: bFrom, line: bLine } = this.#b;
    this.#edits.push({ aFrom, aTo: a.to, bFrom, bTo: b.to, aLine, bLine, aLines: a.lines, bLines: b.lines });
    this.#a.skip(a.to - aFrom, a.lines);
    this.#b.skip(b.to - bFrom, b.lines);
  }
}

interface Stretch {
  /** Where it ends, in bytes of the text. */
  readonly to: number;
  readonly lines: number;
}

interface Lines {
  readonly texts: readonly string[];
  /** Where each begins, and behind the last one where that ends. */
  readonly starts: readonly number[];
  /** They go to the end of what is compared. */
  readonly complete: boolean;
}

/** A text of which what lies between `at`, the beginning of a line, and `end` is left to be compared. */
class Text {
  readonly bytes: Buffer;
  at = 0;
  /** Lines before `at`. */
  line = 0;
  end: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.end = bytes.length;
  }

  get left(): number {
    return this.end - this.at;
  }

  skip(bytes: number, lines: number): void {
    this.at += bytes;
    this.line += lines;
  }

  /** The next lines, each with its newline, at most so many. */
  lines(most: number): Lines {
    const texts: string[] = [];
    const starts = [this.at];
    let at = this.at;
    while (at < this.end && texts.length < most) {
      const newline = this.bytes.indexOf(NEWLINE, at);
      const next = newline < 0 || newline >= this.end ? this.end : newline + 1;
      texts.push(this.bytes.toString('latin1', at, next));
      starts.push(next);
      at = next;
    }
    return { texts, starts, complete: at === this.end };
  }
}

/** Bytes of the whole lines that are the same from here on. */
function commonHead(a: Text, b: Text): number {
  const same = sameForward(a, b);
  if (same === a.left && same === b.left) return same;
  return a.bytes.subarray(a.at, a.at + same).lastIndexOf(NEWLINE) + 1;
}

const LARGE_STEP = 64 * 1024;

function sameForward(a: Text, b: Text): number {
  const most = Math.min(a.left, b.left);
  let same = 0;
  for (let step = 64; same < most; step = Math.min(step * 4, LARGE_STEP)) {
    const to = Math.min(most, same + step);
    if (a.bytes.compare(b.bytes, b.at + same, b.at + to, a.at + same, a.at + to) !== 0) break;
    same = to;
  }
  while (same < most && a.bytes[a.at + same] === b.bytes[b.at + same]) same++;
  return same;
}

/** Bytes of the whole lines that are the same at the end. */
function commonTail(a: Text, b: Text): number {
  const most = Math.min(a.left, b.left);
  let same = 0;
  for (let step = 64; same < most; step = Math.min(step * 4, LARGE_STEP)) {
    const to = Math.min(most, same + step);
    if (a.bytes.compare(b.bytes, b.end - to, b.end - same, a.end - to, a.end - same) !== 0) break;
    same = to;
  }
  while (same < most && a.bytes[a.end - same - 1] === b.bytes[b.end - same - 1]) same++;
  if (startsLine(a, a.end - same) && startsLine(b, b.end - same)) return same;
  const newline = a.bytes.indexOf(NEWLINE, a.end - same);
  return newline < 0 || newline >= a.end ? 0 : a.end - newline - 1;
}

function startsLine(text: Text, at: number): boolean {
  return at === text.at || text.bytes[at - 1] === NEWLINE;
}

/** Lines in a range; what is behind the last newline is one, too. */
export function countLines(bytes: Uint8Array, from: number, to: number): number {
  let lines = 0;
  for (let at = from; at < to; at++) if (bytes[at] === NEWLINE) lines++;
  return to > from && bytes[to - 1] !== NEWLINE ? lines + 1 : lines;
}
