import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../vfs/store.ts';
import type { Connection } from './connection.ts';

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
}

/** Taken by whoever migrates, so that two sidecars that start at once don't do it twice. */
const MIGRATION_LOCK = 7_364_911;

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
 * Brings the schema to the newest version, in one transaction under a lock.
 *
 * @throws {StoreError} `refused` when the schema is newer than this program, or a released migration was changed.
 */
export async function migrate(connection: Connection, migrations: readonly Migration[]): Promise<void> {
  await connection.run((client) =>
    client.begin(async (transaction) => {
      await transaction`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`;
      await transaction.unsafe(`
        CREATE SCHEMA IF NOT EXISTS tarbox;
        CREATE TABLE IF NOT EXISTS tarbox.migrations (
          version integer PRIMARY KEY,
          name text NOT NULL,
          checksum text NOT NULL,
          applied_at timestamptz NOT NULL DEFAULT now()
        )`);
      const applied = await transaction<{ version: number; checksum: string }[]>`
        SELECT version, checksum FROM tarbox.migrations ORDER BY version`;
      checkApplied(applied, migrations);
      for (const { version, name, sql } of migrations.slice(applied.length)) {
        await transaction.unsafe(sql);
        await transaction`
          INSERT INTO tarbox.migrations (version, name, checksum) VALUES (${version}, ${name}, ${checksumOf(sql)})`;
      }
    }),
  );
}

function checkApplied(applied: readonly { version: number; checksum: string }[], known: readonly Migration[]): void {
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
