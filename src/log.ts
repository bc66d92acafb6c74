import type { Clock } from './clock.ts';
import { isSecretName, MASK, secretsMasker } from './config/redact.ts';

/** From the most talkative to the most silent; a logger prints its own level and what comes after it. */
export const LOG_LEVELS = [
  /** For who looks for a defect. */
  'debug',
  /** What happens once or rarely in a run that goes well. */
  'info',
  /** Something is wrong, and Tarbox goes on. */
  'warn',
  /** Something failed. */
  'error',
] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** What belongs to an event. A field that is undefined is left out; an error may be anywhere, by custom in `problem`. */
export interface LogFields {
  readonly [name: string]: unknown;
  readonly time?: never;
  readonly level?: never;
  readonly event?: never;
}

/** Writes events. `event` is a fixed name (`daemon-died`) that a person can search for; what varies is in the fields. */
export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export interface LoggerOptions {
  /** A function is asked at every event, so that the level can change. */
  readonly level: LogLevel | (() => LogLevel);
  readonly stream: {
    write(text: string): unknown;
    readonly isTTY?: boolean | undefined;
    on?(event: 'error', listener: () => void): unknown;
  };
  readonly clock: Clock;
  /** Texts that are masked wherever they appear, besides the passwords that can be recognised. */
  readonly secrets?: readonly string[];
}

type Plain = string | number | boolean | null | readonly Plain[] | { readonly [name: string]: Plain };

const MAX_DEPTH = 8;
/** Control and format characters (bidirectional overrides among them), and the line ends that JSON leaves alone. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
/** A value that needs no quotes in a readable line. */
const BARE = /^[^\s"=\\]+$/;

/**
 * A logger that writes one line an event: JSON, or a readable line where the stream is a terminal. Never throws because
 * of what it's given. An error becomes its message, code and causes; its stack is added at level `error`, and at all
 * levels while `debug` is on.
 */
export function createLogger({ level, stream, clock, secrets = [] }: LoggerOptions): Logger {
  const mask = secretsMasker(secrets);
  stream.on?.('error', () => {}); // whoever read the log is gone, which is no reason to stop
  const render = stream.isTTY === true ? readableLine : jsonLine;
  const write = (at: LogLevel, event: string, fields: LogFields = {}): void => {
    const threshold = typeof level === 'function' ? level() : level;
    if (LOG_LEVELS.indexOf(at) < LOG_LEVELS.indexOf(threshold)) return;
    const plain = toPlain({ mask, stacks: at === 'error' || threshold === 'debug', above: [] });
    const time = new Date(clock.now()).toISOString();
    stream.write(`${render(time, at, mask(event), plain.fields(fields))}\n`);
  };
  return {
    debug: (event, fields) => write('debug', event, fields),
    info: (event, fields) => write('info', event, fields),
    warn: (event, fields) => write('warn', event, fields),
    error: (event, fields) => write('error', event, fields),
  };
}

function jsonLine(time: string, level: LogLevel, event: string, fields: { readonly [name: string]: Plain }): string {
  const head = { time, level, event };
  return escapeUnprintable(JSON.stringify({ ...head, ...fields, ...head }));
}

/** The stacks of errors follow on lines of their own. */
function readableLine(
  time: string,
  level: LogLevel,
  event: string,
  fields: { readonly [name: string]: Plain },
): string {
  const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${readableValue(value)}`);
  const stacks = Object.values(fields).flatMap((value) =>
    isPlainError(value) ? (value.stack ?? '').split('\n').slice(1) : [],
  );
  return [`${time} ${level.padEnd(5)} ${event}${pairs.join('')}`, ...stacks].map(escapeUnprintable).join('\n');
}

function readableValue(value: Plain): string {
  if (isPlainError(value)) return JSON.stringify(sentence(value));
  if (typeof value === 'string') return BARE.test(value) ? value : JSON.stringify(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** An error as it is logged. */
interface PlainError {
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: Plain;
  readonly errors?: Plain;
}

const ERROR_FIELDS: readonly string[] = ['message', 'code', 'stack', 'cause', 'errors'] satisfies (keyof PlainError)[];

function isPlainError(value: Plain | undefined): value is Plain & PlainError {
  if (typeof value !== 'object' || value === null || !('message' in value)) return false;
  const texts = Object.entries(value).filter(([name]) => name === 'message' || name === 'code' || name === 'stack');
  return (
    Object.keys(value).every((name) => ERROR_FIELDS.includes(name)) &&
    texts.every(([, text]) => typeof text === 'string')
  );
}

/** An error and its causes: `cannot connect (ECONNREFUSED): …`. */
function sentence(error: PlainError): string {
  const own = error.code === undefined ? error.message : `${error.message} (${error.code})`;
  const below = [error.cause ?? [], error.errors ?? []].flat();
  return [own, ...below.map((value) => (isPlainError(value) ? sentence(value) : readableValue(value)))].join(': ');
}

/** Each unprintable character as `\uXXXX`, which inside of JSON's strings still means that character. */
function escapeUnprintable(line: string): string {
  return line.replace(UNPRINTABLE, (found) =>
    [...Array(found.length).keys()].map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, '0')}`).join(''),
  );
}

interface Context {
  readonly mask: (text: string) => string;
  readonly stacks: boolean;
  /** The objects that hold the value, outermost first. */
  readonly above: readonly object[];
}

/** Turns any value into one that JSON can hold, with the secrets masked. */
function toPlain(context: Context): { fields(value: object): { [name: string]: Plain }; of(value: unknown): Plain } {
  const { mask, stacks, above } = context;
  const below = (holder: object) => toPlain({ mask, stacks, above: [...above, holder] });

  function fields(value: object): { [name: string]: Plain } {
    const inner = below(value);
    const defined = Object.entries(value).filter(([, field]) => field !== undefined);
    return Object.fromEntries(
      defined.map(([name, field]) => [mask(name), isSecretName(name) ? MASK : inner.of(field)]),
    );
  }

  function ofError(error: Error): Plain {
    const inner = below(error);
    const code = 'code' in error ? error.code : undefined;
    return {
      // The attempts of a connection come as an AggregateError, whose own message is empty.
      message: mask(error.message === '' ? error.name : error.message),
      ...(typeof code === 'string' || typeof code === 'number' ? { code: mask(String(code)) } : {}),
      ...(stacks && typeof error.stack === 'string' ? { stack: mask(error.stack) } : {}),
      ...(error.cause === undefined ? {} : { cause: inner.of(error.cause) }),
      ...(error instanceof AggregateError ? { errors: inner.of(error.errors) } : {}),
    };
  }

  function of(value: unknown): Plain {
    if (typeof value === 'string') return mask(value);
    if (typeof value === 'boolean' || value === null) return value;
    if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
    if (typeof value !== 'object') return mask(String(value));
    if (above.includes(value)) return '[circular]';
    if (above.length > MAX_DEPTH) return '[deeper]';
    if (value instanceof Error) return ofError(value);
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
    if (value instanceof URL) return mask(value.href);
    if (value instanceof Uint8Array) return mask(Buffer.from(value).toString());
    if (value instanceof Map) return fields(Object.fromEntries(value));
    if (Array.isArray(value) || value instanceof Set) return [...value].map(below(value).of);
    return fields(value);
  }

  return { fields, of };
}
