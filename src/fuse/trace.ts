/** One readable line for each message, for logs and tests. Never shows file contents; takes any garbage. */
import { errnoName } from '../errno.ts';
import { entryOut, inHeader, openOut } from './wire/abi.ts';
import { UNIQUE_RESEND_HI } from './wire/flags.ts';
import { OPCODE, type Operation, operationOf } from './wire/operations.ts';
import type { AnyStruct } from './wire/struct.ts';

/** Names and targets longer than this are cut, with their length said. */
const LONGEST_NAME = 300;

/**
 * `#42 LOOKUP node 1 name "a\nb" uid 0 gid 0 pid 12`. Fields that are zero are left out.
 * What isn't a whole request is said to be malformed, and where.
 * `setxattrExt` says which form SETXATTR's argument has on this connection.
 */
export function traceRequest(buffer: Buffer, length: number, setxattrExt = true): string {
  const available = Math.min(length, buffer.length);
  if (available < inHeader.size) return `malformed request: ${available} bytes are less than a header`;
  const header = inHeader.decode(buffer, 0);
  const operation = operationOf(header.opcode);
  const start = [
    tag(header.uniqueLo, header.uniqueHi),
    operation?.name ?? `opcode ${header.opcode}`,
    `node ${wide(header.nodeidLo, header.nodeidHi)}`,
  ];
  const end = [`uid ${header.uid}`, `gid ${header.gid}`, `pid ${header.pid}`];
  if (header.len !== available) {
    return [...start, `malformed: its header says ${header.len} bytes, there are ${available}`, ...end].join(' ');
  }
  const bodyEnd = available - header.totalExtlen * 8;
  if (bodyEnd < inHeader.size) {
    return [...start, `malformed: extensions of ${header.totalExtlen * 8} bytes are longer than it`, ...end].join(' ');
  }
  const body = buffer.subarray(inHeader.size, bodyEnd);
  const middle = operation ? bodyParts(operation, body, setxattrExt) : sizePart(body.length);
  if (header.totalExtlen > 0) middle.push(`extensions ${header.totalExtlen * 8} bytes`);
  return [...start, ...middle, ...end].join(' ');
}

/**
 * `#42 → ENOENT`, `#42 → node 12 mode 100644 size 5`, `#42 → 4096 bytes`, `#42 → ok`.
 * `errno` is 0 for success, and may have either sign; `payload` is what followed the reply's header.
 */
export function traceReply(
  uniqueLo: number,
  uniqueHi: number,
  errno: number,
  opcode: number,
  payload: Buffer | undefined,
): string {
  const start = `${tag(uniqueLo, uniqueHi)} →`;
  if (errno !== 0) return `${start} ${errnoName(Math.abs(errno))}`;
  if (payload === undefined || payload.length === 0) return `${start} ok`;
  const reply = operationOf(opcode)?.reply;
  if (typeof reply === 'string' || reply === undefined) return `${start} ${payload.length} bytes`;
  if (payload.length < reply.size) return `${start} malformed: ${payload.length} bytes of ${reply.name}`;
  const parts = fieldParts(reply, payload);
  const isOpened = reply === entryOut && payload.length >= entryOut.size + openOut.size;
  if (isOpened) parts.push(...fieldParts(openOut, payload.subarray(entryOut.size)));
  return `${start} ${parts.join(' ') || 'zeros'}`;
}

function tag(uniqueLo: number, uniqueHi: number): string {
  const again = (uniqueHi & UNIQUE_RESEND_HI) !== 0;
  return `#${wide(uniqueLo, uniqueHi & ~UNIQUE_RESEND_HI)}${again ? ' again' : ''}`;
}

/** Exact, where a number would round. */
function wide(low: number, high: number): string {
  return ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString();
}

function bodyParts(operation: Operation, body: Buffer, setxattrExt: boolean): string[] {
  const parts: string[] = [];
  let at = 0;
  if (operation.argument) {
    const isOldForm = operation.opcode === OPCODE.SETXATTR && !setxattrExt;
    const wanted = isOldForm ? operation.argumentBytes : operation.argument.size;
    // Only INIT may be shorter than its struct says: it has no names that would tell where it ends.
    const least = operation.opcode === OPCODE.INIT ? operation.argumentBytes : wanted;
    if (body.length < least) return [`malformed: ${body.length} of ${least} bytes of ${operation.argument.name}`];
    at = Math.min(wanted, body.length);
    const whole = Buffer.alloc(operation.argument.size);
    body.copy(whole, 0, 0, at);
    parts.push(...fieldParts(operation.argument, whole));
  }
  for (let i = 0; i < operation.names; i++) {
    const end = body.indexOf(0, at);
    if (end < 0) return [...parts, `malformed: name ${i + 1} of ${operation.names} has no end`];
    parts.push(`${nameLabel(operation, i)} ${quote(body.toString('latin1', at, end))}`);
    at = end + 1;
  }
  const rest = body.length - at;
  if (operation.data || rest > 0) parts.push(...sizePart(rest));
  return parts;
}

const sizePart = (bytes: number): string[] => (bytes > 0 ? [`data ${bytes} bytes`] : []);

function nameLabel(operation: Operation, index: number): string {
  if (index === 0) return 'name';
  return operation.opcode === OPCODE.SYMLINK ? 'target' : 'to';
}

const OCTAL = new Set(['mode', 'umask']);
const HEX = /(^f|F)lags2?$|^valid$|^(type)?mask$/;

/** `name value` for each field that isn't zero; two words of one identity become one number. */
function fieldParts(layout: AnyStruct, bytes: Buffer): string[] {
  const value = layout.decode(bytes, 0);
  const parts: string[] = [];
  for (const [field, number] of Object.entries(value)) {
    if (field.endsWith('Hi')) continue;
    if (field.endsWith('Lo')) {
      const name = field.slice(0, -2);
      const high = value[`${name}Hi`] ?? 0;
      if (number !== 0 || high !== 0) parts.push(`${name === 'nodeid' ? 'node' : name} ${wide(number, high)}`);
    } else if (number !== 0) {
      parts.push(`${field} ${format(field, number)}`);
    }
  }
  return parts;
}

function format(field: string, number: number): string {
  if (OCTAL.has(field)) return number.toString(8);
  return HEX.test(field) ? `0x${number.toString(16)}` : String(number);
}

/** In quotes, everything but printable ASCII escaped. */
function quote(name: string): string {
  const shown = name.slice(0, LONGEST_NAME).replace(/["\\]|[^ -~]/g, escapeByte);
  return name.length > LONGEST_NAME ? `"${shown}"… (${name.length} bytes)` : `"${shown}"`;
}

function escapeByte(char: string): string {
  if (char === '"' || char === '\\') return `\\${char}`;
  if (char === '\n') return '\\n';
  if (char === '\t') return '\\t';
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
