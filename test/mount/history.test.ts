import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Commands } from '../layers/commands.ts';
import { useLayersScene } from '../layers/scene.ts';
import { Random } from '../model/random.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

/** An element of `history/<path>`. */
interface Version {
  readonly layer: string;
  readonly id: number;
  readonly time: string;
  readonly type?: string;
  readonly size: number;
  readonly hash: string;
  readonly lines_added?: number;
  readonly lines_deleted?: number;
  readonly binary?: boolean;
}

const hashOf = (content: string | Buffer) => createHash('sha256').update(content).digest('hex');

suite(`the history of a file${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const history = (name: string): Version[] => JSON.parse(commands().read(`history/${name}`));
  const layersOf = (name: string) => history(name).map(({ layer }) => layer);

  it('has each version, newest first, with the layer that first had it', () => {
    scene().begin('versions');
    writeFileSync(path('file'), 'one\ntwo\n');
    commands().checkpoint('versions-1');
    commands().checkpoint('versions-2', { description: 'nothing changed' });
    appendFileSync(path('file'), 'three\n');
    commands().checkpoint('versions-3');
    chmodSync(path('file'), 0o600);
    commands().checkpoint('versions-4');
    writeFileSync(path('file'), 'ONE\nthree\n');
    expect(history('file')).toEqual([
      {
        ...{ layer: 'working', id: expect.any(Number), time: expect.any(String), size: 10 },
        ...{ hash: hashOf('ONE\nthree\n'), lines_added: 1, lines_deleted: 2 },
      },
      {
        ...{ layer: 'versions-3', id: commands().layer('versions-3').id, size: 14 },
        ...{ time: commands().layer('versions-3').frozen_at, hash: hashOf('one\ntwo\nthree\n') },
        ...{ lines_added: 1, lines_deleted: 0 },
      },
      {
        ...{ layer: 'versions-1', id: commands().layer('versions-1').id, size: 8 },
        ...{ time: commands().layer('versions-1').frozen_at, hash: hashOf('one\ntwo\n') },
        ...{ lines_added: 2, lines_deleted: 0 },
      },
    ]);
    expect(commands().read('history/file').split('\n')).toHaveLength(4);
  });

  it('goes on where another file takes the name, as editors do', () => {
    scene().begin('replaced');
    writeFileSync(path('file'), '1\n');
    commands().checkpoint('replaced-1');
    writeFileSync(path('file.new'), '2\n');
    renameSync(path('file.new'), path('file'));
    commands().checkpoint('replaced-2');
    writeFileSync(path('file.new'), '2\n');
    renameSync(path('file.new'), path('file'));
    commands().checkpoint('replaced-3');
    expect(layersOf('file')).toEqual(['replaced-2', 'replaced-1']);
    expect(history('file')[0]).toMatchObject({ lines_added: 1, lines_deleted: 1 });
  });

  it('remembers what is gone, and goes on when it comes back', () => {
    scene().begin('gone');
    mkdirSync(path('dir/sub'), { recursive: true });
    writeFileSync(path('dir/sub/file'), 'first\n');
    commands().checkpoint('gone-1');
    rmSync(path('dir'), { recursive: true });
    commands().checkpoint('gone-2');
    expect(layersOf('dir/sub/file')).toEqual(['gone-1']);
    expect(readdirSync(commands().path('history'))).toContain('dir');
    expect(readdirSync(commands().path('history/dir/sub'))).toEqual(['file']);
    mkdirSync(path('dir/sub'), { recursive: true });
    writeFileSync(path('dir/sub/file'), 'second\n');
    commands().checkpoint('gone-3');
    expect(layersOf('dir/sub/file')).toEqual(['gone-3', 'gone-1']);
    unlinkSync(path('dir/sub/file'));
    symlinkSync('elsewhere', path('dir/sub/file'));
    expect(history('dir/sub/file')).toMatchObject([
      { layer: 'working', type: 'symlink', size: 9, hash: hashOf('elsewhere') },
      { layer: 'gone-3', hash: hashOf('second\n') },
      { layer: 'gone-1', hash: hashOf('first\n') },
    ]);
  });

  it('follows the path where directories move', () => {
    scene().begin('moved');
    mkdirSync(path('a'));
    mkdirSync(path('b'));
    writeFileSync(path('a/file'), 'of a\n');
    writeFileSync(path('b/file'), 'of b\n');
    commands().checkpoint('moved-1');
    renameSync(path('a'), path('aside'));
    renameSync(path('b'), path('a'));
    renameSync(path('aside'), path('b'));
    commands().checkpoint('moved-2');
    appendFileSync(path('a/file'), 'more\n');
    expect(history('a/file').map(({ layer, hash }) => [layer, hash])).toEqual([
      ['working', hashOf('of b\nmore\n')],
      ['moved-2', hashOf('of b\n')],
      ['moved-1', hashOf('of a\n')],
    ]);
    expect(layersOf('b/file')).toEqual(['moved-2', 'moved-1']);
    // It was there between two layers only.
    expect(existsSync(commands().path('history/aside'))).toBe(false);
  });

  it('is that of the layers below the tree, not of other branches', () => {
    scene().begin('branches');
    writeFileSync(path('file'), '1\n');
    commands().checkpoint('branches-1');
    writeFileSync(path('file'), '2\n');
    commands().checkpoint('branches-2');
    commands().switchTo('branches-1');
    expect(layersOf('file')).toEqual(['branches-1']);
    writeFileSync(path('file'), '3\n');
    commands().checkpoint('branches-3', { branch: true });
    expect(layersOf('file')).toEqual(['branches-3', 'branches-1']);
    commands().squash('branches-1', 'branches-1', 'branches-one');
    expect(layersOf('file')).toEqual(['branches-3', 'branches-one']);
    commands().switchTo('branches-2');
    expect(layersOf('file')).toEqual(['branches-2', 'branches-one']);
  });

  it('knows large files, sparse ones and ones that are not text', () => {
    scene().begin('large');
    const random = new Random(1);
    const bytes = Buffer.from(Array.from({ length: 700_000 }, () => random.below(256)));
    writeFileSync(path('file'), bytes);
    commands().checkpoint('large-1');
    truncateSync(path('file'), 300_000);
    commands().checkpoint('large-2');
    truncateSync(path('file'), 3_000_000);
    commands().checkpoint('large-3');
    // The same bytes, stored otherwise.
    writeFileSync(path('file'), Buffer.concat([bytes.subarray(0, 300_000), Buffer.alloc(2_700_000)]));
    commands().checkpoint('large-4');
    writeFileSync(path('file'), '');
    const sparse = Buffer.concat([bytes.subarray(0, 300_000), Buffer.alloc(2_700_000)]);
    expect(history('file')).toMatchObject([
      { layer: 'working', size: 0, hash: hashOf(''), binary: true },
      { layer: 'large-3', size: 3_000_000, hash: hashOf(sparse), binary: true },
      { layer: 'large-2', size: 300_000, hash: hashOf(sparse.subarray(0, 300_000)), binary: true },
      { layer: 'large-1', size: 700_000, hash: hashOf(bytes), binary: true },
    ]);
  });

  it('is that of what each layer’s snapshot has', () => {
    scene().begin('compared');
    const random = new Random(7);
    const expected: string[] = [];
    let last: string | undefined;
    for (let n = 1; n <= 30; n++) {
      const lines = Array.from({ length: random.below(9) }, () => `${random.below(4)}\n`);
      const text: string = random.chance(0.3) && last !== undefined ? last : lines.join('');
      if (random.chance(0.5)) writeFileSync(path('file'), text);
      else {
        writeFileSync(path('other'), text);
        renameSync(path('other'), path('file'));
      }
      commands().checkpoint(`compared-${n}`);
      if (text !== last) expected.unshift(`compared-${n}`);
      last = text;
    }
    const versions = history('file');
    expect(versions.map(({ layer }) => layer)).toEqual(expected);
    let lines = 0;
    for (const { layer, size, hash, lines_added = 0, lines_deleted = 0 } of versions.reverse()) {
      const content = readFileSync(`${commands().snapshot(layer)}/file`);
      expect({ layer, size, hash }).toEqual({ layer, size: content.length, hash: hashOf(content) });
      lines += lines_added - lines_deleted;
      expect(lines).toBe(content.toString().split('\n').length - 1);
    }
  });

  it('is nowhere for what never was, and is a directory for one', () => {
    scene().begin('never');
    mkdirSync(path('dir'));
    writeFileSync(path('dir/file'), 'x');
    for (const name of ['nothing', 'dir/nothing', 'dir/file/nothing', 'never..base'])
      expect(existsSync(commands().path(`history/${name}`)), name).toBe(false);
    expect(() => commands().read('history/dir')).toThrow(/EISDIR/);
    expect(readdirSync(commands().path('history/dir'))).toEqual(['file']);
  });

  it('finds names that are not UTF-8', () => {
    scene().begin('bytes');
    spawnSync('bash', ['-c', "echo text > $'\\xff name'; cp .tarbox/history/$'\\xff name' out"], {
      cwd: scene().mount,
    });
    expect(JSON.parse(readFileSync(path('out'), 'utf8'))).toMatchObject([{ layer: 'working', size: 5 }]);
  });
});
