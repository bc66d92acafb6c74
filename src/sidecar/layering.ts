import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import { type FrozenTree, nodeidHi, SNAPSHOT_VIEW, viewIn } from '../fuse/context.ts';
import type { Device } from '../fuse/device.ts';
import { NAMED_MESSAGE_BYTES, packIncEpoch, packInvalEntry, packInvalInode } from '../fuse/notify.ts';
import { snapshotInoBase } from '../fuse/reply.ts';
import { Layers, type LayersParts, type Stale } from '../layers/layers.ts';
import type { LayerStore } from '../layers/port.ts';
import { Snapshots } from '../layers/snapshots.ts';
import type { TenantStore } from '../store/store.ts';
import type { LoadMiss } from '../vfs/miss.ts';
import { StoreError } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { whenAvailable } from './available.ts';
import type { NativePart } from './native.ts';

/** Notifications on their way to the kernel at a time, each on a thread of its own. */
const NOTIFIED_AT_ONCE = 16;
export interface LayeringParts extends Omit<LayersParts, 'store' | 'snapshots' | 'invalidate'> {
  readonly store: TenantStore;
  readonly device: Device;
  readonly native: NativePart;
}

/**
 * Waits while the database is away.
 *
 * @throws {FsError} for what storage refuses
 */
export function patiently<T>(work: () => Promise<T>): Promise<T> {
  return whenAvailable(work).catch((problem: unknown) => {
    throw problem instanceof StoreError ? refusal(problem) : problem;
  });
}

/**
 * The same, but waiting while the database is away: a command whose fate isn't known can neither succeed nor fail. Other
 * failures are the FsErrors that commands fail with.
 */
function patient(store: LayerStore): LayerStore {
  const wait =
    <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
    (...args: A): Promise<T> =>
      patiently(() => call(...args));
  return {
    layers: wait(store.layers),
    tags: wait(store.tags),
    setTag: wait(store.setTag),
    removeTag: wait(store.removeTag),
    isEmpty: wait(store.isEmpty),
    switchTo: wait(store.switchTo),
    changed: wait(store.changed),
    namesOf: wait(store.namesOf),
    mounted: wait(store.mounted),
    forgetMounted: wait(store.forgetMounted),
    hold: wait(store.hold),
    drop: wait(store.drop),
    squash: wait(store.squash),
  };
}

function refusal(problem: StoreError): FsError {
  const codes = { unavailable: 'EIO', refused: 'EIO', full: 'ENOSPC', 'lease-lost': 'EROFS' } as const;
  return new FsError(codes[problem.failure], problem.message, { cause: problem });
}

/** The tenant's layers, and the trees of those that are frozen. */
export class Layering {
  readonly layers: Layers;
  readonly #snapshots: Snapshots;
  readonly #live: Workspace;

  constructor(parts: LayeringParts) {
    const { store, workspace, device, native } = parts;
    this.#live = workspace;
    this.#snapshots = new Snapshots({
      loads: (place) => store.loads(place),
      placeOf: (layer) => this.layers.placeOf(layer),
      live: workspace,
    });
    this.layers = new Layers({
      ...parts,
      store: patient(store.layers),
      snapshots: this.#snapshots,
      invalidate: (stale) => invalidate(device, workspace, native, stale),
    });
  }

  /** See `Services.frozen`. */
  frozen(view: number, ino: Ino): FrozenTree | undefined {
    // The numbers of a snapshot's views are those of their layers.
    const isSnapshot = view >= SNAPSHOT_VIEW;
    const layer = isSnapshot ? ((view - SNAPSHOT_VIEW) as LayerId) : this.layers.layerOfView(view, ino);
    const snapshot = layer === undefined ? undefined : this.#snapshots.get(layer);
    if (layer === undefined || snapshot === undefined) return undefined;
    return { workspace: snapshot.workspace, view, inoBase: isSnapshot ? snapshotInoBase(layer) : 0 };
  }

  /** Resolves when every load into a frozen tree that runs now has ended, whichever way. */
  loadsSettled(): Promise<void> {
    return this.#snapshots.settled();
  }

  /** Loads into a frozen tree; undefined for the live one. */
  load(workspace: Workspace, miss: LoadMiss): Promise<void> | undefined {
    if (workspace === this.#live) return undefined;
    return this.#snapshots.loaderOf(workspace).load(miss);
  }
}

/**
 * Has the kernel forget what isn't so any more; resolves when it has. Forgetting a name takes away what is mounted there or
 * below. So where there are native mounts it's told of each name, and not of theirs.
 */
async function invalidate(device: Device, live: Workspace, native: NativePart, stale: Stale): Promise<void> {
  const messages = stale.inodes.map((ino) => {
    const message = Buffer.alloc(64);
    // The attributes, and the pages of a symbolic link.
    return { message, length: packInvalInode(message, ino >>> 0, nodeidHi(viewIn(live, ino), ino), 0, 0) };
  });
  const epoch = Buffer.alloc(64);
  if (native.placeholders.any || device.write(epoch, packIncEpoch(epoch)) < 0)
    for (const { parent, name } of await stale.names()) {
      if (await native.keeps(live, parent, name)) continue;
      const message = Buffer.alloc(NAMED_MESSAGE_BYTES);
      messages.push({ message, length: packInvalEntry(message, parent >>> 0, nodeidHi(0, parent), name) });
    }
  for (let from = 0; from < messages.length; from += NOTIFIED_AT_ONCE)
    await Promise.all(
      messages.slice(from, from + NOTIFIED_AT_ONCE).map(({ message, length }) => device.writeAway(message, length)),
    );
}
