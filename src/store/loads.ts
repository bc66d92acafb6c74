import type { Ino, LayerId } from '../brand.ts';
import { unpackChunks } from '../content/packed.ts';
import type { ByteString, DentryImage, DirectoryPage, InodeImage, SegmentImage } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { INODE_COLUMNS, type InodeRow, inodeImage } from './inodes.ts';
import type { Lease } from './lease.ts';
import type { View } from './view.ts';

/** What a load looks at: $1 is the tenant and $2 the view in every statement below. */
export interface Scope {
  readonly lease: Lease;
  readonly view: View;
}

const prepared = { prepare: true } as const;

/** The newest row of `i` in the view for an ino that `outer` names. */
function inodeOf(outer: string): string {
  return `(SELECT * FROM tarbox.inodes WHERE tenant_id = $1 AND ino = ${outer} AND $2::int8multirange @> layer_id
    ORDER BY layer_id DESC LIMIT 1)`;
}

export async function loadInodes(client: Client, scope: Scope, inos: readonly Ino[]): Promise<InodeImage[]> {
  const rows = await client.unsafe<InodeRow[]>(
    `SELECT ${INODE_COLUMNS} FROM unnest($3::bigint[]) AS wanted (ino), LATERAL ${inodeOf('wanted.ino')} AS i
     WHERE NOT i.deleted`,
    [scope.lease.tenantId, scope.view, `{${inos.join()}}`],
    prepared,
  );
  return rows.map(inodeImage);
}

const MOST_NAMES = 16;

export async function loadNamesOfInode(
  client: Client,
  scope: Scope,
  ino: Ino,
): Promise<{ parent: Ino; name: ByteString }[]> {
  const rows = await client.unsafe<{ parent: string; name: Buffer }[]>(
    `SELECT d.parent, d.name FROM (
       SELECT parent, name, layer_id FROM tarbox.dentries
       WHERE tenant_id = $1 AND ino = $3 AND ino > 0 AND $2::int8multirange @> layer_id OFFSET 0) AS d
     WHERE d.layer_id = (SELECT n.layer_id FROM tarbox.dentries n
       WHERE n.tenant_id = $1 AND n.parent = d.parent AND n.name = d.name AND $2::int8multirange @> n.layer_id
       ORDER BY n.layer_id DESC LIMIT 1)
     LIMIT ${MOST_NAMES}`,
    [scope.lease.tenantId, scope.view, ino],
    prepared,
  );
  return rows.map(({ parent, name }) => ({
    parent: Number(parent) as Ino, // the column holds inode numbers
    name: name.toString('latin1'),
  }));
}

/** Those whose newest row is the layer's, where one is given. */
export async function loadOrphans(client: Client, scope: Scope, layer: LayerId | undefined): Promise<InodeImage[]> {
  const rows = await client.unsafe<InodeRow[]>(
    `SELECT ${INODE_COLUMNS} FROM (
       SELECT DISTINCT ino FROM tarbox.inodes WHERE tenant_id = $1 AND nlink = 0 OFFSET 0) AS wanted,
       LATERAL ${inodeOf('wanted.ino')} AS i
     WHERE i.nlink = 0 AND NOT i.deleted AND ($3::bigint IS NULL OR i.layer_id = $3)`,
    [scope.lease.tenantId, scope.view, layer ?? null],
    prepared,
  );
  return rows.map(inodeImage);
}

type DentryRow = InodeRow & { name: Buffer; d_ino: string; type: number; cookie: string };

/**
 * The newest row of the view for a name of directory $3. A limited subquery keeps the planner from turning it round:
 * a join planned while the table is empty would read the whole directory for each name.
 */
function dentryOf(name: string): string {
  return `(SELECT * FROM tarbox.dentries WHERE tenant_id = $1 AND parent = $3 AND name = ${name}
    AND $2::int8multirange @> layer_id ORDER BY layer_id DESC LIMIT 1)`;
}

/** A dentry `d` with its inode. */
const DENTRY_COLUMNS = `d.name, d.ino AS d_ino, d.type, d.cookie, ${INODE_COLUMNS}`;

function dentryImage(parent: Ino, row: DentryRow): DentryImage {
  return {
    parent,
    name: row.name.toString('latin1'),
    ino: Number(row.d_ino) as Ino, // the column holds inode numbers
    type: row.type,
    cookie: Number(row.cookie),
  };
}

export async function loadDirectory(
  client: Client,
  scope: Scope,
  parent: Ino,
  after: number,
  limit: number,
): Promise<DirectoryPage> {
  const rows = await client.unsafe<DentryRow[]>(
    `SELECT ${DENTRY_COLUMNS} FROM tarbox.dentries d, LATERAL ${inodeOf('d.ino')} AS i
     WHERE d.tenant_id = $1 AND d.parent = $3 AND d.cookie > $4 AND d.cookie > 0 AND d.ino IS NOT NULL
       AND d.layer_id = (SELECT layer_id FROM ${dentryOf('d.name')} AS newest)
     ORDER BY d.cookie LIMIT $5`,
    [scope.lease.tenantId, scope.view, parent, after, limit],
    prepared,
  );
  return {
    dentries: rows.map((row) => dentryImage(parent, row)),
    inodes: rows.map(inodeImage),
    complete: rows.length < limit,
  };
}

export async function loadName(
  client: Client,
  scope: Scope,
  parent: Ino,
  name: ByteString,
): Promise<{ dentry: DentryImage; inode: InodeImage } | undefined> {
  const [row] = await client.unsafe<DentryRow[]>(
    `SELECT ${DENTRY_COLUMNS} FROM ${dentryOf('$4')} AS d, LATERAL ${inodeOf('d.ino')} AS i`,
    [scope.lease.tenantId, scope.view, parent, Buffer.from(name, 'latin1')],
    prepared,
  );
  return row === undefined ? undefined : { dentry: dentryImage(parent, row), inode: inodeImage(row) };
}

interface SegmentRow {
  ino: string;
  segment: string;
  chunks: Buffer | null;
  inline: Buffer | null;
}

function segmentImage(row: SegmentRow): SegmentImage {
  return {
    ino: Number(row.ino) as Ino, // the column holds inode numbers
    index: Number(row.segment),
    chunks: row.chunks === null ? [] : unpackChunks(row.chunks),
    inline: row.inline,
  };
}

export async function loadSegments(
  client: Client,
  scope: Scope,
  ino: Ino,
  from: number,
  to: number,
): Promise<SegmentImage[]> {
  const rows = await client.unsafe<SegmentRow[]>(
    `SELECT DISTINCT ON (segment) ino, segment, chunks, inline FROM tarbox.contents
     WHERE tenant_id = $1 AND $2::int8multirange @> layer_id AND ino = $3 AND segment >= $4 AND segment < $5
     ORDER BY segment, layer_id DESC`,
    [scope.lease.tenantId, scope.view, ino, from, to],
    prepared,
  );
  return rows.map(segmentImage);
}

/** Rows are given in the order of `inos` while their inline bytes fit. */
export async function loadFirstSegments(
  client: Client,
  scope: Scope,
  inos: readonly Ino[],
  maxBytes: number,
): Promise<SegmentImage[]> {
  const rows = await client.unsafe<SegmentRow[]>(
    `SELECT ino, segment, chunks, inline FROM (
       SELECT c.*, sum(coalesce(length(inline), 0)) OVER (ORDER BY wanted.n) AS total
       FROM unnest($3::bigint[]) WITH ORDINALITY AS wanted (ino, n), LATERAL (
         SELECT ino, segment, chunks, inline FROM tarbox.contents
         WHERE tenant_id = $1 AND $2::int8multirange @> layer_id AND ino = wanted.ino AND segment = 0
         ORDER BY layer_id DESC LIMIT 1) AS c) AS found
     WHERE total <= $4 OR ino = $5`,
    [scope.lease.tenantId, scope.view, `{${inos.join()}}`, maxBytes, inos[0] ?? 0],
    prepared,
  );
  return rows.map(segmentImage);
}
