import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, connect as tcpConnect } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Connection, type DatabaseOptions } from '../../src/store/connection.ts';
import { StoreError } from '../../src/vfs/store.ts';
import { describeOnEach, eventually, type TestServer, useServer } from '../support/postgres.ts';

const PASSWORD = 'hunter2-%&';
const inUrl = encodeURIComponent(PASSWORD);

function open(options: DatabaseOptions): Connection {
  const connection = new Connection(options, 'under test');
  onTestFinished(() => connection.close());
  return connection;
}

function ask(connection: Connection): Promise<number | undefined> {
  return connection.run(async (client) => (await client.unsafe<{ one: number }[]>('SELECT 1 AS one'))[0]?.one);
}

async function failureOf(work: Promise<unknown>): Promise<StoreError> {
  const problem = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(problem instanceof StoreError)) throw new Error(`not a StoreError: ${inspect(problem)}`);
  return problem;
}

function byUrl(url: string, more: Partial<DatabaseOptions> = {}): DatabaseOptions {
  return { url, connectTimeoutMs: 1000, statementTimeoutMs: 5000, ...more };
}

/** A TCP port that does with a connection what it's told to; closed when the test is over. */
async function listen(onConnection: Parameters<typeof createServer>[1]): Promise<{ server: Server; port: number }> {
  const server = createServer({}, onConnection);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  // A TCP server's address is of this form.
  return { server, port: (server.address() as AddressInfo).port };
}

/** A TCP port that leads to a server's socket. */
function relay(server: TestServer): Promise<{ port: number }> {
  return listen((socket) => {
    const target = tcpConnect({ path: join(server.options.socketDirectory, '.s.PGSQL.5432') });
    const destroy = () => {
      socket.destroy();
      target.destroy();
    };
    for (const end of [socket, target]) end.on('error', () => {}).on('close', destroy);
    socket.pipe(target).pipe(socket);
    onTestFinished(destroy);
  });
}

/** Lets a role in by its password alone. */
async function requirePassword(server: TestServer, data: string): Promise<void> {
  const file = join(server.folder, data, 'pg_hba.conf');
  await server.query(`DO $$ BEGIN CREATE ROLE secretive LOGIN PASSWORD '${PASSWORD}';
    EXCEPTION WHEN duplicate_object THEN NULL; END $$`);
  const rules = readFileSync(file, 'utf8');
  if (!rules.startsWith('local all secretive')) writeFileSync(file, `local all secretive scram-sha-256\n${rules}`);
  await server.query('SELECT pg_reload_conf()');
  const loaded = `SELECT 1 FROM pg_hba_file_rules WHERE 'secretive' = ANY (user_name)`;
  await eventually('the rule is loaded', async () => ((await server.query(loaded)).length > 0 ? true : undefined));
}

describeOnEach((kind) => {
  const server = useServer(kind);
  const data = kind.name.includes('embedded') ? 'pgdata' : 'data';

  describe('connecting by a URL', () => {
    it('reaches a server by its socket with the password of the URL', async () => {
      await requirePassword(server(), data);
      const { socketDirectory } = server().options;
      const url = `postgres://secretive:${inUrl}@/postgres?host=${socketDirectory}`;
      await eventually('the password is asked for', async () => {
        const wrong = open(byUrl(`postgres://secretive:wrong@/postgres?host=${socketDirectory}`));
        const refused = await ask(wrong).catch(() => true);
        return refused === true ? true : undefined;
      });
      expect(await ask(open(byUrl(url)))).toBe(1);
      expect(
        await ask(open(byUrl(`postgres://secretive:${inUrl}@${encodeURIComponent(socketDirectory)}/postgres`))),
      ).toBe(1);
    });

    it('tells of a refused password in one line that hasn’t got it', async () => {
      await requirePassword(server(), data);
      const { port } = await relay(server());
      const problem = await failureOf(ask(open(byUrl(`postgres://secretive:${inUrl}x@127.0.0.1:${port}/postgres`))));
      expect(problem.failure).toBe('refused');
      expect(problem.message).toBe('password authentication failed for user "secretive" (28P01)');
      expect(inspect(problem, { depth: 9, showHidden: true })).not.toContain(PASSWORD);
    });

    it('tells of a missing database', async () => {
      const { port } = await relay(server());
      const problem = await failureOf(ask(open(byUrl(`postgres://tarbox:${inUrl}@127.0.0.1:${port}/nowhere`))));
      expect(problem.failure).toBe('refused');
      expect(problem.message).toBe('database "nowhere" does not exist (3D000)');
      expect(inspect(problem, { depth: 9, showHidden: true })).not.toContain(PASSWORD);
    });

    it('goes on without TLS where the server hasn’t got it, unless the URL requires it', async () => {
      const { port } = await relay(server());
      const url = `postgres://tarbox@127.0.0.1:${port}/postgres`;
      expect(await ask(open(byUrl(`${url}?sslmode=prefer`)))).toBe(1);
      expect(await ask(open(byUrl(`${url}?sslmode=disable&channel_binding=prefer`)))).toBe(1);
      await failureOf(ask(open(byUrl(`${url}?sslmode=require`))));
    });

    it('sends the session’s options', async () => {
      const { port } = await relay(server());
      const connection = open(byUrl(`postgres://tarbox@127.0.0.1:${port}/postgres?options=-c%20work_mem%3D7MB`));
      const rows = await connection.run(async (client) => [...(await client.unsafe('SHOW work_mem'))]);
      expect(rows).toEqual([{ work_mem: '7MB' }]);
    });
  });

  describe('a statement', () => {
    it('that is wrong fails as refused, and the next one is answered', async () => {
      const connection = open(server().options);
      const problem = await failureOf(connection.run((client) => client.unsafe('SELECT nonsense')));
      expect(problem.failure).toBe('refused');
      expect(problem.message).toBe('column "nonsense" does not exist (42703)');
      expect(await ask(connection)).toBe(1);
    });

    it('that finds a key taken is no loss of the connection: what was sent before is not in doubt', async () => {
      const connection = open(server().options);
      await connection.run((client) => client.unsafe('CREATE TEMPORARY TABLE keys (key integer PRIMARY KEY)'));
      const twice = connection.run((client) => client.unsafe('INSERT INTO keys VALUES (1), (1)'));
      expect((await failureOf(twice)).message).toContain('23505');
      expect(connection.losses).toBe(0);
      const ends = connection.run((client) => client.unsafe('SELECT pg_terminate_backend(pg_backend_pid())'));
      await failureOf(ends);
      expect(connection.losses).toBe(1);
      expect(await ask(connection)).toBe(1);
    });

    it('that throws before it’s sent fails without stopping the next one', async () => {
      const connection = open(server().options);
      const problem = await failureOf(
        connection.run(() => {
          throw new RangeError('of our own');
        }),
      );
      expect(problem.message).toBe('of our own');
      expect(await ask(connection)).toBe(1);
    });

    it('that is cancelled or loses a deadlock may be tried again', async () => {
      const connection = open(server().options);
      for (const code of ['57014', '40P01', '40001', '53300', '57P03']) {
        const raise = `DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '${code}'; END $$`;
        expect((await failureOf(connection.run((client) => client.unsafe(raise)))).failure).toBe('unavailable');
      }
    });

    it('that finds no space on the disk fails as full', async () => {
      const raise = `DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '53100'; END $$`;
      const problem = await failureOf(open(server().options).run((client) => client.unsafe(raise)));
      expect(problem.failure).toBe('full');
    });

    it('runs after the one before it, never beside it', async () => {
      const connection = open(server().options);
      const order: string[] = [];
      const step = (name: string) =>
        connection.run(async (client) => {
          order.push(`${name} begins`);
          await client.unsafe('SELECT pg_sleep(0.01)');
          order.push(`${name} ends`);
        });
      await Promise.all([step('first'), step('second')]);
      expect(order).toEqual(['first begins', 'first ends', 'second begins', 'second ends']);
    });

    it('fails as unavailable at its deadline while the server is held up', async () => {
      const connection = open({ ...server().options, statementTimeoutMs: 300 });
      await ask(connection);
      server().pause();
      try {
        const problem = await failureOf(ask(connection));
        expect(problem.failure).toBe('unavailable');
        expect(problem.message).toBe('PostgreSQL did not answer within 0.3 s');
      } finally {
        server().resume();
      }
    });

    it('fails as unavailable when the server is held up before it lets anyone in', async () => {
      const connection = open({ ...server().options, connectTimeoutMs: 1000, statementTimeoutMs: 60_000 });
      server().pause();
      try {
        expect((await failureOf(ask(connection))).failure).toBe('unavailable');
      } finally {
        server().resume();
      }
    });
  });

  describe('closing', () => {
    it('ends although the server is gone', async () => {
      const connection = open(server().options);
      await ask(connection);
      await server().kill();
      await connection.close();
      await server().start();
    });

    it('ends although the server is held up in a statement', async () => {
      const connection = open({ ...server().options, statementTimeoutMs: 600_000 });
      await ask(connection);
      server().pause();
      try {
        const waiting = failureOf(ask(connection));
        await connection.close();
        expect((await waiting).failure).toBe('unavailable');
      } finally {
        server().resume();
      }
    });

    it('refuses what comes afterwards', async () => {
      const connection = open(server().options);
      await connection.close();
      expect((await failureOf(ask(connection))).failure).toBe('unavailable');
    });

    it('leaves no connection behind on the server', async () => {
      const connection = new Connection(server().options, 'soon gone');
      await ask(connection);
      expect(await server().backends('soon gone')).toHaveLength(1);
      await connection.close();
      await eventually('it is gone', async () =>
        (await server().backends('soon gone')).length === 0 ? true : undefined,
      );
    });
  });
});

describe('without a server', () => {
  it('tells of a port that nobody listens on', async () => {
    const { server, port } = await listen(() => {});
    await new Promise((resolve) => server.close(resolve));
    const problem = await failureOf(ask(open(byUrl(`postgres://tarbox:${inUrl}@127.0.0.1:${port}/db`))));
    expect(problem.failure).toBe('unavailable');
    expect(problem.message).toBe(
      `cannot connect to PostgreSQL at 127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`,
    );
    expect(inspect(problem, { depth: 9, showHidden: true })).not.toContain(PASSWORD);
  });

  it('tells of a socket that isn’t there', async () => {
    const problem = await failureOf(ask(open(byUrl('postgres://tarbox@/db?host=/nowhere'))));
    expect(problem.failure).toBe('unavailable');
    expect(problem.message).toContain('cannot connect to PostgreSQL at /nowhere/.s.PGSQL.5432');
  });

  it('tells of a host whose name is not known', async () => {
    const problem = await failureOf(ask(open(byUrl(`postgres://tarbox:${inUrl}@no-such-host.invalid/db`))));
    expect(problem.failure).toBe('unavailable');
    expect(problem.message).toContain('no-such-host.invalid:5432');
    expect(inspect(problem, { depth: 9, showHidden: true })).not.toContain(PASSWORD);
  });

  it('gives up on a port that accepts and says nothing', async () => {
    const { port } = await listen((socket) => onTestFinished(() => void socket.destroy()));
    const problem = await failureOf(ask(open(byUrl(`postgres://tarbox@127.0.0.1:${port}/db?sslmode=disable`))));
    expect(problem.failure).toBe('unavailable');
  });

  it('refuses a malformed URL without showing it', async () => {
    const problem = await failureOf(ask(open(byUrl(`postgres://tarbox:${PASSWORD}/${PASSWORD}@host/db`))));
    expect(problem.failure).toBe('refused');
    expect(problem.message).toBe('DATABASE_URL is not a PostgreSQL URL');
    expect(inspect(problem, { depth: 9, showHidden: true })).not.toContain(PASSWORD);
  });
});
