import { redact } from './redact.ts';

/** Something that a person has to set otherwise. The message is one line that says what, and never holds a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const SHOWN_CHARACTERS = 100;

/** A name or value to put into a message: on one line, not too long, without recognisable secrets. */
export function quoted(text: string): string {
  const clean = redact(text).replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (found) => JSON.stringify(found).slice(1, -1));
  // JSON leaves some of them as they are.
  const printable = clean.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?');
  return printable.length > SHOWN_CHARACTERS ? `'${printable.slice(0, SHOWN_CHARACTERS)}…'` : `'${printable}'`;
}

/** The known name that takes the fewest changes of one letter to get from `name`. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((candidate) => ({ candidate, changes: distance(name, candidate) }))
    .sort((a, b) => a.changes - b.changes);
  return best?.candidate;
}

/** Levenshtein's. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 1; j <= b.length; j++) {
      const [up = 0, diagonal = 0, left = 0] = [row[j], row[j - 1], next[j - 1]];
      next.push(Math.min(up + 1, left + 1, diagonal + (letter === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
