import { expect } from 'vitest';
import type { TestServer } from '../support/postgres.ts';
import type { Commands, Outcome } from './commands.ts';

/** What the database holds, looked at past Tarbox. */

const REFERENCES = `SELECT DISTINCT c.tenant_id, substring(c.chunks FROM n * 36 + 5 FOR 32) AS hash
  FROM tarbox.contents c, generate_series(0, length(c.chunks) / 36 - 1) AS n
  WHERE substring(c.chunks FROM n * 36 + 1 FOR 4) <> '\\x00000000'`;

export interface StoredChunks {
  readonly chunks: number;
  /** Chunks that nothing is made from and no row refers to, and references to chunks that aren't there. */
  readonly garbage: number;
  readonly dangling: number;
}

export async function storedChunks(server: TestServer): Promise<StoredChunks> {
  const [row] = await server.query<Record<keyof StoredChunks, string>>(
    `WITH refs AS (${REFERENCES})
     SELECT (SELECT count(*) FROM tarbox.chunks) AS chunks,
       (SELECT count(*) FROM tarbox.chunks k WHERE NOT EXISTS (
         SELECT FROM refs WHERE refs.tenant_id = k.tenant_id AND refs.hash = k.hash) AND NOT EXISTS (
         SELECT FROM tarbox.chunks d WHERE d.tenant_id = k.tenant_id AND d.base_hash = k.hash)) AS garbage,
       (SELECT count(*) FROM (SELECT * FROM refs UNION SELECT tenant_id, base_hash FROM tarbox.chunks
         WHERE base_hash IS NOT NULL) AS refs WHERE NOT EXISTS (
         SELECT FROM tarbox.chunks k WHERE refs.tenant_id = k.tenant_id AND refs.hash = k.hash)) AS dangling`,
  );
  return { chunks: Number(row?.chunks), garbage: Number(row?.garbage), dangling: Number(row?.dangling) };
}

/** Rows of all layers together. */
export async function storedRows(server: TestServer): Promise<{ inodes: number; dentries: number; contents: number }> {
  const count = (table: string) => `(SELECT count(*) FROM tarbox.${table})::integer AS ${table}`;
  const [row] = await server.query<{ inodes: number; dentries: number; contents: number }>(
    `SELECT ${['inodes', 'dentries', 'contents'].map(count).join(', ')}`,
  );
  if (row === undefined) throw new Error('nothing was counted');
  return row;
}

/** Checks the stored tree, which must have nothing wrong with it. */
export function expectClean(commands: Commands): Outcome {
  const outcome = commands.run('control/fsck', 'run');
  expect(outcome).toMatchObject({ clean: true, problems: [] });
  return outcome;
}
