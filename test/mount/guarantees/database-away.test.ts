import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAt } from '../../crash/client.ts';
import { bytesOf } from '../../crash/operation.ts';
import { Scene } from '../../crash/scene.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts } from '../../support/tarbox.ts';

const missing = missingForMounts();
const run = promisify(execFile);
const LIMIT_BYTES = 4 * 1024 * 1024;

/** A promise, and whether it's settled. */
function watch<T>(promise: Promise<T>): { readonly promise: Promise<T>; settled: boolean } {
  const watched = { promise, settled: false };
  const settle = () => {
    watched.settled = true;
  };
  promise.then(settle, settle);
  return watched;
}

/** Guarantee 6: what goes on and what waits while PostgreSQL is away, and that it all resumes. */
describe.skipIf(missing)(
  `while PostgreSQL is away${missing ? ` (skipped: this machine lacks ${missing})` : ''}`,
  () => {
    let scene: Scene;

    beforeEach(async () => {
      scene = await Scene.open({ TARBOX_DIRTY_LIMIT: `${LIMIT_BYTES}` });
      await scene.tarbox.start();
    });

    afterEach(() => scene.remove());

    async function health(): Promise<{ status: string; dirty_bytes: number }> {
      return JSON.parse(await readFile(scene.path('.tarbox/health'), 'utf8')); // it says so in README.md
    }

    /** The bytes as the daemon gives them, past the kernel's cache. */
    async function readDirectly(path: string): Promise<Buffer> {
      const args = [`if=${path}`, 'iflag=direct', 'bs=64k', 'status=none'];
      return (await run('dd', args, { encoding: 'buffer', maxBuffer: 1 << 24 })).stdout;
    }

    const WAYS = {
      stopped: {
        leave: () => scene.server.stop(),
        comeBack: () => scene.server.start(),
      },
      'held up': {
        leave: async () => scene.server.pause(),
        comeBack: async () => scene.server.resume(),
      },
    };

    it.each(Object.keys(WAYS) as (keyof typeof WAYS)[])(
      '(%s) what is cached is read, changes go on up to the limit, and all resumes',
      async (name) => {
        const { leave, comeBack } = WAYS[name];
        const cold = bytesOf(3, 200_000);
        await writeFile(scene.path('cold'), cold);
        await scene.tarbox.restart();
        const bytes = bytesOf(4, 300_000);
        await writeFile(scene.path('cached'), bytes);
        await run('sync', [scene.path('cached')]);
        await leave();

        const coldRead = watch(readFile(scene.path('cold')));
        expect(bytes.equals(await readDirectly(scene.path('cached')))).toBe(true);
        await mkdir(scene.path('made'));
        await rename(scene.path('cached'), scene.path('made/renamed'));
        await expect(stat(scene.path('made/absent'))).rejects.toMatchObject({ code: 'ENOENT' });
        const synced = watch(run('sync', [scene.path('made')]));
        const big = watch(run('dd', ['if=/dev/zero', `of=${scene.path('big')}`, 'bs=64k', 'count=128']));
        // What waits is counted with and without the requests around it.
        await eventually(
          'the limit is reached',
          async () => (await health()).dirty_bytes >= 0.9 * LIMIT_BYTES || undefined,
        );
        const late = watch(writeFile(scene.path('late'), bytesOf(5, 100_000)));
        for (let round = 0; round < 20; round++)
          expect(bytes.equals(await readDirectly(scene.path('made/renamed')))).toBe(true);
        expect((await health()).dirty_bytes).toBeLessThan(1.1 * LIMIT_BYTES);
        await eventually('health says so', async () => (await health()).status === 'degraded' || undefined);
        expect([coldRead, synced, big, late].map(({ settled }) => settled)).toEqual([false, false, false, false]);

        await comeBack();
        await Promise.all([synced.promise, big.promise, late.promise]);
        expect(cold.equals(await coldRead.promise)).toBe(true);
        await eventually('it is well again', async () => (await health()).status === 'ok' || undefined);
        expect((await stat(scene.path('big'))).size).toBe(128 * 65_536);
        const seen = await lookAt(scene.tarbox.mount);
        await scene.tarbox.restart();
        expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
        expect(bytes.equals(await readDirectly(scene.path('made/renamed')))).toBe(true);
        expect(bytesOf(5, 100_000).equals(await readFile(scene.path('late')))).toBe(true);
      },
    );

    it('a process that is killed while it waits is let go, even when it got another signal before', async () => {
      await writeFile(scene.path('file'), 'first');
      await run('sync', [scene.path('file')]);
      await scene.server.stop();
      await writeFile(scene.path('file'), 'second');
      await writeFile(scene.path('other'), 'other');
      // Each its own file: the kernel lets one fsync of a file wait for the one before, and that can't be killed.
      const interrupted = await scene.client('syncer', { path: scene.path('other') });
      const killed = await scene.client('syncer', { path: scene.path('file') });
      await eventually(
        'both wait',
        async () => ((await waitsForAnswer(interrupted.pid)) && (await waitsForAnswer(killed.pid))) || undefined,
      );
      process.kill(interrupted.pid, 'SIGINT');
      for (let round = 0; round < 5; round++) await health();
      expect([interrupted.ended, killed.ended]).toEqual([false, false]);
      await killed.kill();
      await interrupted.kill();
      await scene.server.start();
      await run('sync', [scene.path('file')]);
      expect(await readFile(scene.path('file'), 'utf8')).toBe('second');
    });

    /** Whether the main thread of a process waits for a FUSE server. */
    async function waitsForAnswer(pid: number): Promise<boolean> {
      return (await readFile(`/proc/${pid}/stack`, 'utf8')).includes('fuse');
    }

    it('a daemon that is killed meanwhile has lost nothing', async () => {
      await writeFile(scene.path('before'), 'before');
      await run('sync', [scene.path('before')]);
      await scene.server.stop();
      await writeFile(scene.path('after'), 'after');
      await rename(scene.path('before'), scene.path('renamed'));
      const synced = watch(run('sync', [scene.path('after')]));
      await scene.killDaemon();
      const listed = watch(readdir(scene.tarbox.mount));
      await scene.tarbox.waitForLog('waiting-for-database', 30_000);
      expect(synced.settled).toBe(false);
      await scene.server.start();
      expect((await listed.promise).sort()).toEqual(['after', 'renamed']);
      await synced.promise;
      const seen = await lookAt(scene.tarbox.mount);
      await scene.tarbox.restart();
      expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
    });
  },
);
