import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setXattr } from '../layers/change.ts';
import { type ChangeLine, disagreements, missedRenames, parseChanges } from '../layers/changes.ts';
import type { Commands } from '../layers/commands.ts';
import { patchableTree, plainTree, removeUnpatchable } from '../layers/plain-tree.ts';
import { RandomTree, type TreeOptions } from '../layers/random-tree.ts';
import { useLayersScene } from '../layers/scene.ts';
import { Random, seedOf } from '../model/random.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

function needs(program: string): { readonly lacks: boolean; readonly note: string } {
  const lacks = spawnSync(program, ['--version']).error !== undefined;
  return { lacks, note: lacks ? ` (skipped: this machine lacks ${program})` : '' };
}

const SEED = 20_251_125;
const ROUNDS = Array.from({ length: 12 }, (_, round) => round);
const CHUNK_BYTES = 128 * 1024;

suite(`differences between layers${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const changes = (pair: string): ChangeLine[] => parseChanges(commands().read(`diff/${pair}/changes`));
  const patch = (pair: string): string => commands().read(`diff/${pair}/patch`);
  const shell = (script: string) => spawnSync('bash', ['-c', script], { cwd: scene().mount, encoding: 'utf8' });
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tarbox-diff-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  let layers = 0;
  /** Two layers with random trees: the second one is made from the first. */
  function randomPair(round: number, options: TreeOptions): { readonly from: string; readonly to: string } {
    const [start, from, to] = [`start-${++layers}`, `from-${layers}`, `to-${layers}`];
    scene().begin(start);
    const tree = new RandomTree(scene().mount, new Random(seedOf(SEED, round)), options);
    tree.change(60);
    commands().checkpoint(from);
    tree.change(40);
    commands().checkpoint(to);
    return { from, to };
  }

  describe('changes', () => {
    it.each(ROUNDS)('are what a comparison of the snapshots finds: random trees %i', (round) => {
      const { from, to } = randomPair(round, { binary: true, special: true, turning: true });
      const [before, after] = [plainTree(commands().snapshot(from)), plainTree(commands().snapshot(to))];
      const [forth, back] = [changes(`${from}..${to}`), changes(`${to}..${from}`)];
      expect(disagreements(before, after, forth)).toEqual([]);
      expect(disagreements(after, before, back)).toEqual([]);
      expect(missedRenames(before, after, forth)).toEqual([]);
      expect(changes(`${from}..${from}`)).toEqual([]);
    });

    it('are what a comparison of the snapshots finds where two branches have nothing in common', () => {
      const one = randomPair(50, { binary: true, special: true, turning: true });
      const other = randomPair(51, { binary: true, special: true, turning: true });
      const [before, after] = [plainTree(commands().snapshot(one.to)), plainTree(commands().snapshot(other.from))];
      expect(disagreements(before, after, changes(`${one.to}..${other.from}`))).toEqual([]);
      expect(disagreements(after, before, changes(`${other.from}..${one.to}`))).toEqual([]);
    });

    it('tell of each kind of change', () => {
      scene().begin('kinds');
      for (const name of ['modified', 'deleted', 'moved', 'chmodded', 'chowned', 'labelled', 'touched', 'same'])
        writeFileSync(path(name), `${name}\nsecond line\n`);
      symlinkSync('one', path('link'));
      mkdirSync(path('dir'));
      writeFileSync(path('file-then-dir'), 'text\n');
      commands().checkpoint('kinds-1');
      writeFileSync(path('modified'), 'modified\nanother line\nand one more\n');
      unlinkSync(path('deleted'));
      renameSync(path('moved'), path('dir/moved'));
      chmodSync(path('chmodded'), 0o600);
      chownSync(path('chowned'), 1000, 1001);
      setXattr(path('labelled'), 'user.label', 'x');
      utimesSync(path('touched'), 1, 1);
      writeFileSync(path('same'), 'same\nsecond line\n');
      unlinkSync(path('link'));
      symlinkSync('other', path('link'));
      chmodSync(path('dir'), 0o700);
      unlinkSync(path('file-then-dir'));
      mkdirSync(path('file-then-dir'));
      writeFileSync(path('added'), 'no end');
      writeFileSync(path('binary'), Buffer.from([0, 1, 2]));
      expect(changes('current..working')).toEqual([
        { path: 'added', change: 'added', type: 'file', size: 6, lines_added: 1, lines_deleted: 0 },
        { path: 'binary', change: 'added', type: 'file', size: 3, binary: true },
        {
          ...{ path: 'chmodded', change: 'metadata', type: 'file', old_size: 21, size: 21 },
          ...{ lines_added: 0, lines_deleted: 0, old_mode: '0644', mode: '0600' },
        },
        {
          ...{ path: 'chowned', change: 'metadata', type: 'file', old_size: 20, size: 20 },
          ...{ lines_added: 0, lines_deleted: 0, old_owner: '0:0', owner: '1000:1001' },
        },
        { path: 'deleted', change: 'deleted', type: 'file', old_size: 20, lines_added: 0, lines_deleted: 2 },
        { path: 'dir', change: 'metadata', type: 'directory', old_mode: '0755', mode: '0700' },
        {
          ...{ path: 'dir/moved', change: 'renamed', type: 'file', from: 'moved', old_size: 18, size: 18 },
          ...{ lines_added: 0, lines_deleted: 0 },
        },
        { path: 'file-then-dir', change: 'deleted', type: 'file', old_size: 5, lines_added: 0, lines_deleted: 1 },
        { path: 'file-then-dir', change: 'added', type: 'directory' },
        {
          ...{ path: 'labelled', change: 'metadata', type: 'file', old_size: 21, size: 21 },
          ...{ lines_added: 0, lines_deleted: 0, xattrs: 'changed' },
        },
        { path: 'link', change: 'modified', type: 'symlink', old_size: 3, size: 5 },
        {
          ...{ path: 'modified', change: 'modified', type: 'file', old_size: 21, size: 35 },
          ...{ lines_added: 2, lines_deleted: 1 },
        },
      ]);
    });

    it('list everything below a directory that has moved', () => {
      scene().begin('moving');
      mkdirSync(path('old/deep/deeper'), { recursive: true });
      for (const name of ['a', 'deep/b', 'deep/deeper/c']) writeFileSync(path(`old/${name}`), name);
      linkSync(path('old/a'), path('outside'));
      commands().checkpoint('moving-1');
      mkdirSync(path('new'));
      renameSync(path('old'), path('new/place'));
      writeFileSync(path('new/place/deep/b'), 'changed');
      const found = changes('moving-1..working').map(({ path: to, change, from = '' }) => `${change} ${from} ${to}`);
      expect(found).toEqual([
        'added  new',
        'renamed old new/place',
        'renamed old/a new/place/a',
        'renamed old/deep new/place/deep',
        'renamed old/deep/b new/place/deep/b',
        'renamed old/deep/deeper new/place/deep/deeper',
        'renamed old/deep/deeper/c new/place/deep/deeper/c',
      ]);
    });

    it('recognise a file that was written anew under another name, and give names that are not UTF-8', () => {
      scene().begin('recognised');
      writeFileSync(Buffer.from(path('\xff'), 'latin1'), 'the same');
      writeFileSync(path('large'), Buffer.alloc(3 * CHUNK_BYTES, 'large'));
      commands().checkpoint('recognised-1');
      shell(`cp large larger; rm large; mv $'\\xff' $'\\xfe'`);
      expect(changes('recognised-1..working')).toMatchObject([
        { path: 'larger', change: 'renamed', from: 'large' },
        { path: '\ufffd', path_base64: '/g==', change: 'renamed', from: '\ufffd', from_base64: '/w==' },
      ]);
    });

    it('count the lines of a large file by what differs, wherever that is', () => {
      scene().begin('large');
      const line = (n: number) => `line ${n} of a file that has many chunks\n`;
      const lines = Array.from({ length: 30_000 }, (_, n) => line(n));
      writeFileSync(path('text'), lines.join(''));
      commands().checkpoint('large-1');
      // Right at the chunks' edges, too.
      const text = lines.join('');
      for (const at of [0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5, text.length - 2]) {
        const changed = `${text.slice(0, at)}X${text.slice(at + 1)}`;
        writeFileSync(path('text'), changed);
        const same = text[at] === '\n' ? { lines_added: 1, lines_deleted: 2 } : { lines_added: 1, lines_deleted: 1 };
        expect(changes('large-1..working'), `at ${at}`).toMatchObject([{ path: 'text', change: 'modified', ...same }]);
      }
      writeFileSync(path('text'), [...lines.slice(0, 9000), 'inserted\n', ...lines.slice(9000)].join(''));
      expect(changes('large-1..working')).toMatchObject([{ lines_added: 1, lines_deleted: 0 }]);
      truncateSync(path('text'), 1000 * line(0).length);
      const [left] = changes('large-1..working');
      expect((left?.lines_deleted ?? 0) - (left?.lines_added ?? 0)).toBe(
        30_000 - readFileSync(path('text'), 'utf8').split('\n').length,
      );
    });

    it('include what is only in the kernel yet, and what handles that are open have written', () => {
      scene().begin('open');
      writeFileSync(path('file'), 'one\n');
      commands().checkpoint('open-1');
      const handle = openSync(path('file'), 'a');
      try {
        writeSync(handle, 'two\n');
        expect(changes('open-1..working')).toMatchObject([{ path: 'file', lines_added: 1, size: 8 }]);
        writeSync(handle, 'three\n');
        expect(changes('open-1..working')).toMatchObject([{ path: 'file', lines_added: 2, size: 14 }]);
      } finally {
        closeSync(handle);
      }
    });

    it('stay what they were between layers that stay, whatever becomes of others', () => {
      scene().begin('squashed');
      for (const n of [1, 2, 3, 4]) {
        writeFileSync(path(`file-${n}`), `${n}\n`);
        writeFileSync(path('common'), `${n}\n`);
        commands().checkpoint(`squashed-${n}`);
      }
      const [all, last] = [patch('squashed..squashed-4'), patch('squashed-3..squashed-4')];
      commands().squash('squashed-1', 'squashed-2', 'squashed-12');
      commands().drop('squashed-12', true);
      expect(patch('squashed..squashed-4')).toBe(all);
      expect(patch('squashed-3..squashed-4')).toBe(last);
      expect(existsSync(commands().path('diff/squashed-1..squashed-4'))).toBe(false);
    });
  });

  const git = needs('git');
  describe.skipIf(git.lacks)(`a patch, by git apply${git.note}`, () => {
    it.each(ROUNDS)('makes the second of two random trees out of the first: %i', (round) => {
      const pair = randomPair(100 + round, { binary: true, special: true, turning: true });
      expectApplies(pair, 'git', ['apply', '--whitespace=nowarn', '-']);
    });
  });

  const gnu = needs('patch');
  describe.skipIf(gnu.lacks)(`a patch, by GNU patch${gnu.note}`, () => {
    // It knows no binary files, nor a path that turns into something of another type.
    it.each(ROUNDS)('makes the second of two random trees out of the first: %i', (round) => {
      const pair = randomPair(200 + round, { binary: false, special: true, turning: false });
      expectApplies(pair, 'patch', ['-p1']);
    });

    it('is read as a file, too', () => {
      const { from, to } = randomPair(299, { binary: false, special: false, turning: false });
      const copy = copyOf(from, 'redirected');
      const script = 'patch -p1 < "$1"';
      const { status } = spawnSync('sh', ['-c', script, 'sh', commands().path(`diff/${from}..${to}/patch`)], {
        cwd: copy,
      });
      expect(status).toBe(0);
      expect(patchableTree(copy)).toEqual(patchableTree(commands().snapshot(to)));
    });
  });

  function copyOf(layer: string, name: string): string {
    const copy = join(folder, `${layer}-${name}`);
    // GNU patch takes several names of one file for the same.
    spawnSync('cp', ['-RP', '--preserve=mode', commands().snapshot(layer), copy]);
    removeUnpatchable(copy);
    return copy;
  }

  function expectApplies({ from, to }: { from: string; to: string }, program: string, args: readonly string[]): void {
    const copy = copyOf(from, program);
    const text = spawnSync('cat', [commands().path(`diff/${from}..${to}/patch`)], { maxBuffer: 1 << 28 }).stdout;
    const env = { ...process.env, GIT_CEILING_DIRECTORIES: folder, GIT_CONFIG_GLOBAL: '/dev/null' };
    const { status, stdout, stderr } = spawnSync(program, args, { cwd: copy, input: text, env, encoding: 'utf8' });
    expect({ status, said: status === 0 ? '' : stdout + stderr }).toEqual({ status: 0, said: '' });
    expect(patchableTree(copy)).toEqual(patchableTree(commands().snapshot(to)));
  }

  describe('the files of a difference', () => {
    it('are the parts of the patch, in a tree of their own', () => {
      scene().begin('parts');
      mkdirSync(path('sub/below'), { recursive: true });
      writeFileSync(path('sub/below/file'), 'one\ntwo\n');
      writeFileSync(path('kept'), 'kept\n');
      writeFileSync(path('gone'), 'gone\n');
      commands().checkpoint('parts-1');
      writeFileSync(path('sub/below/file'), 'one\nTWO\n');
      unlinkSync(path('gone'));
      writeFileSync(path('new file'), 'new\n');
      commands().checkpoint('parts-2');
      const files = commands().path('diff/parts-1..parts-2/files');
      expect(
        spawnSync('find', ['.', '-type', 'f'], { cwd: files, encoding: 'utf8' }).stdout.split('\n').sort(),
      ).toEqual(['', './gone', './new file', './sub/below/file']);
      const part = (name: string) => readFileSync(join(files, name), 'utf8');
      expect(part('sub/below/file')).toBe(
        [
          'diff --git a/sub/below/file b/sub/below/file',
          'index 814f4a422927b82f5f8a43f8fab6d3839e3983f2..879de50b9a967adae6ab5fe536d4ef6e0af21bb1 100644',
          '--- a/sub/below/file',
          '+++ b/sub/below/file',
          '@@ -1,2 +1,2 @@',
          ' one',
          '-two',
          '+TWO',
          '',
        ].join('\n'),
      );
      expect(patch('parts-1..parts-2')).toBe(['gone', 'new file', 'sub/below/file'].map(part).join(''));
      expect(existsSync(join(files, 'kept'))).toBe(false);
      expect(existsSync(join(files, 'sub/nothing'))).toBe(false);
    });
  });

  describe('the names of a difference', () => {
    it('are names, ids and tags of layers, with dots in them, too', () => {
      scene().begin('v1.');
      writeFileSync(path('file'), 'text\n');
      const { id } = commands().checkpoint('v1.2');
      writeFileSync(commands().path('layers/tags/release.'), 'v1.2\n');
      const added = [{ path: 'file', change: 'added' }];
      for (const pair of ['v1...v1.2', `v1...${id}`, 'v1...release.', 'v1...current', 'v1...working'])
        expect(changes(pair), pair).toMatchObject(added);
      for (const pair of ['release...v1.', `${id}..v1.`])
        expect(changes(pair), pair).toMatchObject([{ change: 'deleted' }]);
      expect(changes('v1.2..working')).toEqual([]);
      expect(patch('v1.2..working')).toBe('');
    });

    it('are listed for each layer and the one below it', () => {
      scene().begin('listed');
      commands().checkpoint('listed-1');
      const pairs = readdirSync(commands().path('diff'));
      expect(pairs).toEqual(expect.arrayContaining(['base..listed', 'listed..listed-1', 'current..working']));
      expect(pairs).not.toContain('base..listed-1');
      expect(readdirSync(commands().path('diff/listed..listed-1'))).toEqual(['changes', 'files', 'patch']);
    });

    it.each([
      'base',
      'base..',
      '..base',
      'base..nothing',
      'nothing..base',
      'base...',
      'base..base..base',
      '1..99999',
      '\xff..base',
    ])('are refused when they mean nothing: %s', (pair) => {
      const wanted = Buffer.from(`${commands().path('diff')}/${pair}/changes`, 'latin1');
      expect(() => readFileSync(wanted)).toThrow(/^(ENOENT|EINVAL)/);
    });

    it('take no writing', () => {
      const { status, stderr } = shell(`
        for file in diff/base..working/changes diff/base..working/new diff/new history/new; do
          ! echo x > .tarbox/$file || echo "$file was written" >&2
        done 2>&1 | grep -v denied | grep -v permitted >&2
        ! mkdir .tarbox/diff/new .tarbox/history/new 2>/dev/null`);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    });
  });

  describe('reading', () => {
    /** Two layers between which a text of many lines is turned round, which takes long to compare. */
    function makeTedious(name: string): string {
      scene().begin(name);
      const lines = Array.from({ length: 300_000 }, (_, n) => `line ${n} of many\n`);
      writeFileSync(path('text'), lines.join(''));
      commands().checkpoint(`${name}-1`);
      writeFileSync(path('text'), lines.reverse().join(''));
      commands().checkpoint(`${name}-2`);
      return commands().path(`diff/${name}-1..${name}-2/patch`);
    }

    it('is done by every program that reads from start to end', () => {
      const { from, to } = randomPair(300, { binary: false, special: false, turning: false });
      const name = `.tarbox/diff/${from}..${to}/patch`;
      const whole = shell(`sha256sum < ${name}`).stdout;
      expect(patch(`${from}..${to}`).length).toBeGreaterThan(1000);
      for (const script of [
        `cp ${name} ${folder}/copied && sha256sum < ${folder}/copied`,
        `dd if=${name} bs=7 status=none | sha256sum`,
        `head -c 100000000 ${name} | sha256sum`,
        `exec 8< ${name}; head -c 100 <&8 > ${folder}/first; cat ${folder}/first - <&8 | sha256sum`,
        `python3 -c 'import sys, hashlib; print(hashlib.sha256(open("${name}", "rb").read()).hexdigest() + "  -")' ||
          sha256sum < ${name} # where there is no python3`,
        `cat ${name} | sha256sum`,
      ])
        expect(shell(script).stdout, script).toBe(whole);
    });

    it('lets others go on while it takes long, and ends at once with the program that reads', async () => {
      const file = makeTedious('tedious');
      const reader = spawn('cat', [file], { stdio: ['ignore', 'ignore', 'inherit'] });
      const ended = once(reader, 'exit').then(() => true);
      const served = await Promise.race([ended, writeMany(200)]);
      expect(served, 'the comparison was over too soon for this test').toBe(200);
      reader.kill('SIGKILL');
      await ended;
      expect(shell(`head -c 4 ${file}`).stdout).toBe('diff');
    });

    /** Resolves to the number when so many files have been written, each of which waits for the daemon. */
    async function writeMany(count: number): Promise<number> {
      for (let n = 0; n < count; n++) {
        writeFileSync(path(`other-${n}`), 'other');
        if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      return count;
    }

    it('gives one state of each file while the workspace is being written', async () => {
      scene().begin('written');
      for (let n = 0; n < 50; n++) writeFileSync(path(`file-${n}`), `${'0\n'.repeat(2000)}`);
      commands().checkpoint('written-1');
      const script = 'i=0; while :; do i=$((i+1)); yes $i | head -2000 > next; mv next file-$((i % 50)); done';
      const writer = spawn('bash', ['-c', script], { cwd: scene().mount, stdio: 'ignore' });
      try {
        for (let n = 0; n < 10; n++) {
          for (const line of changes('written-1..working')) {
            if (line.path === 'next') continue;
            expect(line).toMatchObject({ change: 'modified', lines_added: 2000, lines_deleted: 2000 });
            expect(line.size).toBe(2000 * (1 + Math.floor(((line.size ?? 0) - 1) / 2000)));
          }
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        writer.kill('SIGKILL');
        await once(writer, 'exit');
      }
    });

    it('goes on when the daemon is replaced in the middle', async () => {
      const { from, to } = randomPair(301, { binary: true, special: false, turning: true });
      const whole = patch(`${from}..${to}`);
      const handle = openSync(commands().path(`diff/${from}..${to}/patch`), 'r');
      try {
        const first = Buffer.alloc(500);
        expect(readSync(handle, first)).toBe(500);
        await scene().replaceDaemon();
        expect(patch(`${from}..${to}`)).toBe(whole);
      } finally {
        closeSync(handle);
      }
    });
  });

  it('too large a file is told of by its size', () => {
    scene().begin('sparse');
    writeFileSync(path('sparse'), 'text\n');
    writeFileSync(path('small'), 'text\n');
    commands().checkpoint('sparse-1');
    truncateSync(path('sparse'), 2 ** 36);
    writeFileSync(path('small'), 'other\n');
    expect(changes('sparse-1..working')).toMatchObject([
      { path: 'small', lines_added: 1, lines_deleted: 1 },
      { path: 'sparse', change: 'modified', old_size: 5, size: 2 ** 36, too_large: true },
    ]);
    expect(patch('sparse-1..working')).toContain('\nBinary files a/sparse and b/sparse differ\n');
  });
});
