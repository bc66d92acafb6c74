/**
 * Patterns of paths, on bytes: `?` is a character other than `/`, `*` any number of them, `**` any bytes at all
 * (between slashes also none: `/a/**` + `/b` matches `/a/b`), `[a-z]` and `[!a-z]` one of a set of ASCII characters;
 * a backslash takes the next character for itself. Matching takes time in proportion to the lengths of both, whatever
 * the pattern: it may be anyone's.
 */
export interface Glob {
  /** The bytes [from, to) of a path that starts with `/`. */
  matches(path: Uint8Array, from: number, to: number): boolean;
  /** What every path that matches starts with. */
  readonly prefix: Buffer;
  /** Nothing in the pattern is special: `prefix` is the one path that matches. */
  readonly literal: boolean;
}

const SLASH = 47;
/** Kinds of steps; below 256 it's that byte. */
const ONE = 256;
const STAR = 257;
const DEEP = 258;
const SET = 259;
/** A `/` that `**` before it may do without: `**` + `/` also matches nothing. */
const DEEP_SLASH = 260;
/** The bytes that continue a character of UTF-8, if there are any. */
const REST = 261;

/** Longest pattern, in bytes. */
export const PATTERN_MAX_BYTES = 1024;

/** Undefined for a pattern that is empty, too long, or has a set without an end. A leading `/` may be left out. */
export function parseGlob(pattern: string): Glob | undefined {
  const bytes = Buffer.from(pattern.startsWith('/') ? pattern : `/${pattern}`);
  if (pattern === '' || bytes.length > PATTERN_MAX_BYTES) return undefined;
  const steps: number[] = [];
  const sets: (Set | undefined)[] = [];
  let literal = true;
  const prefix: number[] = [];
  const add = (step: number, set?: Set) => {
    steps.push(step);
    sets.push(set);
    if (step >= ONE) literal = false;
    else if (literal) prefix.push(step);
  };
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at++] ?? 0;
    if (byte === 92 && at < bytes.length) add(bytes[at++] ?? 0);
    else if (byte === 63) {
      add(ONE);
      add(REST);
    } else if (byte === 42) {
      let stars = 1;
      while (bytes[at] === 42) {
        stars++;
        at++;
      }
      if (stars === 1) add(STAR);
      else if (bytes[at] === SLASH && bytes[at - stars - 1] === SLASH) {
        at++;
        add(DEEP_SLASH);
      } else add(DEEP);
    } else if (byte === 91) {
      const end = setEnd(bytes, at);
      if (end < 0) return undefined;
      add(SET, parseSet(bytes, at, end));
      add(REST);
      at = end + 1;
    } else add(byte);
  }
  const matcher = new Matcher(Uint16Array.from(steps), sets, prefix.length);
  const start = Buffer.from(prefix);
  return {
    prefix: start,
    literal,
    matches: (path, from, to) => startsWith(path, from, to, start) && matcher.matches(path, from, to),
  };
}

interface Set {
  readonly not: boolean;
  readonly has: Uint8Array;
}

function setEnd(bytes: Buffer, at: number): number {
  const first = bytes[at] === 33 || bytes[at] === 94 ? at + 2 : at + 1;
  return bytes.indexOf(93, first);
}

function parseSet(bytes: Buffer, at: number, end: number): Set {
  const not = bytes[at] === 33 || bytes[at] === 94;
  const has = new Uint8Array(256);
  for (let index = not ? at + 1 : at; index < end; index++) {
    const low = bytes[index] ?? 0;
    const isRange = bytes[index + 1] === 45 && index + 2 < end;
    const high = isRange ? (bytes[index + 2] ?? 0) : low;
    for (let byte = low; byte <= high; byte++) has[byte] = 1;
    if (isRange) index += 2;
  }
  return { not, has };
}

function startsWith(path: Uint8Array, from: number, to: number, start: Uint8Array): boolean {
  if (to - from < start.length) return false;
  for (let index = 0; index < start.length; index++) if (path[from + index] !== start[index]) return false;
  return true;
}

/** Goes through a path once, with the set of steps that may come next. */
class Matcher {
  readonly #steps: Uint16Array;
  readonly #sets: readonly (Set | undefined)[];
  /** Steps that have matched when this starts: the literal ones at the front. */
  readonly #first: number;
  /** Steps that may come next, and those after the byte that is looked at. */
  #now: Uint8Array;
  #next: Uint8Array;

  constructor(steps: Uint16Array, sets: readonly (Set | undefined)[], first: number) {
    this.#steps = steps;
    this.#sets = sets;
    this.#first = first;
    this.#now = new Uint8Array(steps.length + 1);
    this.#next = new Uint8Array(steps.length + 1);
  }

  matches(path: Uint8Array, from: number, to: number): boolean {
    const count = this.#steps.length;
    this.#now.fill(0);
    this.#enter(this.#now, this.#first);
    for (let at = from + this.#first; at < to; at++) {
      const byte = path[at] ?? 0;
      const next = this.#next;
      next.fill(0);
      let any = false;
      for (let step = this.#first; step < count; step++)
        if (this.#now[step] === 1 && this.#take(next, step, byte)) any = true;
      if (!any) return false;
      this.#next = this.#now;
      this.#now = next;
    }
    return this.#now[count] === 1;
  }

  /** The step may come next, and with one that may match nothing also the one after it. */
  #enter(states: Uint8Array, first: number): void {
    let step = first;
    states[step] = 1;
    for (;;) {
      const kind = this.#steps[step];
      if (kind !== STAR && kind !== DEEP && kind !== DEEP_SLASH && kind !== REST) return;
      step++;
      if (states[step] === 1) return;
      states[step] = 1;
    }
  }

  /** Whether the step goes on over a byte. */
  #take(next: Uint8Array, step: number, byte: number): boolean {
    const kind = this.#steps[step] ?? 0;
    switch (kind) {
      case DEEP:
        this.#enter(next, step);
        return true;
      case DEEP_SLASH:
        // It stays until a slash ends a name; what follows begins behind one.
        next[step] = 1;
        if (byte === SLASH) this.#enter(next, step + 1);
        return true;
      case STAR:
        if (byte === SLASH) return false;
        this.#enter(next, step);
        return true;
      case ONE:
        if (byte === SLASH) return false;
        this.#enter(next, step + 1);
        return true;
      case REST:
        if (byte < 0x80 || byte > 0xbf) return false;
        this.#enter(next, step);
        return true;
      case SET: {
        const set = this.#sets[step];
        if (set === undefined || byte === SLASH || (set.has[byte] === 1) === set.not) return false;
        this.#enter(next, step + 1);
        return true;
      }
      default:
        if (kind !== byte) return false;
        this.#enter(next, step + 1);
        return true;
    }
  }
}
