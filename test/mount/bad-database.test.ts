import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Connection } from '../../src/store/connection.ts';
import { attemptStart, expectProblem, useFolder } from '../support/attempt.ts';
import { embeddedServer, useServer } from '../support/postgres.ts';
import { missingForMounts, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const started: Tarbox[] = [];
afterEach(async () => {
  for (const tarbox of started.splice(0)) await tarbox.remove();
});

/** Started by the test; stopped and removed after it. */
function newTarbox(env: Readonly<Record<string, string>>): Tarbox {
  const tarbox = new Tarbox({ env });
  started.push(tarbox);
  return tarbox;
}

suite(`a database that does not let Tarbox in${unless}`, () => {
  const server = useServer(embeddedServer);
  const folder = useFolder();
  const url = (userAndPassword: string, database: string) =>
    `postgres://${userAndPassword}@/${database}?host=${server().options.socketDirectory}`;
  const attempt = (databaseUrl: string, env = {}) =>
    attemptStart({ DATABASE_URL: databaseUrl, TARBOX_MOUNT: join(folder(), 'mnt'), ...env });

  beforeAll(async () => {
    await server().query(`ALTER ROLE tarbox PASSWORD 'correct horse'`);
    await server().query('CREATE DATABASE newer');
    await server().query(`CREATE ROLE reader LOGIN PASSWORD 'hunter2'`);
    const rules = ['local newer tarbox trust', 'local all all scram-sha-256'];
    writeFileSync(join(server().folder, 'pgdata/pg_hba.conf'), `${rules.join('\n')}\n`);
    await server().query('SELECT pg_reload_conf()');
  });

  it.each([
    ['a wrong password', 'tarbox:hunter2', 'postgres', 'password authentication failed for user "tarbox" (28P01)'],
    ['no password', 'tarbox', 'postgres', 'password'],
    ['an unknown user', 'nobody:hunter2', 'postgres', 'password authentication failed for user "nobody" (28P01)'],
    ['a missing database', 'tarbox:correct%20horse', 'nowhere', 'database "nowhere" does not exist (3D000)'],
    ['a role without rights', 'reader:hunter2', 'postgres', 'permission denied for database postgres (42501)'],
  ])('says so in one line: %s', async (_, who, database, problem) => {
    const result = await attempt(url(who, database));
    expectProblem(result, 1, `PostgreSQL refuses: ${problem}`);
    expectProblem(result, 1, /; check DATABASE_URL, and what its role may do$/);
    expect(result.text).not.toMatch(/hunter2|correct|horse/);
  });

  it('says so in one line: a tenant that is not to be made', async () => {
    const env = { TARBOX_TENANT: 'absent', TARBOX_TENANT_CREATE: 'false' };
    const result = await attempt(url('tarbox:correct%20horse', 'postgres'), env);
    expectProblem(result, 1, "there is no tenant 'absent', and TARBOX_TENANT_CREATE=false");
  });

  it('says so in one line: a schema of a newer Tarbox, which it leaves alone', async () => {
    const newer = url('tarbox:correct%20horse', 'newer');
    const tarbox = newTarbox({ DATABASE_URL: newer });
    await tarbox.start();
    await tarbox.stop();
    const connection = new Connection({ ...server().options, database: 'newer' }, 'test');
    await connection.run((client) => client`INSERT INTO tarbox.migrations VALUES (999, '0999_future.sql', 'x')`);
    expectProblem(await attempt(newer), 1, /schema has version 999, this Tarbox knows \d+: run a newer Tarbox/);
    const rows = await connection.run((client) => client`SELECT max(version) FROM tarbox.migrations`);
    expect(rows).toMatchObject([{ max: 999 }]);
    await connection.close();
  });
});

suite(`a database that is not there yet${unless}`, () => {
  const server = useServer(embeddedServer);

  it('is waited for, which is said without the password, and used when it comes', async () => {
    const { socketDirectory } = server().options;
    await server().stop();
    const tarbox = newTarbox({ DATABASE_URL: `postgres://tarbox:hunter2@/postgres?host=${socketDirectory}` });
    const ready = tarbox.start();
    ready.catch(() => {}); // awaited below
    const waiting = await tarbox.waitForLog('waiting-for-database', 30_000);
    expect(waiting['reason']).toMatch(/^cannot connect to PostgreSQL at /);
    await server().start();
    await ready;
    expect(tarbox.logText()).not.toContain('hunter2');
  });

  it('is not waited for any more after Ctrl-C', async () => {
    const tarbox = newTarbox({ DATABASE_URL: 'postgres://me:hunter2@127.0.0.1:1/db' });
    tarbox.launch();
    await tarbox.waitForLog('waiting-for-database', 30_000);
    await tarbox.stop();
    expect(tarbox.log.map(({ level }) => level)).not.toContain('error');
    expect(tarbox.logText()).not.toContain('hunter2');
  });
});

suite(`a data directory that cannot be used${unless}`, () => {
  const folder = useFolder();
  const at = (name: string) => join(folder(), name);
  const attempt = (data: string) => attemptStart({ TARBOX_MOUNT: at('mnt'), TARBOX_DATA: data });

  /** Runs a test on a file system of its own. */
  async function onDisk(name: string, options: string, test: (directory: string) => Promise<void>): Promise<void> {
    mkdirSync(at(name));
    await execa('mount', ['-t', 'tmpfs', '-o', `mode=755,${options}`, 'none', at(name)]);
    try {
      await test(at(name));
    } finally {
      await execa('umount', ['--lazy', at(name)]);
    }
  }

  it('says that it is a file, that it is read-only, or that it cannot be made', async () => {
    writeFileSync(at('file'), '');
    expectProblem(await attempt(at('file')), 1, `cannot make ${at('file')}: it is not a directory; set TARBOX_DATA`);
    expectProblem(await attempt('/proc/tarbox'), 1, 'cannot make /proc/tarbox');
    await onDisk('readonly', 'ro', async (disk) => {
      expectProblem(await attempt(join(disk, 'data')), 1, `cannot make ${disk}/data: the disk is read-only`);
    });
  });

  it('names the directory that the server may not enter, and what to do', async () => {
    mkdirSync(at('private'), { mode: 0o700 });
    const closed = at('private');
    expectProblem(
      await attempt(join(closed, 'below/data')),
      1,
      `${closed} is closed to user 65534, as whom PostgreSQL runs: chmod o+x ${closed}, or set TARBOX_DATA`,
    );
    await execa('chmod', ['o+x', closed]);
    const tarbox = newTarbox({ TARBOX_DATA: join(closed, 'below/data') });
    await tarbox.start();
  });

  it('needs no umask of its own', async () => {
    const tarbox = newTarbox({ TARBOX_DATA: at('masked') });
    const before = process.umask(0o077);
    try {
      await tarbox.start();
    } finally {
      process.umask(before);
    }
  });

  it('says that another Tarbox runs on it', async () => {
    const tarbox = newTarbox({});
    await tarbox.start();
    expectProblem(await attempt(tarbox.dataDir), 1, /is in use by the PostgreSQL with pid \d+: stop the other Tarbox/);
    await execa('touch', [join(tarbox.mount, 'file')]);
  });

  it('says that it has data of another PostgreSQL, and leaves it alone', async () => {
    mkdirSync(at('old/pgdata'), { recursive: true });
    writeFileSync(at('old/pgdata/PG_VERSION'), '9.6\n');
    expectProblem(await attempt(at('old')), 1, /was made by PostgreSQL 9\.6, this Tarbox brings \d+/);
    expect(readdirSync(at('old/pgdata'))).toEqual(['PG_VERSION']);
  });

  it.each([
    ['the programs', '20m', /cannot copy PostgreSQL's programs .*: No space left on device; set TARBOX_DATA$/],
    ['the database', '90m', /cannot create the database in .*: FATAL: .*: No space left on device$/],
  ])('says that the disk has no space for %s, and leaves nothing half made', async (_, size, problem) => {
    await onDisk(`small-${size}`, `size=${size}`, async (disk) => {
      expectProblem(await attempt(join(disk, 'data')), 1, problem);
      expect(readdirSync(join(disk, 'data/bin')).filter((name) => !/^postgresql-[\d.a-z-]+\d$/.test(name))).toEqual([]);
      expect(readdirSync(join(disk, 'data')).filter((name) => name.startsWith('pgdata'))).toEqual([]);
    });
  });

  it('is told to stop while the database is made, and leaves nothing running', async () => {
    const tarbox = newTarbox({});
    tarbox.launch();
    await tarbox.waitForLog('database-created', 30_000);
    await tarbox.stop();
    expect(tarbox.log.map(({ level }) => level)).not.toContain('error');
    expect(existsSync(join(tarbox.dataDir, 'pgdata/postmaster.pid'))).toBe(false);
  });
});
