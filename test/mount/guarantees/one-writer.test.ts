import { execFile } from 'node:child_process';
import { appendFile, mkdir, open, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bytesOf } from '../../crash/operation.ts';
import { Scene } from '../../crash/scene.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts, type Tarbox } from '../../support/tarbox.ts';

const missing = missingForMounts();
const run = promisify(execFile);

/** Guarantee 5: one sidecar at a time writes a tenant. */
describe.skipIf(missing)(`of two sidecars${missing ? ` (skipped: this machine lacks ${missing})` : ''}`, () => {
  let scene: Scene;
  let second: Tarbox;

  beforeEach(async () => {
    scene = await Scene.open({ TARBOX_LEASE_TTL: '2s', TARBOX_COMMIT_INTERVAL: '1h' });
    second = scene.sidecar({ TARBOX_LEASE_TTL: '2s', DATABASE_URL: scene.url });
    await scene.tarbox.start();
  });

  afterEach(() => scene.remove());

  /** A digest of each table, and what the tenant's row says but when the lease ends. */
  async function stored(): Promise<object | undefined> {
    const digest = (table: string) =>
      `(SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM tarbox.${table} t) AS ${table}`;
    const tables = ['layers', 'tags', 'inodes', 'dentries', 'contents', 'chunks'].map(digest).join(', ');
    const [row] = await scene.server.query(
      `SELECT ${tables}, to_jsonb(tenants) - 'lease_expires' AS tenant FROM tarbox.tenants`,
    );
    return row;
  }

  it('the second refuses to start and says who has the tenant', async () => {
    second.launch();
    expect(await second.exit()).toBe(1);
    const { supervisor } = scene.tarbox.pids;
    const failure = second.log.find(({ event }) => event === 'start-failed');
    expect(failure?.['reason']).toMatch(new RegExp(`tenant 'default' is in use by \\S+ pid ${supervisor} `));
    await writeFile(scene.path('file'), 'still ours');
    await run('sync', [scene.path('file')]);
  });

  it.each(['with a commit on its way', 'before it commits'])(
    'one that was held up beyond its lease (%s) writes nothing after another has taken over, and says so',
    async (when) => {
      await mkdir(scene.path('ours'));
      await run('sync', [scene.path('ours')]);
      await writeFile(scene.path('ours/uncommitted'), bytesOf(4, 300_000));
      await writeFile(scene.path('ours/small'), 'small');
      const handle = await open(scene.path('ours/uncommitted'), 'r+');
      const waiting: Promise<unknown>[] = [];
      if (when === 'with a commit on its way') {
        scene.relay.set('commit', 'stall');
        waiting.push(run('sync', [scene.path('ours/small')]));
        await eventually('a commit is on its way', () => scene.relay.kept('commit') > 0 || undefined);
      }
      const { supervisor, daemon } = scene.tarbox.pids;
      for (const pid of [supervisor, daemon]) process.kill(pid, 'SIGSTOP');
      let changed = false;
      const change = run('sh', ['-c', 'echo more | tee -a "$1"', 'sh', scene.path('ours/small')]).finally(() => {
        changed = true;
      });
      waiting.push(change, run('sync', [scene.path('ours')]));
      for (const each of waiting) each.catch(() => {}); // seen below

      await second.start();
      await writeFile(join(second.mount, 'theirs'), bytesOf(8, 200_000));
      await run('sync', [join(second.mount, 'theirs')]);
      const before = await stored();
      scene.relay.set('commit', 'pass');
      scene.relay.set('lease', 'stall');
      for (const pid of [supervisor, daemon]) process.kill(pid, 'SIGCONT');

      // Nothing is accepted before it knows whether the lease is still its own.
      await eventually('it asks', () => scene.relay.kept('lease') > 0 || undefined);
      for (let round = 0; round < 20; round++) await readFile(scene.path('.tarbox/health'));
      expect(changed).toBe(false);
      scene.relay.set('lease', 'pass');
      for (const each of waiting)
        await expect(each).rejects.toMatchObject({ stderr: expect.stringContaining('Read-only') });
      const readOnly = { code: 'EROFS' };
      await expect(writeFile(scene.path('new'), 'new')).rejects.toMatchObject(readOnly);
      await expect(appendFile(scene.path('ours/small'), 'more')).rejects.toMatchObject(readOnly);
      await expect(rename(scene.path('ours/small'), scene.path('moved'))).rejects.toMatchObject(readOnly);
      await expect(unlink(scene.path('ours/small'))).rejects.toMatchObject(readOnly);
      await expect(handle.write('more')).rejects.toMatchObject(readOnly);
      await expect(handle.sync()).rejects.toMatchObject(readOnly);
      await handle.close();
      await scene.tarbox.waitForLog('lease-lost', 30_000);
      const health = JSON.parse(await readFile(scene.path('.tarbox/health'), 'utf8'));
      expect(health.status).toBe('readonly');
      expect(JSON.stringify(health.reasons)).toContain(` pid ${second.pids.supervisor} `);
      expect(await stored()).toEqual(before);
      await writeFile(join(second.mount, 'theirs'), 'theirs still');
      await run('sync', [join(second.mount, 'theirs')]);
    },
  );

  it('one that was killed is followed at once by the next on its machine', async () => {
    const first = scene.sidecar({ TARBOX_TENANT: 'killed', TARBOX_LEASE_TTL: '1h' });
    await first.start();
    await writeFile(join(first.mount, 'file'), 'kept');
    await run('sync', [first.mount]);
    await first.killEverything();
    const next = scene.sidecar({ TARBOX_TENANT: 'killed', TARBOX_LEASE_TTL: '1h' });
    await next.start();
    expect(await readFile(join(next.mount, 'file'), 'utf8')).toBe('kept');
  });

  it('a daemon that starts again under its own lease is not kept waiting by it', async () => {
    const owner = scene.sidecar({ TARBOX_TENANT: 'owner', TARBOX_LEASE_TTL: '1h' });
    await owner.start();
    const lines = owner.log.length;
    process.kill(owner.pids.daemon, 'SIGKILL');
    await owner.waitForLog('daemon-restarted', 60_000, lines);
    await writeFile(join(owner.mount, 'file'), 'ours');
    await run('sync', [owner.mount]);
    await eventually('it is stored', async () => ((await stored()) !== undefined ? true : undefined));
  });
});
