import { execFile } from 'node:child_process';
import { mkdir, open, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAt } from '../../crash/client.ts';
import { bytesOf } from '../../crash/operation.ts';
import { Scene } from '../../crash/scene.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts } from '../../support/tarbox.ts';

const missing = missingForMounts();
const run = promisify(execFile);
const MIB = 1024 * 1024;

/** Guarantee 2: a commit that failed fails the fsync, and nothing is dropped. */
describe.skipIf(missing)(
  `when PostgreSQL's disk is full${missing ? ` (skipped: this machine lacks ${missing})` : ''}`,
  () => {
    let scene: Scene;
    let disk: string;

    beforeEach(async () => {
      scene = await Scene.open();
      disk = join(scene.folder, 'disk');
      await moveTablesToDisk();
      await scene.tarbox.start();
    });

    afterEach(() => scene.remove());

    /** Puts the tables, and not the write-ahead log, on a disk of their own that has room for 12 MiB more. */
    async function moveTablesToDisk(): Promise<void> {
      const tables = join(scene.server.folder, 'pgdata/base');
      await scene.server.stop();
      const used = Number((await run('du', ['-sk', tables])).stdout.split('\t')[0]) * 1024;
      await mkdir(disk);
      await run('mount', ['-t', 'tmpfs', '-o', `size=${used + 12 * MIB}`, 'tarbox-test', disk]);
      scene.defer(() => run('umount', [disk]));
      await run('cp', ['-a', tables, disk]);
      await rename(tables, `${tables}.old`);
      await symlink(join(disk, 'base'), tables);
      await scene.server.start();
    }

    it('fsync fails with ENOSPC, and what was written is kept and stored when there is room', async () => {
      const small = scene.path('small');
      await writeFile(small, 'small');
      await run('sync', [small]);
      const pieces = Array.from({ length: 40 }, (_, index) => bytesOf(index * 4, MIB / 2));
      const handle = await open(scene.path('large'), 'w+');
      for (const piece of pieces) await handle.write(piece);
      const full = { code: 'ENOSPC' };
      await expect(handle.sync()).rejects.toMatchObject(full);
      await expect(run('sync', [small])).rejects.toMatchObject({ stderr: expect.stringContaining('No space') });
      const health = JSON.parse(await readFile(scene.path('.tarbox/health'), 'utf8'));
      expect(health.status).toBe('degraded');
      expect(JSON.stringify(health.reasons)).toContain('No space left on device');
      // Reading goes on, and so does writing while there's room for what waits.
      await writeFile(scene.path('meanwhile'), 'meanwhile');
      expect(await readFile(small, 'utf8')).toBe('small');

      await run('mount', ['-o', `remount,size=${512 * MIB}`, disk]);
      await eventually(
        'it is well again',
        async () => JSON.parse(await readFile(scene.path('.tarbox/health'), 'utf8')).status === 'ok' || undefined,
      );
      await handle.sync();
      await handle.close();
      const seen = await lookAt(scene.tarbox.mount);
      await scene.tarbox.killEverything();
      await scene.tarbox.start();
      expect(await lookAt(scene.tarbox.mount)).toEqual(seen);
      expect(Buffer.concat(pieces).equals(await readFile(scene.path('large')))).toBe(true);
      expect(await readFile(scene.path('meanwhile'), 'utf8')).toBe('meanwhile');
    });
  },
);
