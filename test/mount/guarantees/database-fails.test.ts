import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkOrder } from '../../crash/load.ts';
import { rounds, seedOf } from '../../crash/rounds.ts';
import { Scene } from '../../crash/scene.ts';
import { Random } from '../../model/random.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts } from '../../support/tarbox.ts';

const missing = missingForMounts();
const run = promisify(execFile);

/** Guarantees 1 and 6 while PostgreSQL fails in every way. */
describe.skipIf(missing)(`while PostgreSQL fails${missing ? ` (skipped: this machine lacks ${missing})` : ''}`, () => {
  let scene: Scene;

  beforeEach(async () => {
    // Caches that hold little, so that operations need the database, too.
    scene = await Scene.open({
      TARBOX_METADATA_CACHE: '1MiB',
      TARBOX_CHUNK_CACHE: '1MiB',
      TARBOX_COMMIT_INTERVAL: '100ms',
    });
    await scene.tarbox.start();
  });

  afterEach(() => scene.remove());

  /** Ways in which the database goes away and comes back. */
  const FAILURES: readonly ((random: Random) => Promise<void>)[] = [
    async () => {
      await scene.server.kill();
      await scene.server.start();
    },
    async () => {
      // As `pg_ctl stop -m immediate`: without a checkpoint, so that the next start recovers.
      process.kill(scene.server.running.pid, 'SIGQUIT');
      await scene.server.running.exited;
      await scene.server.start();
    },
    async () => {
      await scene.server.stop();
      await scene.server.start();
    },
    async (random) => {
      // In the middle of whatever is sent next.
      for (let cut = 0; cut < 5; cut++) await scene.relay.cutAfter(random.between(1, 60_000));
    },
  ];

  it('no operation fails, and what is stored in the end is the result of all of them', async () => {
    const random = new Random(seedOf(3));
    const one = scene.load('one', { seed: seedOf(31), barriers: true });
    const other = scene.load('other', { seed: seedOf(32), barriers: true });
    for (const _ of rounds(1)) {
      await Promise.all([one.start(), other.start()]);
      for (const fail of FAILURES) {
        await one.more(random.between(20, 150));
        await fail(random);
      }
      await Promise.all([one.more(50), other.more(50)]);
      await Promise.all([one.stop(), other.stop()]);
      await one.checkWhole();
      await other.checkWhole();
    }
    await scene.tarbox.restart();
    await one.checkWhole();
    await other.checkWhole();
  });

  it('a commit that arrives when later ones have been carried out changes nothing', async () => {
    const file = scene.path('file');
    const store = async (text: string) => {
      await writeFile(file, text);
      await run('sync', [file]);
    };
    // The statement is prepared, so that a commit is one message.
    for (const text of ['one', 'two', 'three']) await store(text);
    scene.relay.set('commit', 'stall');
    const stored = store('early');
    await eventually('a commit is on its way', () => scene.relay.kept('commit') > 0 || undefined);
    const deliver = scene.relay.orphan('commit');
    await stored;
    await store('late');
    deliver();
    await eventually('it has arrived', async () => (await scene.server.backends('commit')).length === 1 || undefined);
    await scene.tarbox.killEverything();
    await scene.tarbox.start();
    expect(await readFile(file, 'utf8')).toBe('late');
  });

  it('a prefix is stored when the sidecar is killed together with it', async () => {
    const random = new Random(seedOf(4));
    const one = scene.load('one', { seed: seedOf(41), barriers: true });
    const other = scene.load('other', { seed: seedOf(42), barriers: true });
    for (const _ of rounds(3)) {
      await Promise.all([one.start(), other.start()]);
      await Promise.all([one.more(random.between(20, 150)), other.more(20)]);
      const killed = [scene.server.kill(), scene.tarbox.killEverything()];
      await Promise.all(killed);
      await Promise.all([one.crashed(), other.crashed()]);
      await scene.server.start();
      await scene.tarbox.start();
      const [oneMatch, otherMatch] = [await one.checkCrashed(), await other.checkCrashed()];
      checkOrder(one, oneMatch, other, otherMatch);
      checkOrder(other, otherMatch, one, oneMatch);
    }
  });
});
