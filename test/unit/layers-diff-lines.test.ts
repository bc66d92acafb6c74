import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hunks } from '../../src/layers/diff-hunks.ts';
import { type Edit, lineEdits } from '../../src/layers/diff-lines.ts';

/** Texts of few different lines, with and without an end to the last one. */
const text = fc
  .tuple(fc.array(fc.constantFrom('a', 'b', 'c', '', 'longer', '\xff'), { maxLength: 40 }), fc.boolean())
  .map(([lines, ends]) => Buffer.from(lines.join('\n') + (ends && lines.length > 0 ? '\n' : ''), 'latin1'));

function linesOf(bytes: Buffer): string[] {
  return bytes
    .toString('latin1')
    .split(/(?<=\n)/)
    .filter((line) => line !== '');
}

/** What the edits say that becomes of the first text. */
function applied(a: Buffer, b: Buffer, edits: readonly Edit[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const { aFrom, aTo, bFrom, bTo } of edits) {
    parts.push(a.subarray(at, aFrom), b.subarray(bFrom, bTo));
    at = aTo;
  }
  return Buffer.concat([...parts, a.subarray(at)]);
}

/** Lines of the longest common subsequence, by the textbook. */
function commonLines(a: readonly string[], b: readonly string[]): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const line of a) {
    const next = [0];
    for (const [index, other] of b.entries())
      next.push(line === other ? (row[index] ?? 0) + 1 : Math.max(row[index + 1] ?? 0, next[index] ?? 0));
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Carries a unified diff out, as strictly as it can be. */
function patched(a: Buffer, patch: Buffer): string {
  const source = linesOf(a);
  const result: string[] = [];
  let at = 0;
  const lines = patch.toString('latin1').split('\n');
  lines.pop();
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('\\')) continue;
    const header = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$/.exec(line);
    if (header !== null) {
      const [, from, count = '1', to, toCount = '1'] = header;
      const start = count === '0' ? Number(from) : Number(from) - 1;
      while (at < start) result.push(source[at++] ?? '');
      expect(result.length).toBe(toCount === '0' ? Number(to) : Number(to) - 1);
      continue;
    }
    const content = line.slice(1) + (lines[index + 1]?.startsWith('\\') ? '' : '\n');
    if (line[0] !== '+') expect(source[at++]).toBe(content);
    if (line[0] !== '-') result.push(content);
  }
  return [...result, ...source.slice(at)].join('');
}

describe('the edits between two texts', () => {
  it('make the second out of the first', () => {
    fc.assert(fc.property(text, text, (a, b) => applied(a, b, lineEdits(a, b)).equals(b)));
  });

  it('leave as many lines as can be left, and count them', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        const edits = lineEdits(a, b);
        const [oldLines, newLines] = [linesOf(a), linesOf(b)];
        const common = commonLines(oldLines, newLines);
        expect(edits.reduce((lines, { aLines }) => lines + aLines, 0)).toBe(oldLines.length - common);
        expect(edits.reduce((lines, { bLines }) => lines + bLines, 0)).toBe(newLines.length - common);
      }),
    );
  });

  it('are in order, of whole lines, with others between them', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        let [aTo, bTo] = [-1, -1];
        for (const edit of lineEdits(a, b)) {
          expect(edit.aFrom).toBeGreaterThan(aTo);
          expect(edit.bFrom).toBeGreaterThan(bTo);
          ({ aTo, bTo } = edit);
          expect(linesOf(a.subarray(0, edit.aFrom))).toHaveLength(edit.aLine);
          expect(linesOf(b.subarray(0, edit.bFrom))).toHaveLength(edit.bLine);
          expect(linesOf(a.subarray(edit.aFrom, aTo))).toHaveLength(edit.aLines);
          expect(linesOf(b.subarray(edit.bFrom, bTo))).toHaveLength(edit.bLines);
        }
      }),
    );
  });

  it('take a few changes in a large text for what they are', () => {
    const lines = Array.from({ length: 200_000 }, (_, n) => `line ${n} of a large text\n`);
    const changed = [...lines];
    changed[3] = 'changed\n';
    changed.splice(70_000, 2);
    changed.splice(100_000, 0, 'new\n', 'and new\n', 'and new\n');
    changed.push('at the end\n');
    const [a, b] = [Buffer.from(lines.join('')), Buffer.from(changed.join(''))];
    const edits = lineEdits(a, b);
    expect(edits.map(({ aLine, aLines, bLines }) => [aLine, aLines, bLines])).toEqual([
      [3, 1, 1],
      [70_000, 2, 0],
      [100_002, 0, 3],
      [200_000, 0, 1],
    ]);
    expect(applied(a, b, edits).equals(b)).toBe(true);
  });

  it('make the second out of the first also where they have little in common, or much in another order', () => {
    const lines = Array.from({ length: 60_000 }, (_, n) => `line ${n} of a large text\n`);
    const a = Buffer.from(lines.join(''));
    for (const other of [
      [...lines].reverse(),
      [...lines.slice(30_000), ...lines.slice(0, 30_000)],
      lines.map((line, n) => (n % 3 === 0 ? `other ${line}` : line)),
      lines.map((_, n) => `${(n * 7919) % 50}\n`),
    ]) {
      const b = Buffer.from(other.join(''));
      expect(applied(a, b, lineEdits(a, b)).equals(b)).toBe(true);
    }
  });

  it('cost little more than splitting the text into lines where little has changed', () => {
    const lines = Array.from({ length: 500_000 }, (_, n) => `line ${n} of a large text\n`);
    const a = Buffer.from(lines.join(''));
    for (let n = 0; n < 100; n++) lines[n * 4993] = `changed ${n}\n`;
    const b = Buffer.from(lines.join(''));
    const timeOf = (work: () => unknown) => {
      const times = [0, 1, 2].map(() => {
        const start = performance.now();
        work();
        return performance.now() - start;
      });
      return Math.min(...times);
    };
    const splitting = timeOf(() => [a.toString('latin1').split('\n'), b.toString('latin1').split('\n')]);
    expect(timeOf(() => lineEdits(a, b))).toBeLessThan(splitting * 10);
  });
});

describe('hunks', () => {
  it('are what turns the first text into the second', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(patched(a, hunks(a, b, lineEdits(a, b)))).toBe(b.toString('latin1'));
      }),
    );
  });

  it('have three lines around each change, and take changes together that are close', () => {
    const lines = Array.from({ length: 30 }, (_, n) => `${n}\n`);
    const changed = lines.map((line, n) => (n === 10 || n === 17 || n === 26 ? `changed ${line}` : line));
    const [a, b] = [Buffer.from(lines.join('')), Buffer.from(changed.join(''))];
    expect(
      hunks(a, b, lineEdits(a, b))
        .toString()
        .match(/^@@.*$/gm),
    ).toEqual(['@@ -8,14 +8,14 @@', '@@ -24,7 +24,7 @@']);
  });

  it('say where a last line has no end', () => {
    const diff = (a: string, b: string) => {
      const [from, to] = [Buffer.from(a), Buffer.from(b)];
      return hunks(from, to, lineEdits(from, to)).toString();
    };
    expect(diff('a\n', 'a')).toBe('@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n');
    expect(diff('', 'a\n')).toBe('@@ -0,0 +1 @@\n+a\n');
    expect(diff('a', '')).toBe('@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n');
    expect(diff('x\na', 'y\na')).toBe('@@ -1,2 +1,2 @@\n-x\n+y\n a\n\\ No newline at end of file\n');
  });
});
