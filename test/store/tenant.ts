import { onTestFinished } from 'vitest';
import type { DatabaseOptions } from '../../src/store/connection.ts';
import type { Lease } from '../../src/store/lease.ts';
import { openStore, type Store, type TenantStore } from '../../src/store/store.ts';
import type { Loads } from '../../src/vfs/store.ts';
import { FIRST_PLACE } from '../support/empty-workspace.ts';

/** A tenant that a test has to itself, on a server that it may share. */
export interface TestTenant extends Omit<TenantStore, 'loads'> {
  /** From the tree of the first working layer. */
  readonly loads: Loads;
  readonly name: string;
  readonly store: Store;
  readonly lease: Lease;
}

let tenants = 0;

/** Takes a new tenant; its connections are closed when the test is over. */
export async function newTenant(options: DatabaseOptions): Promise<TestTenant> {
  return takeTenant(options, `tenant ${process.pid}-${++tenants}`, 'a test');
}

/** Takes a tenant as `owner`, who may be new to it only when the last one's lease is over. */
export async function takeTenant(options: DatabaseOptions, name: string, owner: string): Promise<TestTenant> {
  const store = await openStore(options);
  onTestFinished(() => store.close());
  const result = await store.takeLease({ tenant: name, create: true, owner, ttlMs: 60_000 });
  if (!result.taken) throw new Error(`${name} belongs to ${result.owner}`);
  const tenant = store.tenant(result.lease);
  return { name, store, lease: result.lease, ...tenant, loads: tenant.loads(() => FIRST_PLACE) };
}
