import { LRUCache } from 'lru-cache';
import type { LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import type { ByteString } from '../vfs/store.ts';
import { changeLine } from './diff-changes.ts';
import { type ChunkParts, ChunkReader } from './diff-chunks.ts';
import { type Entry, entriesBetween } from './diff-entries.ts';
import { PathTree } from './diff-files.ts';
import { isInPatch, patchOf } from './diff-patch.ts';
import { type ResultParts, required, results } from './diff-results.ts';
import type { DiffThreads } from './diff-threads.ts';
import type { Layers } from './layers.ts';
import type { VersionStore } from './port.ts';
import { between } from './tree.ts';

export interface DiffParts {
  readonly store: VersionStore;
  readonly layers: Layers;
  readonly threads: DiffThreads;
  readonly chunks: ChunkParts;
  /** Commits everything that was written before the call, what the kernel holds of it included. @throws {FsError} */
  readonly settle: () => Promise<void>;
  /** Number of the last operation on the tree. */
  readonly sequence: () => number;
}

/** Two layers, by what a person calls them. */
export interface LayerPair {
  readonly from: string;
  readonly to: string;
}

/** Entries held of comparisons that may be asked for again, all together. */
const HELD_ENTRIES = 200_000;

/** What differs between layers. The working layer's tree is looked at as it is when it's asked for. */
export class Diffs {
  readonly #parts: DiffParts;
  readonly #held = new LRUCache<string, readonly Entry[]>({
    maxSize: HELD_ENTRIES,
    sizeCalculation: (entries) => entries.length + 1,
  });
  readonly #trees = new WeakMap<readonly Entry[], PathTree>();
  readonly #running = new Map<string, Promise<readonly Entry[]>>();

  constructor(parts: DiffParts) {
    this.#parts = parts;
  }

  /** Whether there are such layers. */
  has({ from, to }: LayerPair): boolean {
    return this.#layer(from) !== undefined && this.#layer(to) !== undefined;
  }

  /** A layer by its name, id or tag; `working` takes writes, and `current` is what the tree is based on. */
  #layer(text: string): LayerId | undefined {
    const { layers } = this.#parts;
    if (text === 'working') return layers.working.id;
    if (text === 'current') return layers.base.id;
    try {
      return layers.find(text).id;
    } catch (problem) {
      if (problem instanceof FsError && problem.code === 'ENOENT') return undefined;
      throw problem;
    }
  }

  /**
   * What differs, as of now.
   *
   * @throws {FsError} ENOENT when there's no such layer any more; what committing throws
   */
  async #compare(pair: LayerPair): Promise<{ from: LayerId; to: LayerId; entries: readonly Entry[] }> {
    const { layers, settle, sequence } = this.#parts;
    const isLive = () => [pair.from, pair.to].some((text) => this.#layer(text) === layers.working.id);
    if (isLive()) await settle();
    const [from, to] = [this.#layer(pair.from), this.#layer(pair.to)];
    if (from === undefined || to === undefined) throw new FsError('ENOENT', `${pair.from}..${pair.to} is not there`);
    const key = `${from}..${to}${isLive() ? ` at ${sequence()}` : ''}`;
    return { from, to, entries: this.#held.get(key) ?? (await this.#entries(key, from, to)) };
  }

  /** Those who ask for the same at the same time wait for one answer. */
  #entries(key: string, from: LayerId, to: LayerId): Promise<readonly Entry[]> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const entries = this.#load(from, to).finally(() => this.#running.delete(key));
    this.#running.set(key, entries);
    entries.then(
      (found) => this.#held.set(key, found),
      () => {}, // whoever asked sees it
    );
    return entries;
  }

  async #load(from: LayerId, to: LayerId): Promise<readonly Entry[]> {
    const { layers, store } = this.#parts;
    const placeOf = (layer: LayerId) => layers.placeOf(layer);
    const [old, now] = [required(from, placeOf), required(to, placeOf)];
    const apart = between(layers.all, from, to);
    const entries = await store.atOneMoment((moment) => entriesBetween(moment, old, now, apart));
    // One that went meanwhile has taken its rows along.
    required(from, placeOf);
    required(to, placeOf);
    return entries;
  }

  /** A JSON object a line for each path that differs. @throws as `results` */
  async *changes(pair: LayerPair, signal: AbortSignal): AsyncGenerator<Buffer> {
    const { from, to, entries } = await this.#compare(pair);
    for await (const batch of results(this.#resultParts(), from, to, entries, 'counts', signal)) {
      const lines = batch.flatMap(({ entry, examined }) => changeLine(entry, examined) ?? []);
      if (lines.length > 0) yield Buffer.from(`${lines.join('\n')}\n`);
    }
  }

  /** A unified diff of everything. @throws as `results` */
  async *patch(pair: LayerPair, signal: AbortSignal): AsyncGenerator<Buffer> {
    const { from, to, entries } = await this.#compare(pair);
    yield* this.#patch(from, to, entries.filter(isInPatch), signal);
  }

  /** A unified diff of one path; empty when it's the same in both. @throws as `results` */
  async *filePatch(pair: LayerPair, path: ByteString, signal: AbortSignal): AsyncGenerator<Buffer> {
    const { from, to, entries } = await this.#compare(pair);
    const wanted = entries.filter((entry) => entry.path === path && isInPatch(entry));
    yield* this.#patch(from, to, wanted, signal);
  }

  async *#patch(from: LayerId, to: LayerId, entries: readonly Entry[], signal: AbortSignal): AsyncGenerator<Buffer> {
    for await (const batch of results(this.#resultParts(), from, to, entries, 'patch', signal)) {
      const parts = batch.map(({ entry, examined }) => patchOf(entry, examined));
      yield Buffer.concat(parts);
    }
  }

  /** The files that differ, as a patch would have them. @throws {FsError} */
  async files(pair: LayerPair): Promise<PathTree> {
    const { entries } = await this.#compare(pair);
    const known = this.#trees.get(entries);
    if (known !== undefined) return known;
    const tree = await PathTree.of(entries.filter(isInPatch).map(({ path }) => path));
    this.#trees.set(entries, tree);
    return tree;
  }

  #resultParts(): ResultParts {
    const { store, layers, threads, chunks } = this.#parts;
    return { store, threads, chunks: new ChunkReader(chunks), placeOf: (layer) => layers.placeOf(layer) };
  }
}
