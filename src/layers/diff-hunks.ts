import { ByteSink } from './byte-sink.ts';
import type { Edit } from './diff-lines.ts';

/** Lines that stay, shown before and after each change. */
const CONTEXT = 3;
const NEWLINE = 10;
const SPACE = 0x20;
const MINUS = 0x2d;
const PLUS = 0x2b;
const NO_NEWLINE = Buffer.from('\n\\ No newline at end of file\n');

/** The hunks of a unified diff (POSIX diff, "Diff -u Output Format"), without the lines that name the files. */
export function hunks(a: Buffer, b: Buffer, edits: readonly Edit[]): Buffer {
  const sink = new ByteSink();
  for (let first = 0; first < edits.length; ) {
    let last = first;
    while (stays(edits[last], edits[last + 1]) <= CONTEXT * 2) last++;
    putHunk(sink, a, b, edits.slice(first, last + 1));
    first = last + 1;
  }
  return sink.take();
}

/** Lines between two edits. */
function stays(edit: Edit | undefined, next: Edit | undefined): number {
  if (edit === undefined || next === undefined) return Number.POSITIVE_INFINITY;
  return next.aLine - edit.aLine - edit.aLines;
}

function putHunk(sink: ByteSink, a: Buffer, b: Buffer, edits: readonly Edit[]): void {
  const [first, last] = [edits[0], edits[edits.length - 1]];
  if (first === undefined || last === undefined) return;
  const lead = linesBefore(a, first.aFrom);
  const trail = linesAfter(a, last.aTo);
  const edge = lead.lines + trail.lines;
  const aLines = last.aLine + last.aLines - first.aLine + edge;
  const bLines = last.bLine + last.bLines - first.bLine + edge;
  const from = rangeText(first.aLine - lead.lines, aLines);
  const to = rangeText(first.bLine - lead.lines, bLines);
  sink.put(Buffer.from(`@@ -${from} +${to} @@\n`));
  let at = lead.at;
  for (const edit of edits) {
    putLines(sink, SPACE, a, at, edit.aFrom);
    putLines(sink, MINUS, a, edit.aFrom, edit.aTo);
    putLines(sink, PLUS, b, edit.bFrom, edit.bTo);
    at = edit.aTo;
  }
  putLines(sink, SPACE, a, at, trail.at);
}

/** Of no lines, the one before is named. */
function rangeText(before: number, lines: number): string {
  const start = lines === 0 ? before : before + 1;
  return lines === 1 ? `${start}` : `${start},${lines}`;
}

function linesBefore(text: Buffer, from: number): { at: number; lines: number } {
  let at = from;
  let lines = 0;
  for (; at > 0 && lines < CONTEXT; lines++) at = at < 2 ? 0 : text.lastIndexOf(NEWLINE, at - 2) + 1;
  return { at, lines };
}

function linesAfter(text: Buffer, from: number): { at: number; lines: number } {
  let at = from;
  let lines = 0;
  for (; at < text.length && lines < CONTEXT; lines++) {
    const newline = text.indexOf(NEWLINE, at);
    at = newline < 0 ? text.length : newline + 1;
  }
  return { at, lines };
}

function putLines(sink: ByteSink, mark: number, text: Buffer, from: number, to: number): void {
  for (let at = from; at < to; ) {
    const newline = text.indexOf(NEWLINE, at);
    const next = newline < 0 || newline >= to ? to : newline + 1;
    sink.putByte(mark);
    sink.put(text.subarray(at, next));
    if (text[next - 1] !== NEWLINE) sink.put(NO_NEWLINE);
    at = next;
  }
}
