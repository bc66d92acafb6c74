import type { Ino, LayerId } from '../brand.ts';
import type { ContentKey, SweptPage } from '../layers/port.ts';
import { type ByteString, type Place, StoreError } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { fenced, idList, VERSIONED } from './layers.ts';
import type { Lease } from './lease.ts';
import { viewBelow } from './view.ts';

/**
 * Chunks that something refers to, while garbage is collected: a table of the session, which no crash outlives.
 * Whoever loses the session begins again.
 */
const MARKED = 'pg_temp.tarbox_marked';
const prepared = { prepare: true } as const;
const HASH_BYTES = 32;

/** Begins to mark. */
export async function beginMarks(client: Client): Promise<void> {
  await client.unsafe('CREATE TEMPORARY TABLE IF NOT EXISTS tarbox_marked (hash bytea PRIMARY KEY)');
  await client.unsafe(`TRUNCATE ${MARKED}`);
}

/** A bytea parameter's hashes, one a row. */
const hashesOf = (parameter: string): string =>
  `(SELECT substring(${parameter}::bytea FROM n * ${HASH_BYTES} + 1 FOR ${HASH_BYTES}) AS hash
    FROM generate_series(0, length(${parameter}::bytea) / ${HASH_BYTES} - 1) AS n)`;

function packed(hashes: readonly ByteString[]): Buffer {
  return Buffer.from(hashes.join(''), 'latin1');
}

export async function markHashes(client: Client, hashes: readonly ByteString[]): Promise<void> {
  if (hashes.length === 0) return;
  await client.unsafe(
    `INSERT INTO ${MARKED} SELECT hash FROM ${hashesOf('$1')} AS given ON CONFLICT DO NOTHING`,
    [packed(hashes)],
    prepared,
  );
}

/** What `packChunks` makes of a chunk: its length and its hash; a length of 0 is a hole. */
const ENTRY_BYTES = 4 + HASH_BYTES;

/** Marks what a page of `contents` refers to; resolves to the page's last row, or undefined when it was empty. */
export async function markPage(
  client: Client,
  lease: Lease,
  after: ContentKey,
  limit: number,
): Promise<ContentKey | undefined> {
  const [row] = await client.unsafe<{ ino: string; segment: string; layer_id: string }[]>(
    `WITH page AS MATERIALIZED (
       SELECT ino, segment, layer_id, chunks FROM tarbox.contents
       WHERE tenant_id = $1 AND (ino, segment, layer_id) > ($2::bigint, $3::bigint, $4::bigint)
       ORDER BY ino, segment, layer_id LIMIT $5),
     marked AS (
       INSERT INTO ${MARKED}
       SELECT substring(chunks FROM n * ${ENTRY_BYTES} + 5 FOR ${HASH_BYTES})
       FROM page, generate_series(0, length(chunks) / ${ENTRY_BYTES} - 1) AS n
       WHERE substring(chunks FROM n * ${ENTRY_BYTES} + 1 FOR 4) <> '\\x00000000'
       ON CONFLICT DO NOTHING)
     SELECT ino, segment, layer_id FROM page ORDER BY ino DESC, segment DESC, layer_id DESC LIMIT 1`,
    [lease.tenantId, after.ino, after.segment, after.layer, limit],
    prepared,
  );
  if (row === undefined) return undefined;
  // The casts give the numbers of these columns their names.
  return { ino: Number(row.ino) as Ino, segment: Number(row.segment), layer: Number(row.layer_id) as LayerId };
}

/** Nothing that's kept is made from it. */
const noDelta = (hash: string): string =>
  `NOT EXISTS (SELECT FROM tarbox.chunks d WHERE d.tenant_id = $1 AND d.base_hash = ${hash})`;
const unmarked = (hash: string): string => `NOT EXISTS (SELECT FROM ${MARKED} m WHERE m.hash = ${hash})`;

/** Looks at a page of chunks, in the order of their hashes. */
export async function sweepPage(client: Client, lease: Lease, after: ByteString, limit: number): Promise<SweptPage> {
  const [row] = await client.unsafe<
    { last: Buffer | null; chunks: string; bytes: string | null; hashes: Buffer | null; garbage_bytes: string | null }[]
  >(
    `WITH page AS MATERIALIZED (
       SELECT hash, length(data) AS bytes FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash > $2 ORDER BY hash LIMIT $3),
     judged AS MATERIALIZED (SELECT hash, bytes, ${unmarked('page.hash')} AND ${noDelta('page.hash')} AS garbage FROM page)
     SELECT (SELECT hash FROM page ORDER BY hash DESC LIMIT 1) AS last, count(*) AS chunks, sum(bytes) AS bytes,
       string_agg(hash, ''::bytea) FILTER (WHERE garbage) AS hashes, sum(bytes) FILTER (WHERE garbage) AS garbage_bytes
     FROM judged`,
    [lease.tenantId, Buffer.from(after, 'latin1'), limit],
    prepared,
  );
  return {
    last: row?.last?.toString('latin1'),
    chunks: Number(row?.chunks ?? 0),
    bytes: Number(row?.bytes ?? 0),
    garbage: hashList(row?.hashes ?? null),
    garbageBytes: Number(row?.garbage_bytes ?? 0),
  };
}

function hashList(bytes: Buffer | null): ByteString[] {
  if (bytes === null) return [];
  const text = bytes.toString('latin1');
  return Array.from({ length: text.length / HASH_BYTES }, (_, n) => text.slice(n * HASH_BYTES, (n + 1) * HASH_BYTES));
}

/**
 * Removes those of these chunks that are still not marked; resolves to how much that was, and to the chunks that they
 * were made from.
 */
export async function removeChunks(
  client: Client,
  lease: Lease,
  number: number,
  hashes: readonly ByteString[],
): Promise<{ chunks: number; bytes: number; bases: ByteString[] }> {
  const [row] = await client.unsafe<{ held: number; chunks: number; bytes: string | null; bases: Buffer | null }[]>(
    `WITH ${fenced()},
     gone AS (
       DELETE FROM tarbox.chunks WHERE ctid = ANY (ARRAY(
         SELECT (SELECT c.ctid FROM tarbox.chunks c WHERE c.tenant_id = $1 AND c.hash = given.hash)
         FROM fence, ${hashesOf('$4')} AS given
         WHERE ${unmarked('given.hash')} AND ${noDelta('given.hash')}))
       RETURNING length(data) AS bytes, base_hash)
     SELECT (SELECT count(*) FROM fence)::integer AS held, count(*)::integer AS chunks, sum(bytes) AS bytes,
       string_agg(base_hash, ''::bytea) AS bases
     FROM gone`,
    [lease.tenantId, lease.epoch, number, packed(hashes)],
    prepared,
  );
  requireHeld(row?.held);
  return { chunks: row?.chunks ?? 0, bytes: Number(row?.bytes ?? 0), bases: hashList(row?.bases ?? null) };
}

function requireHeld(held: number | undefined): void {
  if (held !== 1) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
}

/** Changes nothing; after it, no statement with a lower number is carried out any more. */
export async function fenceOut(client: Client, lease: Lease, number: number): Promise<void> {
  const [row] = await client.unsafe<{ held: number }[]>(
    `WITH ${fenced()} SELECT count(*)::integer AS held FROM fence`,
    [lease.tenantId, lease.epoch, number],
    prepared,
  );
  requireHeld(row?.held);
}

/** Numbers of layers that have rows and don't exist, copies for earlier views left out. */
export async function lostLayers(client: Client, lease: Lease): Promise<LayerId[]> {
  // From one number to the next by the index, whatever lies between.
  const numbersIn = (table: string): string => `(
    WITH RECURSIVE ids AS (
      (SELECT layer_id FROM tarbox.${table} WHERE tenant_id = $1 AND layer_id > 0 ORDER BY layer_id LIMIT 1)
      UNION ALL
      SELECT (SELECT layer_id FROM tarbox.${table} WHERE tenant_id = $1 AND layer_id > 0 AND layer_id > ids.layer_id
        ORDER BY layer_id LIMIT 1)
      FROM ids WHERE layer_id IS NOT NULL)
    SELECT layer_id FROM ids WHERE layer_id IS NOT NULL)`;
  const rows = await client.unsafe<{ layer_id: string }[]>(
    `SELECT layer_id FROM (${VERSIONED.map(({ table }) => numbersIn(table)).join(' UNION ')}) AS used
     WHERE NOT EXISTS (SELECT FROM tarbox.layers l WHERE l.tenant_id = $1 AND l.layer_id = used.layer_id)
       AND NOT EXISTS (SELECT FROM tarbox.moved m WHERE m.tenant_id = $1 AND m.layer_id = used.layer_id)`,
    [lease.tenantId],
    prepared,
  );
  return rows.map(({ layer_id }) => Number(layer_id) as LayerId); // the column holds numbers of layers
}

/** Parts of a statement that remove rows, each by its place, and what they're called. */
type Removals = readonly (readonly [name: string, table: string, rows: string])[];

/** Removes rows in one statement; resolves to how many. */
async function remove(
  client: Client,
  lease: Lease,
  number: number,
  removals: Removals,
  values: readonly (string | number)[],
): Promise<number> {
  const parts = removals.map(
    ([name, table, rows]) => `${name} AS (DELETE FROM tarbox.${table} WHERE ctid = ANY (ARRAY(${rows})) RETURNING 1)`,
  );
  const counts = removals.map(([name]) => `(SELECT count(*) FROM ${name})`);
  const [row] = await client.unsafe<{ held: number; rows: number }[]>(
    `WITH ${[fenced(), ...parts].join(', ')}
     SELECT (SELECT count(*) FROM fence)::integer AS held, (${counts.join(' + ')})::integer AS rows`,
    [lease.tenantId, lease.epoch, number, ...values],
    prepared,
  );
  requireHeld(row?.held);
  return row?.rows ?? 0;
}

/** Removes at most `limit` rows of each table that a layer which doesn't exist has. */
export function removeLostRows(
  client: Client,
  lease: Lease,
  number: number,
  layer: LayerId,
  limit: number,
): Promise<number> {
  const removals: Removals = VERSIONED.map(({ table }) => [
    `lost_${table}`,
    table,
    `SELECT t.ctid FROM fence, LATERAL (
       SELECT ctid FROM tarbox.${table} WHERE tenant_id = $1 AND layer_id > 0 AND layer_id = $4 LIMIT $5) AS t`,
  ]);
  return remove(client, lease, number, removals, [layer, limit]);
}

/** Removes the copies of files that no handle reads any more. */
export function removeCopies(
  client: Client,
  lease: Lease,
  number: number,
  copy: LayerId,
  inos: readonly Ino[],
): Promise<number> {
  const removals: Removals = ['inodes', 'contents'].map((table) => [
    `copied_${table}`,
    table,
    `SELECT t.ctid FROM fence, unnest($5::bigint[]) AS closed (ino), LATERAL (
       SELECT ctid FROM tarbox.${table} WHERE tenant_id = $1 AND ino = closed.ino AND layer_id = $4 OFFSET 0) AS t`,
  ]);
  return remove(client, lease, number, removals, [copy, idList(inos)]);
}

/** The newest row of the layers below, `$5`, for what a row `w` is of: whether there's something to hide. */
const hides = (table: string, key: readonly string[], something: string): string =>
  `COALESCE((SELECT ${something} FROM tarbox.${table} b
    WHERE b.tenant_id = $1 AND ${key.map((column) => `b.${column} = w.${column}`).join(' AND ')}
      AND $5::int8multirange @> b.layer_id
    ORDER BY b.layer_id DESC LIMIT 1), false)`;

/**
 * Removes whiteouts of a layer that hide nothing, and the content of files that are deleted in it: what a drop or a
 * squash can leave. At most `limit` rows of each kind.
 */
export function removeUseless(
  client: Client,
  lease: Lease,
  number: number,
  place: Place,
  limit: number,
): Promise<number> {
  const of = (table: string, key: readonly string[], whiteout: string, something: string): string =>
    `SELECT useless.ctid FROM fence, LATERAL (
       SELECT w.ctid FROM tarbox.${table} w
       WHERE w.tenant_id = $1 AND w.layer_id = $4 AND ${whiteout} AND NOT ${hides(table, key, something)}
       LIMIT $6) AS useless`;
  const removals: Removals = [
    [
      'deleted_contents',
      'contents',
      `SELECT useless.ctid FROM fence, LATERAL (
         SELECT c.ctid FROM tarbox.inodes w, tarbox.contents c
         WHERE w.tenant_id = $1 AND w.layer_id = $4 AND w.deleted
           AND c.tenant_id = $1 AND c.ino = w.ino AND c.layer_id = $4 LIMIT $6) AS useless`,
    ],
    [
      'useless_holes',
      'contents',
      `${of('contents', ['ino', 'segment'], "w.chunks = '' AND w.inline IS NULL", "b.inline IS NOT NULL OR b.chunks <> ''")}
       WHERE NOT EXISTS (SELECT FROM deleted_contents)`,
    ],
    ['useless_dentries', 'dentries', of('dentries', ['parent', 'name'], 'w.ino IS NULL', 'b.ino IS NOT NULL')],
    [
      'useless_inodes',
      'inodes',
      `${of('inodes', ['ino'], 'w.deleted', 'NOT b.deleted')} WHERE NOT EXISTS (SELECT FROM deleted_contents)`,
    ],
  ];
  return remove(client, lease, number, removals, [place.layer, viewBelow(place), limit]);
}

/** Files without a name in layers that are frozen, at most `limit`. */
export async function unnamedFiles(
  client: Client,
  lease: Lease,
  limit: number,
): Promise<{ ino: Ino; layer: LayerId }[]> {
  const rows = await client.unsafe<{ ino: string; layer_id: string }[]>(
    `SELECT ino, layer_id FROM tarbox.inodes i WHERE tenant_id = $1 AND nlink = 0 AND EXISTS (
       SELECT FROM tarbox.layers l WHERE l.tenant_id = $1 AND l.layer_id = i.layer_id AND l.name IS NOT NULL)
     ORDER BY ino, layer_id LIMIT $2`,
    [lease.tenantId, limit],
    prepared,
  );
  // The casts give the numbers of these columns their names.
  return rows.map((row) => ({ ino: Number(row.ino) as Ino, layer: Number(row.layer_id) as LayerId }));
}

/** Lets files without a name be gone as of a frozen layer. */
export async function removeUnnamed(
  client: Client,
  lease: Lease,
  number: number,
  place: Place,
  inos: readonly Ino[],
): Promise<number> {
  const wanted = 'fence, unnest($6::bigint[]) AS unnamed (ino)';
  const own = `SELECT w.ctid FROM ${wanted}, LATERAL (
    SELECT ctid, ino FROM tarbox.inodes WHERE tenant_id = $1 AND ino = unnamed.ino AND layer_id = $4 AND nlink = 0 OFFSET 0) AS w`;
  const [row] = await client.unsafe<{ held: number; rows: number }[]>(
    `WITH ${fenced()},
     contents_gone AS (
       DELETE FROM tarbox.contents WHERE ctid = ANY (ARRAY(
         SELECT c.ctid FROM ${wanted}, LATERAL (
           SELECT ctid FROM tarbox.contents WHERE tenant_id = $1 AND ino = unnamed.ino AND layer_id = $4 OFFSET 0) AS c))
       RETURNING 1),
     hidden AS (
       UPDATE tarbox.inodes SET deleted = true, nlink = 1, target = NULL, xattrs = NULL
       WHERE ctid = ANY (ARRAY(${own} WHERE ${hides('inodes', ['ino'], 'NOT b.deleted')}))),
     inodes_gone AS (
       DELETE FROM tarbox.inodes WHERE ctid = ANY (ARRAY(${own} WHERE NOT ${hides('inodes', ['ino'], 'NOT b.deleted')}))
       RETURNING 1)
     SELECT (SELECT count(*) FROM fence)::integer AS held,
       ((SELECT count(*) FROM contents_gone) + (SELECT count(*) FROM inodes_gone))::integer AS rows`,
    [lease.tenantId, lease.epoch, number, place.layer, viewBelow(place), idList(inos)],
    prepared,
  );
  requireHeld(row?.held);
  return row?.rows ?? 0;
}
