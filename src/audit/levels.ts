import { type Glob, parseGlob } from './glob.ts';
import { FULL, LEVELS, levelNumber, OFF } from './operations.ts';

/** What happens where the queue is full: who would add to it waits, or its events are dropped and counted. */
export const OVERFLOWS = ['block', 'drop'] as const;

export type Overflow = (typeof OVERFLOWS)[number];

/** A level for the paths that match. */
export interface Rule {
  readonly glob: Glob;
  readonly level: number;
}

/** Reads `pattern=level` pairs between commas. Undefined for anything else. */
export function parseRules(text: string): readonly Rule[] | undefined {
  const rules: Rule[] = [];
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const at = part.lastIndexOf('=');
    const level = LEVELS.find((name) => name === part.slice(at + 1).trim());
    const glob = at < 0 ? undefined : parseGlob(part.slice(0, at).trim());
    if (level === undefined || glob === undefined) return undefined;
    rules.push({ glob, level: levelNumber(level) });
  }
  return rules;
}

/** What is recorded of which path: a level for all, and rules of which the last one that matches counts. */
export class Levels {
  readonly #base: number;
  readonly #rules: readonly Rule[];
  /** The highest that any path has. */
  readonly highest: number;

  constructor(base: number, rules: readonly Rule[]) {
    this.#base = base;
    this.#rules = base === OFF ? [] : rules;
    this.highest = this.#rules.reduce((highest, { level }) => Math.max(highest, level), base);
  }

  /** The kernel caches nothing, so that every request is seen. */
  get seesAll(): boolean {
    return this.highest === FULL;
  }

  /** Whether every path has the same. */
  get same(): boolean {
    return this.#rules.length === 0;
  }

  /** Of a path, given as the bytes [from, to). */
  of(path: Uint8Array, from: number, to: number): number {
    for (let index = this.#rules.length - 1; index >= 0; index--) {
      const rule = this.#rules[index];
      if (rule?.glob.matches(path, from, to) === true) return rule.level;
    }
    return this.#base;
  }
}
