import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Ino, LayerId } from '../../src/brand.ts';
import { TextStream } from '../../src/control/stream.ts';
import { FsError } from '../../src/errno.ts';
import { binaryPatch } from '../../src/layers/diff-binary.ts';
import { ChunkReader } from '../../src/layers/diff-chunks.ts';
import { examine } from '../../src/layers/diff-examine.ts';
import { PathTree } from '../../src/layers/diff-files.ts';
import { blobName, NO_BLOB } from '../../src/layers/diff-jobs.ts';
import { sortKeys } from '../../src/layers/diff-order.ts';
import { quotePath } from '../../src/layers/diff-quote.ts';
import { DiffThreads } from '../../src/layers/diff-threads.ts';
import { stepsBelow } from '../../src/layers/history-steps.ts';
import type { Content } from '../../src/layers/reader.ts';
import { sortedInTurns } from '../../src/layers/turns.ts';
import { inodeRow } from '../store/rows.ts';

function contentOf(text: string | Uint8Array): Content {
  const head = Buffer.from(text);
  return { size: head.length, head, chunks: new Map() };
}

const noChunks = () => new ChunkReader({ load: async () => new Map(), cached: () => undefined });
const hasGit = spawnSync('git', ['--version']).error === undefined;

describe('a path in a patch', () => {
  it('is itself where that is clear, and in quotes with escapes where not', () => {
    expect(quotePath('a/src/file-1.ts')).toBe('a/src/file-1.ts');
    expect(quotePath('a/with space')).toBe('"a/with space"');
    expect(quotePath('a/"\\\t\n\x01\x7f\xff')).toBe('"a/\\"\\\\\\t\\n\\001\\177\\377"');
  });
});

describe('a binary patch', () => {
  it.skipIf(!hasGit)(`is what git makes the bytes of${hasGit ? '' : ' (skipped: this machine lacks git)'}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'tarbox-binary-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    for (const length of [1, 2, 3, 51, 52, 53, 104, 1000]) {
      const bytes = Buffer.from(Array.from({ length }, (_, n) => (n * n * 31) % 256));
      const lines = ['diff --git a/f b/f', 'new file mode 100644', `index ${NO_BLOB}..${blobName(bytes)}`, ''].join(
        '\n',
      );
      const input = Buffer.concat([Buffer.from(lines), binaryPatch(bytes)]);
      const { status, stderr } = spawnSync('git', ['apply', '-'], { cwd: folder, input, encoding: 'utf8' });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(readFileSync(join(folder, 'f')).equals(bytes)).toBe(true);
      rmSync(join(folder, 'f'));
    }
  });

  it('names contents as git does', () => {
    expect(blobName(Buffer.from('hello\n'))).toBe('ce013625030ba8dba906f756967f9e9ca394464a');
  });
});

describe('changes in order', () => {
  const mode = { file: 0o100644, directory: 0o040755 };
  const treeOf = (paths: Readonly<Record<string, keyof typeof mode>>) =>
    new Map(Object.entries(paths).map(([path, type]) => [path, inodeRow(9, { mode: mode[type] })]));

  it('leave a directory before a file takes its place, and the other way round', () => {
    const before = treeOf({ x: 'directory', 'x/old': 'file', y: 'file', 'x-1': 'file' });
    const after = treeOf({ x: 'file', y: 'directory', 'y/new': 'file' });
    const keyOf = sortKeys({ before, after });
    const entries = [
      { path: 'y/new', change: 'added' },
      { path: 'y', change: 'deleted' },
      { path: 'x-1', change: 'deleted' },
      { path: 'x', change: 'added' },
      { path: 'x/old', change: 'deleted' },
    ];
    const sorted = entries.sort((one, other) => (keyOf(one) < keyOf(other) ? -1 : 1));
    expect(sorted.map(({ path }) => path)).toEqual(['x/old', 'x', 'x-1', 'y', 'y/new']);
  });

  it('are sorted with breaks as they would be without', async () => {
    const items = Array.from({ length: 20_001 }, (_, n) => `${(n * 7919) % 1000}`);
    const sorted = await sortedInTurns(
      items.map((key, index) => ({ key, index })),
      ({ key }) => key,
    );
    const expected = items.map((key, index) => ({ key, index }));
    expected.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.index - b.index));
    expect(sorted).toEqual(expected);
  });
});

describe('a tree of paths', () => {
  it('has the directories on the way, which win over files of the same name', async () => {
    const tree = await PathTree.of(['a/b/c', 'd', 'd/e', 'a/b/x']);
    expect(tree.list('')).toEqual([
      { name: 'a', directory: true },
      { name: 'd', directory: true },
    ]);
    expect(tree.list('a/b').map(({ name }) => name)).toEqual(['c', 'x']);
    expect(tree.find('a', 'b')).toEqual({ name: 'b', directory: true });
    expect(tree.find('a', 'c')).toBeUndefined();
    expect(tree.list('nowhere')).toEqual([]);
  });
});

describe('the steps of a path', () => {
  const ino = (number: number) => number as Ino; // the brand is a compile-time mark only
  const layer = (number: number) => number as LayerId;
  const step = (since: number, number: number | undefined, isDirectory = false) => ({
    since: layer(since),
    ino: number === undefined ? undefined : ino(number),
    isDirectory,
  });
  const version = (parent: number, since: number, number: number | undefined) => ({
    parent: ino(parent),
    layer: layer(since),
    ino: number === undefined ? undefined : ino(number),
    isDirectory: false,
  });

  it('are those of its name in whatever directory was above it at the time', () => {
    const above = [step(0, 10, true), step(5, 20, true), step(8, undefined), step(9, 10, true)];
    const versions = [version(10, 2, 100), version(20, 3, 200), version(10, 6, 101), version(20, 7, undefined)];
    expect(stepsBelow(above, versions)).toEqual([
      step(0, undefined),
      step(2, 100),
      step(5, 200),
      step(7, undefined),
      step(9, 101),
    ]);
  });
});

describe('a diff thread', () => {
  const threads = new DiffThreads();
  const never = new AbortController().signal;

  it('compares versions, those that are not there among them', async () => {
    const parts = { threads, chunks: noChunks() };
    const versions = [
      { before: contentOf('a\nb\n'), after: contentOf('a\nc\n') },
      { before: undefined, after: contentOf('new\n') },
      { before: contentOf('old'), after: undefined },
      { before: contentOf(Buffer.from([0, 1])), after: contentOf('text') },
      { before: contentOf('same'), after: contentOf('same') },
    ];
    expect(await examine(parts, versions, 'counts', never)).toMatchObject([
      { same: false, added: 1, deleted: 1, similarity: 50, binary: false },
      { same: false, added: 1, deleted: 0 },
      { same: false, added: 0, deleted: 1 },
      { same: false, added: 0, deleted: 0, binary: true },
      { same: true },
    ]);
  });

  it('takes what has no stored bytes for zeros', async () => {
    const hole = (size: number, head: string): Content => ({ size, head: Buffer.from(head), chunks: new Map() });
    const versions = [{ before: hole(9000, ''), after: hole(9000, 'x') }];
    expect(await examine({ threads, chunks: noChunks() }, versions, 'counts', never)).toMatchObject([
      { same: false, binary: true },
    ]);
  });

  it('ends with whoever waits for it, and leaves room for the next one', async () => {
    const lines = Array.from({ length: 300_000 }, (_, n) => `line ${n}\n`);
    const before = contentOf(lines.join(''));
    const after = contentOf(lines.reverse().join(''));
    for (let n = 0; n < 4; n++) {
      const gone = new AbortController();
      const result = examine({ threads, chunks: noChunks() }, [{ before, after }], 'counts', gone.signal);
      setImmediate(() => gone.abort(new FsError('EINTR', 'nobody waits')));
      await expect(result).rejects.toThrow('nobody waits');
    }
    const versions = [{ before: contentOf('a\n'), after: contentOf('b\n') }];
    expect(await examine({ threads, chunks: noChunks() }, versions, 'counts', never)).toMatchObject([{ added: 1 }]);
  });
});

describe('a text that is made as it is read', () => {
  const pieces = fc.array(
    fc.string({ maxLength: 20 }).map((text) => Buffer.from(text)),
    { maxLength: 20 },
  );

  it('is the same in whatever pieces it is read, and when it is read again', async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 30 }), async (made, size) => {
        const whole = Buffer.concat(made);
        const stream = new TextStream(async function* () {
          yield* made;
        });
        for (let again = 0; again < 2; again++) {
          const parts: Buffer[] = [];
          let at = 0;
          for (;;) {
            const part = await stream.read(at, size);
            if (part.length === 0) break;
            expect((await stream.read(at, size)).equals(part)).toBe(true);
            parts.push(part);
            at += part.length;
          }
          expect(Buffer.concat(parts).equals(whole)).toBe(true);
        }
      }),
    );
  });

  it('fails again where it failed, and stops being made when it is closed', async () => {
    const failing = new TextStream(async function* () {
      yield Buffer.from('one');
      throw new FsError('EIO', 'it broke');
    });
    expect((await failing.read(0, 10)).toString()).toBe('one');
    for (let n = 0; n < 2; n++) await expect(failing.read(3, 10)).rejects.toThrow('it broke');
    let ended = false;
    const endless = new TextStream(async function* (signal) {
      try {
        while (!signal.aborted) yield Buffer.from('more');
      } finally {
        ended = true;
      }
    });
    await endless.read(0, 10);
    endless.close();
    await expect.poll(() => ended).toBe(true);
  });
});
