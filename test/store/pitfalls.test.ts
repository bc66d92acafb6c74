import { randomBytes } from 'node:crypto';
import { type AddressInfo, createServer, connect as tcpConnect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Connection, type DatabaseOptions } from '../../src/store/connection.ts';
import { copyIn, copyOut, int4, type Value } from '../../src/store/copy.ts';
import { migrate } from '../../src/store/migrate.ts';
import { StoreError } from '../../src/vfs/store.ts';
import { describeOnEach, eventually, type TestServer, useServer } from '../support/postgres.ts';
import { batchOf, chunkSegment, ino, inodeRow } from './rows.ts';
import { newTenant, takeTenant } from './tenant.ts';

/** The seven ways in which the client library goes wrong (architecture.md, store), held down by killing servers. */

function open(options: DatabaseOptions, name = 'under test'): Connection {
  const connection = new Connection(options, name);
  onTestFinished(() => connection.close());
  return connection;
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (problem) {
    return problem instanceof StoreError ? problem.failure : String(problem);
  }
  return 'none';
}

const ask = (connection: Connection): Promise<unknown> => connection.run((client) => client.unsafe('SELECT 1'));

/** A table whose rows are refused (or held up) when the COPY ends, after all of its data was sent. */
async function tableThatEnds(server: TestServer, name: string, action: string): Promise<void> {
  await server.query(`CREATE SCHEMA IF NOT EXISTS pitfall`);
  await server.query(`CREATE TABLE pitfall.${name} (n integer)`);
  await server.query(`CREATE FUNCTION pitfall.${name}_ends() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN ${action}; RETURN NULL; END $$`);
  await server.query(`CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON pitfall.${name}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pitfall.${name}_ends()`);
}

function copyInto(connection: Connection, table: string, count: number): Promise<void> {
  const rows: Value[][] = Array.from({ length: count }, (_, n) => [int4(n)]);
  return connection.run((client) => copyIn(client, `COPY pitfall.${table} FROM STDIN (FORMAT binary)`, rows));
}

/** The backend of a connection, once it waits as `event` says. */
function waitingBackend(server: TestServer, name: string, event: string): Promise<number> {
  return eventually(`${name} waits for ${event}`, async () => {
    const [row] = await server.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'tarbox ${name}' AND wait_event = '${event}'`,
    );
    return row?.pid;
  });
}

/** A TCP port that leads to a server's socket, and counts who comes; the same port can be opened again. */
class Relay {
  readonly #server: TestServer;
  readonly #listener = createServer((socket) => {
    this.connections++;
    const target = tcpConnect({ path: join(this.#server.options.socketDirectory, '.s.PGSQL.5432') });
    for (const end of [socket, target])
      end
        .on('error', () => {})
        .on('close', () => {
          socket.destroy();
          target.destroy();
        });
    socket.pipe(target).pipe(socket);
  });
  connections = 0;

  constructor(server: TestServer) {
    this.#server = server;
    onTestFinished(() => this.close());
  }

  async listen(port = 0): Promise<number> {
    await new Promise<void>((resolve) => this.#listener.listen(port, '127.0.0.1', resolve));
    return (this.#listener.address() as AddressInfo).port; // a TCP server's address is of this form
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#listener.close(() => resolve());
    });
  }
}

describeOnEach((kind) => {
  const server = useServer(kind);

  describe('1: a COPY FROM that fails after its data was sent', () => {
    it('is reported when the server refuses the rows at their end, and the next statement is its own', async () => {
      await tableThatEnds(server(), 'refusing', `RAISE EXCEPTION 'not these' USING ERRCODE = '23514'`);
      const connection = open(server().options);
      const copy = copyInto(connection, 'refusing', 3);
      const next = connection.run(async (client) => [...(await client.unsafe('SELECT 7 AS seven'))]);
      await expect(copy).rejects.toThrow('not these (23514)');
      expect(await next).toEqual([{ seven: 7 }]);
      expect(await server().query('SELECT * FROM pitfall.refusing')).toEqual([]);
    });

    it('is reported when the server dies before it answers', async () => {
      await tableThatEnds(server(), 'dying', 'PERFORM pg_sleep(600)');
      const copy = failureOf(
        copyInto(open({ ...server().options, statementTimeoutMs: 600_000 }, 'dying copy'), 'dying', 3),
      );
      await waitingBackend(server(), 'dying copy', 'PgSleep');
      await server().kill();
      expect(await copy).toBe('unavailable');
      await server().start();
      expect(await server().query('SELECT * FROM pitfall.dying')).toEqual([]);
    });

    it('is reported at its deadline when the server never answers', async () => {
      await tableThatEnds(server(), 'silent', 'PERFORM pg_sleep(600)');
      const connection = open({ ...server().options, statementTimeoutMs: 500 }, 'silent copy');
      expect(await failureOf(copyInto(connection, 'silent', 3))).toBe('unavailable');
      expect(await failureOf(ask(connection))).toBe('none');
      await server().query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
    });
  });

  describe('2: a COPY that breaks its connection', () => {
    it('breaks none of the loads and commits that are under way', async () => {
      const tenant = await newTenant(server().options);
      await tenant.commits.commit(batchOf({ inodes: [inodeRow(1)] }));
      // More than the socket takes while nobody reads.
      const chunks = Array.from({ length: 64 }, () => randomBytes(128 * 1024));
      // Someone else is storing the same chunks, and so holds these up in the middle.
      const other = open(server().options, 'other');
      await tenant.commits.putChunks(chunks.slice(0, 1));
      await server().query(`DELETE FROM tarbox.chunks WHERE tenant_id = ${tenant.lease.tenantId}`);
      const held = other.run(async (client) => {
        await client.unsafe(`BEGIN; LOCK TABLE tarbox.chunks IN SHARE ROW EXCLUSIVE MODE`);
        await client.unsafe('SELECT pg_sleep(600)');
      });
      await waitingBackend(server(), 'other', 'PgSleep');
      const stored = failureOf(tenant.commits.putChunks(chunks));
      const copying = await eventually('the COPY waits', async () => {
        const [row] = await server().query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY tarbox.chunks%' AND wait_event_type = 'Lock'`,
        );
        return row?.pid;
      });
      const innocent = Promise.all([
        ...Array.from({ length: 20 }, () => tenant.loads.inodes([ino(1)])),
        tenant.commits.commit(batchOf({ inodes: [inodeRow(2)] })),
      ]);
      process.kill(copying, 'SIGTERM'); // ends this backend alone
      expect(await stored).toBe('unavailable');
      expect((await innocent)[0]).toHaveLength(1);
      await server().query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
      expect(await failureOf(held)).toBe('unavailable');
      const hashes = await tenant.commits.putChunks(chunks);
      const loaded = await tenant.loads.chunks(hashes);
      expect(chunks.every((chunk, n) => loaded.get(hashes[n] ?? '')?.equals(chunk))).toBe(true);
    });
  });

  describe('3: a COPY TO', () => {
    it('of more than the socket takes at once leaves its connection usable, however often', async () => {
      const connection = open(server().options);
      for (let round = 0; round < 20; round++) {
        const rows = await connection.run((client) =>
          copyOut(client, `COPY (SELECT repeat('x', 131072) FROM generate_series(1, 8)) TO STDOUT (FORMAT binary)`),
        );
        expect(rows).toHaveLength(8);
        expect(rows[7]?.[0]).toHaveLength(131_072);
      }
    });

    it('that the server breaks off is reported, and the next statement is answered', async () => {
      const connection = open(server().options);
      const copy = connection.run((client) =>
        copyOut(client, `COPY (SELECT 1 / (5000 - n) FROM generate_series(1, 10000) AS n) TO STDOUT (FORMAT binary)`),
      );
      await expect(copy).rejects.toThrow('division by zero (22012)');
      expect(await failureOf(ask(connection))).toBe('none');
    });

    it('that is given up in the middle leaves the next caller a working connection', async () => {
      const connection = open({ ...server().options, statementTimeoutMs: 500 }, 'slow copy');
      const copy = connection.run((client) =>
        copyOut(
          client,
          `COPY (SELECT repeat('x', 100000), CASE WHEN n = 100 THEN pg_sleep(600) END
             FROM generate_series(1, 200) AS n) TO STDOUT (FORMAT binary)`,
        ),
      );
      expect(await failureOf(copy)).toBe('unavailable');
      expect(await failureOf(ask(connection))).toBe('none');
      await server().query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
    });
  });

  describe('4: what is carried out after its connection was given up', () => {
    it('a commit puts no old rows over those of later commits', async () => {
      const tenant = await newTenant({ ...server().options, statementTimeoutMs: 500 });
      await tenant.commits.commit(batchOf({ inodes: [inodeRow(1, { size: 1 })] }));
      const [late] = await server().backends('commit');
      if (late === undefined) throw new Error('the commit connection has no backend');
      process.kill(late, 'SIGSTOP');
      const old = batchOf({ inodes: [inodeRow(1, { size: 2 }), inodeRow(2)] });
      expect(await failureOf(tenant.commits.commit(old))).toBe('unavailable');
      await tenant.commits.commit(old); // as the journal does: the same again, on a new connection
      await tenant.commits.commit(batchOf({ inodes: [inodeRow(1, { size: 3 })], removedInodes: [ino(2)] }));
      process.kill(late, 'SIGCONT');
      await eventually('the late backend is done', async () =>
        (await server().backends('commit')).includes(late) ? undefined : true,
      );
      const left = await tenant.loads.inodes([ino(1), ino(2)]);
      expect(left.map(({ ino: number, size }) => [number, size])).toEqual([[1, 3]]);
    });

    it('the taking of a lease doesn’t end the lease that was taken meanwhile', async () => {
      const options = { ...server().options, statementTimeoutMs: 500 };
      const tenant = await newTenant(options);
      await tenant.store.releaseLease(tenant.lease);
      const [late] = await server().backends('lease');
      if (late === undefined) throw new Error('the lease connection has no backend');
      const request = { tenant: tenant.name, create: false, owner: 'me', ttlMs: 60_000 };
      // The taking has read the epoch when it's held up: the update waits for a lock on the row.
      const blocker = open({ ...options, statementTimeoutMs: 60_000 }, 'blocker');
      const blocked = failureOf(
        blocker.run(async (client) => {
          await client.unsafe(`BEGIN; SELECT FROM tarbox.tenants WHERE name = '${tenant.name}' FOR UPDATE`);
          await client.unsafe('SELECT pg_sleep(600)');
        }),
      );
      await waitingBackend(server(), 'blocker', 'PgSleep');
      expect(await failureOf(tenant.store.takeLease(request))).toBe('unavailable');
      process.kill(late, 'SIGSTOP');
      await server().query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
      await blocked;
      const mine = await takeTenant(server().options, tenant.name, 'me');
      process.kill(late, 'SIGCONT');
      await eventually('the late backend is done', async () =>
        (await server().backends('lease')).includes(late) ? undefined : true,
      );
      await mine.commits.commit(batchOf({ inodes: [inodeRow(1)] }));
    });

    it('a commit is refused when a crash may have taken the chunks that were stored for it', async () => {
      const tenant = await newTenant(server().options);
      const data = [Buffer.from('stored, and not yet flushed')];
      const commit = async ([hash = '']: readonly string[]) =>
        tenant.commits.commit(batchOf({ segments: [chunkSegment(5, 0, [{ hash, length: 27 }])] }));
      const lost = await tenant.commits.putChunks(data);
      await server().kill();
      await server().start();
      expect(await failureOf(commit(lost))).toBe('unavailable');
      const kept = await tenant.commits.putChunks(data); // as the journal does: all of it again
      await commit(kept);
      expect((await tenant.loads.chunks(kept)).size).toBe(1);
    });

    it('a migration that dies in the middle leaves nothing half done', async () => {
      const connection = open(server().options, 'migrating');
      await server().query('DROP SCHEMA IF EXISTS tarbox CASCADE');
      const slow = {
        version: 1,
        name: '0001.sql',
        sql: 'CREATE TABLE tarbox.first (n integer); SELECT pg_sleep(600); CREATE TABLE tarbox.second (n integer)',
      };
      const migrating = failureOf(migrate(connection, [slow]));
      await waitingBackend(server(), 'migrating', 'PgSleep');
      await server().kill();
      expect(await migrating).toBe('unavailable');
      await server().start();
      const left = `SELECT to_regclass('tarbox.first') AS first, to_regclass('tarbox.second') AS second,
        (SELECT count(*)::integer FROM tarbox.migrations) AS applied`;
      expect(await server().query(left)).toEqual([{ first: null, second: null, applied: 0 }]);
      await server().query('DROP SCHEMA tarbox CASCADE');
    });
  });

  describe('5: after a disconnect', () => {
    it('the first statement after a restart is answered, every time', async () => {
      const connection = open(server().options);
      for (let round = 0; round < 5; round++) {
        expect(await failureOf(ask(connection))).toBe('none');
        if (round % 2 === 0) await server().kill();
        else await server().stop();
        await server().start();
      }
      expect(await failureOf(ask(connection))).toBe('none');
    });

    it('statements fail as unavailable while the server is down, and are answered once it’s back', async () => {
      const connection = open(server().options);
      await ask(connection);
      await server().kill();
      for (let round = 0; round < 3; round++) expect(await failureOf(ask(connection))).toBe('unavailable');
      await server().start();
      expect(await failureOf(ask(connection))).toBe('none');
    });

    it('a statement that was under way when the server died is reported, and so is none of its successors', async () => {
      const connection = open(server().options, 'under way');
      const under = failureOf(connection.run((client) => client.unsafe('SELECT pg_sleep(600)')));
      const after = [1, 2, 3].map(() => failureOf(ask(connection)));
      await waitingBackend(server(), 'under way', 'PgSleep');
      const [pid] = await server().backends('under way');
      if (pid !== undefined) process.kill(pid, 'SIGTERM');
      expect(await under).toBe('unavailable');
      expect(await Promise.all(after)).toEqual(['none', 'none', 'none']);
    });
  });

  describe('6: the lease', () => {
    it('outlives its connection and the server, and still fences', async () => {
      const first = await newTenant(server().options);
      await server().kill();
      await server().start();
      const waiting = await first.store.takeLease({ tenant: first.name, create: false, owner: 'two', ttlMs: 1000 });
      expect(waiting.taken).toBe(false);
      await first.commits.commit(batchOf({ inodes: [inodeRow(1)] }));
      const second = await first.store.takeLease({
        tenant: first.name,
        create: false,
        owner: 'two',
        ttlMs: 1000,
        replaces: 'a test',
      });
      expect(second.taken).toBe(true);
      expect(await failureOf(first.commits.commit(batchOf({ inodes: [inodeRow(2)] })))).toBe('lease-lost');
    });
  });

  describe('7: a list of hosts', () => {
    it('ends when all of them are down, and nobody goes on connecting', async () => {
      const relays = [new Relay(server()), new Relay(server())];
      const ports = await Promise.all(relays.map((relay) => relay.listen()));
      await Promise.all(relays.map((relay) => relay.close()));
      const hosts = ports.map((port) => `127.0.0.1:${port}`).join(',');
      const connection = open({ url: `postgres://tarbox@${hosts}/postgres`, connectTimeoutMs: 1000 });
      expect(await failureOf(ask(connection))).toBe('unavailable');
      for (const [index, relay] of relays.entries()) await relay.listen(ports[index]);
      // Someone else has time to connect and be answered; whoever tried on would have come as well.
      for (let round = 0; round < 3; round++) await server().query('SELECT 1');
      expect(relays.map(({ connections }) => connections)).toEqual([0, 0]);
    });

    it('goes to the one that is up', async () => {
      const [down, up] = [new Relay(server()), new Relay(server())];
      const downPort = await down.listen();
      await down.close();
      const upPort = await up.listen();
      const url = `postgres://tarbox@127.0.0.1:${downPort},127.0.0.1:${upPort}/postgres?sslmode=disable`;
      const connection = open({ url, connectTimeoutMs: 1000 });
      expect(await failureOf(ask(connection))).toBe('none');
      expect(up.connections).toBe(1);
    });

    it('goes to the other one when the first one breaks', async () => {
      const [one, two] = [new Relay(server()), new Relay(server())];
      const ports = [await one.listen(), await two.listen()];
      const url = `postgres://tarbox@127.0.0.1:${ports[0]},127.0.0.1:${ports[1]}/postgres?sslmode=disable`;
      const connection = open({ url, connectTimeoutMs: 1000 }, 'failing over');
      await ask(connection);
      expect([one.connections, two.connections]).toEqual([1, 0]);
      const closed = one.close();
      const [pid] = await server().backends('failing over');
      if (pid !== undefined) process.kill(pid, 'SIGTERM');
      await closed;
      await eventually('the other one is used', async () =>
        (await failureOf(ask(connection))) === 'none' ? true : undefined,
      );
      expect([one.connections, two.connections]).toEqual([1, 1]);
    });
  });
});
