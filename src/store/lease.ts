import { type Epoch, ROOT_INO, type TenantId } from '../brand.ts';
import { StoreError, type TenantState } from '../vfs/store.ts';
import type { Client, Connection } from './connection.ts';

export interface LeaseRequest {
  /** The tenant's name. */
  readonly tenant: string;
  /** Make it when it doesn't exist. */
  readonly create: boolean;
  /** The root directory of a tenant that is made: permission bits and owner; 0755 and root's when not given. */
  readonly root?: { readonly mode: number; readonly uid: number; readonly gid: number };
  /** Names the sidecar, for people and for its own next daemon. */
  readonly owner: string;
  /** The lease ends this long after it was last renewed, by the database's clock. */
  readonly ttlMs: number;
  /** An owner who is known to be gone; its lease needn't have run out. */
  readonly replaces?: string | undefined;
}

/** The tenant is ours to write. */
export interface Lease {
  readonly tenantId: TenantId;
  readonly epoch: Epoch;
  /** The first of the epochs that this owner has had without another in between. */
  readonly since: Epoch;
  readonly state: TenantState;
}

export type LeaseResult =
  | { readonly taken: true; readonly lease: Lease }
  | { readonly taken: false; readonly owner: string; readonly expires: Date };

/**
 * Takes the tenant when nobody has it, when its lease has run out, or when it was ours before. The epoch grows, so no
 * commit of an earlier holder succeeds any more; one that is under way is waited for (it holds the row), and the state
 * is what it left.
 *
 * @throws {StoreError} `refused` when there's no such tenant and it may not be made.
 */
export function takeLease(connection: Connection, request: LeaseRequest): Promise<LeaseResult> {
  return connection.run(async (client) => {
    if (request.create) await makeTenant(client, request);
    for (;;) {
      const held = await holderOf(client, request.tenant);
      const lease = await takeFrom(client, request, held.epoch);
      if (lease !== undefined) return { taken: true, lease };
      const { epoch, owner, expires } = await holderOf(client, request.tenant);
      // Otherwise someone took it, or gave it back, in between.
      if (epoch === held.epoch && owner !== null && expires !== null) return { taken: false, owner, expires };
    }
  });
}

const DIRECTORY_TYPE = 0o040000;

const ORDINARY_ROOT = { mode: 0o755, uid: 0, gid: 0 };

/** A tenant begins with a frozen layer that holds an empty root, and a working layer on top. */
async function makeTenant(client: Client, { tenant, root = ORDINARY_ROOT }: LeaseRequest): Promise<void> {
  await client.unsafe(
    `WITH made AS (INSERT INTO tarbox.tenants (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING tenant_id),
     base AS (
       INSERT INTO tarbox.layers (tenant_id, layer_id, name, frozen_at, packed)
       SELECT tenant_id, 1, 'base', clock_timestamp(), true FROM made),
     working AS (
       INSERT INTO tarbox.layers (tenant_id, layer_id, parent_id) SELECT tenant_id, 2, 1 FROM made)
     INSERT INTO tarbox.inodes (tenant_id, ino, layer_id, parent, size, allocated, atime, mtime, ctime, btime,
       mode, nlink, uid, gid, rdev)
     SELECT tenant_id, ${ROOT_INO}, 1, ${ROOT_INO}, 0, 0, t, t, t, t, $2, 2, $3::bigint::oid, $4::bigint::oid, 0
     FROM made, (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 AS t) AS clock`,
    [tenant, DIRECTORY_TYPE | root.mode, root.uid, root.gid],
  );
}

/**
 * More inode numbers than a daemon can have given out without their being stored. Its kernel may still know them, so who
 * takes the tenant from another owner leaves them out.
 */
const LOST_INOS = 2 ** 20;

interface Holder {
  readonly epoch: string;
  readonly owner: string | null;
  readonly expires: Date | null;
}

async function holderOf(client: Client, tenant: string): Promise<Holder> {
  const [row] = await client.unsafe<Holder[]>(
    'SELECT lease_epoch AS epoch, lease_owner AS owner, lease_expires AS expires FROM tarbox.tenants WHERE name = $1',
    [tenant],
  );
  if (row === undefined)
    throw new StoreError('refused', `there is no tenant '${tenant}', and TARBOX_TENANT_CREATE=false`);
  return row;
}

/**
 * Naming the epoch that it ends makes this harmless when it's carried out late, after its connection was given up and
 * the tenant taken on another: it would otherwise end our own lease.
 */
async function takeFrom(client: Client, request: LeaseRequest, epoch: string): Promise<Lease | undefined> {
  const { tenant, owner, ttlMs, replaces } = request;
  const [row] = await client.unsafe<LeaseRow[]>(
    `UPDATE tarbox.tenants
     SET lease_epoch = lease_epoch + 1, commit_number = 0, lease_owner = $2,
       lease_since = CASE WHEN lease_owner = $2 THEN lease_since ELSE lease_epoch + 1 END,
       next_ino = CASE WHEN lease_owner <> $2 THEN next_ino + ${LOST_INOS} ELSE next_ino END,
       lease_expires = clock_timestamp() + $3 * interval '1 ms'
     WHERE name = $1 AND lease_epoch = $5
       AND (lease_owner IS NULL OR lease_owner IN ($2, $4) OR lease_expires < clock_timestamp())
     RETURNING tenant_id, lease_epoch, lease_since, sequence, next_ino, next_cookie, used_bytes, used_inodes`,
    [tenant, owner, ttlMs, replaces ?? owner, epoch],
  );
  return row === undefined ? undefined : leaseOf(row);
}

interface LeaseRow {
  tenant_id: string;
  lease_epoch: string;
  lease_since: string;
  sequence: string;
  next_ino: string;
  next_cookie: string;
  used_bytes: string;
  used_inodes: string;
}

function leaseOf(row: LeaseRow): Lease {
  return {
    // The casts give the numbers of these columns their names.
    tenantId: Number(row.tenant_id) as TenantId,
    epoch: Number(row.lease_epoch) as Epoch,
    since: Number(row.lease_since) as Epoch,
    state: {
      sequence: Number(row.sequence),
      nextIno: Number(row.next_ino),
      nextCookie: Number(row.next_cookie),
      usedBytes: Number(row.used_bytes),
      usedInodes: Number(row.used_inodes),
    },
  };
}

/** Makes the lease last `ttlMs` from now. False when another epoch holds the tenant. */
export function renewLease(connection: Connection, lease: Lease, ttlMs: number): Promise<boolean> {
  return connection.run(async (client) => {
    const rows = await client.unsafe(
      `UPDATE tarbox.tenants SET lease_expires = clock_timestamp() + $3 * interval '1 ms'
       WHERE tenant_id = $1 AND lease_epoch = $2 RETURNING 1`,
      [lease.tenantId, lease.epoch, ttlMs],
      { prepare: true },
    );
    return rows.length > 0;
  });
}

/** Who holds the tenant now. */
export function leaseHolder(connection: Connection, lease: Lease): Promise<string> {
  return connection.run(async (client) => {
    const [row] = await client.unsafe<{ lease_owner: string | null }[]>(
      'SELECT lease_owner FROM tarbox.tenants WHERE tenant_id = $1',
      [lease.tenantId],
    );
    return row?.lease_owner ?? 'nobody';
  });
}

/** Gives the tenant back, so that the next sidecar needn't wait. */
export async function releaseLease(connection: Connection, lease: Lease): Promise<void> {
  await connection.run((client) =>
    client.unsafe(
      `UPDATE tarbox.tenants SET lease_owner = NULL, lease_expires = NULL WHERE tenant_id = $1 AND lease_epoch = $2`,
      [lease.tenantId, lease.epoch],
    ),
  );
}
