import { resolve } from 'node:path';
import { parseRules } from '../audit/levels.ts';
import { formatBytes, formatDuration, parseBytes, parseDuration } from './units.ts';

/** The types of TOML that a setting may be written in; all but a string are read as their text in JSON. */
export type TomlType = 'string' | 'number' | 'boolean' | 'list';

/** How one sort of value is written. */
export interface Kind<T> {
  /** Ends the sentence "allowed is …". */
  readonly allowed: string;
  readonly toml: readonly TomlType[];
  /** Undefined for what is not allowed. */
  parse(text: string): T | undefined;
  /** A text that `parse` reads back. */
  format(value: T): string;
}

/** Both ends are allowed. */
interface Range {
  readonly min: number;
  readonly max: number;
}

const within = ({ min, max }: Range, value: number | undefined): number | undefined =>
  value !== undefined && value >= min && value <= max ? value : undefined;

export function size(range: Range): Kind<number> {
  return {
    allowed: `a size such as 512MiB, 4GB or a number of bytes, from ${formatBytes(range.min)} to ${formatBytes(range.max)}`,
    toml: ['string', 'number'],
    parse: (text) => within(range, parseBytes(text)),
    format: formatBytes,
  };
}

export function duration(range: Range): Kind<number> {
  return {
    allowed: `a time such as 250ms, 30s, 1h or a number of seconds, from ${formatDuration(range.min)} to ${formatDuration(range.max)}`,
    toml: ['string', 'number'],
    parse: (text) => within(range, parseDuration(text)),
    format: formatDuration,
  };
}

export function wholeNumber(range: Range): Kind<number> {
  return {
    allowed: `a whole number from ${range.min} to ${range.max}`,
    toml: ['string', 'number'],
    parse: (text) => (/^\d+$/.test(text) ? within(range, Number(text)) : undefined),
    format: String,
  };
}

export function oneOf<const T extends string>(values: readonly T[]): Kind<T> {
  return {
    allowed: `one of ${values.map((value) => (value === '' ? "'' (nothing)" : value)).join(', ')}`,
    toml: ['string'],
    parse: (text) => values.find((value) => value === text),
    format: (value) => value,
  };
}

export const yesOrNo: Kind<boolean> = {
  allowed: 'true or false',
  toml: ['string', 'boolean'],
  parse: (text) =>
    new Map([
      ['true', true],
      ['false', false],
    ]).get(text.toLowerCase()),
  format: String,
};

/** Becomes absolute, without `.`, `..` and a slash at the end. */
export const path: Kind<string> = {
  allowed: 'a path other than /, without NUL',
  toml: ['string'],
  parse: (text) => (text === '' || text.includes('\0') || resolve(text) === '/' ? undefined : resolve(text)),
  format: (value) => value,
};

/** Absolute paths, with a colon between them as in PATH. */
export const paths: Kind<readonly string[]> = {
  allowed: 'absolute paths with colons between them',
  toml: ['string'],
  parse: (text) => {
    const found = text.split(':').filter((part) => part !== '');
    return found.every((part) => part.startsWith('/') && !part.includes('\0'))
      ? found.map((part) => resolve(part))
      : undefined;
  },
  format: (value) => value.join(':'),
};

export const auditRules: Kind<string> = {
  allowed: 'pattern=level pairs between commas, such as /secrets/**=full, /build/**=off (off, basic, standard, full)',
  toml: ['string'],
  parse: (text) => (parseRules(text) === undefined ? undefined : text.trim()),
  format: (value) => value,
};

export const tenantName: Kind<string> = {
  allowed: '1 to 63 characters of A-Z a-z 0-9 . _ - of which the first is not . or -',
  toml: ['string'],
  parse: (text) => (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$/.test(text) ? text : undefined),
  format: (value) => value,
};

/** The number that chown(2) takes for "leave it". */
const NO_ID = 2 ** 32 - 1;

export const owner: Kind<{ readonly uid: number; readonly gid: number }> = {
  allowed: `uid:gid, two numbers from 0 to ${NO_ID - 1}`,
  toml: ['string'],
  parse(text) {
    const [, uid, gid] = /^(\d+):(\d+)$/.exec(text) ?? [];
    if (uid === undefined || gid === undefined || Number(uid) >= NO_ID || Number(gid) >= NO_ID) return undefined;
    return { uid: Number(uid), gid: Number(gid) };
  },
  format: ({ uid, gid }) => `${uid}:${gid}`,
};

/** A string in TOML too: `0755` is no number there, and 755 is another one. */
export const mode: Kind<number> = {
  allowed: 'an octal mode from 0000 to 07777, such as 0755 (in a file: "0755")',
  toml: ['string'],
  parse: (text) => (/^0*[0-7]{1,4}$/.test(text) ? Number.parseInt(text, 8) : undefined),
  format: (value) => `0${value.toString(8).padStart(3, '0')}`,
};
