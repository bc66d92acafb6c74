import type { GarbageStore } from '../layers/port.ts';
import type { Batch, ByteString } from '../vfs/store.ts';
import type { Client, Connection } from './connection.ts';
import {
  beginMarks,
  fenceOut,
  lostLayers,
  markHashes,
  markPage,
  removeChunks,
  removeCopies,
  removeLostRows,
  removeUnnamed,
  removeUseless,
  sweepPage,
  unnamedFiles,
} from './gc.ts';
import type { Lease } from './lease.ts';

/** Runs a change in its turn among all changes of the lease, with its number. */
type Change = <T>(work: (client: Client, number: number) => Promise<T>) => Promise<T>;

export interface TenantGarbage extends GarbageStore {
  /** To be told of each batch that is about to be committed. */
  refersTo(batch: Batch): void;
}

/**
 * Marks are in a session of their own, and so are the statements that look at them; those that change something still
 * take their turn among the changes.
 */
export function garbageStore(lease: Lease, upkeep: Connection, change: Change): TenantGarbage {
  /** What commits have referred to since the last step; undefined while nothing is collected. */
  let referred: Set<ByteString> | undefined;

  /** A step, once what has been referred to meanwhile is marked. */
  const step = <T>(work: (client: Client) => Promise<T>): Promise<T> =>
    upkeep.run(async (client) => {
      if (referred !== undefined && referred.size > 0) {
        const hashes = [...referred];
        referred = new Set();
        await markHashes(client, hashes);
      }
      return await work(client);
    });

  return {
    refersTo: ({ segments }) => {
      if (referred === undefined) return;
      for (const { chunks } of segments) for (const { hash } of chunks) if (hash !== '') referred.add(hash);
    },
    begin: () => {
      referred = new Set();
      return upkeep.run(beginMarks);
    },
    end: () => {
      referred = undefined;
    },
    mark: (after, limit) => step((client) => markPage(client, lease, after, limit)),
    sweep: (after, limit) => step((client) => sweepPage(client, lease, after, limit)),
    remove: (hashes) => change((_, number) => step((client) => removeChunks(client, lease, number, hashes))),
    fence: () => change((client, number) => fenceOut(client, lease, number)),
    lostLayers: () => upkeep.run((client) => lostLayers(client, lease)),
    removeLost: (layer, limit) => change((client, number) => removeLostRows(client, lease, number, layer, limit)),
    removeUseless: (place, limit) => change((client, number) => removeUseless(client, lease, number, place, limit)),
    removeCopies: (copy, inos) => change((client, number) => removeCopies(client, lease, number, copy, inos)),
    unnamed: (limit) => upkeep.run((client) => unnamedFiles(client, lease, limit)),
    removeUnnamed: (place, inos) => change((client, number) => removeUnnamed(client, lease, number, place, inos)),
  };
}
