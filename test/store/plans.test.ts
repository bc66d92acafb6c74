import { expect, it } from 'vitest';
import type { Ino } from '../../src/brand.ts';
import { Connection, type DatabaseOptions } from '../../src/store/connection.ts';
import { openStore, type TenantStore } from '../../src/store/store.ts';
import type { Loads } from '../../src/vfs/store.ts';
import { FIRST_PLACE } from '../support/empty-workspace.ts';
import { describeOnEach, eventually, useServer } from '../support/postgres.ts';
import { batchOf, chunkRef, chunkSegment, dentryRow, ino, inodeRow } from './rows.ts';

/**
 * Statements are planned once, when the tables are empty, and run when they're large. What counts here are the index
 * entries and rows that PostgreSQL says it read (its statistics, written when a connection ends).
 */
const FILES = 2000;
/** More than any statement needs for a row, and far less than one pass over the table. */
const READS_A_ROW = 30;

const FIRST_INO = 10;
const numbers = Array.from({ length: FILES }, (_, index) => ino(index + FIRST_INO));
const nameOf = (number: Ino) => `file ${number}`;
const chunkOf = (number: Ino) => Buffer.from(`chunk ${number}`);

/** Puts files into the tables of tenant 1 behind the store's back. */
const FILL = `
  INSERT INTO tarbox.inodes (tenant_id, ino, layer_id, parent, size, allocated, atime, mtime, ctime, btime, mode, nlink,
    uid, gid, rdev) SELECT 1, n, 1, 1, 0, 0, 0, 0, 0, 0, 33188, 1, 0, 0, 0 FROM files
    ON CONFLICT DO NOTHING;
  INSERT INTO tarbox.dentries (tenant_id, parent, layer_id, ino, cookie, type, name)
    SELECT 1, 1, 1, n, n + 100, 8, convert_to('file ' || n, 'UTF8') FROM files
    ON CONFLICT DO NOTHING;
  INSERT INTO tarbox.contents (tenant_id, ino, segment, layer_id, inline)
    SELECT 1, n, 0, 1, 'x' FROM files ON CONFLICT DO NOTHING;
  INSERT INTO tarbox.chunks (tenant_id, hash, codec, raw_size, data)
    SELECT 1, sha256(convert_to('chunk ' || n, 'UTF8')), 0, 1, convert_to('chunk ' || n, 'UTF8') FROM files
    ON CONFLICT DO NOTHING`;

const READS = `SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'tarbox')
    + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'tarbox') AS total`;

async function query<Row extends object>(options: DatabaseOptions, sql: string): Promise<Row[]> {
  const connection = new Connection(options, 'observer');
  try {
    return await connection.run<Row[]>(async (client) => [...(await client.unsafe<Row[]>(sql))]);
  } finally {
    await connection.close();
  }
}

describeOnEach((kind) => {
  const server = useServer(kind);
  let databases = 0;

  /** What `work` reads when it's done with the plans that it made in an empty database. */
  async function readsOf(
    work: (tenant: Pick<TenantStore, 'commits'> & { loads: Loads }) => Promise<unknown>,
  ): Promise<number> {
    const database = `planned${++databases}`;
    await server().query(`CREATE DATABASE ${database}`);
    const options = { ...server().options, database };
    const store = await openStore(options);
    try {
      const taken = await store.takeLease({ tenant: 't', create: true, owner: 'a test', ttlMs: 60_000 });
      if (!taken.taken) throw new Error('it was refused');
      const { commits, loads } = store.tenant(taken.lease);
      const tenant = { commits, loads: loads(() => FIRST_PLACE) };
      // Two connections take turns at reading, and two at storing chunks.
      for (let round = 0; round < 2; round++) await work(tenant).catch(() => {}); // there are no chunks to load yet
      const files = `CREATE TEMPORARY TABLE files AS SELECT n FROM generate_series(${FIRST_INO}, ${FIRST_INO + FILES - 1}) AS n`;
      await query(options, `${files};${FILL}`);
      const [before] = await query<{ total: string }>(options, READS);
      await work(tenant);
      await store.close();
      await eventually('the connections have ended', async () => {
        const rest = `SELECT 1 FROM pg_stat_activity
          WHERE datname = '${database}' AND application_name LIKE 'tarbox %' AND application_name <> 'tarbox observer'`;
        return (await query(options, rest)).length === 0 ? true : undefined;
      });
      const [after] = await query<{ total: string }>(options, READS);
      return Number(after?.total) - Number(before?.total);
    } finally {
      await store.close();
    }
  }

  it('looks a name up without reading its directory', async () => {
    const wanted = numbers.slice(0, 20);
    const count = await readsOf(async ({ loads }) => {
      for (const number of wanted) await loads.name(ino(1), nameOf(number));
    });
    expect(count).toBeGreaterThanOrEqual(wanted.length);
    expect(count).toBeLessThan(wanted.length * READS_A_ROW);
  });

  it('reads a page of a directory without reading the rest', async () => {
    const names = 50;
    const count = await readsOf(({ loads }) => loads.directory(ino(1), 500, names));
    expect(count).toBeGreaterThanOrEqual(names);
    expect(count).toBeLessThan(names * READS_A_ROW);
  });

  it('removes files by looking each of them up', async () => {
    const gone = numbers.slice(0, 500);
    const count = await readsOf(({ commits }) =>
      commits.commit(
        batchOf({
          inodes: [inodeRow(1)],
          removedInodes: gone,
          removedDentries: gone.map((number) => ({ parent: ino(1), name: nameOf(number) })),
          removedSegments: gone.map((number) => ({ ino: number, index: 0 })),
        }),
      ),
    );
    expect(count).toBeGreaterThanOrEqual(gone.length);
    expect(count).toBeLessThan(3 * gone.length * READS_A_ROW);
  });

  it('replaces contents by looking each of them up', async () => {
    const changed = numbers.slice(0, 500);
    const count = await readsOf(({ commits }) =>
      commits.commit(
        batchOf({
          segments: changed.map((number) => chunkSegment(number, 0, [chunkRef(2)])),
          removedSegments: changed.map((number) => ({ ino: number, index: 0 })),
        }),
      ),
    );
    expect(count).toBeGreaterThanOrEqual(changed.length);
    expect(count).toBeLessThan(2 * changed.length * READS_A_ROW);
  });

  it('writes files by looking each of them up', async () => {
    const changed = numbers.slice(0, 500);
    const count = await readsOf(({ commits }) =>
      commits.commit(
        batchOf({
          inodes: changed.map((number) => inodeRow(number)),
          dentries: changed.map((number) => dentryRow(1, nameOf(number), number)),
          segments: changed.map((number) => chunkSegment(number, 0, [chunkRef(2)])),
        }),
      ),
    );
    expect(count).toBeLessThan(3 * changed.length * READS_A_ROW);
  });

  it('loads inodes and contents by looking each of them up', async () => {
    const wanted = numbers.slice(0, 100);
    const count = await readsOf(async ({ loads }) => {
      await loads.inodes(wanted);
      await loads.inodes(wanted);
      await loads.firstSegments(wanted, 1e9);
      await loads.firstSegments(wanted, 1e9);
      for (const number of wanted) await loads.segments(number, 0, 1);
    });
    expect(count).toBeGreaterThanOrEqual(wanted.length);
    expect(count).toBeLessThan(5 * wanted.length * READS_A_ROW);
  });

  it('asks which chunks are stored, and loads them, by looking each of them up', async () => {
    const wanted = numbers.slice(0, 20).map(chunkOf);
    const count = await readsOf(async ({ commits, loads }) => loads.chunks(await commits.putChunks(wanted)));
    expect(count).toBeGreaterThanOrEqual(wanted.length);
    expect(count).toBeLessThan(2 * wanted.length * READS_A_ROW);
  });
});
