import { eventJson, type Telling } from './format.ts';
import type { AuditLog } from './log.ts';

/** Lines that are made at a time. */
const LINES = 256;

/**
 * Events as they happen from ordinal `from` on, one JSON object a line, for as long as someone reads. Whoever reads too
 * slowly is told how many are missing: `{"missed":7}`.
 */
export async function* followEvents(
  log: AuditLog,
  from: number,
  telling: Telling,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const { ring } = log;
  let next = from;
  for (;;) {
    const lines: string[] = [];
    if (next < ring.oldest) {
      lines.push(JSON.stringify({ missed: ring.oldest - next }));
      next = ring.oldest;
    }
    for (; next < log.settled && lines.length < LINES; next++) lines.push(eventJson(ring.event(next), telling));
    if (lines.length > 0) yield Buffer.from(`${lines.join('\n')}\n`);
    else await log.change(signal);
  }
}
