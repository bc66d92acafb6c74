/**
 * Sizes and times as people write them. Powers of 1000 and of 1024 go by their own names (`MB`, `MiB`), in any case;
 * fractions are rounded to whole bytes and milliseconds.
 */

const BYTES = new Map([
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['pb', 1e15],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
  ['tib', 2 ** 40],
  ['pib', 2 ** 50],
]);

const BYTE_NAMES = ['PiB', 'PB', 'TiB', 'TB', 'GiB', 'GB', 'MiB', 'MB', 'KiB', 'kB', 'B'];

const MILLISECONDS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

const QUANTITY = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i;

/** `4GB`, `512MiB`, or a number of bytes. Undefined for anything else, and for what a double can't hold exactly. */
export function parseBytes(text: string): number | undefined {
  return parseQuantity(text, BYTES, 1);
}

/** `250ms`, `30s`, `5m`, `1h`, `1d`, or a number of seconds; in milliseconds. Undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  return parseQuantity(text, MILLISECONDS, 1000);
}

function parseQuantity(text: string, units: ReadonlyMap<string, number>, plain: number): number | undefined {
  const [, digits, unit] = QUANTITY.exec(text.trim()) ?? [];
  if (digits === undefined || unit === undefined) return undefined;
  const factor = unit === '' ? plain : units.get(unit.toLowerCase());
  if (factor === undefined) return undefined;
  const value = Math.round(Number(digits) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** The size in the largest unit that gives a whole number: `64MiB`, `4GB`, `1001B`, `0`. `parseBytes` reads it back. */
export function formatBytes(bytes: number): string {
  return bytes === 0 ? '0' : formatQuantity(bytes, BYTE_NAMES, BYTES);
}

/** The time in the largest unit that gives a whole number: `1h`, `90s`, `250ms`. `parseDuration` reads it back. */
export function formatDuration(milliseconds: number): string {
  return milliseconds === 0 ? '0' : formatQuantity(milliseconds, ['d', 'h', 'm', 's', 'ms'], MILLISECONDS);
}

function formatQuantity(value: number, names: readonly string[], units: ReadonlyMap<string, number>): string {
  for (const name of names) {
    const factor = units.get(name.toLowerCase());
    if (factor !== undefined && value % factor === 0) return `${value / factor}${name}`;
  }
  return String(value);
}
