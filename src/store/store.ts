import type { AuditStore } from '../audit/port.ts';
import { Coder } from '../content/coder.ts';
import { DeltaCoder } from '../content/delta-coder.ts';
import type {
  CheckStore,
  GarbageStore,
  LayerStore,
  PackStore,
  RepairStore,
  UsageStore,
  VersionStore,
} from '../layers/port.ts';
import { type Commits, type Loads, type Place, StoreError } from '../vfs/store.ts';
import { type AuditConnections, auditConnections, auditStore } from './audit.ts';
import { checkStore } from './checking.ts';
import { type Coders, loadChunks, putChunks } from './chunks.ts';
import { commitBatch } from './commit.ts';
import { type Client, Connection, type DatabaseOptions } from './connection.ts';
import { garbageStore } from './garbage.ts';
import {
  dropLayer,
  forgetMounted,
  holdFiles,
  isEmptyLayer,
  loadChanged,
  loadLayers,
  loadMounted,
  loadNamesOf,
  loadTags,
  removeTag,
  setTag,
  squashLayers,
  switchTo,
} from './layers.ts';
import {
  type Lease,
  type LeaseRequest,
  type LeaseResult,
  leaseHolder,
  releaseLease,
  renewLease,
  takeLease,
} from './lease.ts';
import {
  loadDirectory,
  loadFirstSegments,
  loadInodes,
  loadName,
  loadNamesOfInode,
  loadOrphans,
  loadSegments,
  type Scope,
} from './loads.ts';
import { migrate, readMigrations } from './migrate.ts';
import { packStore } from './packing.ts';
import { bytesOfBatch, DiskSpace } from './space.ts';
import { chunkUsage, contentUsage, countUnpacked } from './usage.ts';
import { atOneMoment } from './versions.ts';
import { viewOf } from './view.ts';

/** A tenant's storage, once its lease is taken. */
export interface TenantStore {
  /** Loads from the tree that `place` names at the time of each load. */
  loads(place: () => Pick<Place, 'ranges' | 'layer'>): Loads;
  readonly commits: Commits;
  readonly layers: LayerStore;
  readonly garbage: GarbageStore;
  readonly check: CheckStore & RepairStore;
  readonly packing: PackStore;
  readonly usage: UsageStore;
  readonly versions: VersionStore;
  readonly audit: AuditStore;
}

/** A database, its schema up to date. Close it when done. */
export interface Store {
  takeLease(request: LeaseRequest): Promise<LeaseResult>;
  renewLease(lease: Lease, ttlMs: number): Promise<boolean>;
  leaseHolder(lease: Lease): Promise<string>;
  releaseLease(lease: Lease): Promise<void>;
  tenant(lease: Lease): TenantStore;
  /** As PostgreSQL names it, such as `15.18`. */
  serverVersion(): Promise<string>;
  close(): Promise<void>;
}

/**
 * Plans are made once, for lists of any length: nested loops over indexes, which suit short lists and cost long ones
 * little, whatever the statistics of a table that was empty a moment ago say.
 */
const PLANNING = {
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  plan_cache_mode: 'force_generic_plan',
  jit: 'off',
};
/**
 * Chunks needn't be on disk when they're stored: the commit that refers to them comes later in the same write-ahead
 * log, and flushing it flushes them too (PostgreSQL manual, Asynchronous Commit). A crash in between takes them; it
 * also ends the connections, and the commit is then refused.
 */
const LAZY = { synchronous_commit: 'off', ...PLANNING };

/** How long a comparison may hold its connection. */
const COMPARE_TIMEOUT_MS = 600_000;

/**
 * Connects, with `poolSize` connections (at least 4) and one more while layers are compared, and brings the schema up to date.
 *
 * @throws {StoreError} `unavailable` when the database can't be reached, `refused` when it doesn't let us in, when its
 *   schema is newer than this program, or when it's older than PostgreSQL 14.
 */
export async function openStore(options: DatabaseOptions, poolSize = 6): Promise<Store> {
  const control = new Connection(options, 'lease');
  // Beside the lease's and the commit's, half of the connections read and half store chunks.
  const connections = (name: string, count: number, settings: Readonly<Record<string, string>>): Connection[] =>
    Array.from({ length: count }, (_, index) => new Connection(options, `${name} ${index + 1}`, settings));
  const reading = connections('read', Math.ceil((poolSize - 2) / 2), PLANNING);
  const storing = connections('chunks', Math.floor((poolSize - 2) / 2), LAZY);
  const committing = new Connection(options, 'commit', PLANNING);
  // One of its own, made when someone compares: that may take long, and what is loaded for the tree must not wait for it.
  const comparing = new Connection({ ...options, statementTimeoutMs: COMPARE_TIMEOUT_MS }, 'compare', PLANNING);
  const coder = new Coder();
  const deltaCoder = new DeltaCoder();
  const reclaiming = new Connection(options, 'checkpoint');
  const upkeep = new Connection(options, 'upkeep', PLANNING);
  const audit = auditConnections(options);
  const all = [
    control,
    ...reading,
    ...storing,
    committing,
    comparing,
    reclaiming,
    upkeep,
    audit.writing,
    audit.looking,
  ];
  const close = async () => {
    await Promise.all(all.map((connection) => connection.close()));
    await Promise.all([coder.close(), deltaCoder.close()]);
  };
  let space: DiskSpace | undefined;
  try {
    await migrate(control, readMigrations());
    if ('socketDirectory' in options) space = await diskOf(control, reclaiming);
  } catch (problem) {
    await close();
    throw problem;
  }
  return {
    takeLease: (request) => takeLease(control, request),
    renewLease: (lease, ttlMs) => renewLease(control, lease, ttlMs),
    leaseHolder: (lease) => leaseHolder(control, lease),
    releaseLease: (lease) => releaseLease(control, lease),
    tenant: (lease) =>
      tenantStore(lease, { coder, deltaCoder, reading, storing, committing, comparing, upkeep, audit, space }),
    serverVersion: () =>
      control.run(async (client) => {
        const [row] = await client<{ server_version: string }[]>`SHOW server_version`;
        return row?.server_version ?? 'unknown';
      }),
    close,
  };
}

/** Takes turns among connections. */
function rotate(connections: readonly Connection[]): () => Connection {
  let next = 0;
  return () => {
    const connection = connections[next++ % connections.length];
    if (connection === undefined) throw new Error('there are no connections');
    return connection;
  };
}

/** The disk of a server of our own, which lets us ask where its data is. */
async function diskOf(control: Connection, reclaiming: Connection): Promise<DiskSpace> {
  const [row] = await control.run((client) => client.unsafe<{ data_directory: string }[]>('SHOW data_directory'));
  if (row === undefined) throw new Error('PostgreSQL does not say where its data is');
  return new DiskSpace(row.data_directory, () => {
    // When it can't be done, there's as little room as before, and that is what counts.
    reclaiming.run((client) => client.unsafe('CHECKPOINT')).catch(() => {});
  });
}

interface TenantParts extends Coders {
  readonly reading: readonly Connection[];
  readonly storing: readonly Connection[];
  readonly committing: Connection;
  readonly comparing: Connection;
  /** For collecting garbage, checking and packing. */
  readonly upkeep: Connection;
  readonly audit: AuditConnections;
  /** Of the server's disk, where we can look after it. */
  readonly space: DiskSpace | undefined;
}

function tenantStore(lease: Lease, parts: TenantParts): TenantStore {
  const { coder, reading, storing, committing, comparing, upkeep, audit, space } = parts;
  let changes = 0;
  const losses = () => [committing, ...storing].reduce((count, connection) => count + connection.losses, 0);
  /** The losses there were before the chunks were stored that the next commit may refer to. */
  let lossesBefore: number | undefined;
  const reader = rotate(reading);
  const writer = rotate(storing);
  const read = <T>(work: (client: Client) => Promise<T>): Promise<T> => reader().run(work);
  const change = <T>(work: (client: Client, number: number) => Promise<T>): Promise<T> => {
    const number = ++changes;
    return committing.run((client) => work(client, number));
  };
  const garbage = garbageStore(lease, upkeep, change);
  return {
    loads: (place) => {
      const scope: Scope = {
        lease,
        get view() {
          return viewOf(place());
        },
      };
      return {
        inodes: (inos) => read((client) => loadInodes(client, scope, inos)),
        directory: (parent, after, limit) => read((client) => loadDirectory(client, scope, parent, after, limit)),
        name: (parent, name) => read((client) => loadName(client, scope, parent, name)),
        namesOf: (ino) => read((client) => loadNamesOfInode(client, scope, ino)),
        segments: (ino, from, to) => read((client) => loadSegments(client, scope, ino, from, to)),
        firstSegments: (inos, maxBytes) => read((client) => loadFirstSegments(client, scope, inos, maxBytes)),
        chunks: (hashes, cached) => loadChunks(reader(), parts, lease.tenantId, hashes, cached),
        orphans: (own) => read((client) => loadOrphans(client, scope, own ? place().layer : undefined)),
      };
    },
    commits: {
      async putChunks(chunks) {
        space?.require(chunks.reduce((bytes, { length }) => bytes + length, 0));
        lossesBefore ??= losses();
        try {
          return await putChunks(writer(), coder, lease.tenantId, chunks);
        } catch (problem) {
          lossesBefore = undefined; // whoever asked has to store all of them again
          throw problem;
        }
      },
      async commit(batch) {
        space?.require(bytesOfBatch(batch));
        const before = lossesBefore;
        lossesBefore = undefined;
        if (before !== undefined && before !== losses())
          throw new StoreError(
            'unavailable',
            'the connection was lost after chunks were stored: they must be stored again',
          );
        garbage.refersTo(batch);
        await change((client, number) => commitBatch(client, lease, batch, number));
      },
    },
    garbage,
    packing: packStore(lease, upkeep, parts, change),
    usage: {
      chunks: (after, limit) => read((client) => chunkUsage(client, lease, after, limit)),
      contents: (after, limit) => read((client) => contentUsage(client, lease, after, limit)),
      unpacked: () => read((client) => countUnpacked(client, lease)),
    },
    audit: auditStore(lease, audit),
    check: checkStore(lease, upkeep, parts, change),
    layers: {
      layers: () => read((client) => loadLayers(client, lease)),
      tags: () => read((client) => loadTags(client, lease)),
      setTag: (name, command) => change((client, number) => setTag(client, lease, number, name, command)),
      removeTag: (name, command) => change((client, number) => removeTag(client, lease, number, name, command)),
      isEmpty: (layer) => read((client) => isEmptyLayer(client, lease, layer)),
      switchTo: (request) => change((client, number) => switchTo(client, lease, number, request)),
      changed: (from, to, between) => read((client) => loadChanged(client, lease, from, to, between)),
      namesOf: (place, inos) => read((client) => loadNamesOf(client, lease, place, inos)),
      mounted: () => read((client) => loadMounted(client, lease)),
      forgetMounted: () => change((client, number) => forgetMounted(client, lease, number)),
      hold: (inos, place, copy) => change((client, number) => holdFiles(client, lease, number, inos, place, copy)),
      drop: (command, parent, children) =>
        change((client, number) => dropLayer(client, lease, number, command, parent, children)),
      squash: (command, run, parent) =>
        change((client, number) => squashLayers(client, lease, number, command, run, parent)),
    },
    versions: {
      atOneMoment: (work) => comparing.run((client) => atOneMoment(client, lease, work)),
      chunks: (hashes) => loadChunks(comparing, parts, lease.tenantId, hashes),
    },
  };
}
