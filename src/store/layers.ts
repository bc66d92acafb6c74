import type { Ino, LayerId } from '../brand.ts';
import type { ChangedInode, Command, LayerRecord, Mounted, NameOf, SwitchRequest } from '../layers/port.ts';
import { type Place, StoreError } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import type { Lease } from './lease.ts';
import { viewOf } from './view.ts';

const prepared = { prepare: true } as const;

/** As `fence` of a commit; $1 is the tenant, $2 the epoch, $3 the commit's number. */
export const fenced = (set = '') => `fence AS (
  UPDATE tarbox.tenants SET commit_number = $3${set}
  WHERE tenant_id = $1 AND lease_epoch = $2 AND commit_number < $3 RETURNING tenant_id)`;

/** The casts of this file give the numbers of these columns their names. */
const layerId = (value: string | number): LayerId => Number(value) as LayerId;
const inoOf = (value: string): Ino => Number(value) as Ino;
export const idList = (ids: readonly number[]): string => `{${ids.join()}}`;

interface LayerRow {
  layer_id: string;
  parent_id: string | null;
  name: string | null;
  description: string;
  created_at: Date;
  frozen_at: Date | null;
  used_bytes: string;
  used_inodes: string;
  first_ino: string;
  first_cookie: string;
}

export async function loadLayers(
  client: Client,
  lease: Lease,
): Promise<{ layers: LayerRecord[]; working: LayerId; nextLayer: number }> {
  const rows = await client.unsafe<LayerRow[]>(
    `SELECT layer_id, parent_id, name, description, created_at, frozen_at, used_bytes, used_inodes, first_ino, first_cookie
     FROM tarbox.layers WHERE tenant_id = $1 ORDER BY layer_id`,
    [lease.tenantId],
  );
  const [tenant] = await client.unsafe<{ working_layer: string; next_layer: string }[]>(
    'SELECT working_layer, next_layer FROM tarbox.tenants WHERE tenant_id = $1',
    [lease.tenantId],
  );
  if (tenant === undefined) throw new Error(`tenant ${lease.tenantId} is not stored`);
  return {
    layers: rows.map((row) => ({
      id: layerId(row.layer_id),
      parent: row.parent_id === null ? undefined : layerId(row.parent_id),
      name: row.name ?? undefined,
      description: row.description,
      createdAt: row.created_at,
      frozenAt: row.frozen_at ?? undefined,
      usedBytes: Number(row.used_bytes),
      usedInodes: Number(row.used_inodes),
      firstIno: Number(row.first_ino),
      firstCookie: Number(row.first_cookie),
    })),
    working: layerId(tenant.working_layer),
    nextLayer: Number(tenant.next_layer),
  };
}

export async function loadTags(client: Client, lease: Lease): Promise<Map<string, LayerId>> {
  const rows = await client.unsafe<{ name: string; layer_id: string }[]>(
    'SELECT name, layer_id FROM tarbox.tags WHERE tenant_id = $1 ORDER BY name',
    [lease.tenantId],
  );
  return new Map(rows.map((row) => [row.name, layerId(row.layer_id)]));
}

/** Notes the command that a statement carries out; its request, layer and name are parameters from `first` on. */
const commanded = (first: number): string => `commanded AS (
  INSERT INTO tarbox.commands (tenant_id, request, layer_id, name)
  SELECT $1, $${first}::bigint, $${first + 1}::bigint, $${first + 2}::text FROM fence
  ON CONFLICT (tenant_id) DO UPDATE SET request = excluded.request, layer_id = excluded.layer_id, name = excluded.name)`;
const commandValues = ({ request, layer, name }: Command) => [request, layer, name];

/** Runs a statement whose last part tells whether the fence held. */
async function change(client: Client, text: string, values: readonly (string | number)[]): Promise<void> {
  const rows = await client.unsafe<{ held: number }[]>(
    `WITH ${text} SELECT count(*)::integer AS held FROM fence`,
    [...values],
    prepared,
  );
  requireHeld(rows[0]?.held === 1);
}

function requireHeld(held: boolean): void {
  if (!held) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
}

export function setTag(client: Client, lease: Lease, number: number, name: string, command: Command): Promise<void> {
  return change(
    client,
    `${fenced()}, ${commanded(5)}, tagged AS (
      INSERT INTO tarbox.tags (tenant_id, name, layer_id) SELECT $1, $4, $6::bigint FROM fence
      ON CONFLICT (tenant_id, name) DO UPDATE SET layer_id = excluded.layer_id)`,
    [lease.tenantId, lease.epoch, number, name, ...commandValues(command)],
  );
}

export function removeTag(client: Client, lease: Lease, number: number, name: string, command: Command): Promise<void> {
  return change(
    client,
    `${fenced()}, ${commanded(5)},
    untagged AS (DELETE FROM tarbox.tags t USING fence WHERE t.tenant_id = $1 AND t.name = $4)`,
    [lease.tenantId, lease.epoch, number, name, ...commandValues(command)],
  );
}

export async function isEmptyLayer(client: Client, lease: Lease, layer: LayerId): Promise<boolean> {
  // Whatever changes, an inode changes with it.
  const rows = await client.unsafe(
    'SELECT 1 FROM tarbox.inodes WHERE tenant_id = $1 AND layer_id = $2 AND layer_id > 0 LIMIT 1',
    [lease.tenantId, layer],
    prepared,
  );
  return rows.length === 0;
}

/** The newest row of the inode `c.ino` in a view. */
const newestIn = (view: string): string => `(
  SELECT layer_id, CASE WHEN deleted THEN NULL ELSE mode END AS mode, nlink, uid, gid, size, mtime, ctime
  FROM tarbox.inodes
  WHERE tenant_id = $1 AND ino = c.ino AND ${view}::int8multirange @> layer_id ORDER BY layer_id DESC LIMIT 1)`;
/** No two versions have the same of these: whatever changes, ctime does. */
const VERSION = ['mode', 'nlink', 'uid', 'gid', 'size', 'mtime', 'ctime'];
const versionOf = (row: string): string => `ROW(${VERSION.map((column) => `${row}.${column}`).join(', ')})`;

/**
 * Inodes with a row in the layers `between`, and with another newest one in the second view than in the first. Where a
 * layer was dropped, those that built on it have copies, which are no other version.
 */
const changedBetween = (between: string, from: string, to: string): string => `
  SELECT c.ino, b.mode AS before, a.mode AS after
  FROM (
    SELECT DISTINCT ino FROM tarbox.inodes
    WHERE tenant_id = $1 AND layer_id > 0 AND layer_id = ANY (${between}::bigint[]) OFFSET 0) AS c
  LEFT JOIN LATERAL ${newestIn(from)} AS b ON true
  LEFT JOIN LATERAL ${newestIn(to)} AS a ON true
  WHERE a.layer_id IS DISTINCT FROM b.layer_id AND (a.mode IS NOT NULL OR b.mode IS NOT NULL)
    AND ${versionOf('a')} IS DISTINCT FROM ${versionOf('b')}`;

interface ChangedRow {
  ino: string;
  before: number | null;
  after: number | null;
}

function changedInode({ ino, before, after }: ChangedRow): ChangedInode {
  return { ino: inoOf(ino), before: before ?? undefined, after: after ?? undefined };
}

export async function loadChanged(
  client: Client,
  lease: Lease,
  from: Place,
  to: Place,
  between: readonly LayerId[],
): Promise<ChangedInode[]> {
  const rows = await client.unsafe<ChangedRow[]>(
    changedBetween('$2', '$3', '$4'),
    [lease.tenantId, idList(between), viewOf(from), viewOf(to)],
    prepared,
  );
  return rows.map(changedInode);
}

const FILE_TYPE = 0o170000;
const REGULAR = 0o100000;

export async function switchTo(
  client: Client,
  lease: Lease,
  number: number,
  request: SwitchRequest,
): Promise<ChangedInode[]> {
  const { command, working, target, from, to, between, view, usedBytes, usedInodes } = request;
  const rows = await client.unsafe<(ChangedRow & { held: boolean })[]>(
    `WITH ${fenced(
      ', used_bytes = $4, used_inodes = $5, next_view = $6::bigint + 1, switched_from = $12::bigint, switched_to = $7::bigint',
    )}, ${commanded(13)},
     reparented AS (
       UPDATE tarbox.layers SET parent_id = $7::bigint FROM fence WHERE layers.tenant_id = $1 AND layers.layer_id = $8),
     changed AS MATERIALIZED (${changedBetween('$9', '$10', '$11')}),
     moved AS (
       INSERT INTO tarbox.moved (tenant_id, ino, view, layer_id)
       SELECT $1, ino, $6::bigint, $12::bigint FROM fence, changed WHERE before & ${FILE_TYPE} = ${REGULAR}
       ON CONFLICT DO NOTHING)
     SELECT ino, before, after, true AS held FROM fence, changed
     UNION ALL SELECT NULL, NULL, NULL, EXISTS (SELECT FROM fence)`,
    [
      ...[lease.tenantId, lease.epoch, number, usedBytes, usedInodes, view, target, working],
      ...[idList(between), viewOf(from), viewOf(to), from.layer, ...commandValues(command)],
    ],
    prepared,
  );
  requireHeld(rows.every(({ held }) => held));
  return rows.filter(({ ino }) => ino !== null).map(changedInode);
}

interface CommandRow {
  request: string;
  layer_id: string;
  name: string;
}

export async function loadMounted(client: Client, lease: Lease): Promise<Mounted> {
  const rows = await client.unsafe<{ ino: string; view: string; layer_id: string }[]>(
    'SELECT ino, view, layer_id FROM tarbox.moved WHERE tenant_id = $1 ORDER BY view',
    [lease.tenantId],
  );
  const [tenant] = await client.unsafe<
    { next_view: string; switched_from: string | null; switched_to: string | null }[]
  >('SELECT next_view, switched_from, switched_to FROM tarbox.tenants WHERE tenant_id = $1', [lease.tenantId]);
  const [command] = await client.unsafe<CommandRow[]>(
    'SELECT request, layer_id, name FROM tarbox.commands WHERE tenant_id = $1',
    [lease.tenantId],
  );
  const { switched_from: from = null, switched_to: to = null } = tenant ?? {};
  return {
    files: rows.map((row) => ({ ino: inoOf(row.ino), view: Number(row.view), layer: layerId(row.layer_id) })),
    nextView: Number(tenant?.next_view ?? 1),
    lastSwitch: from === null || to === null ? undefined : { from: layerId(from), to: layerId(to) },
    lastCommand: command && {
      request: Number(command.request),
      layer: layerId(command.layer_id),
      name: command.name,
    },
  };
}

/** Rows of a file that belong to no layer: a copy for the earlier views of it. */
const isHeld = (table: string): string =>
  `t.tenant_id = $1
  AND (t.ino, t.layer_id) IN (SELECT ino, layer_id FROM tarbox.moved WHERE tenant_id = $1) AND t.layer_id NOT IN (
    SELECT layer_id FROM tarbox.layers WHERE tenant_id = $1)`.replaceAll('t.', `${table}.`);

export function forgetMounted(client: Client, lease: Lease, number: number): Promise<void> {
  return change(
    client,
    `${fenced(', next_view = 1, switched_from = NULL, switched_to = NULL')},
    answered AS (DELETE FROM tarbox.commands c USING fence WHERE c.tenant_id = $1),
    forgotten AS (DELETE FROM tarbox.moved m USING fence WHERE m.tenant_id = $1),
    inodes_let_go AS (DELETE FROM tarbox.inodes USING fence WHERE ${isHeld('inodes')}),
    contents_let_go AS (DELETE FROM tarbox.contents USING fence WHERE ${isHeld('contents')})`,
    [lease.tenantId, lease.epoch, number],
  );
}

export async function loadNamesOf(
  client: Client,
  lease: Lease,
  place: Place,
  inos: readonly Ino[],
): Promise<(NameOf & { ino: Ino })[]> {
  const rows = await client.unsafe<{ ino: string; parent: string; name: Buffer }[]>(
    `SELECT d.ino, d.parent, d.name FROM unnest($3::bigint[]) AS wanted (ino), LATERAL (
       SELECT ino, parent, name, layer_id FROM tarbox.dentries
       WHERE tenant_id = $1 AND ino = wanted.ino AND ino > 0 AND $2::int8multirange @> layer_id OFFSET 0) AS d
     WHERE d.layer_id = (SELECT n.layer_id FROM tarbox.dentries n
       WHERE n.tenant_id = $1 AND n.parent = d.parent AND n.name = d.name AND $2::int8multirange @> n.layer_id
       ORDER BY n.layer_id DESC LIMIT 1)`,
    [lease.tenantId, viewOf(place), idList(inos)],
    prepared,
  );
  return rows.map(({ ino, parent, name }) => ({
    ino: inoOf(ino),
    parent: inoOf(parent),
    name: name.toString('latin1'),
  }));
}

/** The tables whose rows belong to layers: what tells rows of a layer apart, and the rest. */
export const VERSIONED = [
  {
    table: 'inodes',
    key: ['ino'],
    rest: [
      ...['parent', 'size', 'allocated', 'atime', 'mtime', 'ctime', 'btime', 'mode', 'nlink', 'uid', 'gid', 'rdev'],
      ...['deleted', 'target', 'xattrs'],
    ],
  },
  { table: 'dentries', key: ['parent', 'name'], rest: ['ino', 'cookie', 'type'] },
  { table: 'contents', key: ['ino', 'segment'], rest: ['chunks', 'inline'] },
] as const;

const sameKey = (key: readonly string[], a: string, b: string): string =>
  ['tenant_id', ...key].map((column) => `${a}.${column} = ${b}.${column}`).join(' AND ');

export function holdFiles(
  client: Client,
  lease: Lease,
  number: number,
  inos: readonly Ino[],
  place: Place,
  copy: LayerId,
): Promise<void> {
  const [inodes, , contents] = VERSIONED;
  return change(
    client,
    `${fenced(', next_layer = greatest(next_layer, $6::bigint + 1)')},
    files AS (SELECT ino FROM fence, unnest($4::bigint[]) AS files (ino)),
    inodes_held AS (
      INSERT INTO tarbox.inodes (tenant_id, layer_id, ino, ${inodes.rest.join(', ')})
      SELECT $1, $6::bigint, i.ino, ${inodes.rest.map((column) => `i.${column}`).join(', ')}
      FROM files, LATERAL (
        SELECT * FROM tarbox.inodes WHERE tenant_id = $1 AND ino = files.ino AND $5::int8multirange @> layer_id
        ORDER BY layer_id DESC LIMIT 1) AS i
      ON CONFLICT DO NOTHING),
    contents_held AS (
      INSERT INTO tarbox.contents (tenant_id, layer_id, ino, segment, ${contents.rest.join(', ')})
      SELECT $1, $6::bigint, c.ino, c.segment, ${contents.rest.map((column) => `c.${column}`).join(', ')}
      FROM files, LATERAL (
        SELECT DISTINCT ON (segment) * FROM tarbox.contents
        WHERE tenant_id = $1 AND ino = files.ino AND $5::int8multirange @> layer_id
        ORDER BY segment, layer_id DESC) AS c
      ON CONFLICT DO NOTHING),
    pointed AS (
      UPDATE tarbox.moved m SET layer_id = $6::bigint FROM files
      WHERE m.tenant_id = $1 AND m.ino = files.ino AND m.layer_id = $7::bigint)`,
    [lease.tenantId, lease.epoch, number, idList(inos), viewOf(place), copy, place.layer],
  );
}

/** Whether a layer, or one of several, has a file that is deleted for good: then nothing needs its content there. */
const deletedIn = (row: string, layers: string): string => `EXISTS (SELECT FROM tarbox.inodes d
  WHERE d.tenant_id = $1 AND d.ino = ${row}.ino AND d.layer_id = ${layers} AND d.deleted)`;

/** Copies what a child doesn't have itself to it, and removes the layer with its tags. */
export function dropLayer(
  client: Client,
  lease: Lease,
  number: number,
  command: Command,
  parent: LayerId,
  children: readonly LayerId[],
): Promise<void> {
  const parts = VERSIONED.map(({ table, key, rest }) => {
    const columns = [...key, ...rest].join(', ');
    const values = [...key, ...rest].map((column) => `o.${column}`).join(', ');
    return `${table}_inherited AS (
      INSERT INTO tarbox.${table} (tenant_id, layer_id, ${columns})
      SELECT $1, heir.id, ${values} FROM fence, unnest($6::bigint[]) AS heir (id), tarbox.${table} o
      WHERE o.tenant_id = $1 AND o.layer_id = $4 AND o.layer_id > 0 AND NOT EXISTS (
        SELECT FROM tarbox.${table} n WHERE ${sameKey(key, 'n', 'o')} AND n.layer_id = heir.id)
      ${table === 'contents' ? `AND NOT ${deletedIn('o', 'heir.id')}` : ''}),
    ${table}_dropped AS (
      DELETE FROM tarbox.${table} t USING fence WHERE t.tenant_id = $1 AND t.layer_id = $4 AND t.layer_id > 0)`;
  });
  return change(
    client,
    `${fenced()}, ${commanded(7)}, ${parts.join(', ')},
    reparented AS (
      UPDATE tarbox.layers l SET parent_id = $5 FROM fence WHERE l.tenant_id = $1 AND l.parent_id = $4),
    untagged AS (DELETE FROM tarbox.tags t USING fence WHERE t.tenant_id = $1 AND t.layer_id = $4),
    gone AS (DELETE FROM tarbox.layers l USING fence WHERE l.tenant_id = $1 AND l.layer_id = $4)`,
    [lease.tenantId, lease.epoch, number, command.layer, parent, idList(children), ...commandValues(command)],
  );
}

/** Of each row the newest version in the run stays, as the last layer's; of files that are deleted in it, no content. */
export function squashLayers(
  client: Client,
  lease: Lease,
  number: number,
  command: Command,
  run: readonly LayerId[],
  parent: LayerId,
): Promise<void> {
  const parts = VERSIONED.map(({ table, key }) => {
    const superseded = `EXISTS (SELECT FROM tarbox.${table} n WHERE ${sameKey(key, 'n', 't')}
      AND n.layer_id > t.layer_id AND n.layer_id = ANY ($4::bigint[]))`;
    const newer = table === 'contents' ? `(${superseded} OR ${deletedIn('t', 'ANY ($4::bigint[])')})` : superseded;
    const older = `t.tenant_id = $1 AND t.layer_id > 0 AND t.layer_id = ANY ($4::bigint[]) AND t.layer_id <> $5`;
    return `${table}_superseded AS (DELETE FROM tarbox.${table} t USING fence WHERE ${older} AND ${newer}),
    ${table}_kept AS (UPDATE tarbox.${table} t SET layer_id = $5 FROM fence WHERE ${older} AND NOT ${newer})`;
  });
  return change(
    client,
    `${fenced()}, ${commanded(8)}, ${parts.join(', ')},
    named AS (
      UPDATE tarbox.layers l SET name = $7, parent_id = $6,
        first_ino = (SELECT min(first_ino) FROM tarbox.layers f WHERE f.tenant_id = $1 AND f.layer_id = ANY ($4::bigint[])),
        first_cookie = (SELECT min(first_cookie) FROM tarbox.layers f WHERE f.tenant_id = $1 AND f.layer_id = ANY ($4::bigint[]))
      FROM fence WHERE l.tenant_id = $1 AND l.layer_id = $5),
    retagged AS (
      UPDATE tarbox.tags t SET layer_id = $5 FROM fence WHERE t.tenant_id = $1 AND t.layer_id = ANY ($4::bigint[])),
    gone AS (
      DELETE FROM tarbox.layers l USING fence
      WHERE l.tenant_id = $1 AND l.layer_id = ANY ($4::bigint[]) AND l.layer_id <> $5)`,
    [
      ...[lease.tenantId, lease.epoch, number, idList(run), command.layer, parent, command.name],
      ...commandValues(command),
    ],
  );
}
