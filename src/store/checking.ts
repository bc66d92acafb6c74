import type { CheckStore, RepairStore } from '../layers/port.ts';
import { StoreError } from '../vfs/store.ts';
import { checkChains } from './chains.ts';
import type { Coders } from './chunks.ts';
import type { Client, Connection } from './connection.ts';
import {
  badCookies,
  beginCheck,
  checkChunks,
  checkFiles,
  checkReferences,
  checkTotals,
  endCheck,
  gatherFiles,
  loadTenant,
} from './fsck.ts';
import { repairTree } from './fsck-repair.ts';
import { lostLayers } from './gc.ts';
import { loadNamesOf } from './layers.ts';
import type { Lease } from './lease.ts';

/** Runs a change in its turn among all changes of the lease, with its number. */
type Change = <T>(work: (client: Client, number: number) => Promise<T>) => Promise<T>;

/** Checks in a transaction of a session of its own. */
export function checkStore(lease: Lease, upkeep: Connection, coders: Coders, change: Change): CheckStore & RepairStore {
  let losses = -1;
  const here = () => {
    if (losses !== upkeep.losses)
      throw new StoreError('unavailable', 'the connection was lost while the tree was checked');
  };
  const step = async <T>(work: (client: Client) => Promise<T>): Promise<T> => {
    here();
    const result = await upkeep.run(work);
    here();
    return result;
  };
  return {
    begin: async () => {
      await upkeep.run(beginCheck);
      losses = upkeep.losses;
    },
    end: () => upkeep.run(endCheck),
    tenant: () => step((client) => loadTenant(client, lease)),
    gather: (place) => step((client) => gatherFiles(client, lease, place)),
    files: (place, after, limit) => step((client) => checkFiles(client, lease, place, after, limit)),
    totals: (place) => step((client) => checkTotals(client, lease, place)),
    badCookies: (place, nextCookie, limit) => step((client) => badCookies(client, lease, place, nextCookie, limit)),
    namesOf: (place, inos) => step((client) => loadNamesOf(client, lease, place, inos)),
    chunks: async (after, limit) => {
      here();
      const checked = await checkChunks(upkeep, coders, lease, after, limit);
      here();
      return checked;
    },
    chains: (after, limit) => step((client) => checkChains(client, lease, after, limit)),
    references: (after, limit, damaged) => step((client) => checkReferences(client, lease, after, limit, damaged)),
    lostLayers: () => step((client) => lostLayers(client, lease)),
    repair: (repairs) => repairTree(change, lease, repairs),
  };
}
