import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { History } from '../../history/history.ts';
import type { TestServer } from '../../support/postgres.ts';

/** A table, in bytes. */
export interface TableSize {
  readonly table: string;
  readonly rows: number;
  /** Its rows; what is too long for them (TOAST, with its index); and its indexes. */
  readonly rowBytes: number;
  readonly longBytes: number;
  readonly indexBytes: number;
  /** Bytes of each index, by name. */
  readonly indexes: Readonly<Record<string, number>>;
}

/** What PostgreSQL holds. */
export interface Stored {
  readonly tables: readonly TableSize[];
  /** Of content, without rows and indexes: in chunks, and in rows of `contents`. */
  readonly chunkBytes: number;
  readonly inlineBytes: number;
}

/** Tables that hold content; the others hold what is told of it. */
export const CONTENT_TABLES: readonly string[] = ['chunks', 'contents'];
const TABLES: readonly string[] = [...CONTENT_TABLES, 'inodes', 'dentries', 'layers', 'tenants', 'tags', 'commands'];

/** Sizes after a VACUUM FULL, which writes every table and index anew: without what is free to be used again. */
export async function storedSizes(server: TestServer): Promise<Stored> {
  for (const table of TABLES) await server.query(`VACUUM (FULL) tarbox.${table}`);
  const tables = await Promise.all(TABLES.map((table) => tableSize(server, table)));
  const [bytes] = await server.query<{ chunks: string; inline: string }>(
    `SELECT (SELECT COALESCE(sum(length(data)), 0) FROM tarbox.chunks) AS chunks,
       (SELECT COALESCE(sum(length(inline)), 0) FROM tarbox.contents) AS inline`,
  );
  return { tables, chunkBytes: Number(bytes?.chunks), inlineBytes: Number(bytes?.inline) };
}

async function tableSize(server: TestServer, table: string): Promise<TableSize> {
  const [size] = await server.query<{ rows: string; heap: string; all: string }>(
    `SELECT (SELECT count(*) FROM tarbox.${table}) AS rows, pg_relation_size('tarbox.${table}') AS heap,
       pg_total_relation_size('tarbox.${table}') AS all`,
  );
  const indexes = await server.query<{ name: string; bytes: string }>(
    `SELECT indexrelid::regclass::text AS name, pg_relation_size(indexrelid) AS bytes FROM pg_index
     WHERE indrelid = 'tarbox.${table}'::regclass ORDER BY 1`,
  );
  const indexBytes = indexes.reduce((sum, { bytes }) => sum + Number(bytes), 0);
  const rowBytes = Number(size?.heap);
  return {
    table,
    rows: Number(size?.rows),
    rowBytes,
    indexBytes,
    longBytes: Number(size?.all) - rowBytes - indexBytes,
    indexes: Object.fromEntries(indexes.map(({ name, bytes }) => [name.replace('tarbox.', ''), Number(bytes)])),
  };
}

export function totalBytes(tables: readonly TableSize[]): number {
  return tables.reduce((sum, { rowBytes, longBytes, indexBytes }) => sum + rowBytes + longBytes + indexBytes, 0);
}

/** What git needs for a history, after `git gc`. */
export async function gitPackBytes({ repository }: History): Promise<number> {
  await repository.git(['gc', '--quiet', '--prune=now']);
  const folder = join(repository.folder, 'objects/pack');
  return readdirSync(folder)
    .filter((file) => file.endsWith('.pack'))
    .reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
}

/** The files of all versions, as they'd be in a copy of each; and each content once. */
export interface Copies {
  readonly files: number;
  readonly bytes: number;
  readonly contents: number;
  readonly contentBytes: number;
}

export async function copiesOf({ repository, commits }: History): Promise<Copies> {
  let [files, bytes] = [0, 0];
  const contents = new Map<string, number>();
  for (const commit of commits) {
    const listed = await repository.git(['ls-tree', '-r', '-l', '-z', commit]);
    for (const [, id = '', size] of listed.matchAll(/(?:^|\0)\d+ blob (\w+) +(\d+)\t/g)) {
      files++;
      bytes += Number(size);
      contents.set(id, Number(size));
    }
  }
  const contentBytes = [...contents.values()].reduce((sum, size) => sum + size, 0);
  return { files, bytes, contents: contents.size, contentBytes };
}
