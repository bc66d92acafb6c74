import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import { type ByteString, StoreError } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { Layers } from './layers.ts';
import { type ContentKey, FIRST_CONTENT, type GarbageStore } from './port.ts';
import { placeOf } from './tree.ts';

export interface CollectorParts {
  readonly store: GarbageStore;
  readonly layers: Layers;
  readonly workspace: Workspace;
  /** Runs something while no commit is under way. @throws {FsError} EROFS */
  readonly between: <T>(work: () => Promise<T>) => Promise<T>;
  /** Resolves when everything that is being loaded has been. */
  readonly loadsSettled: () => Promise<void>;
  /** Tries until the database is there. */
  readonly whenAvailable: <T>(work: () => Promise<T>) => Promise<T>;
}

/** What was found, and what was done about it. Bytes are as they're stored. */
export interface Collected {
  chunks: number;
  bytes: number;
  garbageChunks: number;
  garbageBytes: number;
  removedChunks: number;
  removedBytes: number;
  removedRows: number;
}

/** Rows of contents whose chunks are marked at a time, and chunks that are looked at: some 10 ms of the server's. */
const MARKED_ROWS = 1000;
const SWEPT_CHUNKS = 1000;
/** Chunks that are removed while commits wait: 8 MiB at most. */
const REMOVED_CHUNKS = 64;
/** Rows that are removed in one statement. */
const REMOVED_ROWS = 2000;

/**
 * Removes what nothing needs any more, in small steps, while the workspace is in use.
 *
 * Chunks are marked and swept. Marks are every chunk that a row of any layer refers to when it's come to, and every
 * chunk that a commit refers to from the beginning on. Rows only ever move to layers with higher numbers, which are come
 * to later. Nothing else can refer to a chunk that isn't marked: what is clean in memory is in a row, and what isn't is
 * stored by the commit that refers to it. That one may find a chunk there that is about to go. So chunks are removed
 * only while no commit is under way, which storing its chunks is a part of, and once everything that is being loaded
 * has been. Only the holder of the lease commits, and removing is fenced by its epoch, so another's commits never meet
 * a removal, not even one that is carried out late.
 *
 * A crash loses the marks and nothing else. Each step is one transaction.
 */
export class Collector {
  readonly #parts: CollectorParts;
  #stopped = false;

  constructor(parts: CollectorParts) {
    this.#parts = parts;
  }

  /** Ends what is under way after its step, and lets nothing more begin. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * Collects garbage; `dry` only looks for it.
   *
   * One at a time.
   *
   * @throws {FsError} EROFS, EIO
   */
  async collect(dry: boolean): Promise<Collected> {
    const collected: Collected = {
      chunks: 0,
      bytes: 0,
      garbageChunks: 0,
      garbageBytes: 0,
      removedChunks: 0,
      removedBytes: 0,
      removedRows: 0,
    };
    try {
      for (;;) {
        if (await this.#whole(() => this.#collectOnce(dry, collected))) return collected;
        Object.assign(collected, { chunks: 0, bytes: 0, garbageChunks: 0, garbageBytes: 0 });
      }
    } finally {
      this.#parts.store.end();
    }
  }

  /** False when the database was away meanwhile, so that all has to begin anew; it's back then. */
  async #whole(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (problem) {
      if (!(problem instanceof StoreError)) throw problem;
      if (problem.failure === 'lease-lost') throw new FsError('EROFS', problem.message, { cause: problem });
      if (problem.failure !== 'unavailable') throw new FsError('EIO', problem.message, { cause: problem });
      this.#requireGoing();
      await this.#fence();
      return false;
    }
  }

  #fence(): Promise<void> {
    return this.#parts.whenAvailable(() => {
      this.#requireGoing();
      return this.#parts.store.fence();
    });
  }

  #requireGoing(): void {
    if (this.#stopped) throw new FsError('EIO', 'stopped before all of it was done');
  }

  async #collectOnce(dry: boolean, collected: Collected): Promise<void> {
    if (!dry) await this.#removeRows(collected);
    const { store, between } = this.#parts;
    await between(() => store.begin());
    let after: ContentKey | undefined = FIRST_CONTENT;
    while (after !== undefined) {
      this.#requireGoing();
      after = await store.mark(after, MARKED_ROWS);
    }
    for (let last: ByteString | undefined = ''; last !== undefined; ) {
      this.#requireGoing();
      const page = await store.sweep(last, SWEPT_CHUNKS);
      collected.chunks += page.chunks;
      collected.bytes += page.bytes;
      collected.garbageChunks += page.garbage.length;
      collected.garbageBytes += page.garbageBytes;
      if (!dry) await this.#removeChunks(page.garbage, collected);
      last = page.last;
    }
  }

  async #removeChunks(garbage: readonly ByteString[], collected: Collected): Promise<void> {
    const waiting = [...garbage];
    while (waiting.length > 0) {
      this.#requireGoing();
      const { chunks, bytes, bases } = await this.#removeSome(waiting.splice(0, REMOVED_CHUNKS));
      collected.removedChunks += chunks;
      collected.removedBytes += bytes;
      // What they were made from may be needed by nothing else.
      waiting.push(...bases);
    }
  }

  #removeSome(hashes: readonly ByteString[]): ReturnType<GarbageStore['remove']> {
    const { store, between, loadsSettled } = this.#parts;
    return between(async () => {
      await loadsSettled();
      try {
        return await store.remove(hashes);
      } catch (problem) {
        // It may still be carried out, and no commit may begin before that is over.
        if (problem instanceof StoreError && problem.failure === 'unavailable') await this.#fence();
        throw problem;
      }
    });
  }

  /** Removes rows that no layer has, and those that mean nothing in theirs. */
  async #removeRows(collected: Collected): Promise<void> {
    const { store, layers } = this.#parts;
    for (const layer of await store.lostLayers())
      await this.#untilNone(collected, () => store.removeLost(layer, REMOVED_ROWS));
    await this.#removeCopies(collected);
    await this.#removeUnnamed(collected);
    for (const layer of [...layers.all.keys()])
      await this.#untilNone(collected, () =>
        layers.alone(async () =>
          layers.all.has(layer) ? await store.removeUseless(placeOf(layers.all, layer), REMOVED_ROWS) : 0,
        ),
      );
  }

  async #untilNone(collected: Collected, step: () => Promise<number>): Promise<void> {
    for (let removed = -1; removed !== 0; ) {
      this.#requireGoing();
      removed = await step();
      collected.removedRows += removed;
    }
  }

  async #removeCopies(collected: Collected): Promise<void> {
    const { store, layers } = this.#parts;
    for (const { copy, inos } of layers.closedCopies())
      if (inos.length > 0) collected.removedRows += await store.removeCopies(copy, inos);
  }

  /** Files that had lost their last name when their layer was frozen, once nobody has them open. */
  async #removeUnnamed(collected: Collected): Promise<void> {
    const { store, layers, workspace } = this.#parts;
    const byLayer = new Map<LayerId, Ino[]>();
    for (const { ino, layer } of await store.unnamed(REMOVED_ROWS)) {
      if (workspace.orphans.has(ino) || workspace.handles.isOpenAnywhere(ino)) continue;
      byLayer.set(layer, [...(byLayer.get(layer) ?? []), ino]);
    }
    for (const [layer, inos] of byLayer)
      collected.removedRows += await layers.alone(async () =>
        layers.all.has(layer) ? await store.removeUnnamed(placeOf(layers.all, layer), inos) : 0,
      );
  }
}
