import { errnoName } from '../errno.ts';
import { operationName } from './operations.ts';
import type { Event } from './record.ts';

/** What an event doesn't say by itself. */
export interface Telling {
  readonly tenant: string;
  /** Its name; its number where it has none any more. */
  readonly layer: (id: number) => string | number;
}

/** `2026-01-31T12:00:00.123456Z` */
export function timeText(timeUs: number): string {
  const seconds = Math.floor(timeUs / 1e6);
  if (seconds !== lastSecond) {
    lastSecond = seconds;
    lastText = new Date(seconds * 1000).toISOString().slice(0, 19);
  }
  return `${lastText}.${String(timeUs - seconds * 1e6).padStart(6, '0')}Z`;
}

/** Most times are of the same second as the one before. */
let lastSecond = Number.NaN;
let lastText = '';

function resultText(result: number): string {
  return result === 0 ? 'ok' : errnoName(result);
}

function numberOf(value: number): number | null {
  return value < 0 ? null : value;
}

/** Bytes as text, and as they are where that isn't what they say. */
function textFields(key: string, bytes: Buffer | null): Record<string, string | null> {
  if (bytes === null) return { [key]: null };
  if (isPlain(bytes)) return { [key]: bytes.toString('latin1') };
  const text = bytes.toString('utf8');
  return { [key]: text, ...(Buffer.from(text).equals(bytes) ? {} : { [`${key}_base64`]: bytes.toString('base64') }) };
}

/** An event as JSON has it. Null is what isn't known, or doesn't go with the operation. */
export function eventFields(event: Event, { tenant, layer }: Telling): Record<string, string | number | null> {
  return {
    time: timeText(event.timeUs),
    op: operationName(event.op),
    ...textFields('path', event.path),
    ...(event.target === null ? {} : textFields('target', event.target)),
    result: resultText(event.result),
    uid: event.uid,
    gid: event.gid,
    pid: event.pid === 0 ? null : event.pid,
    ...textFields('comm', event.comm),
    tenant,
    layer: event.layer === 0 ? null : layer(event.layer),
    ino: event.ino === 0 ? null : event.ino,
    bytes: numberOf(event.bytes),
    bytes_read: numberOf(event.read),
    offset: numberOf(event.position),
    duration_us: event.durationUs,
    lines_added: numberOf(event.added),
    lines_deleted: numberOf(event.deleted),
    event: event.event,
  };
}

export function eventJson(event: Event, telling: Telling): string {
  return JSON.stringify(eventFields(event, telling));
}

const CSV_COLUMNS = [
  'time',
  'op',
  'path',
  'path_base64',
  'target',
  'target_base64',
  'result',
  'uid',
  'gid',
  'pid',
  'comm',
  'tenant',
  'layer',
  'ino',
  'bytes',
  'bytes_read',
  'offset',
  'duration_us',
  'lines_added',
  'lines_deleted',
  'event',
] as const;

export const CSV_HEADER = CSV_COLUMNS.join(',');

/** A row as RFC 4180 has it, without its end. */
export function eventCsv(event: Event, telling: Telling): string {
  const fields = eventFields(event, telling);
  return CSV_COLUMNS.map((column) => csvField(fields[column])).join(',');
}

function csvField(value: string | number | null | undefined): string {
  if (value === null || value === undefined) return '';
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** What would break a line, hide in it, or be taken for the end of a field. */
const AWKWARD = /[\p{C}\p{Z}"\\]/u;

/** Whether there are only ASCII's visible characters in it, and none that anyone takes for something else. */
function isPlain(bytes: Buffer): boolean {
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    if (byte <= 0x20 || byte > 0x7e || byte === 34 || byte === 92) return false;
  }
  return bytes.length > 0;
}

/** Bytes as one word of a line: as they are, or in double quotes with JSON's escapes, and `\xHH` for what isn't UTF-8. */
export function word(bytes: Buffer | null): string {
  if (bytes === null) return '-';
  if (isPlain(bytes)) return bytes.toString('latin1');
  const text = bytes.toString('utf8');
  const isText = Buffer.from(text).equals(bytes);
  if (isText && text !== '' && !AWKWARD.test(text)) return text;
  if (!isText)
    return `"${[...bytes].map((byte) => (byte < 0x20 || byte > 0x7e || byte === 34 || byte === 92 ? `\\x${byte.toString(16).padStart(2, '0')}` : String.fromCharCode(byte))).join('')}"`;
  return JSON.stringify(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

/** An event as a line of text for people. */
export function eventLine(event: Event): string {
  const paths = event.target === null ? word(event.path) : `${word(event.path)} -> ${word(event.target)}`;
  const more = [
    event.bytes < 0 ? '' : ` bytes=${event.bytes}`,
    event.read < 0 ? '' : ` read=${event.read}`,
    event.position < 0 ? '' : ` offset=${event.position}`,
    event.added < 0 ? '' : ` lines=+${event.added},-${event.deleted}`,
  ].join('');
  const who = `uid=${event.uid} gid=${event.gid} pid=${event.pid === 0 ? '-' : event.pid} comm=${word(event.comm)}`;
  return `${timeText(event.timeUs)} ${operationName(event.op)} ${resultText(event.result)} ${who} ${event.durationUs}us ${paths}${more}`;
}
