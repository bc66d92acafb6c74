import type { Commits, Loads } from '../vfs/store.ts';
import { loadChunks, putChunks } from './chunks.ts';
import { commitBatch } from './commit.ts';
import { type Client, Connection, type DatabaseOptions } from './connection.ts';
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
  loadOrphans,
  loadSegments,
  type Scope,
} from './loads.ts';
import { migrate, readMigrations } from './migrate.ts';
import { viewOf } from './view.ts';

/** A layer as `/.tarbox/layers/current` tells of it. */
export interface LayerRecord {
  readonly id: number;
  readonly name: string;
  readonly parent: number | null;
  readonly created_at: Date;
  readonly frozen: boolean;
}

/** A tenant's storage, once its lease is taken. */
export interface TenantStore {
  readonly loads: Loads;
  readonly commits: Commits;
  layer(): Promise<LayerRecord>;
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
 * log, and flushing it flushes them too (PostgreSQL manual, Asynchronous Commit).
 */
const LAZY = { synchronous_commit: 'off', ...PLANNING };

/**
 * Connects and brings the schema up to date.
 *
 * @throws {StoreError} `unavailable` when the database can't be reached, `refused` when it doesn't let us in, when its
 *   schema is newer than this program, or when it's older than PostgreSQL 14.
 */
export async function openStore(options: DatabaseOptions): Promise<Store> {
  const control = new Connection(options, 'lease');
  const reading = [new Connection(options, 'read 1', PLANNING), new Connection(options, 'read 2', PLANNING)];
  const storing = [new Connection(options, 'chunks 1', LAZY), new Connection(options, 'chunks 2', LAZY)];
  const committing = new Connection(options, 'commit', PLANNING);
  const all = [control, ...reading, ...storing, committing];
  const close = async () => {
    await Promise.all(all.map((connection) => connection.close()));
  };
  try {
    await migrate(control, readMigrations());
  } catch (problem) {
    await close();
    throw problem;
  }
  return {
    takeLease: (request) => takeLease(control, request),
    renewLease: (lease, ttlMs) => renewLease(control, lease, ttlMs),
    leaseHolder: (lease) => leaseHolder(control, lease),
    releaseLease: (lease) => releaseLease(control, lease),
    tenant: (lease) => tenantStore(lease, reading, storing, committing),
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

function tenantStore(
  lease: Lease,
  reading: readonly Connection[],
  storing: readonly Connection[],
  committing: Connection,
): TenantStore {
  const scope: Scope = { lease, view: viewOf(lease.layer) };
  const reader = rotate(reading);
  const writer = rotate(storing);
  const read = <T>(work: (client: Client) => Promise<T>): Promise<T> => reader().run(work);
  return {
    loads: {
      inodes: (inos) => read((client) => loadInodes(client, scope, inos)),
      directory: (parent, after, limit) => read((client) => loadDirectory(client, scope, parent, after, limit)),
      name: (parent, name) => read((client) => loadName(client, scope, parent, name)),
      segments: (ino, from, to) => read((client) => loadSegments(client, scope, ino, from, to)),
      firstSegments: (inos, maxBytes) => read((client) => loadFirstSegments(client, scope, inos, maxBytes)),
      chunks: (hashes) => loadChunks(reader(), lease.tenantId, hashes),
      orphans: () => read((client) => loadOrphans(client, scope)),
    },
    commits: {
      putChunks: (chunks) => putChunks(writer(), lease.tenantId, chunks),
      commit: (batch) => committing.run((client) => commitBatch(client, lease, batch)),
    },
    layer: () => read((client) => loadLayer(client, lease)),
  };
}

async function loadLayer(client: Client, lease: Lease): Promise<LayerRecord> {
  const [row] = await client.unsafe<{ name: string; parent_id: string | null; created_at: Date; frozen: boolean }[]>(
    `SELECT name, parent_id, created_at, frozen_at IS NOT NULL AS frozen FROM tarbox.layers
     WHERE tenant_id = $1 AND layer_id = $2`,
    [lease.tenantId, lease.layer],
  );
  if (row === undefined) throw new Error(`layer ${lease.layer} is not stored`);
  const parent = row.parent_id === null ? null : Number(row.parent_id);
  return { id: lease.layer, name: row.name, parent, created_at: row.created_at, frozen: row.frozen };
}
