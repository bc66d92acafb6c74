import { errno, FsError } from '../errno.ts';
import { CSV_HEADER, eventCsv, eventJson, type Telling } from './format.ts';
import { type Glob, PATTERN_MAX_BYTES, parseGlob } from './glob.ts';
import { isOperation, OPERATIONS } from './operations.ts';
import type { AuditStore, Filter, Mark } from './port.ts';
import type { Event } from './record.ts';
import { parseTime } from './since.ts';

const FORMATS = ['json', 'jsonl', 'csv'] as const;
type Format = (typeof FORMATS)[number];

const ORDERS: ReadonlyMap<string, boolean> = new Map([
  ['newest', true],
  ['desc', true],
  ['oldest', false],
  ['asc', false],
]);

const DEFAULT_LIMIT = 1000;
const MOST_EVENTS = 10_000;
const MOST_BYTES = 16 * 1024 * 1024;
/** Longest time for all that a query asks the database. */
const QUERY_MS = 20_000;
const PAGE_EVENTS = 1000;
const KEYS =
  'op, path, uid, pid, comm, layer, result, since, until, limit, order (newest, oldest), format (json, jsonl, csv)';
const HINT = 'write {"op":"unlink","path":"/src/**","since":"1 day ago"}, or a path';

/** A query, read and checked. */
export interface Query {
  readonly filter: Filter;
  /** To be looked at event by event. */
  readonly glob: Glob | undefined;
  readonly limit: number;
  readonly format: Format;
}

export interface QueryContext {
  readonly nowMs: number;
  /** Undefined for one that there isn't. */
  readonly layerOf: (nameOrId: string) => number | undefined;
}

/** @throws {FsError} EINVAL; ENOENT for a layer that there isn't */
export function parseQuery(text: string, context: QueryContext): Query {
  const trimmed = text.trim();
  if (!trimmed.startsWith('{')) return queryOf({ path: trimmed }, context);
  let value: unknown;
  try {
    value = JSON.parse(trimmed);
  } catch (problem) {
    throw refused(`that is not JSON: ${problem instanceof Error ? problem.message : String(problem)}`);
  }
  // It starts as an object does.
  return queryOf(value as Record<string, unknown>, context);
}

function refused(what: string): FsError {
  return new FsError('EINVAL', what, { hint: HINT });
}

function queryOf(fields: Readonly<Record<string, unknown>>, context: QueryContext): Query {
  const draft: { -readonly [K in keyof Filter]: Filter[K] } = { newestFirst: true };
  let glob: Glob | undefined;
  let limit = DEFAULT_LIMIT;
  let format: Format = 'json';
  for (const [key, value] of Object.entries(fields)) {
    switch (key) {
      case 'op':
        draft.ops = operationsOf(value);
        break;
      case 'path':
        glob = globOf(value);
        if (glob.literal) draft.path = withoutEnd(glob.prefix);
        else draft.prefix = glob.prefix;
        break;
      case 'uid':
        draft.uid = numberOf(key, value, 2 ** 32 - 1);
        break;
      case 'pid':
        draft.pid = numberOf(key, value, 2 ** 31 - 1);
        break;
      case 'comm':
        draft.comm = Buffer.from(textOf(key, value));
        break;
      case 'layer':
        draft.layer = layerOf(value, context);
        break;
      case 'result':
        draft.result = resultOf(value);
        break;
      case 'since':
        draft.sinceUs = timeOf(key, value, context.nowMs);
        break;
      case 'until':
        draft.untilUs = timeOf(key, value, context.nowMs);
        break;
      case 'limit':
        limit = numberOf(key, value, MOST_EVENTS);
        break;
      case 'order':
        draft.newestFirst = orderOf(value);
        break;
      case 'format':
        format = formatOf(value);
        break;
      default:
        throw refused(`'${key.slice(0, 100)}' is not a key here; there are: ${KEYS}`);
    }
  }
  return { filter: draft, glob: glob?.literal === true ? undefined : glob, limit, format };
}

function operationsOf(value: unknown): number[] {
  const names = Array.isArray(value) ? value : [value];
  if (names.length === 0) throw refused("'op' must name an operation");
  return names.map((name) => {
    if (typeof name !== 'string' || !isOperation(name))
      throw refused(`'op' must be one of ${Object.keys(OPERATIONS).join(', ')}, or an array of them`);
    return OPERATIONS[name].code;
  });
}

function textOf(key: string, value: unknown): string {
  if (typeof value !== 'string' || value.includes('\0')) throw refused(`'${key}' must be a string without NUL`);
  return value;
}

function globOf(value: unknown): Glob {
  const glob = parseGlob(textOf('path', value));
  if (glob === undefined)
    throw refused(`'path' must be a path or a pattern (*, **, ?, [a-z]) of ${PATTERN_MAX_BYTES} bytes at most`);
  return glob;
}

/** A directory may be written with a slash at its end. */
function withoutEnd(path: Buffer): Buffer {
  return path.length > 1 && path[path.length - 1] === 47 ? path.subarray(0, -1) : path;
}

function numberOf(key: string, value: unknown, most: number): number {
  const number = typeof value === 'string' && /^\d{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0 || number > most)
    throw refused(`'${key}' must be a whole number from 0 to ${most}`);
  return number;
}

function layerOf(value: unknown, { layerOf: find }: QueryContext): number {
  const name = typeof value === 'number' ? String(value) : textOf('layer', value);
  const found = find(name);
  if (found === undefined) throw new FsError('ENOENT', `there is no layer '${name.slice(0, 200)}'`, { hint: HINT });
  return found;
}

function resultOf(value: unknown): number {
  if (value === 'ok') return 0;
  if (value === 'error') return -1;
  const codes: Readonly<Record<string, number>> = errno;
  if (typeof value === 'string' && Object.hasOwn(codes, value)) return codes[value] ?? 0;
  if (typeof value === 'number' || (typeof value === 'string' && /^\d+$/.test(value)))
    return numberOf('result', value, 4095);
  throw refused(`'result' must be "ok", "error", or an errno such as "ENOENT" or 2`);
}

function timeOf(key: string, value: unknown, nowMs: number): number {
  const ms = parseTime(textOf(key, value), nowMs);
  if (ms === undefined) throw refused(`'${key}' must be a time such as "1h", "1 day ago" or "2026-01-31T12:00:00Z"`);
  return Math.floor(ms * 1000);
}

function orderOf(value: unknown): boolean {
  const newestFirst = typeof value === 'string' ? ORDERS.get(value) : undefined;
  if (newestFirst === undefined) throw refused(`'order' must be "newest" or "oldest"`);
  return newestFirst;
}

function formatOf(value: unknown): Format {
  const format = FORMATS.find((name) => name === value);
  if (format === undefined) throw refused(`'format' must be one of ${FORMATS.join(', ')}`);
  return format;
}

/**
 * The events that match, page by page.
 *
 * @throws {FsError} EAGAIN when it takes too long, EIO, the signal's reason
 */
export async function* findEvents(
  store: AuditStore,
  { filter, glob }: Pick<Query, 'filter' | 'glob'>,
  signal: AbortSignal,
): AsyncGenerator<readonly Event[]> {
  let after: Mark | undefined;
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(QUERY_MS)]);
  for (;;) {
    const page = await store.select(filter, after, PAGE_EVENTS, deadline).catch((problem: unknown) => {
      signal.throwIfAborted();
      throw deadline.aborted ? tooLong() : problem;
    });
    yield glob === undefined ? page : page.filter(({ path, target }) => matches(glob, path) || matches(glob, target));
    const last = page[page.length - 1];
    if (last === undefined || page.length < PAGE_EVENTS) return;
    after = last;
  }
}

function tooLong(): FsError {
  return new FsError('EAGAIN', 'that takes too long to find', {
    hint: 'ask for a shorter time with "since" and "until", or for one "op" or "path"',
  });
}

function matches(glob: Glob, path: Buffer | null): boolean {
  return path !== null && glob.matches(path, 0, path.length);
}

/** The answer to a query. @throws as `findEvents`; {FsError} EFBIG when it's too much */
export async function answerQuery(
  store: AuditStore,
  query: Query,
  telling: Telling,
  signal: AbortSignal,
): Promise<string> {
  const { limit, format } = query;
  const lines: string[] = [];
  let bytes = 0;
  if (limit > 0)
    for await (const page of findEvents(store, query, signal)) {
      for (const event of page.slice(0, limit - lines.length)) {
        const line = format === 'csv' ? eventCsv(event, telling) : eventJson(event, telling);
        bytes += line.length;
        if (bytes > MOST_BYTES)
          throw new FsError('EFBIG', `the answer has more than ${MOST_BYTES} bytes`, {
            hint: 'ask for a lower "limit"',
          });
        lines.push(line);
      }
      if (lines.length >= limit) break;
    }
  if (format === 'json') return lines.length === 0 ? '[]\n' : `[${lines.join(',\n')}]\n`;
  const all = format === 'csv' ? [CSV_HEADER, ...lines] : lines;
  return all.length === 0 ? '\n' : `${all.join('\n')}\n`;
}
