import type { LayerId } from '../brand.ts';
import { type Place, StoreError } from '../vfs/store.ts';
import type { PackStore, Replaced } from './port.ts';

export interface PackerParts {
  readonly store: PackStore;
  /** Where a frozen layer's rows are, once no command is changing layers; undefined when there's no such layer. */
  readonly placeOf: (layer: LayerId) => Promise<Place | undefined>;
  /** Resolves once no commit is under way or waited for. */
  readonly quiet: () => Promise<void>;
  /** Tries until the database is there. */
  readonly whenAvailable: <T>(work: () => Promise<T>) => Promise<T>;
  /** Tells of a failure after which packing rests until the next layer is frozen. */
  readonly onFailure: (problem: unknown) => void;
}

/** Rows that are looked at in a step, and pieces that are packed in one: 2 MiB, and as much that they're made from. */
const ROWS = 128;
const PIECES = 16;
/** The same of pieces that rows hold, which are small. */
const SMALL_PIECES = 128;

/** What stops a run: the daemon ends. */
class Stopped extends Error {}

/**
 * Makes history small: what a frozen layer replaced is stored as what differs from what replaced it. The newest stays
 * whole, so the tree is read at full speed.
 *
 * It goes layer by layer, oldest first, in small steps, each of which waits until no commit is under way and is one
 * transaction, fenced by the lease's epoch. A layer that wasn't finished is begun anew, by this daemon or the next one;
 * what was packed already is passed over. Nothing that is packed changes what anybody reads: a chunk stays what its hash
 * says, and whoever loads one finds what it's made from. Collecting garbage and checking wait for a step to end, and the
 * packer for them.
 */
export class Packer {
  readonly #parts: PackerParts;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;
  #holds = 0;
  /** Resolved when nothing holds it any more. */
  #released = Promise.withResolvers<void>();
  /** Resolved at the end of a step that is under way. */
  #step: Promise<unknown> = Promise.resolve();

  constructor(parts: PackerParts) {
    this.#parts = parts;
  }

  /** Packs what isn't packed yet, in the background. */
  start(): void {
    if (this.#stopped) return;
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#again = false;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      if (this.#again) this.start();
    });
  }

  /** Runs `work` while no step is under way. */
  async aside<T>(work: () => Promise<T>): Promise<T> {
    this.#holds++;
    try {
      await this.#step;
      return await work();
    } finally {
      this.#holds--;
      if (this.#holds === 0) {
        this.#released.resolve();
        this.#released = Promise.withResolvers();
      }
    }
  }

  /** Ends after the step that is under way. */
  stop(): void {
    this.#stopped = true;
    this.#released.resolve();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        const layer = await this.#do(() => this.#parts.store.next());
        if (layer === undefined) return;
        await this.#packLayer(layer);
      } catch (problem) {
        if (problem instanceof Stopped) return;
        if (!(problem instanceof StoreError) || problem.failure !== 'unavailable') {
          this.#parts.onFailure(problem);
          return;
        }
      }
    }
  }

  /** One step. A change that was given up is over when it rejects. */
  async #do<T>(step: () => Promise<T>): Promise<T> {
    await this.#parts.quiet();
    while (this.#holds > 0 && !this.#stopped) await this.#released.promise;
    if (this.#stopped) throw new Stopped();
    const done = step().catch(async (problem: unknown) => {
      if (problem instanceof StoreError && problem.failure === 'unavailable') await this.#fence();
      throw problem;
    });
    this.#step = done.catch(() => {}); // whoever awaits `done` sees it
    return await done;
  }

  #fence(): Promise<void> {
    return this.#parts.whenAvailable(() => {
      if (this.#stopped) throw new Stopped();
      return this.#parts.store.fence();
    });
  }

  async #packLayer(layer: LayerId): Promise<void> {
    const { store, placeOf } = this.#parts;
    const place = await placeOf(layer);
    // It was dropped, or became one with another.
    if (place === undefined) return;
    await this.#do(() => store.gather(place));
    for (let after: number | undefined = 0; after !== undefined; ) {
      const from: number = after;
      const { last, pieces } = await this.#do(() => store.replaced(from, ROWS));
      for (const step of stepsOf(pieces)) await this.#do(() => store.pack(step));
      after = last;
    }
    await this.#do(() => store.finish(layer));
  }
}

/** Pieces in groups that are packed at a time. */
function stepsOf(pieces: readonly Replaced[]): Replaced[][] {
  const isSmall = ({ old, by }: Replaced): boolean => 'bytes' in old && 'bytes' in by;
  return [
    ...groupsOf(pieces.filter(isSmall), SMALL_PIECES),
    ...groupsOf(
      pieces.filter((piece) => !isSmall(piece)),
      PIECES,
    ),
  ];
}

function groupsOf<T>(all: readonly T[], size: number): T[][] {
  const groups: T[][] = [];
  for (let at = 0; at < all.length; at += size) groups.push(all.slice(at, at + size));
  return groups;
}
