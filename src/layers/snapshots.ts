import { LRUCache } from 'lru-cache';
import type { LayerId } from '../brand.ts';
import { Loader } from '../vfs/load.ts';
import type { Loads, Place, TenantState } from '../vfs/store.ts';
import { Workspace } from '../vfs/workspace.ts';

/** A layer's tree, read-only, as far as it's loaded. */
export interface Snapshot {
  readonly workspace: Workspace;
  readonly loader: Loader;
}

/** Trees held at a time; another one is loaded anew when it's asked for again. */
const MAX_HELD = 16;
const METADATA_BYTES = 4 * 1024 * 1024;
const NOTHING: TenantState = { sequence: 0, nextIno: 0, nextCookie: 0, usedBytes: 0, usedInodes: 0 };

export interface SnapshotParts {
  /** Loads from the tree that `place` names. */
  readonly loads: (place: () => Place) => Loads;
  /** Where a layer's tree is at present; undefined when there's no such layer. */
  readonly placeOf: (layer: LayerId) => Place | undefined;
  readonly live: Workspace;
}

/** The trees of frozen layers. They share the live tree's chunks. */
export class Snapshots {
  readonly #parts: SnapshotParts;
  readonly #loaders = new WeakMap<Workspace, Loader>();
  readonly #held = new LRUCache<LayerId, Snapshot>({ max: MAX_HELD });

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  /** The tree of a layer; undefined when there's no such layer. */
  get(layer: LayerId): Snapshot | undefined {
    const place = this.#parts.placeOf(layer);
    if (place === undefined) return undefined;
    const held = this.#held.get(layer);
    if (held !== undefined) return held;
    const { loads, placeOf, live } = this.#parts;
    const caches = { metadataBytes: METADATA_BYTES, chunkBytes: 1 };
    const workspace = new Workspace(NOTHING, place, live.limits, caches, live.chunks);
    // Other layers may go while this one stays: then its rows are in other places.
    const loader = new Loader(
      workspace,
      loads(() => placeOf(layer) ?? place),
    );
    const snapshot = { workspace, loader };
    this.#held.set(layer, snapshot);
    this.#loaders.set(workspace, loader);
    return snapshot;
  }

  /** Of a tree that `get` gave; also when it's held no more, for those who still work on it. */
  loaderOf(workspace: Workspace): Loader {
    const loader = this.#loaders.get(workspace);
    if (loader === undefined) throw new Error('that tree is no snapshot');
    return loader;
  }

  /** Resolves when every load that runs now has ended, whichever way. */
  async settled(): Promise<void> {
    await Promise.all([...this.#held.values()].map(({ loader }) => loader.settled()));
  }

  /** Forgets what is held of all trees, because their rows have moved. */
  clear(): void {
    this.#held.clear();
  }
}
