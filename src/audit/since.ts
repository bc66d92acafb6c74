const UNITS_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['sec', 1000],
  ['second', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['minute', 60_000],
  ['h', 3_600_000],
  ['hour', 3_600_000],
  ['d', 86_400_000],
  ['day', 86_400_000],
  ['w', 604_800_000],
  ['week', 604_800_000],
]);
/** Years 1 to 9999, in which PostgreSQL and JavaScript agree. */
const EARLIEST_MS = -62_135_596_800_000;
const LATEST_MS = 253_402_300_799_000;
const TIME = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?$/i;

/**
 * A time as people write it: `1h`, `1 day ago`, `now`, or a date with or without a time (UTC unless it says otherwise).
 * In milliseconds since 1970; undefined for anything else.
 */
export function parseTime(text: string, nowMs: number): number | undefined {
  const trimmed = text.trim();
  if (trimmed === 'now') return nowMs;
  const [, count, unit] = /^(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+?)(?:\s+ago)?$/i.exec(trimmed) ?? [];
  if (count !== undefined && unit !== undefined) {
    const name = unit.toLowerCase();
    const unitMs = UNITS_MS.get(name) ?? UNITS_MS.get(name.replace(/s$/, ''));
    return unitMs === undefined ? undefined : inRange(nowMs - Number(count) * unitMs);
  }
  if (!TIME.test(trimmed)) return undefined;
  const withTime = trimmed.length <= 10 ? `${trimmed}T00:00` : trimmed.replace(' ', 'T').replace(' ', '');
  const zoned = /(?:Z|[+-]\d\d:?\d\d)$/i.test(withTime) ? withTime : `${withTime}Z`;
  return inRange(Date.parse(zoned));
}

function inRange(ms: number): number | undefined {
  return ms >= EARLIEST_MS && ms <= LATEST_MS ? ms : undefined;
}
