import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
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
import { allowUser, exchange, removeXattr, setXattr } from '../layers/change.ts';
import type { Commands } from '../layers/commands.ts';
import { difference, type Look, lookAtTree } from '../layers/look.ts';
import { useLayersScene } from '../layers/scene.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const CHUNK_BYTES = 128 * 1024;
const SEGMENT_BYTES = 64 * CHUNK_BYTES;

suite(`snapshots${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const looks = new Map<string, Look>();
  let folder = '';

  function run(program: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr, error } = spawnSync(program, args, {
      cwd: scene().mount,
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (error !== undefined) throw error;
    return { status, stdout, stderr };
  }

  function must(program: string, ...args: string[]): void {
    expect({ program, args, ...run(program, ...args) }).toMatchObject({ status: 0 });
  }

  function writeAt(name: string, offset: number, text: string): void {
    const handle = openSync(path(name), constants.O_WRONLY | constants.O_CREAT, 0o644);
    writeSync(handle, text, offset);
    closeSync(handle);
  }

  /** One of everything that a tree can have in it. */
  function makeEverything(): void {
    mkdirSync(path('dir/below/deep'), { recursive: true, mode: 0o755 });
    must('chmod', '1777', 'dir');
    must('chmod', '2750', 'dir/below');
    must('chown', '1000:1001', 'dir/below');
    writeFileSync(path('empty'), '');
    writeFileSync(path('tiny'), 'tiny', { mode: 0o640 });
    writeFileSync(path('exact'), 'e'.repeat(4096));
    writeFileSync(path('chunk'), Buffer.alloc(CHUNK_BYTES, 'c'));
    writeFileSync(path('large'), Buffer.alloc(5 * CHUNK_BYTES + 17, 'large'));
    writeFileSync(path('dir/below/program'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
    must('chmod', '4711', 'tiny');
    must('chown', '12345:54321', 'exact');
    linkSync(path('tiny'), path('dir/tiny-too'));
    linkSync(path('tiny'), path('dir/below/tiny-again'));
    symlinkSync('dir/below', path('link'));
    symlinkSync('../nowhere', path('dir/dangling'));
    must('mkfifo', 'fifo');
    must('mknod', 'null', 'c', '1', '3');
    must('mknod', 'disk', 'b', '7', '300');
    must('python3', '-c', "import socket; socket.socket(socket.AF_UNIX).bind('socket')");
    writeFileSync(Buffer.from(`${scene().mount}/not-utf8-\xff\xfe`, 'latin1'), 'bytes');
    writeFileSync(path('n'.repeat(255)), 'long name');
    setXattr(path('large'), 'user.of-file', 'value');
    setXattr(path('dir'), 'trusted.of-dir', '\x00\x01\xff');
    setXattr(path('dir/below'), 'user.of-dir', 'x'.repeat(3000));
    setXattr(path('dir/below/program'), 'security.capability', `\x01\0\0\x02\0\x20${'\0'.repeat(14)}`);
    allowUser(path('chunk'), 1000);
    writeAt('sparse', 3 * SEGMENT_BYTES + 12_345, 'far out');
    writeAt('sparse', CHUNK_BYTES - 3, 'across a border');
    truncateSync(path('sparse'), 100 * SEGMENT_BYTES);
    writeFileSync(path('hole'), '');
    truncateSync(path('hole'), 2 ** 40);
    utimesSync(path('chunk'), 1, 2);
    must('touch', '-d', '1950-01-01 00:00:00.123456789', 'exact');
  }

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tarbox-snapshots-'));
    makeEverything();
    looks.set('one', lookAtTree(scene().mount, { ctime: true }));
    commands().checkpoint('one');
    writeAt('large', 2 * CHUNK_BYTES + 5, 'changed');
    truncateSync(path('chunk'), 1000);
    truncateSync(path('sparse'), SEGMENT_BYTES);
    unlinkSync(path('dir/tiny-too'));
    writeFileSync(path('tiny'), 'changed by its other name');
    renameSync(path('dir/below'), path('moved'));
    rmSync(path('link'));
    mkdirSync(path('link'));
    writeFileSync(path('link/file'), 'in what was a link');
    removeXattr(path('large'), 'user.of-file');
    must('chmod', '600', 'disk');
    rmSync(path('fifo'));
    // Programs that read everything would read all of it.
    rmSync(path('hole'));
    looks.set('two', lookAtTree(scene().mount, { ctime: true }));
    commands().checkpoint('two');
    must('bash', '-c', 'shopt -s dotglob; rm -rf -- *');
    looks.set('three', lookAtTree(scene().mount, { ctime: true }));
    commands().checkpoint('three');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const expectLook = (layer: string, options: { ctime?: boolean } = { ctime: true }) =>
    expect(difference(looks.get(layer) ?? new Map(), lookAtTree(commands().snapshot(layer), options))).toBeUndefined();

  it.each(['one', 'two', 'three'])('have everything that layer %s had', (layer) => {
    expectLook(layer);
    commands().flush();
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    expectLook(layer);
  });

  it('have what there was after a restart, too', async () => {
    await scene().tarbox.restart();
    for (const layer of ['three', 'one', 'two']) expectLook(layer);
    expect(readdirSync(scene().mount)).toEqual([]);
  });

  it('are reached by name, by id and by tag, and listed by name', () => {
    commands().run('layers/tags/first', 'one');
    const { id } = commands().layer('one');
    for (const name of ['one', String(id), 'first'])
      expect(readFileSync(`${commands().snapshot(name)}/tiny`, 'utf8')).toBe('tiny');
    expect(readdirSync(commands().path('snapshots')).sort()).toEqual(['base', 'one', 'three', 'two']);
    expect(existsSync(commands().snapshot('four'))).toBe(false);
    expect(existsSync(commands().snapshot('working'))).toBe(false);
    commands().removeTag('first');
    expect(existsSync(commands().snapshot('first'))).toBe(false);
  });

  it('refuse every change with EROFS', () => {
    const inside = '.tarbox/snapshots/one';
    for (const script of [
      `echo x > ${inside}/tiny`,
      `echo x >> ${inside}/tiny`,
      `echo x > ${inside}/new`,
      `mkdir ${inside}/new`,
      `rmdir ${inside}/dir/below/deep`,
      `rm ${inside}/empty`,
      `mv ${inside}/empty ${inside}/renamed`,
      `mv -T ${inside}/dir/below ${inside}/below`,
      `ln ${inside}/empty ${inside}/linked`,
      `ln -s x ${inside}/symbolic`,
      `mkfifo ${inside}/pipe`,
      `chmod 777 ${inside}/empty`,
      `chown 1 ${inside}/empty`,
      `touch ${inside}/empty`,
      `truncate -s 5 ${inside}/empty`,
      `python3 -c 'import os; os.setxattr("${inside}/empty", "user.x", b"x")'`,
      `python3 -c 'import os; os.removexattr("${inside}/large", "user.of-file")'`,
      `fallocate -l 10 ${inside}/empty`,
      `ln ${inside}/empty linked`,
      `echo x > here; ln here ${inside}/linked; s=$?; rm here; exit $s`,
      `echo x > here; mv -T here ${inside}/moved; s=$?; rm -f here; exit $s`,
    ]) {
      const { status, stderr } = run('bash', '-c', script);
      expect({ script, status }).not.toEqual({ script, status: 0 });
      expect({ script, stderr }).toEqual({ script, stderr: expect.stringContaining('Read-only file system') });
    }
    expectLook('one');
    expect(readdirSync(scene().mount)).toEqual([]);
  });

  it('refuse being made, removed or renamed themselves', () => {
    for (const script of [
      'mkdir .tarbox/snapshots/x',
      'rmdir .tarbox/snapshots/three',
      'rm -r .tarbox/snapshots/three',
      'mv .tarbox/snapshots/three x',
    ]) {
      const { status, stderr } = run('bash', '-c', script);
      expect({ script, status }).not.toEqual({ script, status: 0 });
      expect(stderr).toMatch(/Operation not permitted|cross-device|not permitted|File exists|busy/i);
    }
    expectLook('three');
  });

  it('are what cp -a, tar and rsync-like copies take out of them', () => {
    const inside = commands().snapshot('two');
    expect(run('cp', '-a', '--sparse=always', inside, join(folder, 'copy'))).toMatchObject({ status: 0, stderr: '' });
    const withoutCtime = lookAtTree(inside);
    expect(difference(withoutCtime, lookAtTree(join(folder, 'copy')))).toBeUndefined();
    const extracted = join(folder, 'extracted');
    mkdirSync(extracted);
    const archive = `tar -C '${inside}' --acls --xattrs --xattrs-include='*' -Sc --exclude=./socket . | tar -C '${extracted}' --acls --xattrs --xattrs-include='*' -xp`;
    expect(run('bash', '-c', archive)).toMatchObject({ status: 0 });
    const expected = new Map(withoutCtime);
    expected.delete('socket');
    expect(difference(expected, lookAtTree(extracted))).toBeUndefined();
  });

  it('are taken back into the tree by cp -a', () => {
    commands().switchTo('three');
    expect(run('bash', '-c', `cp -a .tarbox/snapshots/one/. .`)).toMatchObject({ status: 0, stderr: '' });
    expect(difference(lookAtTree(commands().snapshot('one')), lookAtTree(scene().mount))).toBeUndefined();
    commands().switchTo('three');
  });

  it('differ from each other and from the tree as diff -r sees it, and only there', () => {
    commands().switchTo('two');
    const diff = (a: string, b: string) => run('diff', '-rq', '--no-dereference', a, b);
    expect(diff(`${commands().snapshot('two')}/moved`, 'moved')).toMatchObject({ status: 0, stdout: '' });
    writeFileSync(path('moved/program'), 'other');
    expect(diff(`${commands().snapshot('two')}/moved`, 'moved').stdout).toMatch(/^Files .*moved\/program .*differ\n$/);
    const { stdout } = diff(commands().snapshot('one'), commands().snapshot('two'));
    expect(stdout).toMatch(/Files .*large and .*large differ/);
    expect(stdout).toMatch(/Only in .*one: fifo/);
    expect(stdout).not.toMatch(/empty/);
    commands().switchTo('three');
  });

  it('have inode numbers of their own, which stay, and are the same for a file’s names', async () => {
    const numbers = (root: string) =>
      ['', 'tiny', 'dir', 'large', 'fifo'].map((name) => lstatSync(join(root, name)).ino);
    commands().switchTo('one');
    const [live, one] = [numbers(scene().mount), numbers(commands().snapshot('one'))];
    const two = ['', 'tiny', 'dir', 'large', 'null'].map(
      (name) => lstatSync(join(commands().snapshot('two'), name)).ino,
    );
    expect(new Set([...live, ...one, ...two]).size).toBe(15);
    const snapshot = commands().snapshot('one');
    expect(statSync(`${snapshot}/dir/tiny-too`)).toMatchObject({ ino: one[1], nlink: 3 });
    for (const { name, ino } of listed(snapshot)) expect(lstatSync(join(snapshot, name)).ino).toBe(ino);
    commands().flush();
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    expect(numbers(snapshot)).toEqual(one);
    await scene().replaceDaemon();
    expect(numbers(snapshot)).toEqual(one);
    await scene().tarbox.restart();
    expect(numbers(snapshot)).toEqual(one);
    expect(numbers(scene().mount)).toEqual(live);
    commands().switchTo('three');
  });

  function listed(directory: string): { name: string; ino: number }[] {
    const { stdout } = run('bash', '-c', `cd '${directory}/dir' && ls -fi1`);
    return stdout
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/ (.*)/s))
      .map(([ino, name]) => ({ ino: Number(ino), name: join('dir', name ?? '') }))
      .filter(({ name }) => name !== '.'); // `..` of `dir`
  }

  it('are found by find, grep and programs that run from them', () => {
    const inside = commands().snapshot('one');
    expect(run('find', inside, '-type', 'p').stdout).toBe(`${inside}/fifo\n`);
    expect(run('grep', '-rl', '--devices=skip', 'echo ran', `${inside}/dir`).stdout).toBe(
      `${inside}/dir/below/program\n`,
    );
    expect(run(`${inside}/dir/below/program`).stdout).toBe('ran\n');
    expect(run('bash', '-c', `cd '${inside}/dir/below' && cat ../../tiny && pwd -P`).stdout).toBe(
      `tiny${inside}/dir/below\n`,
    );
    expect(existsSync(`${inside}/.tarbox`)).toBe(false);
  });

  it('stay as they are while the tree is written, and any number is open at once', async () => {
    scene().begin('many');
    const holder = scene().holder();
    const handles: number[] = [];
    for (let n = 0; n < 40; n++) {
      writeFileSync(path('file'), `version ${n} ${'x'.repeat(n * 1000)}`);
      commands().checkpoint(`many-${n}`);
      handles.push(await holder.open(`${commands().snapshot(`many-${n}`)}/file`, 'r'));
    }
    writeFileSync(path('file'), 'the newest');
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    for (let n = 39; n >= 0; n--) {
      expect(await holder.read(handles[n] ?? -1)).toBe(`version ${n} ${'x'.repeat(n * 1000)}`);
      expect(readFileSync(`${commands().snapshot(`many-${n}`)}/file`, 'utf8')).toMatch(new RegExp(`^version ${n} x*$`));
    }
    await scene().replaceDaemon();
    for (let n = 0; n < 40; n++) expect(await holder.read(handles[n] ?? -1)).toMatch(new RegExp(`^version ${n} x*$`));
  });

  it('of a layer that was dropped are gone, and those of others are not', async () => {
    scene().begin('away');
    writeFileSync(path('file'), 'kept');
    commands().checkpoint('away-1');
    writeFileSync(path('file'), 'dropped');
    commands().checkpoint('away-2');
    writeFileSync(path('other'), 'x');
    commands().checkpoint('away-3');
    const holder = scene().holder();
    await holder.chdir(commands().snapshot('away-2'));
    expect(await holder.readPath('file')).toBe('dropped');
    commands().drop('away-2', true);
    expect(existsSync(commands().snapshot('away-2'))).toBe(false);
    expect(readFileSync(`${commands().snapshot('away-1')}/file`, 'utf8')).toBe('kept');
    expect(readFileSync(`${commands().snapshot('away-3')}/file`, 'utf8')).toBe('dropped');
  });

  it('belong to the workspace’s owner alone', () => {
    const asUser = (uid: number, script: string) =>
      spawnSync('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', 'bash', '-c', script], {
        cwd: scene().mount,
        encoding: 'utf8',
      });
    expect(asUser(1000, 'ls .tarbox/snapshots/one').stderr).toMatch(/Permission denied/);
  });
});

suite(`layers that hide each other’s rows${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const looks = new Map<string, Look>();

  /** A checkpoint of the tree, which is looked at now and again with cold caches, at the end and after a restart. */
  function keep(name: string): void {
    commands().checkpoint(name);
    looks.set(name, lookAtTree(scene().mount, { ctime: true }));
    commands().flush();
    expect(difference(looks.get(name) ?? new Map(), lookAtTree(scene().mount, { ctime: true })), name).toBeUndefined();
  }

  function writeAt(name: string, offset: number, text: string): void {
    const handle = openSync(path(name), constants.O_WRONLY | constants.O_CREAT, 0o644);
    writeSync(handle, text, offset);
    closeSync(handle);
  }

  function must(program: string, args: string[]): void {
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    expect({ program, status, stderr }).toEqual({ program, status: 0, stderr: '' });
  }

  it('names: removed, made again, replaced, exchanged, moved and moved back', () => {
    scene().begin('names');
    mkdirSync(path('a'));
    mkdirSync(path('b'));
    for (const name of ['a/one', 'a/two', 'b/three', 'four']) writeFileSync(path(name), name);
    keep('names-1');
    unlinkSync(path('a/one'));
    keep('names-2');
    writeFileSync(path('a/one'), 'made again');
    keep('names-3');
    unlinkSync(path('a/one'));
    mkdirSync(path('a/one'));
    keep('names-4');
    rmSync(path('a/one'), { recursive: true });
    renameSync(path('a/two'), path('a/one'));
    keep('names-5');
    renameSync(path('a/one'), path('b/one'));
    renameSync(path('b/three'), path('a/one'));
    keep('names-6');
    exchange(path('a'), path('b'));
    renameSync(path('a'), path('c'));
    renameSync(path('b'), path('a'));
    renameSync(path('c'), path('b'));
    keep('names-7');
    renameSync(path('a'), path('b/a'));
    keep('names-8');
    rmSync(path('b'), { recursive: true });
    keep('names-9');
    mkdirSync(path('b'));
    mkdirSync(path('b/a'));
    writeFileSync(path('b/a/one'), 'all new');
    keep('names-10');
    rmSync(path('b/a'), { recursive: true });
    mkdirSync(path('b/a'));
    keep('names-11');
    linkSync(path('four'), path('b/a/five'));
    keep('names-12');
    unlinkSync(path('four'));
    keep('names-13');
    renameSync(path('b/a/five'), path('four'));
    keep('names-14');
  });

  it('a name made and removed within a layer, with and without one below', () => {
    scene().begin('within');
    writeFileSync(path('below'), 'below');
    mkdirSync(path('dir'));
    writeFileSync(path('dir/in'), 'in');
    keep('within-1');
    commands().flush();
    unlinkSync(path('below'));
    writeFileSync(path('below'), 'again');
    commands().flush();
    unlinkSync(path('below'));
    writeFileSync(path('above'), 'above');
    commands().flush();
    unlinkSync(path('above'));
    keep('within-2');
    writeFileSync(path('below'), 'once more');
    rmSync(path('dir'), { recursive: true });
    mkdirSync(path('dir'));
    commands().flush();
    writeFileSync(path('dir/in'), 'new');
    commands().flush();
    unlinkSync(path('dir/in'));
    keep('within-3');
  });

  it('content: cut, grown, punched, sparse, tiny and large again', () => {
    scene().begin('content');
    writeFileSync(path('f'), Buffer.alloc(SEGMENT_BYTES + 3 * CHUNK_BYTES, 'long '));
    writeFileSync(path('t'), 'tiny');
    keep('content-1');
    truncateSync(path('f'), 10);
    keep('content-2');
    truncateSync(path('f'), 2 * SEGMENT_BYTES);
    keep('content-3');
    writeAt('f', SEGMENT_BYTES + CHUNK_BYTES, 'an island');
    keep('content-4');
    truncateSync(path('f'), 0);
    keep('content-5');
    writeAt('f', 3 * SEGMENT_BYTES, 'behind a hole');
    keep('content-6');
    writeFileSync(path('t'), Buffer.alloc(2 * CHUNK_BYTES, 't'));
    keep('content-7');
    must('fallocate', ['-p', '-o', '0', '-l', String(CHUNK_BYTES), path('t')]);
    keep('content-8');
    must('fallocate', ['-p', '-o', '0', '-l', String(2 * CHUNK_BYTES), path('t')]);
    keep('content-9');
    writeFileSync(path('t'), 'tiny again');
    keep('content-10');
    writeFileSync(path('f'), Buffer.alloc(2 * SEGMENT_BYTES, 'full '));
    keep('content-11');
    must('fallocate', ['-p', '-o', String(SEGMENT_BYTES), '-l', String(SEGMENT_BYTES), path('f')]);
    keep('content-12');
    truncateSync(path('f'), SEGMENT_BYTES);
    truncateSync(path('f'), 2 * SEGMENT_BYTES);
    keep('content-13');
    must('cp', ['--reflink=never', path('f'), path('g')]);
    unlinkSync(path('f'));
    keep('content-14');
    renameSync(path('g'), path('f'));
    truncateSync(path('f'), 5);
    keep('content-15');
  });

  it('all of it is the same from afar: by switch and by snapshot, in any order, cold and after a restart', async () => {
    const names = [...looks.keys()];
    for (const [index, name] of names.entries()) {
      const other = names[(index * 17 + 5) % names.length] ?? name;
      for (const layer of [other, name]) {
        commands().switchTo(layer);
        if (index % 3 === 0) commands().flush();
        expect(
          difference(looks.get(layer) ?? new Map(), lookAtTree(scene().mount, { ctime: true })),
          layer,
        ).toBeUndefined();
      }
    }
    await scene().tarbox.restart();
    for (const [name, look] of looks)
      expect(difference(look, lookAtTree(commands().snapshot(name), { ctime: true })), name).toBeUndefined();
  });
});
