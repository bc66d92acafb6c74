import { eventLine } from './format.ts';
import type { AuditLog } from './log.ts';

/** Lines that are told. */
const RECENT = 1000;
/** Longer ones aren't kept but made anew: a path may have 4096 bytes, and each may take four characters. */
const KEPT_CHARACTERS = 1000;

/** The newest events as text, from memory. What has been told once is kept for the next time. */
export class RecentLines {
  readonly #log: AuditLog;
  /** Those of the events from this ordinal on; undefined is one that isn't kept. */
  #lines: (string | undefined)[] = [];
  #from = 0;

  constructor(log: AuditLog) {
    this.#log = log;
  }

  /** A line each, oldest first. */
  text(): string {
    const { ring, settled } = this.#log;
    const from = Math.max(ring.oldest, ring.count - RECENT);
    const kept = this.#lines.slice(Math.max(0, from - this.#from));
    const lines = kept.map((line, index) => line ?? eventLine(ring.event(from + index)));
    for (let ordinal = from + lines.length; ordinal < ring.count; ordinal++) {
      const line = eventLine(ring.event(ordinal));
      lines.push(line);
      // Of the others something is still being found out.
      if (ordinal < settled) kept.push(line.length > KEPT_CHARACTERS ? undefined : line);
    }
    this.#lines = kept;
    this.#from = from;
    return `${lines.join('\n')}\n`;
  }
}
