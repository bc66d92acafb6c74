import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { describe, expect, it } from 'vitest';
import { setXattr } from '../layers/change.ts';
import type { Commands } from '../layers/commands.ts';
import { type Holder, HolderError } from '../layers/holder.ts';
import { useLayersScene } from '../layers/scene.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const ENOENT = 2;
const ESTALE = 116;
const PAGE_BYTES = 4096;

suite(`what a switch leaves of what is open and cached${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const text = (name: string): string => readFileSync(path(name), 'utf8');

  async function expectErrno(errno: number, work: Promise<unknown>): Promise<void> {
    const problem = await work.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(problem).toBeInstanceOf(HolderError);
    expect((problem as HolderError).errno).toBe(errno); // it has just been checked
  }

  /** Every way of changing a file by its handle is refused. */
  async function expectStale(holder: Holder, handle: number): Promise<void> {
    await expectErrno(ESTALE, holder.write(handle, 'late'));
    await expectErrno(ESTALE, holder.write(handle, 'late', 100_000));
    await expectErrno(ESTALE, holder.truncate(handle, 1));
    await expectErrno(ESTALE, holder.chmod(handle, 0o600));
  }

  describe('a handle', () => {
    it('on a file that the switch changed keeps reading what it opened, and writes no more', async () => {
      scene().begin('changed');
      const holder = scene().holder();
      writeFileSync(path('file'), 'old');
      commands().checkpoint('changed-1');
      writeFileSync(path('file'), 'newer');
      const handle = await holder.open(path('file'));
      const reader = await holder.open(path('file'), 'r');
      commands().switchTo('changed-1');
      expect(text('file')).toBe('old');
      for (const open of [handle, reader]) {
        expect(await holder.read(open)).toBe('newer');
        expect((await holder.stat(open)).size).toBe(5);
      }
      await expectStale(holder, handle);
      expect(await holder.read(handle)).toBe('newer');
      writeFileSync(path('file'), 'more than before');
      expect(await holder.read(handle)).toBe('newer');
      expect(await holder.read(await holder.open(path('file')))).toBe('more than before');
    });

    it('keeps what it opened through further switches, there and back, and cold caches', async () => {
      scene().begin('further');
      const holder = scene().holder();
      const large = (letter: string) => letter.repeat(400_000);
      writeFileSync(path('small'), 'one');
      writeFileSync(path('large'), large('1'));
      commands().checkpoint('further-1');
      const early = { small: await holder.open(path('small')), large: await holder.open(path('large')) };
      writeFileSync(path('small'), 'two');
      writeFileSync(path('large'), large('2'));
      commands().checkpoint('further-2');
      // Written through the same inode: these show the newest.
      expect(await holder.read(early.small)).toBe('two');
      commands().switchTo('further-1');
      const late = { small: await holder.open(path('small')), large: await holder.open(path('large')) };
      for (const layer of ['further-2', 'further', 'further-2', 'further-1', 'base', 'further-1']) {
        commands().switchTo(layer);
        commands().flush();
        writeFileSync('/proc/sys/vm/drop_caches', '3');
        expect(await holder.read(early.small)).toBe('two');
        expect(await holder.read(early.large)).toBe(large('2'));
        expect(await holder.read(late.small)).toBe('one');
        expect(await holder.read(late.large)).toBe(large('1'));
        await expectStale(holder, early.small);
        await expectStale(holder, late.small);
      }
      expect(text('small')).toBe('one');
    });

    it('on a file that is the same in both goes on as if nothing had happened', async () => {
      scene().begin('same');
      const holder = scene().holder();
      mkdirSync(path('dir'));
      writeFileSync(path('dir/same'), 'same');
      writeFileSync(path('other'), '1');
      commands().checkpoint('same-1');
      writeFileSync(path('other'), '2');
      commands().checkpoint('same-2');
      const handle = await holder.open(path('dir/same'));
      for (const layer of ['same-1', 'same-2', 'same-1']) {
        commands().switchTo(layer);
        expect(await holder.read(handle)).toBe('same');
      }
      await holder.write(handle, 'SAME');
      await holder.chmod(handle, 0o640);
      await holder.fsync(handle);
      expect(text('dir/same')).toBe('SAME');
      expect(statSync(path('dir/same')).mode & 0o777).toBe(0o640);
      expect(text('other')).toBe('1');
      // What it wrote is the new tree's.
      commands().checkpoint('same-3', { branch: true });
      commands().switchTo('same-2');
      expect(text('dir/same')).toBe('same');
      await expectStale(holder, handle);
      commands().switchTo('same-3');
      expect(text('dir/same')).toBe('SAME');
    });

    it('on a file that the switch removed keeps reading, and its path is gone', async () => {
      scene().begin('removed');
      const holder = scene().holder();
      writeFileSync(path('file'), 'to be removed');
      const handle = await holder.open(path('file'));
      commands().switchTo('removed');
      expect(existsSync(path('file'))).toBe(false);
      expect(await holder.read(handle)).toBe('to be removed');
      await expectStale(holder, handle);
      writeFileSync(path('file'), 'another');
      expect(await holder.read(handle)).toBe('to be removed');
      expect((await holder.stat(handle)).nlink).toBe(1);
    });

    it('on a file that had lost its name keeps reading, too', async () => {
      scene().begin('unlinked');
      const holder = scene().holder();
      writeFileSync(path('before'), 'in a checkpoint');
      commands().checkpoint('unlinked-1');
      const before = await holder.open(path('before'));
      unlinkSync(path('before'));
      writeFileSync(path('after'), 'in none');
      const after = await holder.open(path('after'));
      unlinkSync(path('after'));
      const temporary = await holder.open(scene().mount, 'tmpfile');
      await holder.write(temporary, 'never named');
      commands().switchTo('unlinked-1');
      expect(await holder.read(before)).toBe('in a checkpoint');
      expect(await holder.read(after)).toBe('in none');
      expect(await holder.read(temporary)).toBe('never named');
      for (const handle of [before, after, temporary]) await expectStale(holder, handle);
      expect(text('before')).toBe('in a checkpoint');
      expect(existsSync(path('after'))).toBe(false);
      for (const handle of [before, after, temporary]) await holder.close(handle);
      expect(text('before')).toBe('in a checkpoint');
    });

    it('on a file without a name goes on where the switch leaves it alone, and leaves nothing behind', async () => {
      scene().begin('orphan');
      const holder = scene().holder();
      const clean = commands().current();
      writeFileSync(path('file'), 'x'.repeat(10_000));
      const handle = await holder.open(path('file'));
      unlinkSync(path('file'));
      commands().checkpoint('orphan-1');
      expect(commands().layer('orphan-1')).toMatchObject({ inodes: clean.inodes, bytes: clean.bytes });
      writeFileSync(path('other'), 'other');
      commands().checkpoint('orphan-2');
      commands().switchTo('orphan-1');
      await holder.write(handle, 'y'.repeat(10));
      expect(await holder.read(handle)).toBe('y'.repeat(10) + 'x'.repeat(9990));
      await holder.close(handle);
      commands().flush();
      expect(commands().current().working).toMatchObject({ inodes: clean.inodes, bytes: clean.bytes });
    });

    it('on one name of a file shows what all its names had', async () => {
      scene().begin('links');
      const holder = scene().holder();
      writeFileSync(path('a'), 'linked');
      linkSync(path('a'), path('b'));
      commands().checkpoint('links-1');
      const same = await holder.open(path('b'));
      unlinkSync(path('a'));
      commands().checkpoint('links-2');
      expect(statSync(path('b')).nlink).toBe(1);
      commands().switchTo('links-1');
      expect(statSync(path('b')).nlink).toBe(2);
      expect(statSync(path('a')).ino).toBe(statSync(path('b')).ino);
      writeFileSync(path('a'), 'written by a');
      expect(text('b')).toBe('written by a');
      // A name less is a change of the file.
      expect(await holder.read(same)).toBe('linked');
    });

    it('on a file of a layer that is dropped or squashed goes on reading', async () => {
      scene().begin('gone');
      const holder = scene().holder();
      writeFileSync(path('file'), 'one');
      commands().checkpoint('gone-1');
      const one = await holder.open(path('file'));
      commands().switchTo('gone');
      commands().switchTo('gone-1');
      writeFileSync(path('file'), 'two');
      commands().checkpoint('gone-2');
      const two = await holder.open(path('file'));
      commands().switchTo('gone');
      commands().squash('gone-1', 'gone-2', 'gone-1to2');
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      expect(await holder.read(one)).toBe('one');
      expect(await holder.read(two)).toBe('two');
      commands().drop('gone-1to2');
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      expect(await holder.read(one)).toBe('one');
      expect(await holder.read(two)).toBe('two');
    });
  });

  describe('a mapping', () => {
    it('shows what it mapped, and one that is made afterwards what is new', async () => {
      scene().begin('map');
      const holder = scene().holder();
      writeFileSync(path('file'), 'a'.repeat(3 * PAGE_BYTES));
      writeFileSync(path('same'), 's'.repeat(PAGE_BYTES));
      commands().checkpoint('map-1');
      writeFileSync(path('file'), 'b'.repeat(3 * PAGE_BYTES));
      const handle = await holder.open(path('file'));
      const before = await holder.map(handle, 3 * PAGE_BYTES);
      const unseen = await holder.map(handle, 3 * PAGE_BYTES);
      const same = await holder.map(await holder.open(path('same')), PAGE_BYTES);
      expect(await holder.peek(before, 3)).toBe('bbb');
      commands().switchTo('map-1');
      const after = await holder.map(await holder.open(path('file')), 3 * PAGE_BYTES);
      expect(await holder.peek(after, 3)).toBe('aaa');
      expect(await holder.peek(before, 3)).toBe('bbb');
      expect(await holder.peek(unseen, 3, 2 * PAGE_BYTES)).toBe('bbb');
      expect(await holder.peek(same, 3)).toBe('sss');
      await holder.poke(same, 'written');
      expect(text('same').slice(0, 8)).toBe('writtens');
      await holder.poke(after, 'new');
      expect(text('file').slice(0, 4)).toBe('newa');
    });

    it('that was written is in the checkpoint and in what a switch seals', async () => {
      scene().begin('dirty');
      const holder = scene().holder();
      writeFileSync(path('file'), '-'.repeat(PAGE_BYTES));
      const mapping = await holder.map(await holder.open(path('file')), PAGE_BYTES);
      for (const word of ['first', 'later']) {
        await holder.poke(mapping, word);
        commands().checkpoint(`dirty-${word}`);
        expect(readFileSync(`${commands().snapshot(`dirty-${word}`)}/file`, 'utf8').slice(0, 5)).toBe(word);
      }
      await holder.poke(mapping, 'third');
      const { sealed } = commands().switchTo('dirty-first');
      expect(text('file').slice(0, 5)).toBe('first');
      expect(readFileSync(`${commands().snapshot(sealed ?? '')}/file`, 'utf8').slice(0, 5)).toBe('third');
    });

    it('of a changed file may be written without harm to anything', async () => {
      scene().begin('late');
      const holder = scene().holder();
      writeFileSync(path('file'), '1'.repeat(PAGE_BYTES));
      commands().checkpoint('late-1');
      writeFileSync(path('file'), '2'.repeat(PAGE_BYTES));
      const handle = await holder.open(path('file'));
      const mapping = await holder.map(handle, PAGE_BYTES);
      commands().switchTo('late-1');
      for (const name of ['late-2', 'late-3']) {
        await holder.poke(mapping, 'late');
        commands().checkpoint(name, { branch: true });
        expect(text('file').slice(0, 5)).toBe('11111');
      }
      await holder.poke(mapping, 'late');
      commands().switchTo('late-2');
      await holder.poke(mapping, 'late');
      commands().flush();
      await holder.poke(mapping, 'late');
      await expectErrno(ESTALE, holder.fsync(handle));
      for (const layer of commands()
        .list()
        .filter(({ frozen, name }) => frozen && name.startsWith('late-')))
        expect(readFileSync(`${commands().snapshot(layer.name)}/file`, 'utf8')).toBe('1'.repeat(PAGE_BYTES));
    });
  });

  describe('a directory', () => {
    it('as working directory keeps working and shows the new tree', async () => {
      scene().begin('cwd');
      const holder = scene().holder();
      mkdirSync(path('a/b/c'), { recursive: true });
      writeFileSync(path('a/b/c/file'), 'one');
      writeFileSync(path('a/b/only-1'), '1');
      commands().checkpoint('cwd-1');
      writeFileSync(path('a/b/c/file'), 'two');
      rmSync(path('a/b/only-1'));
      writeFileSync(path('a/b/only-2'), '2');
      commands().checkpoint('cwd-2');
      await holder.chdir(path('a/b/c'));
      expect(await holder.readPath('file')).toBe('two');
      await expectErrno(ENOENT, holder.readPath('../only-1'));
      commands().switchTo('cwd-1');
      expect(await holder.readPath('file')).toBe('one');
      expect(await holder.readPath('../only-1')).toBe('1');
      await expectErrno(ENOENT, holder.readPath('../only-2'));
      expect(await holder.readPath('../../b/c/file')).toBe('one');
      expect(await holder.cwd()).toBe(path('a/b/c'));
      await holder.writePath('made', 'here');
      expect(text('a/b/c/made')).toBe('here');
      commands().switchTo('cwd-2');
      await expectErrno(ENOENT, holder.readPath('made'));
      expect(await holder.readPath('../only-2')).toBe('2');
    });

    it('as working directory that the switch removed answers as a removed one, and is back with its layer', async () => {
      scene().begin('cwdgone');
      const holder = scene().holder();
      mkdirSync(path('dir'));
      writeFileSync(path('dir/file'), 'here');
      commands().checkpoint('cwdgone-1');
      await holder.chdir(path('dir'));
      commands().switchTo('cwdgone');
      const problem = await holder.readPath('file').catch((thrown: HolderError) => thrown.errno);
      expect([ENOENT, ESTALE]).toContain(problem);
      const refusal = await holder.writePath('new', 'x').catch((thrown: HolderError) => thrown.errno);
      expect([ENOENT, ESTALE]).toContain(refusal);
      commands().switchTo('cwdgone-1');
      expect(await holder.readPath(path('dir/file'))).toBe('here');
      expect(await holder.readPath('file')).toBe('here');
    });

    it('that is open lists the new tree from its start', async () => {
      scene().begin('list');
      const holder = scene().holder();
      mkdirSync(path('dir'));
      for (let n = 0; n < 300; n++) writeFileSync(path(`dir/a${n}`), '');
      commands().checkpoint('list-1');
      for (let n = 0; n < 250; n++) rmSync(path(`dir/a${n}`));
      writeFileSync(path('dir/b'), '');
      commands().checkpoint('list-2');
      const handle = await holder.open(path('dir'), 'directory');
      expect(await holder.list(handle)).toHaveLength(51);
      for (const [layer, count] of [
        ['list-1', 300],
        ['list-2', 51],
        ['list', undefined],
        ['list-1', 300],
      ] as const) {
        commands().switchTo(layer);
        if (count !== undefined) {
          expect(await holder.list(handle)).toHaveLength(count);
          expect(readdirSync(path('dir'))).toHaveLength(count);
        } else expect(existsSync(path('dir'))).toBe(false);
      }
    });

    it('that was renamed is where the layer has it', () => {
      scene().begin('renamed');
      mkdirSync(path('from/deep'), { recursive: true });
      mkdirSync(path('to'));
      writeFileSync(path('from/deep/file'), 'one');
      commands().checkpoint('renamed-1');
      renameSync(path('from/deep'), path('to/moved'));
      writeFileSync(path('to/moved/file'), 'two');
      commands().checkpoint('renamed-2');
      rmSync(path('from'), { recursive: true });
      renameSync(path('to'), path('from'));
      commands().checkpoint('renamed-3');
      const seen = () => [
        readdirSync(scene().mount).sort(),
        ['from', 'to'].map((name) => statSync(path(name), { throwIfNoEntry: false })?.nlink),
      ];
      for (let round = 0; round < 2; round++) {
        commands().switchTo('renamed-1');
        expect(seen()).toEqual([
          ['from', 'to'],
          [3, 2],
        ]);
        expect(text('from/deep/file')).toBe('one');
        expect(existsSync(path('to/moved'))).toBe(false);
        commands().switchTo('renamed-2');
        expect(seen()).toEqual([
          ['from', 'to'],
          [2, 3],
        ]);
        expect(text('to/moved/file')).toBe('two');
        commands().switchTo('renamed-3');
        expect(seen()).toEqual([['from'], [3, undefined]]);
        expect(text('from/moved/file')).toBe('two');
      }
    });
  });

  describe('what the kernel has cached', () => {
    it('of names that were not there is forgotten', () => {
      scene().begin('negative');
      writeFileSync(path('file'), 'there');
      mkdirSync(path('dir'));
      writeFileSync(path('dir/in'), 'in');
      commands().checkpoint('negative-1');
      commands().switchTo('negative');
      for (const name of ['file', 'dir', 'dir/in']) expect(existsSync(path(name))).toBe(false);
      commands().switchTo('negative-1');
      for (const name of ['file', 'dir', 'dir/in']) expect(existsSync(path(name))).toBe(true);
      commands().switchTo('negative');
      for (const name of ['file', 'dir', 'dir/in']) expect(existsSync(path(name))).toBe(false);
    });

    it('of attributes, links, targets and types is forgotten', () => {
      scene().begin('attributes');
      writeFileSync(path('file'), 'x', { mode: 0o600 });
      symlinkSync('one', path('link'));
      writeFileSync(path('kind'), 'a file');
      mkdirSync(path('dir'), { mode: 0o700 });
      setXattr(path('dir'), 'user.a', '1');
      commands().checkpoint('attributes-1');
      spawnSync('chmod', ['644', path('file')]);
      spawnSync('chmod', ['755', path('dir')]);
      setXattr(path('dir'), 'user.a', '2');
      rmSync(path('link'));
      symlinkSync('two', path('link'));
      rmSync(path('kind'));
      mkdirSync(path('kind'));
      commands().checkpoint('attributes-2');
      const seen = () => ({
        file: statSync(path('file')).mode & 0o777,
        dir: statSync(path('dir')).mode & 0o777,
        link: readlinkSync(path('link')),
        isDirectory: lstatSync(path('kind')).isDirectory(),
        xattr: spawnSync(
          'python3',
          ['-c', `import os; print(os.getxattr('${path('dir')}', 'user.a').decode(), end='')`],
          { encoding: 'utf8' },
        ).stdout,
      });
      const [one, two] = [
        { file: 0o600, dir: 0o700, link: 'one', isDirectory: false, xattr: '1' },
        { file: 0o644, dir: 0o755, link: 'two', isDirectory: true, xattr: '2' },
      ];
      expect(seen()).toEqual(two);
      for (let round = 0; round < 2; round++) {
        commands().switchTo('attributes-1');
        expect(seen()).toEqual(one);
        commands().switchTo('attributes-2');
        expect(seen()).toEqual(two);
      }
    });

    it('of a directory’s own time and size of listing is forgotten', () => {
      scene().begin('times');
      mkdirSync(path('dir'));
      commands().checkpoint('times-1');
      const before = statSync(path('dir'), { bigint: true }).mtimeNs;
      writeFileSync(path('dir/file'), '');
      mkdirSync(path('dir/sub'));
      commands().checkpoint('times-2');
      const after = statSync(path('dir'), { bigint: true }).mtimeNs;
      expect(after).not.toBe(before);
      for (let round = 0; round < 2; round++) {
        commands().switchTo('times-1');
        expect(statSync(path('dir'), { bigint: true })).toMatchObject({ mtimeNs: before, nlink: 2n });
        expect(readdirSync(path('dir'))).toEqual([]);
        commands().switchTo('times-2');
        expect(statSync(path('dir'), { bigint: true })).toMatchObject({ mtimeNs: after, nlink: 3n });
        expect(readdirSync(path('dir')).sort()).toEqual(['file', 'sub']);
      }
    });

    it('of an executable is forgotten, and one that runs goes on', async () => {
      scene().begin('program');
      const script = (word: string) => `#!/bin/sh\necho ${word}\n`;
      writeFileSync(path('program'), script('one'), { mode: 0o755 });
      commands().checkpoint('program-1');
      writeFileSync(path('program'), script('two'));
      commands().checkpoint('program-2');
      for (const [layer, word] of [
        ['program-1', 'one'],
        ['program-2', 'two'],
        ['program-1', 'one'],
      ] as const) {
        commands().switchTo(layer);
        expect(spawnSync(path('program'), { encoding: 'utf8' }).stdout).toBe(`${word}\n`);
      }
    });
  });

  it('a switch while programs read and write leaves the layer as it was, and each call does the whole of it or none', async () => {
    scene().begin('busy');
    const letters = ['a', 'b'];
    for (const letter of letters) {
      for (let n = 0; n < 30; n++) writeFileSync(path(`f${n}`), letter.repeat(20_000));
      commands().checkpoint(`busy-${letter}`);
    }
    const holder = scene().holder();
    const reading = (async () => {
      for (let round = 0; round < 400; round++) {
        const found = await holder.readPath(path(`f${round % 30}`));
        // Each file is of one layer, or what the writer made of it.
        expect(new Set(found).size, found.slice(0, 10)).toBe(1);
      }
    })();
    const writer = scene().holder();
    const writing = (async () => {
      for (let round = 0; round < 200; round++) {
        const handle = await writer.open(path(`f${round % 30}`));
        await writer
          .write(handle, 'w'.repeat(20_000))
          .catch((thrown: HolderError) => expect(thrown.errno).toBe(ESTALE));
        await writer.close(handle);
      }
    })();
    for (let round = 0; round < 12; round++) {
      await new Promise(setImmediate);
      const layer = `busy-${letters[round % 2]}`;
      commands().switchTo(layer);
      const letter = layer.slice(-1);
      for (let n = 0; n < 30; n++)
        expect(readFileSync(`${commands().snapshot(layer)}/f${n}`, 'utf8')).toBe(letter.repeat(20_000));
    }
    await Promise.all([reading, writing]);
  });
});
