import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Embedded, startEmbedded } from '../../src/embedded/server.ts';
import { Connection } from '../../src/store/connection.ts';
import { StoreError } from '../../src/vfs/store.ts';
import { embeddedServer, eventually, silentLog, TestServer, temporaryFolder } from '../support/postgres.ts';
import { batchOf, inlineSegment, ino, inodeRow } from './rows.ts';
import { takeTenant } from './tenant.ts';

const CHILD = fileURLToPath(import.meta.resolve('./embedded-child.ts'));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const SOMEBODY = 1000;

/** The directory of a server that has run, for tests to copy. */
let template = '';
beforeAll(async () => {
  template = temporaryFolder('tarbox-template-');
  const server = await startEmbedded({ dataDir: template, log: silentLog });
  await server.stop();
});
afterAll(() => rmSync(template, { recursive: true, force: true }));

/** A directory that holds the programs and nothing else; it's removed when the test is over. */
function emptyDirectory(): string {
  const folder = temporaryFolder('tarbox-embedded-');
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  execFileSync('cp', ['-al', join(template, 'bin'), folder]);
  return folder;
}

/** The same with the data of a server that has been stopped. */
function dataDirectory(): string {
  const folder = emptyDirectory();
  execFileSync('cp', ['-a', join(template, 'pgdata'), folder]);
  return folder;
}

/** Starts a server that ends with the test. */
async function start(dataDir: string): Promise<Embedded> {
  const server = await startEmbedded({ dataDir, log: silentLog });
  onTestFinished(async () => {
    await server.stop();
  });
  return server;
}

async function query<Row extends object>(server: Pick<Embedded, 'socketDirectory' | 'user' | 'database'>, sql: string) {
  const { socketDirectory, user, database } = server;
  const connection = new Connection({ socketDirectory, user, database, connectTimeoutMs: 5000 }, 'test');
  try {
    return await connection.run(async (client) => [...(await client.unsafe<Row[]>(sql))]);
  } finally {
    await connection.close();
  }
}

function uidOf(pid: number): number {
  return Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

async function messageOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (problem) {
    if (problem instanceof Error) return problem.message;
  }
  throw new Error('it did not fail');
}

type Told = Pick<Embedded, 'pid' | 'socketDirectory' | 'user' | 'database'>;

/** Starts a server in another process, by another command. */
async function startChild(command: readonly string[], ...args: string[]): Promise<{ child: ChildProcess; told: Told }> {
  const [file = '', ...rest] = [...command, process.execPath, CHILD, ...args];
  const child = spawn(file, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  onTestFinished(async () => {
    child.stdin?.end();
    await ended;
  });
  const lines = createInterface({ input: child.stdout ?? process.stdin });
  const line = await new Promise<string>((resolve, reject) => {
    lines.once('line', resolve);
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
  });
  return { child, told: JSON.parse(line) as Told }; // what embedded-child.ts writes
}

/** Whether an ordinary user can read what it takes to start a server from here. */
function missingForSomebody(): string | undefined {
  if (!isRoot) return 'root';
  try {
    const test = [
      `--reuid=${SOMEBODY}`,
      `--regid=${SOMEBODY}`,
      '--clear-groups',
      'test',
      '-r',
      CHILD,
      '-a',
      '-x',
      process.execPath,
    ];
    execFileSync('setpriv', test, { stdio: 'pipe' });
    return undefined;
  } catch {
    return `a checkout that uid ${SOMEBODY} can read`;
  }
}

function missingForMounts(): string | undefined {
  if (!isRoot) return 'root';
  const folder = temporaryFolder('tarbox-probe-');
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'probe', folder], { stdio: 'pipe' });
    execFileSync('umount', [folder], { stdio: 'pipe' });
    return undefined;
  } catch {
    return 'the permission to mount (CAP_SYS_ADMIN)';
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const needs = (missing: string | undefined) => (missing === undefined ? '' : ` (skipped: no ${missing})`);
const forSomebody = missingForSomebody();
const forMounts = missingForMounts();

describe('the embedded server', () => {
  it.skipIf(!isRoot)(`runs as nobody when we are root${needs(isRoot ? undefined : 'root')}`, async () => {
    const server = await start(emptyDirectory());
    expect(uidOf(server.pid)).toBe(NOBODY);
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it.skipIf(forSomebody !== undefined)(`runs as an ordinary user under that user${needs(forSomebody)}`, async () => {
    const folder = emptyDirectory();
    chownSync(folder, SOMEBODY, SOMEBODY);
    const user = ['setpriv', `--reuid=${SOMEBODY}`, `--regid=${SOMEBODY}`, '--clear-groups', 'env', `HOME=${folder}`];
    const { told } = await startChild(user, folder);
    expect(uidOf(told.pid)).toBe(SOMEBODY);
    expect(await query(told, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('listens on no network port, and makes commits durable', async () => {
    const server = await start(dataDirectory());
    const names = ['listen_addresses', 'fsync', 'synchronous_commit', 'full_page_writes'];
    const rows = await query(
      server,
      `SELECT name, setting FROM pg_settings WHERE name IN ('${names.join("','")}') ORDER BY name`,
    );
    expect(rows).toEqual([
      { name: 'fsync', setting: 'on' },
      { name: 'full_page_writes', setting: 'on' },
      { name: 'listen_addresses', setting: '' },
      { name: 'synchronous_commit', setting: 'on' },
    ]);
  });

  it('finds its data again', async () => {
    const folder = emptyDirectory();
    const first = await startEmbedded({ dataDir: folder, log: silentLog });
    await query(first, 'CREATE TABLE kept AS SELECT 42 AS n');
    await first.stop();
    await first.exited;
    expect(await query(await start(folder), 'SELECT n FROM kept')).toEqual([{ n: 42 }]);
  });

  it('finds its data again after all of it was killed, what was committed included', async () => {
    const server = await TestServer.start(embeddedServer);
    onTestFinished(() => server.remove());
    await server.query('CREATE TABLE kept AS SELECT 42 AS n');
    await server.kill();
    await server.start();
    expect(await server.query('SELECT n FROM kept')).toEqual([{ n: 42 }]);
  });

  it('does not start twice on the same data', async () => {
    const folder = dataDirectory();
    const server = await start(folder);
    const message = await messageOf(startEmbedded({ dataDir: folder, log: silentLog }));
    expect(message).toContain(`pgdata is in use by the PostgreSQL with pid ${server.pid}`);
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('does not start twice on the same data that goes by another name', async () => {
    const folder = dataDirectory();
    const server = await start(folder);
    const other = `${folder}-moved`;
    renameSync(folder, other);
    onTestFinished(() => renameSync(other, folder));
    const message = await messageOf(startEmbedded({ dataDir: other, log: silentLog }));
    expect(message).toContain('is in use');
    expect(existsSync(join(other, 'pgdata', 'postmaster.pid'))).toBe(true);
    expect(server.pid).toBe(Number.parseInt(readFileSync(join(other, 'pgdata', 'postmaster.pid'), 'utf8'), 10));
  });

  it('ends when whoever started it is killed, and lets its clients finish', async () => {
    const folder = dataDirectory();
    const { child, told } = await startChild([], folder);
    const { socketDirectory, user, database } = told;
    const connection = new Connection({ socketDirectory, user, database, connectTimeoutMs: 5000 }, 'last');
    onTestFinished(() => connection.close());
    await connection.run((client) => client.unsafe('CREATE TABLE kept (n integer)'));
    child.kill('SIGKILL');
    await eventually('nobody is let in any more', async () => {
      const refused = await query(told, 'SELECT 1').catch(() => true);
      return refused === true ? true : undefined;
    });
    await connection.run((client) => client.unsafe('INSERT INTO kept VALUES (7)'));
    await connection.close();
    await eventually('the server has ended', () => (existsSync(`/proc/${told.pid}`) ? undefined : true));
    expect(await query(await start(folder), 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
  });

  it('starts over where making the database was broken off', async () => {
    const folder = emptyDirectory();
    const half = join(folder, 'pgdata.new');
    mkdirSync(half);
    writeFileSync(join(half, 'PG_VERSION'), '18\n');
    const server = await start(folder);
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(existsSync(half)).toBe(false);
  });

  it.skipIf(!isRoot)(`lets its user in whatever the umask is${needs(isRoot ? undefined : 'root')}`, async () => {
    const folder = join(temporaryFolder('tarbox-embedded-'), 'data');
    onTestFinished(() => rmSync(join(folder, '..'), { recursive: true, force: true }));
    const { told } = await startChild([], folder, '077');
    expect(await query(told, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('puts its socket elsewhere when the path of its data is too long for one', async () => {
    const folder = dataDirectory();
    const deep = join(folder, ...Array.from({ length: 3 }, () => 'd'.repeat(40)));
    mkdirSync(deep, { recursive: true });
    for (const name of ['bin', 'pgdata']) renameSync(join(folder, name), join(deep, name));
    const server = await start(deep);
    onTestFinished(() => rmSync(server.socketDirectory, { recursive: true, force: true }));
    expect(server.socketDirectory.startsWith(deep)).toBe(false);
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  describe('refuses, in one line, and leaves alone', () => {
    async function refusal(folder: string): Promise<string> {
      const message = await messageOf(startEmbedded({ dataDir: folder, log: silentLog }));
      expect(message).not.toContain('\n');
      return message;
    }

    it('data of another version', async () => {
      const folder = dataDirectory();
      const version = join(folder, 'pgdata', 'PG_VERSION');
      writeFileSync(version, '17\n');
      expect(await refusal(folder)).toContain('was made by PostgreSQL 17, this Tarbox brings 18');
      expect(readFileSync(version, 'utf8')).toBe('17\n');
    });

    it('a directory that holds something else', async () => {
      const folder = emptyDirectory();
      const data = join(folder, 'pgdata');
      mkdirSync(data);
      writeFileSync(join(data, 'precious'), 'text');
      expect(await refusal(folder)).toContain('is not a PostgreSQL database');
      expect(readdirSync(data)).toEqual(['precious']);
    });

    it('data without its control file', async () => {
      const folder = dataDirectory();
      const control = join(folder, 'pgdata', 'global', 'pg_control');
      cpSync(control, join(folder, 'kept'));
      rmSync(control);
      const message = await refusal(folder);
      expect(message).toMatch(/did not start: .*(pg_control|could not find the database system)/);
      expect(message).toContain(join(folder, 'postgresql.log'));
      expect(existsSync(join(folder, 'pgdata', 'base'))).toBe(true);
    });

    it('data with a damaged control file', async () => {
      const folder = dataDirectory();
      truncateSync(join(folder, 'pgdata', 'global', 'pg_control'), 100);
      expect(await refusal(folder)).toContain('did not start');
    });

    it('a place where nothing can be made', async () => {
      const folder = emptyDirectory();
      writeFileSync(join(folder, 'file'), '');
      expect(await refusal(join(folder, 'file', 'data'))).toContain('set TARBOX_DATA');
    });
  });
});

describe.skipIf(forMounts !== undefined)(`a small disk${needs(forMounts)}`, () => {
  /** A file system of its own with a server's data on it. */
  function smallDisk(mib: number): string {
    const folder = temporaryFolder('tarbox-small-');
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m,mode=755`, 'tarbox-test', folder]);
    onTestFinished(async () => {
      await eventually('the disk is free', () => {
        try {
          execFileSync('umount', [folder], { stdio: 'pipe' });
          return true;
        } catch {
          return undefined;
        }
      });
      rmSync(folder, { recursive: true });
    });
    return folder;
  }

  function freeBytes(folder: string): number {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  }

  it('that fills up refuses commits as full, keeps the server alive, and takes them once there’s space', async () => {
    const folder = smallDisk(420);
    const server = await startEmbedded({ dataDir: folder, log: silentLog });
    onTestFinished(() => server.stop());
    const { socketDirectory, user, database } = server;
    const tenant = await takeTenant({ socketDirectory, user, database, connectTimeoutMs: 5000 }, 'small', 'a test');
    const ballast = join(folder, 'ballast');
    writeFileSync(ballast, Buffer.alloc(freeBytes(folder) - 110 * 1024 * 1024));
    let number = 10;
    const file = () => inlineSegment(number++, Buffer.alloc(4000, number));
    const fill = async () => {
      for (;;) await tenant.commits.commit(batchOf({ segments: Array.from({ length: 250 }, file) }));
    };
    const problem = await fill().catch((reason: unknown) => reason);
    expect(problem).toBeInstanceOf(StoreError);
    expect(problem).toMatchObject({ failure: 'full' });
    // However often it's tried, and with chunks too.
    for (let round = 0; round < 20; round++) {
      const chunks = Array.from({ length: 32 }, (_, index) => Buffer.alloc(131_072, `${round}/${index}`));
      await expect(tenant.commits.putChunks(chunks)).rejects.toMatchObject({ failure: 'full' });
    }
    expect(await tenant.loads.segments(ino(10), 0, 1)).toHaveLength(1);
    expect(existsSync(`/proc/${server.pid}`)).toBe(true);

    rmSync(ballast);
    await tenant.commits.commit(batchOf({ inodes: [inodeRow(5)] }));
    expect(await tenant.loads.inodes([ino(5)])).toHaveLength(1);
  });

  it('without space for a database is told of in one line', async () => {
    const folder = smallDisk(80);
    const message = await messageOf(startEmbedded({ dataDir: folder, log: silentLog }));
    expect(message).toMatch(/No space left on device/);
    expect(message).not.toContain('\n');
    expect(existsSync(join(folder, 'pgdata'))).toBe(false);
  });

  it('without space for the programs is told of in one line', async () => {
    const message = await messageOf(startEmbedded({ dataDir: smallDisk(20), log: silentLog }));
    expect(message).toMatch(/No space left on device/);
    expect(message).not.toContain('\n');
  });
});
