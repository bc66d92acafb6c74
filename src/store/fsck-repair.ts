import type { LayerId } from '../brand.ts';
import type { Repairs } from '../layers/port.ts';
import { type Place, StoreError } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { fenced, idList, VERSIONED } from './layers.ts';
import type { Lease } from './lease.ts';
import { viewOf } from './view.ts';

const prepared = { prepare: true } as const;
const FILE_TYPE_SHIFT = 12;

/** Runs one change; see `fenced`. */
type Change = <T>(work: (client: Client, number: number) => Promise<T>) => Promise<T>;
type Value = string | number | Buffer;

/** Writes repairs, each in a transaction of its own: any of them makes the tree better. */
export async function repairTree(change: Change, lease: Lease, repairs: Repairs): Promise<void> {
  const run = (text: string, values: readonly Value[], set = '') =>
    change(async (client, number) => {
      const [row] = await client.unsafe<{ held: number }[]>(
        `WITH ${fenced(set)}, ${text} SELECT count(*)::integer AS held FROM fence`,
        [lease.tenantId, lease.epoch, number, ...values],
        prepared,
      );
      if (row?.held !== 1) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
    });
  for (const [place, inodes] of byPlace(repairs.inodes)) await run(REPAIR_INODES, inodeValues(place, inodes));
  for (const { parent, name, layer } of repairs.names)
    await run(HIDE_NAME, [layer, parent, Buffer.from(name, 'latin1')]);
  for (const { ino, layer } of repairs.contents) await run(DROP_CONTENT, [layer, ino]);
  for (const [place, files] of byPlace(repairs.types))
    await run(REPAIR_TYPES, [viewOf(place), idList(files.map(({ ino }) => ino))]);
  for (const { layer, bytes, inodes, working } of repairs.totals) {
    const set = working ? ', used_bytes = $5, used_inodes = $6' : '';
    await run(REPAIR_TOTALS, [layer, bytes, inodes], set);
  }
  for (const tag of repairs.tags)
    await run('untagged AS (DELETE FROM tarbox.tags t USING fence WHERE t.tenant_id = $1 AND t.name = $4)', [tag]);
}

function byPlace<T extends { readonly place: Place }>(repairs: readonly T[]): readonly (readonly [Place, T[]])[] {
  const groups = new Map<LayerId, [Place, T[]]>();
  for (const repair of repairs) {
    const group = groups.get(repair.place.layer);
    if (group === undefined) groups.set(repair.place.layer, [repair.place, [repair]]);
    else group[1].push(repair);
  }
  return [...groups.values()];
}

const [{ rest: INODE_REST }] = VERSIONED;
const REPAIRED = ['nlink', 'parent', 'allocated'];

/** The layer gets a row of its own where the wrong one is of a layer below, for which it may be right. */
const REPAIR_INODES = `repaired AS (
  INSERT INTO tarbox.inodes (tenant_id, layer_id, ino, ${INODE_REST.join(', ')})
  SELECT $1, $4::bigint, i.ino, ${INODE_REST.map((column) =>
    REPAIRED.includes(column) ? `COALESCE(given.${column}, i.${column})` : `i.${column}`,
  ).join(', ')}
  FROM fence, unnest($6::bigint[], $7::integer[], $8::bigint[], $9::bigint[]) AS given (ino, nlink, parent, allocated),
    LATERAL (
      SELECT * FROM tarbox.inodes WHERE tenant_id = $1 AND ino = given.ino AND $5::int8multirange @> layer_id
      ORDER BY layer_id DESC LIMIT 1) AS i
  ON CONFLICT (tenant_id, ino, layer_id)
  DO UPDATE SET ${REPAIRED.map((column) => `${column} = excluded.${column}`).join(', ')})`;

function inodeValues(place: Place, inodes: Repairs['inodes']): Value[] {
  const list = (value: (inode: Repairs['inodes'][number]) => number | undefined) =>
    `{${inodes.map((inode) => value(inode) ?? 'NULL').join()}}`;
  const lists = [list(({ ino }) => ino), list(({ nlink }) => nlink), list(({ parent }) => parent)];
  return [place.layer, viewOf(place), ...lists, list(({ allocated }) => allocated)];
}

const HIDE_NAME = `hidden AS (
  INSERT INTO tarbox.dentries (tenant_id, layer_id, parent, name, ino, cookie, type)
  SELECT $1, $4::bigint, $5::bigint, $6::bytea, NULL, 0, 0 FROM fence
  ON CONFLICT (tenant_id, parent, name, layer_id) DO UPDATE SET ino = NULL, cookie = 0, type = 0)`;

const DROP_CONTENT = `dropped AS (
  DELETE FROM tarbox.contents c USING fence WHERE c.tenant_id = $1 AND c.ino = $5 AND c.layer_id = $4)`;

const REPAIR_TYPES = `typed AS (
  UPDATE tarbox.dentries d SET type = i.mode >> ${FILE_TYPE_SHIFT}
  FROM fence, unnest($5::bigint[]) AS given (ino), LATERAL (
    SELECT mode FROM tarbox.inodes WHERE tenant_id = $1 AND ino = given.ino AND $4::int8multirange @> layer_id
    ORDER BY layer_id DESC LIMIT 1) AS i
  WHERE d.tenant_id = $1 AND d.ino = given.ino AND d.ino > 0 AND $4::int8multirange @> d.layer_id)`;

const REPAIR_TOTALS = `totalled AS (
  UPDATE tarbox.layers l SET used_bytes = $5::bigint, used_inodes = $6::bigint FROM fence
  WHERE l.tenant_id = $1 AND l.layer_id = $4)`;
