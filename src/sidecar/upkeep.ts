import { FsError } from '../errno.ts';
import type { Journal } from '../journal/journal.ts';
import { type Checked, Checker } from '../layers/fsck.ts';
import { type Collected, Collector } from '../layers/gc.ts';
import { Packer } from '../layers/packer.ts';
import type { TenantStore } from '../store/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { whenAvailable } from './available.ts';
import type { Layering } from './layering.ts';

export interface UpkeepParts {
  readonly store: TenantStore;
  readonly workspace: Workspace;
  readonly layering: Layering;
  readonly journal: Journal;
  /** Resolves when nothing of the live tree is being loaded any more. */
  readonly loadsSettled: () => Promise<void>;
  /** Tells of what keeps history from being packed. */
  readonly onPackFailure: (problem: unknown) => void;
}

/** What keeps a tenant's storage in order, while it's in use: one thing at a time, the packer in between. */
export class Upkeep {
  readonly #collector: Collector;
  readonly #checker: Checker;
  readonly #packer: Packer;
  #running: string | undefined;

  constructor({ store, workspace, layering, journal, loadsSettled, onPackFailure }: UpkeepParts) {
    const { layers } = layering;
    this.#collector = new Collector({
      store: store.garbage,
      layers,
      workspace,
      between: (work) => journal.between(work),
      loadsSettled: async () => {
        await Promise.all([loadsSettled(), layering.loadsSettled()]);
      },
      whenAvailable,
    });
    this.#checker = new Checker({ store: store.check, layers, commit: () => journal.sync(), whenAvailable });
    this.#packer = new Packer({
      store: store.packing,
      placeOf: (layer) => layers.alone(async () => layers.placeOf(layer)),
      quiet: () => journal.quiet(),
      whenAvailable,
      onFailure: onPackFailure,
    });
  }

  /** Packs what frozen layers have replaced, in the background. */
  pack(): void {
    this.#packer.start();
  }

  /** See `Collector.collect`. @throws {FsError} EBUSY while something else is being done */
  collectGarbage(dry: boolean): Promise<Collected> {
    return this.#alone('garbage is being collected', () => this.#collector.collect(dry));
  }

  /** See `Checker.check`. @throws {FsError} EBUSY while something else is being done */
  checkTree(repair: boolean): Promise<Checked> {
    return this.#alone('the tree is being checked', () => this.#checker.check(repair));
  }

  async #alone<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.#running !== undefined)
      throw new FsError('EBUSY', this.#running, { hint: 'write the command again when that is done' });
    this.#running = what;
    try {
      return await this.#packer.aside(work);
    } finally {
      this.#running = undefined;
    }
  }

  /** Ends what is under way after its step. */
  stop(): void {
    this.#collector.stop();
    this.#checker.stop();
    this.#packer.stop();
  }
}
