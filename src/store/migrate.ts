import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../vfs/store.ts';
import { isUniqueViolation } from './classify.ts';
import type { Client, Connection } from './connection.ts';

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
}

interface Applied {
  readonly version: number;
  readonly checksum: string;
}

/** Taken by whoever migrates, so that two sidecars that start at once don't do it twice. */
const MIGRATION_LOCK = 7_364_911;
const OLDEST_SERVER = 14;

/** The numbered `.sql` files beside this one, in order. */
export function readMigrations(directory = join(import.meta.dirname, 'migrations')): Migration[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => ({
      version: Number.parseInt(file, 10),
      name: file,
      sql: readFileSync(join(directory, file), 'utf8'),
    }));
}

/**
 * Brings the schema to the newest version. Each step is one string of statements, which PostgreSQL runs as one
 * transaction, so a connection that breaks leaves nothing half done; who comes second finds its number taken.
 *
 * @throws {StoreError} `refused` when the server is older than PostgreSQL 14, the schema is newer than this program,
 *   or a released migration was changed.
 */
export async function migrate(connection: Connection, migrations: readonly Migration[]): Promise<void> {
  await connection.run(prepare);
  for (;;) {
    const applied = await connection.run((client) =>
      client.unsafe<Applied[]>('SELECT version, checksum FROM tarbox.migrations ORDER BY version'),
    );
    checkApplied(applied, migrations);
    const next = migrations[applied.length];
    if (next === undefined) return;
    try {
      await connection.run((client) => client.unsafe(stepOf(next)));
    } catch (problem) {
      if (!isUniqueViolation(problem)) throw problem;
    }
  }
}

/** Makes the list of applied migrations; asks first, for a role that may not make it and needn't. */
async function prepare(client: Client): Promise<void> {
  const [found] = await client.unsafe<{ server: number; version: string; prepared: boolean }[]>(
    `SELECT current_setting('server_version_num')::integer / 10000 AS server, current_setting('server_version') AS version,
       to_regclass('tarbox.migrations') IS NOT NULL AS prepared`,
  );
  if (found === undefined || found.prepared) return;
  checkServer(found.server, found.version);
  await client.unsafe(`
    SELECT pg_advisory_xact_lock(${MIGRATION_LOCK});
    CREATE SCHEMA IF NOT EXISTS tarbox;
    CREATE TABLE IF NOT EXISTS tarbox.migrations (
      version integer PRIMARY KEY,
      name text NOT NULL,
      checksum text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now()
    )`);
}

/** @throws {StoreError} `refused` for a server that lacks what we use (multiranges came with 14). */
export function checkServer(major: number, version: string): void {
  if (major < OLDEST_SERVER)
    throw new StoreError('refused', `the database is PostgreSQL ${version}: Tarbox needs ${OLDEST_SERVER} or newer`);
}

function stepOf({ version, name, sql }: Migration): string {
  return `
    SELECT pg_advisory_xact_lock(${MIGRATION_LOCK});
    INSERT INTO tarbox.migrations (version, name, checksum)
    VALUES (${version}, '${name.replaceAll("'", "''")}', '${checksumOf(sql)}');
    ${sql}`;
}

function checkApplied(applied: readonly Applied[], known: readonly Migration[]): void {
  const newest = applied[applied.length - 1]?.version ?? 0;
  if (newest > known.length)
    throw new StoreError(
      'refused',
      `the database's schema has version ${newest}, this Tarbox knows ${known.length}: run a newer Tarbox`,
    );
  for (const { version, checksum } of applied) {
    const migration = known[version - 1];
    if (migration === undefined || checksumOf(migration.sql) !== checksum)
      throw new StoreError('refused', `schema version ${version} of the database was made by a different Tarbox`);
  }
}

function checksumOf(sql: string): string {
  return createHash('sha256').update(sql).digest('hex');
}
