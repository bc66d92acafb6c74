import { deflateSync } from 'node:zlib';

/** git's alphabet (base85.c). */
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~';
const BASE = 85;
const WORD_BYTES = 4;
const WORD_DIGITS = 5;
const LINE_BYTES = 52;
const SHORT_LENGTHS = 26;
const NEWLINE = 10;

/**
 * The part of a patch from which `git apply` makes a file with these bytes (git, Documentation/gitformat and diff.c,
 * emit_binary_diff_body): compressed, and in lines of 52 bytes, each with its length in front.
 */
export function binaryPatch(bytes: Uint8Array): Buffer {
  const packed = deflateSync(bytes);
  const lead = Buffer.from(`GIT binary patch\nliteral ${bytes.length}\n`);
  const lines = Math.ceil(packed.length / LINE_BYTES);
  const text = Buffer.alloc(
    lead.length + lines * 2 + Math.ceil(packed.length / WORD_BYTES) * WORD_DIGITS + lines * WORD_DIGITS + 1,
  );
  let at = lead.copy(text);
  for (let from = 0; from < packed.length; from += LINE_BYTES) {
    const line = packed.subarray(from, from + LINE_BYTES);
    text[at++] = lengthMark(line.length);
    for (let word = 0; word < line.length; word += WORD_BYTES) at = putWord(text, at, line, word);
    text[at++] = NEWLINE;
  }
  text[at++] = NEWLINE;
  return text.subarray(0, at);
}

/** A to Z for 1 to 26, a to z for 27 to 52. */
function lengthMark(length: number): number {
  return length <= SHORT_LENGTHS ? 64 + length : 96 + length - SHORT_LENGTHS;
}

/** Four bytes, zeros where there are fewer, as a big-endian number of five digits. */
function putWord(text: Buffer, at: number, line: Uint8Array, from: number): number {
  let value = 0;
  for (let n = 0; n < WORD_BYTES; n++) value = value * 256 + (line[from + n] ?? 0);
  for (let digit = WORD_DIGITS - 1; digit >= 0; digit--) {
    text[at + digit] = DIGITS.charCodeAt(value % BASE);
    value = Math.floor(value / BASE);
  }
  return at + WORD_DIGITS;
}
