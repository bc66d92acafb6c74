import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Connection, type DatabaseOptions } from '../../src/store/connection.ts';
import { checkServer, type Migration, migrate, readMigrations } from '../../src/store/migrate.ts';
import { openStore } from '../../src/store/store.ts';
import { describeOnEach, useServer } from '../support/postgres.ts';

const first: Migration = { version: 1, name: '0001_first.sql', sql: 'CREATE TABLE tarbox.one (n integer);' };
const second: Migration = {
  version: 2,
  name: '0002_it’s.sql',
  sql: `ALTER TABLE tarbox.one ADD t text;\n-- a comment at the end, without a line's end`,
};

describeOnEach((kind) => {
  const server = useServer(kind);
  let databases = 0;

  /** A new database, and how to reach it. */
  async function newDatabase(): Promise<ReturnType<typeof server>['options']> {
    const database = `db${++databases}`;
    await server().query(`CREATE DATABASE ${database}`);
    return { ...server().options, database };
  }

  function open(options: DatabaseOptions): Connection {
    const connection = new Connection(options, 'migrating');
    onTestFinished(() => connection.close());
    return connection;
  }

  const rowsOf = (connection: Connection, sql: string) =>
    connection.run(async (client) => [...(await client.unsafe(sql))]);
  const APPLIED = 'SELECT version, name FROM tarbox.migrations ORDER BY version';

  it('makes the schema of a fresh database, and leaves it alone the next time', async () => {
    const options = await newDatabase();
    for (let round = 0; round < 2; round++) {
      const store = await openStore(options);
      expect(await store.serverVersion()).toMatch(/^\d+\.\d+/);
      await store.close();
    }
    const applied = await rowsOf(open(options), APPLIED);
    expect(applied).toEqual(readMigrations().map(({ version, name }) => ({ version, name })));
    expect(applied.length).toBeGreaterThan(0);
  });

  it('goes on where an older program ended', async () => {
    const connection = open(await newDatabase());
    await migrate(connection, [first]);
    await migrate(connection, [first, second]);
    expect(await rowsOf(connection, 'SELECT n, t FROM tarbox.one')).toEqual([]);
    expect(await rowsOf(connection, APPLIED)).toEqual([
      { version: 1, name: first.name },
      { version: 2, name: second.name },
    ]);
  });

  it('is done once by many who start at once', async () => {
    const options = await newDatabase();
    await Promise.all(Array.from({ length: 6 }, () => migrate(open(options), [first, second])));
    expect(await rowsOf(open(options), APPLIED)).toHaveLength(2);
  });

  it('refuses a schema that is newer than the program', async () => {
    const connection = open(await newDatabase());
    await migrate(connection, [first, second]);
    await expect(migrate(connection, [first])).rejects.toMatchObject({
      failure: 'refused',
      message: "the database's schema has version 2, this Tarbox knows 1: run a newer Tarbox",
    });
  });

  it('refuses a schema whose making was changed', async () => {
    const connection = open(await newDatabase());
    await migrate(connection, [first]);
    const changed = { ...first, sql: `${first.sql} -- changed` };
    await expect(migrate(connection, [changed, second])).rejects.toMatchObject({
      failure: 'refused',
      message: 'schema version 1 of the database was made by a different Tarbox',
    });
    expect(await rowsOf(connection, APPLIED)).toHaveLength(1);
  });

  it('does nothing of a step that fails, and all of it when it’s mended', async () => {
    const connection = open(await newDatabase());
    const broken = { ...second, sql: `${second.sql}\n; SELECT nonsense` };
    await expect(migrate(connection, [first, broken])).rejects.toMatchObject({ failure: 'refused' });
    expect(await rowsOf(connection, APPLIED)).toHaveLength(1);
    await expect(rowsOf(connection, 'SELECT t FROM tarbox.one')).rejects.toThrow('column "t" does not exist');
    await migrate(connection, [first, second]);
    expect(await rowsOf(connection, 'SELECT t FROM tarbox.one')).toEqual([]);
  });

  it('needs no right to make schemas where the schema is there', async () => {
    const options = await newDatabase();
    await migrate(open(options), [first]);
    const admin = open(options);
    await rowsOf(
      admin,
      `DO $$ BEGIN CREATE ROLE lesser LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
       GRANT USAGE ON SCHEMA tarbox TO lesser; GRANT SELECT ON tarbox.migrations TO lesser`,
    );
    await migrate(open({ ...options, user: 'lesser' }), [first]);
  });
});

describe('migrations', () => {
  it('are the numbered files, in order and without a gap', () => {
    const versions = readMigrations().map(({ version }) => version);
    expect(versions).toEqual(versions.map((_, index) => index + 1));
  });

  it('are read by their number', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tarbox-migrations-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    for (const name of ['0002_b.sql', '0001_a.sql', 'README.md']) writeFileSync(join(folder, name), `-- ${name}`);
    expect(readMigrations(folder)).toEqual([
      { version: 1, name: '0001_a.sql', sql: '-- 0001_a.sql' },
      { version: 2, name: '0002_b.sql', sql: '-- 0002_b.sql' },
    ]);
  });

  it('refuse a server before 14', () => {
    expect(() => checkServer(13, '13.22')).toThrow('the database is PostgreSQL 13.22: Tarbox needs 14 or newer');
    expect(() => checkServer(14, '14.0')).not.toThrow();
  });
});
