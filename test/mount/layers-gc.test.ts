import { randomBytes } from 'node:crypto';
import { closeSync, constants, mkdirSync, openSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rounds, seedOf } from '../crash/rounds.ts';
import type { Commands } from '../layers/commands.ts';
import { difference, type Look, lookAtTree } from '../layers/look.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { expectClean, storedChunks, storedRows } from '../layers/stored.ts';
import { Random } from '../model/random.ts';
import { systemCalls } from '../model/syscalls.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const CHUNK_BYTES = 128 * 1024;

suite(`collecting garbage${unless}`, () => {
  const scene = useLayersScene(() => openLayersScene({ env: { TARBOX_COMMIT_INTERVAL: '20ms' } }));
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const gc = (mode: 'run' | 'dry-run' = 'run') => commands().run('control/gc', mode);
  const chunks = () => storedChunks(scene().server);

  function sync(): void {
    const handle = openSync(scene().mount, constants.O_RDONLY);
    systemCalls().fsync(handle);
    closeSync(handle);
  }

  it('finds nothing in a workspace that is new', () => {
    expect(gc('dry-run')).toMatchObject({ mode: 'dry-run', chunks: 0, garbage_chunks: 0 });
    expect(gc()).toMatchObject({ mode: 'run', chunks: 0, reclaimed_chunks: 0, reclaimed_bytes: 0, reclaimed_rows: 0 });
  });

  it('removes what a dropped layer alone had, after telling of it, and nothing else', async () => {
    scene().begin('drop');
    writeFileSync(path('kept'), randomBytes(3 * CHUNK_BYTES));
    commands().checkpoint('drop-1');
    writeFileSync(path('gone'), randomBytes(2 * CHUNK_BYTES));
    writeFileSync(path('tiny'), 'tiny');
    commands().checkpoint('drop-2');
    const look = lookAtTree(commands().snapshot('drop-1'));
    commands().switchTo('drop-1');
    expect(gc('dry-run')).toMatchObject({ garbage_chunks: 0 });
    commands().drop('drop-2');
    expect(gc('dry-run')).toMatchObject({ garbage_chunks: 2, garbage_bytes: 2 * CHUNK_BYTES });
    expect((await chunks()).garbage).toBe(2);
    expect(gc()).toMatchObject({ garbage_chunks: 2, reclaimed_chunks: 2, reclaimed_bytes: 2 * CHUNK_BYTES });
    expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
    commands().flush();
    expect(difference(look, lookAtTree(scene().mount))).toBeUndefined();
    expect(gc('dry-run')).toMatchObject({ garbage_chunks: 0 });
    expectClean(commands());
  });

  it('removes what a squash and a removal leave, rows included', async () => {
    scene().begin('squash');
    const before = await storedRows(scene().server);
    mkdirSync(path('dir/below'), { recursive: true });
    for (let n = 0; n < 50; n++) writeFileSync(path(`dir/f${n}`), randomBytes(5000 + n));
    commands().checkpoint('squash-1');
    rmSync(path('dir'), { recursive: true });
    writeFileSync(path('other'), randomBytes(6000));
    commands().checkpoint('squash-2');
    commands().squash('squash-1', 'squash-2', 'squashed');
    expect(gc('dry-run')).toMatchObject({ garbage_chunks: 50 });
    expect(gc()).toMatchObject({ reclaimed_chunks: 50, reclaimed_rows: expect.any(Number) });
    const after = await storedRows(scene().server);
    // The root, and what is there still.
    expect(after).toEqual({ inodes: before.inodes + 2, dentries: before.dentries + 1, contents: before.contents + 1 });
    expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });

  it('keeps what only an open handle still reads, and removes it once it is closed', async () => {
    scene().begin('open');
    const holder = scene().holder();
    const [one, other] = [randomBytes(2 * CHUNK_BYTES), randomBytes(2 * CHUNK_BYTES)];
    writeFileSync(path('unlinked'), one);
    writeFileSync(path('dropped'), other);
    const unlinked = await holder.open(path('unlinked'));
    const dropped = await holder.open(path('dropped'));
    unlinkSync(path('unlinked'));
    commands().checkpoint('open-1');
    commands().switchTo('open');
    commands().drop('open-1');
    for (let round = 0; round < 2; round++) {
      expect(gc()).toMatchObject({ garbage_chunks: 0 });
      commands().flush();
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      expect((await holder.read(unlinked)) === one.toString('latin1')).toBe(true);
      expect((await holder.read(dropped)) === other.toString('latin1')).toBe(true);
    }
    expectClean(commands());
    await holder.close(unlinked);
    await holder.close(dropped);
    expect(gc()).toMatchObject({ reclaimed_chunks: 4 });
    expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });

  it('removes a file that had lost its name when its layer was frozen, once it is closed', async () => {
    scene().begin('nameless');
    const holder = scene().holder();
    writeFileSync(path('named'), randomBytes(CHUNK_BYTES));
    commands().checkpoint('nameless-0');
    writeFileSync(path('file'), randomBytes(CHUNK_BYTES));
    const file = await holder.open(path('file'));
    const named = await holder.open(path('named'));
    unlinkSync(path('file'));
    unlinkSync(path('named'));
    commands().checkpoint('nameless-1');
    expect(gc()).toMatchObject({ garbage_chunks: 0 });
    await holder.write(file, 'still here');
    expect((await holder.read(file)).slice(0, 10)).toBe('still here');
    expect((await holder.read(named)).length).toBe(CHUNK_BYTES);
    commands().checkpoint('nameless-2');
    await holder.close(file);
    await holder.close(named);
    sync();
    // The content of the one and its changed version; what the other had is in the first layer.
    expect(gc()).toMatchObject({ reclaimed_chunks: 2 });
    expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
    commands().switchTo('nameless-0');
    expect(readFileSync(path('named')).length).toBe(CHUNK_BYTES);
  });

  it('removes rows of a layer that does not exist, and what they alone refer to', async () => {
    scene().begin('lost');
    writeFileSync(path('file'), randomBytes(2 * CHUNK_BYTES));
    commands().checkpoint('lost-1');
    commands().switchTo('lost');
    const { id } = commands().layer('lost-1');
    for (const table of ['inodes', 'dentries', 'contents'])
      await scene().server.query(`UPDATE tarbox.${table} SET layer_id = 424242 WHERE layer_id = ${id}`);
    commands().drop('lost-1');
    expect(commands().run('control/fsck', 'run')).toMatchObject({
      clean: false,
      problems: [{ layer: null, problem: expect.stringContaining('layer 424242') }],
    });
    expect(gc()).toMatchObject({ reclaimed_chunks: 2, reclaimed_rows: 4 });
    expectClean(commands());
  });

  it('refuses what it does not know', () => {
    for (const command of ['', 'Run', 'run now', '{"mode": "all"}', '{"dry": true}']) {
      const { errno, outcome } = commands().write('control/gc', command);
      expect({ errno, error: outcome.error }).toEqual({ errno: 'EINVAL', error: 'EINVAL' });
      expect(outcome.hint).toContain('dry-run');
    }
  });

  it('is done once at a time', async () => {
    scene().begin('busy');
    for (let n = 0; n < 200; n++) writeFileSync(path(`f${n}`), randomBytes(5000));
    commands().checkpoint('busy-1');
    commands().switchTo('busy');
    commands().drop('busy-1');
    const outcomes = await Promise.all(
      ['control/gc', 'control/gc', 'control/fsck'].map((file) => scene().holder().command(scene().mount, file, 'run')),
    );
    for (const { errno } of outcomes) if (errno !== undefined) expect(errno).toBe('EBUSY');
    expect(outcomes.some(({ outcome }) => outcome.ok)).toBe(true);
    gc();
    expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
  });

  describe('while the workspace is in use', () => {
    /** Few contents, so that what is garbage now is written again in a moment. */
    const POOL = Array.from({ length: 12 }, () => randomBytes(CHUNK_BYTES));

    it('never takes a chunk that is being written again', async () => {
      scene().begin('again');
      const random = new Random(seedOf(1));
      const collector = scene().holder();
      let stop = false;
      let runs = 0;
      const collecting = (async () => {
        for (; !stop; runs++) await collector.command(scene().mount, 'control/gc', 'run');
      })();
      const files = new Map<string, Buffer>();
      for (let round = 0; round < 400 * rounds(1).length; round++) {
        const name = `f${random.below(8)}`;
        const content = Buffer.concat([random.pick(POOL), random.pick(POOL)]);
        if (files.has(name) && random.chance(0.4)) {
          unlinkSync(path(name));
          files.delete(name);
        } else {
          writeFileSync(path(name), content);
          files.set(name, content);
        }
        if (random.chance(0.3)) sync();
        if (round % 20 === 0) await new Promise(setImmediate);
        if (round % 50 !== 49) continue;
        commands().flush();
        writeFileSync('/proc/sys/vm/drop_caches', '3');
        for (const [file, expected] of files) expect(readFileSync(path(file)).equals(expected), file).toBe(true);
      }
      stop = true;
      await collecting;
      expect(runs).toBeGreaterThan(5);
      expect((await chunks()).dangling).toBe(0);
      expectClean(commands());
    });

    it('never takes what is copied by reference from a file that goes', async () => {
      scene().begin('copied');
      const random = new Random(seedOf(2));
      const collector = scene().holder();
      let stop = false;
      const collecting = (async () => {
        while (!stop) await collector.command(scene().mount, 'control/gc', 'run');
      })();
      let name = 'first';
      const content = randomBytes(4 * CHUNK_BYTES);
      writeFileSync(path(name), content);
      for (let round = 0; round < 100 * rounds(1).length; round++) {
        const next = `copy-${round}`;
        if (random.chance(0.5)) commands().flush();
        shareFile(path(name), path(next));
        if (random.chance(0.5)) sync();
        unlinkSync(path(name));
        name = next;
        if (round % 10 === 0) await new Promise(setImmediate);
      }
      stop = true;
      await collecting;
      commands().flush();
      expect(readFileSync(path(name)).equals(content)).toBe(true);
      gc();
      expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
      expectClean(commands());
    });

    /** copy_file_range(2) of a whole file. */
    function shareFile(from: string, to: string): void {
      const system = systemCalls();
      const [source, target] = [openSync(from, 'r'), openSync(to, 'w')];
      const copied = system.copyFileRange(source, 0, target, 0, 4 * CHUNK_BYTES);
      expect(copied).toBe(4 * CHUNK_BYTES);
      closeSync(source);
      closeSync(target);
    }

    it('leaves every layer what it is amid checkpoints, switches, drops and squashes', async () => {
      scene().begin('amid');
      const random = new Random(seedOf(3));
      const collector = scene().holder();
      let stop = false;
      const collecting = (async () => {
        while (!stop) await collector.command(scene().mount, 'control/gc', 'run');
      })();
      const looks = new Map<string, Look>([['amid', lookAtTree(scene().mount)]]);
      for (let round = 0; round < 40 * rounds(1).length; round++) {
        for (let change = 0; change < 4; change++) {
          const name = path(`f${random.below(6)}`);
          if (random.chance(0.3)) rmSync(name, { force: true });
          else writeFileSync(name, random.pick(POOL));
        }
        const name = `amid-${round}`;
        commands().checkpoint(name, { branch: true });
        looks.set(name, lookAtTree(scene().mount));
        const other = random.pick([...looks.keys()]);
        if (random.chance(0.4) && other !== 'amid') {
          commands().drop(other, true);
          looks.delete(other);
        }
        commands().switchTo(random.pick([...looks.keys()]));
        if (round % 10 === 0) await new Promise(setImmediate);
      }
      stop = true;
      await collecting;
      gc();
      expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
      commands().flush();
      for (const [layer, look] of looks)
        expect(difference(look, lookAtTree(commands().snapshot(layer))), layer).toBeUndefined();
      expectClean(commands());
    });

    it('killed at any time, of daemon or database, has done no harm', async () => {
      scene().begin('killed');
      const random = new Random(seedOf(4));
      const collector = scene().holder();
      const files = new Map<string, Buffer>();
      for (let round = 0; round < 6 * rounds(1).length; round++) {
        for (let n = 0; n < 60; n++) {
          const name = `f${random.below(40)}`;
          const content = Buffer.concat([random.pick(POOL).subarray(0, 30_000), Buffer.from(`${round}-${n}`)]);
          writeFileSync(path(name), content);
          files.set(name, content);
        }
        sync();
        const collecting = collector.command(scene().mount, 'control/gc', 'run');
        const moment = performance.now() + random.below(80);
        while (performance.now() < moment) await new Promise(setImmediate);
        if (round % 2 === 0) await scene().replaceDaemon();
        else {
          await scene().server.kill();
          await scene().server.start();
        }
        expect((await collecting).outcome).toMatchObject({ ok: true });
        expect((await chunks()).dangling).toBe(0);
      }
      commands().flush();
      for (const [file, expected] of files) expect(readFileSync(path(file)).equals(expected), file).toBe(true);
      gc();
      expect(await chunks()).toMatchObject({ garbage: 0, dangling: 0 });
      expectClean(commands());
    });
  });
});
