import type { Ino, LayerId } from '../brand.ts';
import { ENTRY_BYTES, unpackChunks } from '../content/packed.ts';
import type { ContentKey, Piece, Replaced } from '../layers/port.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { copyOut } from './copy.ts';
import type { Lease } from './lease.ts';
import { viewBelow, viewOf } from './view.ts';

const prepared = { prepare: true } as const;

const DIRECTORY = 4;
const REGULAR = 8;

/** Rows of `contents` that a layer replaced, and those that are there instead: a table of the session. */
const REPLACED = 'pg_temp.tarbox_replaced';

/** The newest row of a name in the layers below. */
const nameBelow = (parent: string, name: string): string => `(
  SELECT ino, type FROM tarbox.dentries
  WHERE tenant_id = $1 AND parent = ${parent} AND name = ${name} AND $3::int8multirange @> layer_id
  ORDER BY layer_id DESC LIMIT 1)`;
const hasContent = (row: string): string => `(${row}.inline IS NOT NULL OR ${row}.chunks <> '')`;
const newestContent = (ino: string, segment: string, view: string): string => `(
  SELECT layer_id, chunks, inline FROM tarbox.contents
  WHERE tenant_id = $1 AND ino = ${ino} AND segment = ${segment} AND ${view}::int8multirange @> layer_id
  ORDER BY layer_id DESC LIMIT 1)`;

/** What was written over. */
const WRITTEN = `INSERT INTO ${REPLACED} (ino, layer_id, segment, by_ino, by_layer)
  SELECT c.ino, b.layer_id, c.segment, c.ino, c.layer_id
  FROM tarbox.contents c, LATERAL ${newestContent('c.ino', 'c.segment', '$3')} AS b
  WHERE c.tenant_id = $1 AND c.layer_id > 0 AND c.layer_id = $2 AND ${hasContent('c')} AND ${hasContent('b')}
    AND $4::int8multirange IS NOT NULL`;

/**
 * What was put in place of something else under the same path, as most programs save a file: names that stand for another
 * inode than before, and those in directories that are there instead of others.
 */
const SUCCEEDED = `INSERT INTO ${REPLACED} (ino, layer_id, segment, by_ino, by_layer)
  WITH RECURSIVE successor AS (
    SELECT d.type, d.ino, b.ino AS before
    FROM tarbox.dentries d, LATERAL ${nameBelow('d.parent', 'd.name')} AS b
    WHERE d.tenant_id = $1 AND d.layer_id > 0 AND d.layer_id = $2 AND d.ino <> b.ino
      AND d.type = b.type AND d.type IN (${DIRECTORY}, ${REGULAR})
    UNION ALL
    SELECT d.type, d.ino, b.ino
    FROM successor s, LATERAL (
      SELECT type, ino, name FROM tarbox.dentries
      WHERE tenant_id = $1 AND parent = s.ino AND layer_id = $2 AND s.type = ${DIRECTORY} OFFSET 0) AS d,
    LATERAL ${nameBelow('s.before', 'd.name')} AS b
    WHERE d.ino <> b.ino AND d.type = b.type AND d.type IN (${DIRECTORY}, ${REGULAR}))
  SELECT s.before, o.layer_id, o.segment, s.ino, n.layer_id
  FROM successor s, LATERAL (
    SELECT DISTINCT ON (segment) segment, layer_id, chunks, inline FROM tarbox.contents
    WHERE tenant_id = $1 AND ino = s.before AND $3::int8multirange @> layer_id
    ORDER BY segment, layer_id DESC) AS o,
  LATERAL ${newestContent('s.ino', 'o.segment', '$4')} AS n
  WHERE s.type = ${REGULAR} AND ${hasContent('o')} AND ${hasContent('n')} AND (
    SELECT deleted FROM tarbox.inodes WHERE tenant_id = $1 AND ino = s.before AND layer_id = $2)`;

/** See `PackStore.gather`. */
export async function gatherReplaced(client: Client, lease: Lease, place: Place): Promise<void> {
  await client.unsafe(`CREATE TEMPORARY TABLE IF NOT EXISTS tarbox_replaced (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ino bigint, layer_id bigint, segment bigint, by_ino bigint,
    by_layer bigint)`);
  await client.unsafe(`TRUNCATE ${REPLACED} RESTART IDENTITY`);
  const values = [lease.tenantId, place.layer, viewBelow(place), viewOf(place)];
  for (const text of [WRITTEN, SUCCEEDED]) await client.unsafe(text, values, prepared);
}

/** See `PackStore.replaced`. Rows that have gone since have no pieces. */
export async function loadReplaced(
  client: Client,
  lease: Lease,
  after: number,
  limit: number,
): Promise<{ last: number | undefined; pieces: Replaced[] }> {
  const content = (ino: string, layer: string): string => `LATERAL (
    SELECT chunks, inline FROM tarbox.contents
    WHERE tenant_id = ${Number(lease.tenantId)} AND ino = r.${ino} AND segment = r.segment AND layer_id = r.${layer}
    LIMIT 1)`;
  const rows = await copyOut(
    client,
    `COPY (SELECT r.n, r.ino, r.segment, r.layer_id, o.chunks, o.inline, b.chunks, b.inline
       FROM (SELECT * FROM ${REPLACED} WHERE n > ${Number(after)} ORDER BY n LIMIT ${Number(limit)}) AS r
       LEFT JOIN ${content('ino', 'layer_id')} AS o ON true LEFT JOIN ${content('by_ino', 'by_layer')} AS b ON true
       ORDER BY r.n) TO STDOUT (FORMAT binary)`,
  );
  const pieces = rows.flatMap(([, ino, segment, layer, oldChunks, oldInline, newChunks, newInline]) =>
    // The casts give the numbers of these columns their names.
    pairs(
      { ino: int8Of(ino) as Ino, segment: int8Of(segment), layer: int8Of(layer) as LayerId },
      piecesOf(oldChunks, oldInline),
      piecesOf(newChunks, newInline),
    ),
  );
  const last = rows[rows.length - 1]?.[0];
  return { last: last ? int8Of(last) : undefined, pieces };
}

function int8Of(bytes: Buffer | null | undefined): number {
  return Number(bytes?.readBigInt64BE(0) ?? 0n);
}

/** Undefined for a hole. */
function piecesOf(chunks: Buffer | null | undefined, inline: Buffer | null | undefined): (Piece | undefined)[] {
  if (inline) return [{ bytes: inline }];
  // What is malformed is left to fsck.
  if (!chunks || chunks.length % ENTRY_BYTES !== 0) return [];
  return unpackChunks(chunks).map(({ hash }) => (hash === '' ? undefined : { hash }));
}

function pairs(
  row: ContentKey,
  before: readonly (Piece | undefined)[],
  after: readonly (Piece | undefined)[],
): Replaced[] {
  // What is only elsewhere in the file hasn't been replaced.
  const kept = new Set<ByteString>();
  for (const piece of after) if (piece !== undefined && 'hash' in piece) kept.add(piece.hash);
  return before.flatMap((old, index) => {
    const by = after[index];
    if (old === undefined || by === undefined || ('hash' in old && kept.has(old.hash))) return [];
    return [{ row, old, by }];
  });
}
