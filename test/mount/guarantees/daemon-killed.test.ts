import { execFile } from 'node:child_process';
import { mkdir, open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAt } from '../../crash/client.ts';
import { checkMapped } from '../../crash/programs/mapper.ts';
import { rounds, seedOf } from '../../crash/rounds.ts';
import { Scene } from '../../crash/scene.ts';
import { Random } from '../../model/random.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts } from '../../support/tarbox.ts';

const missing = missingForMounts();
const ESTALE = 116;
const run = promisify(execFile);

/** Guarantee 4: a crash of the daemon is a pause. */
describe.skipIf(missing)(
  `after kill -9 of the daemon${missing ? ` (skipped: this machine lacks ${missing})` : ''}`,
  () => {
    let scene: Scene;

    afterEach(() => scene.remove());

    describe('in the middle of work', () => {
      beforeEach(async () => {
        scene = await Scene.open();
        await scene.tarbox.start();
      });

      it('no client sees an error, nothing is lost, and no cache shows what is not so', async () => {
        const KILLS = 6;
        for (const round of rounds(1)) {
          const seed = seedOf(round);
          const random = new Random(seed);
          const load = scene.load(`load-${seed}`, { seed, barriers: true });
          await writeFile(scene.path('counter'), '0');
          const reader = await scene.client('reader', { root: scene.path(`reads-${seed}`) });
          const lister = await scene.client('lister', { root: scene.path(`lists-${seed}`) });
          const orphan = await scene.client('orphan', { root: scene.path(`orphans-${seed}`) });
          const mapper = await scene.client('mapper', { file: scene.path(`mapped-${seed}`) });
          const locks = { lock: scene.path('lock'), counter: scene.path('counter') };
          const lockers = [await scene.client('locker', locks), await scene.client('locker', locks)];
          await load.start();
          for (let kill = 0; kill < KILLS; kill++) {
            await load.more(random.between(5, 60));
            // Now and then the next daemon dies while it's still starting.
            if (kill % 3 === 0) await scene.killDaemon();
            await scene.replaceDaemon();
          }
          await load.more(20);
          await load.stop();
          for (const client of [reader, lister, orphan]) expect(await client.stop()).toBeGreaterThan(0);
          const [one = 0, other = 0] = [await lockers[0]?.stop(), await lockers[1]?.stop()];
          expect(Number(await readFile(scene.path('counter'), 'utf8'))).toBe(one + other);
          const counted = await mapper.stop();
          await load.checkWhole();
          const seen = await lookAt(scene.tarbox.mount);
          await scene.tarbox.restart();
          expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
          checkMapped(await readFile(scene.path(`mapped-${seed}`)), counted);
        }
      });

      it('the next daemon may be killed while it recovers, and the one after it knows everything still', async () => {
        await mkdir(scene.path('kept'));
        await writeFile(scene.path('kept/before'), 'before');
        await run('sync', [scene.path('kept')]);
        const epoch = await scene.tenant('lease_epoch');
        await rename(scene.path('kept/before'), scene.path('kept/after'));
        await writeFile(scene.path('kept/new'), 'new');
        for (let kill = 1; kill <= 2; kill++) {
          scene.relay.set('read', 'stall');
          await scene.killDaemon();
          await eventually(
            'it has the lease',
            async () => (await scene.tenant('lease_epoch')) === epoch + kill || undefined,
          );
          await eventually('it is loading', () => scene.relay.kept('read') > 0 || undefined);
        }
        scene.relay.set('read', 'pass');
        await scene.replaceDaemon();
        expect(await readFile(scene.path('kept/after'), 'utf8')).toBe('before');
        expect(await readFile(scene.path('kept/new'), 'utf8')).toBe('new');
        const seen = await lookAt(scene.tarbox.mount);
        await scene.tarbox.restart();
        expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
      });
    });

    it('the next daemon may be killed, or cut off, when it has taken the lease and does not know it yet', async () => {
      scene = await Scene.open();
      await scene.tarbox.start();
      const epoch = await scene.tenant('lease_epoch');
      await writeFile(scene.path('file'), 'file');
      for (let kill = 1; kill <= 2; kill++) {
        scene.relay.muteAnswersOf('lease', 'lease_epoch + 1');
        await scene.killDaemon();
        const isTaken = async () => (await scene.tenant('lease_epoch')) >= epoch + kill || undefined;
        await eventually('it has the lease', isTaken);
      }
      scene.relay.set('lease', 'pass');
      await scene.replaceDaemon();
      expect(await readFile(scene.path('file'), 'utf8')).toBe('file');
      expect(scene.tarbox.log.map(({ event }) => event)).not.toContain('caches-dropped');
    });

    it('an operation that waits for its commit goes on waiting for it', async () => {
      scene = await Scene.open({ TARBOX_DURABILITY: 'strict' });
      await scene.tarbox.start();
      await mkdir(scene.path('other'));
      scene.relay.set('commit', 'stall');
      let isMade = false;
      const made = mkdir(scene.path('other/made')).then(() => {
        isMade = true;
      });
      made.catch(() => {}); // seen below
      await eventually('its commit is on its way', () => scene.relay.kept('commit') > 0 || undefined);
      const sequence = await scene.tenant('sequence');
      await scene.replaceDaemon();
      await eventually('another is on its way', () => scene.relay.kept('commit') > 0 || undefined);
      expect(await scene.tenant('sequence')).toBe(sequence);
      // Not in the same directory, which the kernel locks for the one that waits.
      for (let round = 0; round < 20; round++) await readFile(scene.path('.tarbox/health'));
      expect(isMade).toBe(false);
      scene.relay.set('commit', 'pass');
      await made;
      expect(await scene.tenant('sequence')).toBeGreaterThan(sequence);
    });

    it('an operation that was committed and not yet answered is not carried out again', async () => {
      scene = await Scene.open({ TARBOX_DURABILITY: 'strict' });
      await scene.tarbox.start();
      await mkdir(scene.path('first'));
      const sequence = await scene.tenant('sequence');
      scene.relay.set('commit', 'mute');
      const made = mkdir(scene.path('second'));
      made.catch(() => {}); // seen below
      await eventually('it is committed', async () => (await scene.tenant('sequence')) > sequence || undefined);
      await scene.killDaemon();
      // The first one has its answer now and never takes it out of the wire.
      scene.relay.set('commit', 'pass');
      await made;
      await rename(scene.path('second'), scene.path('third'));
      expect((await stat(scene.path('third'))).isDirectory()).toBe(true);
    });

    it('only what existed in a lost log alone is ESTALE, and everything else is as it was committed', async () => {
      scene = await Scene.open({ TARBOX_COMMIT_INTERVAL: '1h' });
      await scene.tarbox.start();
      await writeFile(scene.path('same'), 'same');
      await writeFile(scene.path('changed'), 'as committed');
      await writeFile(scene.path('renamed'), 'renamed');
      await run('sync', [scene.tarbox.mount]);
      const kept = await open(scene.path('same'), 'r+');
      const changed = await open(scene.path('changed'), 'r+');
      const text = async () => (await changed.read(Buffer.alloc(12), 0, 12, 0)).buffer.toString();
      await changed.write('as lost     ', 0);
      await changed.chmod(0o600);
      expect(await text()).toBe('as lost     ');
      await rename(scene.path('renamed'), scene.path('elsewhere'));
      const lost = await open(scene.path('lost'), 'w+');
      await lost.write('lost');
      const { supervisor, daemon } = scene.tarbox.pids;
      const lines = scene.tarbox.log.length;
      process.kill(supervisor, 'SIGSTOP');
      process.kill(daemon, 'SIGKILL');
      await eventually(
        'it has no connections',
        async () => (await scene.server.backends('commit')).length === 0 || undefined,
      );
      // As another does that takes the tenant and gives it back.
      await scene.server.query('UPDATE tarbox.tenants SET lease_epoch = lease_epoch + 1, lease_owner = NULL');
      process.kill(supervisor, 'SIGCONT');
      await scene.tarbox.waitForLog('daemon-restarted', 60_000, lines);
      await eventually('pages are dropped', async () => (await text()) === 'as committed' || undefined);
      expect((await changed.stat()).mode & 0o777).toBe(0o644);
      expect(await readFile(scene.path('changed'), 'utf8')).toBe('as committed');
      expect(await readFile(scene.path('renamed'), 'utf8')).toBe('renamed');
      await expect(stat(scene.path('elsewhere'))).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(lost.write('more')).rejects.toMatchObject({ errno: -ESTALE });
      await expect(lost.read(Buffer.alloc(4), 0, 4, 0)).rejects.toMatchObject({ errno: -ESTALE });
      await kept.write('SAME', 0);
      // A new file doesn't get the number of one that the kernel still knows.
      await writeFile(scene.path('lost'), 'another');
      await expect(lost.stat()).rejects.toMatchObject({ errno: -ESTALE });
      for (const handle of [kept, changed, lost]) await handle.close();
      expect(await readFile(scene.path('lost'), 'utf8')).toBe('another');
      const seen = await lookAt(scene.tarbox.mount);
      await scene.tarbox.restart();
      expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
    });
  },
);
