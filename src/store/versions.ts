import type { Ino, LayerId } from '../brand.ts';
import type { Moment, NameVersion } from '../layers/port.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { loadChanged, loadNamesOf } from './layers.ts';
import type { Lease } from './lease.ts';
import { loadDirectory, loadFirstSegments, loadInodes, loadSegments, type Scope } from './loads.ts';
import { viewOf } from './view.ts';

const prepared = { prepare: true } as const;
const DIRECTORY = 4;

/**
 * Runs `work` on what is committed when it begins (PostgreSQL manual, Repeatable Read Isolation Level). Should the
 * connection be lost between two of its statements, the rest may see what was committed since.
 */
export async function atOneMoment<T>(client: Client, lease: Lease, work: (moment: Moment) => Promise<T>): Promise<T> {
  await client.unsafe('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  const result = await work(momentOf(client, lease));
  await client.unsafe('COMMIT');
  return result;
}

function momentOf(client: Client, lease: Lease): Moment {
  return {
    tree: (place) => {
      const scope: Scope = { lease, view: viewOf(place) };
      return {
        inodes: (inos) => loadInodes(client, scope, inos),
        directory: (parent, after, limit) => loadDirectory(client, scope, parent, after, limit),
        firstSegments: (inos, maxBytes) => loadFirstSegments(client, scope, inos, maxBytes),
        segments: (ino, from, to) => loadSegments(client, scope, ino, from, to),
      };
    },
    changed: (from, to, between) => loadChanged(client, lease, from, to, between),
    namesOf: (place, inos) => loadNamesOf(client, lease, place, inos),
    nameVersions: (place, parents, name) => loadNameVersions(client, lease, place, parents, name),
    namesEver: (place, parents) => loadNamesEver(client, lease, place, parents),
    layersOf: (place, ino) => loadLayersOf(client, lease, place, ino),
  };
}

async function loadNameVersions(
  client: Client,
  lease: Lease,
  place: Place,
  parents: readonly Ino[],
  name: ByteString,
): Promise<NameVersion[]> {
  const rows = await client.unsafe<{ parent: string; layer_id: string; ino: string | null; type: number }[]>(
    `SELECT d.parent, d.layer_id, d.ino, d.type FROM unnest($3::bigint[]) AS wanted (parent), LATERAL (
       SELECT parent, layer_id, ino, type FROM tarbox.dentries
       WHERE tenant_id = $1 AND parent = wanted.parent AND name = $4 AND $2::int8multirange @> layer_id OFFSET 0) AS d
     ORDER BY d.layer_id`,
    [lease.tenantId, viewOf(place), `{${parents.join()}}`, Buffer.from(name, 'latin1')],
    prepared,
  );
  // The columns hold inode and layer numbers.
  return rows.map(({ parent, layer_id, ino, type }) => ({
    parent: Number(parent) as Ino,
    layer: Number(layer_id) as LayerId,
    ino: ino === null ? undefined : (Number(ino) as Ino),
    isDirectory: type === DIRECTORY,
  }));
}

async function loadNamesEver(
  client: Client,
  lease: Lease,
  place: Place,
  parents: readonly Ino[],
): Promise<{ name: ByteString; isDirectory: boolean }[]> {
  const rows = await client.unsafe<{ name: Buffer; type: number }[]>(
    `SELECT DISTINCT ON (d.name) d.name, d.type FROM unnest($3::bigint[]) AS wanted (parent), LATERAL (
       SELECT name, type, layer_id FROM tarbox.dentries
       WHERE tenant_id = $1 AND parent = wanted.parent AND $2::int8multirange @> layer_id AND ino IS NOT NULL
       OFFSET 0) AS d
     ORDER BY d.name, d.layer_id DESC`,
    [lease.tenantId, viewOf(place), `{${parents.join()}}`],
    prepared,
  );
  return rows.map(({ name, type }) => ({ name: name.toString('latin1'), isDirectory: type === DIRECTORY }));
}

async function loadLayersOf(client: Client, lease: Lease, place: Place, ino: Ino): Promise<LayerId[]> {
  const rows = await client.unsafe<{ layer_id: string }[]>(
    `SELECT layer_id FROM tarbox.inodes WHERE tenant_id = $1 AND ino = $3 AND $2::int8multirange @> layer_id
     ORDER BY layer_id DESC`,
    [lease.tenantId, viewOf(place), ino],
    prepared,
  );
  return rows.map(({ layer_id }) => Number(layer_id) as LayerId); // the column holds layer numbers
}
