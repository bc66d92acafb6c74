import type { Epoch, TenantId } from '../brand.ts';
import { StoreError, type TenantState } from '../vfs/store.ts';
import type { Connection } from './connection.ts';

export interface LeaseRequest {
  /** The tenant's name. */
  readonly tenant: string;
  /** Make it when it doesn't exist. */
  readonly create: boolean;
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
  readonly layer: number;
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
  const { tenant, create, owner, ttlMs, replaces } = request;
  return connection.run(async (client) => {
    if (create) {
      await client.unsafe(
        `WITH made AS (INSERT INTO tarbox.tenants (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING tenant_id)
         INSERT INTO tarbox.layers (tenant_id, layer_id, name) SELECT tenant_id, 1, 'base' FROM made`,
        [tenant],
      );
    }
    const [row] = await client.unsafe<LeaseRow[]>(
      `UPDATE tarbox.tenants
       SET lease_epoch = lease_epoch + 1, lease_owner = $2, lease_expires = clock_timestamp() + $3 * interval '1 ms'
       WHERE name = $1 AND (lease_owner IS NULL OR lease_owner IN ($2, $4) OR lease_expires < clock_timestamp())
       RETURNING tenant_id, lease_epoch, working_layer, sequence, next_ino, next_cookie, used_bytes, used_inodes`,
      [tenant, owner, ttlMs, replaces ?? owner],
    );
    if (row !== undefined) return { taken: true, lease: leaseOf(row) };
    const [held] = await client.unsafe<{ lease_owner: string; lease_expires: Date }[]>(
      'SELECT lease_owner, lease_expires FROM tarbox.tenants WHERE name = $1',
      [tenant],
    );
    if (held === undefined)
      throw new StoreError('refused', `there is no tenant '${tenant}', and TARBOX_TENANT_CREATE=false`);
    return { taken: false, owner: held.lease_owner, expires: held.lease_expires };
  });
}

interface LeaseRow {
  tenant_id: string;
  lease_epoch: string;
  working_layer: string;
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
    layer: Number(row.working_layer),
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
