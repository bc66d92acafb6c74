import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import type { BadReference, CheckedFile, ContentKey, NameOf, StoredTenant } from '../layers/port.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import { type Coders, loadChunks } from './chunks.ts';
import type { Client, Connection } from './connection.ts';
import { loadLayers, loadTags } from './layers.ts';
import type { Lease } from './lease.ts';
import { viewBelow, viewOf } from './view.ts';

const prepared = { prepare: true } as const;

/** As vfs/geometry.ts and content/packed.ts have them, which the stored form depends on. */
const CHUNK_BYTES = 128 * 1024;
const SEGMENT_CHUNKS = 64;
const INLINE_BYTES = 4096;
const HASH_BYTES = 32;
const ENTRY_BYTES = 4 + HASH_BYTES;
const FIRST_COOKIE = 16;

const FILE_TYPE = 0o170000;
const REGULAR = 0o100000;
const DIRECTORY = 0o040000;
const DIRECTORY_DIRENT = 4;

/** The files that are being looked at, by layer; a table of the session. */
const GATHERED = 'pg_temp.tarbox_gathered';

/** Begins a moment: what is read from now on in this session is what is committed now. */
export async function beginCheck(client: Client): Promise<void> {
  await client.unsafe('ROLLBACK');
  await client.unsafe(
    'CREATE TEMPORARY TABLE IF NOT EXISTS tarbox_gathered (layer_id bigint, ino bigint, PRIMARY KEY (layer_id, ino))',
  );
  await client.unsafe(`TRUNCATE ${GATHERED}`);
  await client.unsafe('BEGIN ISOLATION LEVEL REPEATABLE READ');
}

export async function endCheck(client: Client): Promise<void> {
  await client.unsafe('ROLLBACK');
}

export async function loadTenant(client: Client, lease: Lease): Promise<StoredTenant> {
  const layers = await loadLayers(client, lease);
  const tags = await loadTags(client, lease);
  const [row] = await client.unsafe<Record<string, string>[]>(
    `SELECT next_ino, next_cookie, used_bytes, used_inodes,
       COALESCE((SELECT ino FROM tarbox.inodes WHERE tenant_id = $1 ORDER BY ino DESC LIMIT 1), 0) AS last_ino,
       COALESCE((SELECT max(cookie) FROM tarbox.dentries WHERE tenant_id = $1), 0) AS last_cookie
     FROM tarbox.tenants WHERE tenant_id = $1`,
    [lease.tenantId],
    prepared,
  );
  return {
    ...layers,
    tags,
    nextIno: Number(row?.['next_ino']),
    nextCookie: Number(row?.['next_cookie']),
    usedBytes: Number(row?.['used_bytes']),
    usedInodes: Number(row?.['used_inodes']),
    lastIno: Number(row?.['last_ino']),
    lastCookie: Number(row?.['last_cookie']),
  };
}

/** The newest row of a name in a view. */
const newestName = (view: string, parent: string, name: string, what: string): string => `(
  SELECT ${what} FROM tarbox.dentries n WHERE n.tenant_id = $1 AND n.parent = ${parent} AND n.name = ${name}
    AND ${view}::int8multirange @> n.layer_id ORDER BY n.layer_id DESC LIMIT 1)`;
/** Whether a dentry `d` counts in the view $2. */
const COUNTS = `$2::int8multirange @> d.layer_id AND d.layer_id = ${newestName('$2', 'd.parent', 'd.name', 'n.layer_id')}`;

export async function gatherFiles(client: Client, lease: Lease, place: Place): Promise<void> {
  const own = 'tenant_id = $1 AND layer_id > 0 AND layer_id = $2';
  const before = newestName('$3', 'd.parent', 'd.name', 'n.ino');
  for (const files of [
    `SELECT ino FROM tarbox.inodes WHERE ${own}`,
    `SELECT ino FROM tarbox.dentries WHERE ${own} AND ino IS NOT NULL`,
    `SELECT parent FROM tarbox.dentries WHERE ${own}`,
    `SELECT ino FROM tarbox.contents WHERE ${own}`,
    // What a name stood for until then.
    `SELECT ${before} FROM tarbox.dentries d WHERE ${own}`,
  ])
    await client.unsafe(
      `INSERT INTO ${GATHERED} SELECT DISTINCT $2::bigint, f.ino FROM (${files}) AS f (ino)
       WHERE f.ino IS NOT NULL AND $3::int8multirange IS NOT NULL ON CONFLICT DO NOTHING`,
      [lease.tenantId, place.layer, viewBelow(place)],
      prepared,
    );
}

/** The length of the chunk `n` of a packed list. */
export const lengthOf = (list: string): string =>
  [0, 1, 2, 3].map((byte) => `(get_byte(${list}, n * ${ENTRY_BYTES} + ${byte})::bigint << ${8 * byte})`).join(' + ');
export const eachChunk = (list: string): string => `generate_series(0, length(${list}) / ${ENTRY_BYTES} - 1) AS n`;

interface FileRow {
  ino: string;
  layer_id: string | null;
  mode: number | null;
  nlink: number | null;
  size: string | null;
  allocated: string | null;
  parent: string | null;
  target: number | null;
  names: string;
  named_in: string | null;
  wrong: string;
  children: string;
  held: string | null;
  ends: string | null;
  own: string;
}

export async function checkFiles(
  client: Client,
  lease: Lease,
  place: Place,
  after: Ino,
  limit: number,
): Promise<CheckedFile[]> {
  const rows = await client.unsafe<FileRow[]>(
    `SELECT g.ino, i.layer_id, i.mode, i.nlink, i.size, i.allocated, i.parent, length(i.target) AS target,
       names.count AS names, names.parent AS named_in, names.wrong, children.count AS children, content.held, content.ends,
       (SELECT count(*) FROM tarbox.contents o WHERE o.tenant_id = $1 AND o.ino = g.ino AND o.layer_id = $3) AS own
     FROM (SELECT ino FROM ${GATHERED} WHERE layer_id = $3 AND ino > $4 ORDER BY ino LIMIT $5) AS g
     LEFT JOIN LATERAL (
       SELECT * FROM (
         SELECT * FROM tarbox.inodes WHERE tenant_id = $1 AND ino = g.ino AND $2::int8multirange @> layer_id
         ORDER BY layer_id DESC LIMIT 1) AS newest WHERE NOT deleted) AS i ON true
     LEFT JOIN LATERAL (
       SELECT count(*), min(d.parent) AS parent,
         count(*) FILTER (WHERE d.type <> (i.mode & ${FILE_TYPE}) >> 12) AS wrong
       FROM tarbox.dentries d WHERE d.tenant_id = $1 AND d.ino = g.ino AND d.ino > 0 AND ${COUNTS}) AS names ON true
     LEFT JOIN LATERAL (
       SELECT count(*) FROM tarbox.dentries d
       WHERE d.tenant_id = $1 AND d.parent = g.ino AND d.ino IS NOT NULL
         AND (d.type = ${DIRECTORY_DIRENT} OR (i.mode & ${FILE_TYPE}) IS DISTINCT FROM ${DIRECTORY})
         AND ${COUNTS}) AS children ON true
     LEFT JOIN LATERAL (
       SELECT sum(part.length) AS held, max(part.start + part.length) AS ends
       FROM (
         SELECT DISTINCT ON (segment) segment, chunks, inline FROM tarbox.contents
         WHERE tenant_id = $1 AND ino = g.ino AND $2::int8multirange @> layer_id
         ORDER BY segment, layer_id DESC) AS s,
       LATERAL (
         SELECT length(s.inline)::bigint AS length, 0::bigint AS start WHERE s.inline IS NOT NULL
         UNION ALL
         SELECT ${lengthOf('s.chunks')}, (s.segment * ${SEGMENT_CHUNKS} + n) * ${CHUNK_BYTES}
         FROM ${eachChunk('s.chunks')} WHERE s.inline IS NULL) AS part
       WHERE part.length > 0) AS content ON (i.mode & ${FILE_TYPE}) = ${REGULAR}
     ORDER BY g.ino`,
    [lease.tenantId, viewOf(place), place.layer, after, limit],
    prepared,
  );
  return rows.map(checkedFile);
}

/** The casts give the numbers of these columns their names. */
function checkedFile(row: FileRow): CheckedFile {
  return {
    ino: Number(row.ino) as Ino,
    layer: row.layer_id === null ? undefined : (Number(row.layer_id) as LayerId),
    mode: row.mode ?? undefined,
    nlink: row.nlink ?? 0,
    size: Number(row.size ?? 0),
    allocated: Number(row.allocated ?? 0),
    parent: Number(row.parent ?? 0) as Ino,
    targetBytes: row.target ?? 0,
    names: Number(row.names),
    namedIn: row.named_in === null ? undefined : (Number(row.named_in) as Ino),
    wrongTypes: Number(row.wrong),
    children: Number(row.children),
    heldBytes: Number(row.held ?? 0),
    contentEnd: Number(row.ends ?? 0),
    contentRows: Number(row.own),
  };
}

export async function checkTotals(
  client: Client,
  lease: Lease,
  place: Place,
): Promise<{ bytes: number; inodes: number; lastInoBelow: number }> {
  const isNamed = (row: string): string => `(NOT ${row}.deleted AND ${row}.nlink > 0)`;
  const [row] = await client.unsafe<{ bytes: string | null; inodes: string | null; below: string | null }[]>(
    `SELECT sum(CASE WHEN ${isNamed('i')} THEN i.allocated ELSE 0 END - CASE WHEN ${isNamed('b')} THEN b.allocated ELSE 0 END) AS bytes,
       sum(${isNamed('i')}::integer - COALESCE(${isNamed('b')}, false)::integer) AS inodes,
       (SELECT ino FROM tarbox.inodes WHERE tenant_id = $1 AND $3::int8multirange @> layer_id
        ORDER BY ino DESC LIMIT 1) AS below
     FROM tarbox.inodes i
     LEFT JOIN LATERAL (
       SELECT deleted, nlink, allocated FROM tarbox.inodes
       WHERE tenant_id = $1 AND ino = i.ino AND $3::int8multirange @> layer_id
       ORDER BY layer_id DESC LIMIT 1) AS b ON true
     WHERE i.tenant_id = $1 AND i.layer_id > 0 AND i.layer_id = $2`,
    [lease.tenantId, place.layer, viewBelow(place)],
    prepared,
  );
  return { bytes: Number(row?.bytes ?? 0), inodes: Number(row?.inodes ?? 0), lastInoBelow: Number(row?.below ?? 0) };
}

export async function badCookies(
  client: Client,
  lease: Lease,
  place: Place,
  nextCookie: number,
  limit: number,
): Promise<NameOf[]> {
  const rows = await client.unsafe<{ parent: string; name: Buffer }[]>(
    `SELECT o.parent, o.name FROM tarbox.dentries o
     WHERE o.tenant_id = $1 AND o.layer_id > 0 AND o.layer_id = $3 AND o.ino IS NOT NULL
       AND (o.cookie < ${FIRST_COOKIE} OR o.cookie >= $4 OR EXISTS (
         SELECT FROM tarbox.dentries d
         WHERE d.tenant_id = $1 AND d.parent = o.parent AND d.cookie = o.cookie AND d.cookie > 0 AND d.name <> o.name
           AND d.ino IS NOT NULL AND ${COUNTS}))
     LIMIT $5`,
    [lease.tenantId, viewOf(place), place.layer, nextCookie, limit],
    prepared,
  );
  return rows.map(({ parent, name }) => ({ parent: Number(parent) as Ino, name: name.toString('latin1') }));
}

/** Loads chunks and says which of them aren't what their hashes say. */
export async function checkChunks(
  connection: Connection,
  coders: Coders,
  lease: Lease,
  after: ByteString,
  limit: number,
): Promise<{ last: ByteString | undefined; chunks: number; bytes: number; damaged: ByteString[] }> {
  const rows = await connection.run((client) =>
    client.unsafe<{ hash: Buffer; raw_size: number }[]>(
      'SELECT hash, raw_size FROM tarbox.chunks WHERE tenant_id = $1 AND hash > $2 ORDER BY hash LIMIT $3',
      [lease.tenantId, Buffer.from(after, 'latin1'), limit],
      prepared,
    ),
  );
  const sizes = new Map(rows.map((row) => [row.hash.toString('latin1'), row.raw_size]));
  const load = (hashes: readonly ByteString[]) => loadChunks(connection, coders, lease.tenantId, hashes);
  const hashes = [...sizes.keys()];
  const damaged: ByteString[] = [];
  let bytes = 0;
  const all = await load(hashes).catch(damagedOnly);
  for (const hash of hashes) {
    const data = all?.get(hash) ?? (await load([hash]).catch(damagedOnly))?.get(hash);
    bytes += data?.length ?? 0;
    if (data?.length !== sizes.get(hash)) damaged.push(hash);
  }
  return { last: hashes[hashes.length - 1], chunks: hashes.length, bytes, damaged };
}

/** Undefined for what loading says is damaged. */
function damagedOnly(problem: unknown): undefined {
  if (!(problem instanceof FsError)) throw problem;
}

export async function checkReferences(
  client: Client,
  lease: Lease,
  after: ContentKey,
  limit: number,
  damaged: readonly ByteString[],
): Promise<{ last: ContentKey | undefined; rows: number; bad: BadReference[] }> {
  const page = `SELECT ino, segment, layer_id, chunks, inline FROM tarbox.contents
    WHERE tenant_id = $1 AND (ino, segment, layer_id) > ($2::bigint, $3::bigint, $4::bigint)
    ORDER BY ino, segment, layer_id LIMIT $5`;
  const key = [lease.tenantId, after.ino, after.segment, after.layer, limit];
  const rows = await client.unsafe<(KeyRow & { malformed: boolean })[]>(
    `SELECT ino, segment, layer_id, CASE WHEN inline IS NULL
       THEN chunks IS NULL OR length(chunks) % ${ENTRY_BYTES} <> 0 OR length(chunks) > ${SEGMENT_CHUNKS * ENTRY_BYTES}
       ELSE length(chunks) > 0 OR segment <> 0 OR length(inline) > ${INLINE_BYTES} END AS malformed
     FROM (${page}) AS page`,
    key,
    prepared,
  );
  const references = await client.unsafe<(KeyRow & { problem: BadReference['problem'] })[]>(
    `SELECT DISTINCT ON (r.ino, r.segment, r.layer_id, problem) r.ino, r.segment, r.layer_id,
       CASE WHEN c.raw_size IS NULL THEN 'missing' WHEN c.raw_size < r.length OR r.length > ${CHUNK_BYTES} THEN 'too short'
         ELSE 'damaged' END AS problem
     FROM (
       SELECT ino, segment, layer_id, ${lengthOf('chunks')} AS length,
         substring(chunks FROM n * ${ENTRY_BYTES} + 5 FOR ${HASH_BYTES}) AS hash
       FROM (${page}) AS page, ${eachChunk('chunks')}) AS r
     LEFT JOIN LATERAL (
       SELECT raw_size FROM tarbox.chunks WHERE tenant_id = $1 AND hash = r.hash LIMIT 1) AS c ON true
     WHERE r.length > 0 AND (c.raw_size IS NULL OR c.raw_size < r.length OR r.length > ${CHUNK_BYTES}
       OR position(r.hash IN $6::bytea) % ${HASH_BYTES} = 1)`,
    [...key, Buffer.from(damaged.join(''), 'latin1')],
    prepared,
  );
  const last = rows[rows.length - 1];
  const malformed = rows
    .filter((row) => row.malformed)
    .map((row) => ({ ...keyOf(row), problem: 'malformed' as const }));
  return {
    last: last && keyOf(last),
    rows: rows.length,
    bad: [...malformed, ...references.map((row) => ({ ...keyOf(row), problem: row.problem }))],
  };
}

interface KeyRow {
  ino: string;
  segment: string;
  layer_id: string;
}

/** The casts give the numbers of these columns their names. */
function keyOf(row: KeyRow): ContentKey {
  return { ino: Number(row.ino) as Ino, segment: Number(row.segment), layer: Number(row.layer_id) as LayerId };
}
