import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import type { ByteString } from '../vfs/store.ts';
import { type ChunkParts, ChunkReader } from './diff-chunks.ts';
import { type Examined, examine } from './diff-examine.ts';
import type { TreeEntry } from './diff-files.ts';
import type { DiffThreads } from './diff-threads.ts';
import { hashOf } from './history-hash.ts';
import { directoriesIn, stepsOf } from './history-steps.ts';
import { hasText, kindOf } from './kinds.ts';
import type { Layers } from './layers.ts';
import type { Moment, VersionStore } from './port.ts';
import { type FileState, readStates, sameContent } from './reader.ts';
import { placeOf } from './tree.ts';

export interface HistoryParts {
  readonly store: VersionStore;
  readonly layers: Layers;
  readonly threads: DiffThreads;
  readonly chunks: ChunkParts;
  /** Commits everything that was written before the call, what the kernel holds of it included. @throws {FsError} */
  readonly settle: () => Promise<void>;
  readonly now: () => number;
}

/** A path, name by name. */
export type Names = readonly ByteString[];

/** A file as it was in a layer. */
interface Version {
  readonly layer: LayerId;
  readonly state: FileState;
}

/** What paths have been in the tree's layer and those below it. */
export class Histories {
  readonly #parts: HistoryParts;

  constructor(parts: HistoryParts) {
    this.#parts = parts;
  }

  /** What a path is, or last was; undefined when there never was one. @throws {FsError} what committing throws */
  async find(path: Names): Promise<TreeEntry | undefined> {
    const steps = await this.#now((moment, place) => stepsOf(moment, place, path));
    const last = steps.findLast(({ ino }) => ino !== undefined);
    return last && { name: path[path.length - 1] ?? '', directory: last.isDirectory };
  }

  /** What has been in a directory. @throws {FsError} what committing throws */
  async list(path: Names): Promise<readonly TreeEntry[]> {
    const names = await this.#now(async (moment, place) => {
      const directories = directoriesIn(await stepsOf(moment, place, path));
      return directories.length === 0 ? [] : moment.namesEver(place, directories);
    });
    return names.map(({ name, isDirectory }) => ({ name, directory: isDirectory }));
  }

  /** As of everything that was written before this call. */
  async #now<T>(work: (moment: Moment, place: ReturnType<typeof placeOf>) => Promise<T>): Promise<T> {
    const { settle, layers, store } = this.#parts;
    await settle();
    const place = placeOf(layers.all, layers.working.id);
    return store.atOneMoment((moment) => work(moment, place));
  }

  /**
   * A JSON array with a line for each version of a file, newest first, as they're found. What is in no checkpoint yet is
   * the version of `working`.
   *
   * @throws {FsError} EIO for damaged content; what committing throws; the signal's reason
   */
  async *versions(path: Names, signal: AbortSignal): AsyncGenerator<Buffer> {
    const chunks = new ChunkReader(this.#parts.chunks);
    let lead = '[';
    let newer: Version | undefined;
    for await (const older of this.#candidates(path)) {
      signal.throwIfAborted();
      if (newer !== undefined) {
        const line = await this.#line(newer, older, chunks, signal);
        if (line !== undefined) {
          yield Buffer.from(`${lead}${line}`);
          lead = ',\n';
        }
      }
      newer = older;
    }
    const line = newer && (await this.#line(newer, undefined, chunks, signal));
    yield Buffer.from(line === undefined ? `${lead}]\n` : `${lead}${line}]\n`);
  }

  /** The file in each layer that has changed it in some way, newest first. */
  async *#candidates(path: Names): AsyncGenerator<Version> {
    const { layers, store } = this.#parts;
    const found = await this.#now(async (moment, place) => {
      const steps = await stepsOf(moment, place, path);
      const candidates: { layer: LayerId; ino: Ino }[] = [];
      for (const [index, step] of steps.entries()) {
        const until = steps[index + 1]?.since ?? Number.POSITIVE_INFINITY;
        if (step.ino === undefined || step.isDirectory) continue;
        const { ino } = step;
        const own = (await moment.layersOf(place, ino)).filter((layer) => layer > step.since && layer < until);
        candidates.push(...[step.since, ...own.reverse()].map((layer) => ({ layer, ino })));
      }
      return candidates.reverse();
    });
    for (const { layer, ino } of found) {
      const place = layers.placeOf(layer);
      if (place === undefined) throw new FsError('ESTALE', `layer ${layer} is gone`);
      const states = await store.atOneMoment((moment) => readStates(moment.tree(place), [ino]));
      const state = states.get(ino);
      if (state !== undefined && hasText(state.image)) yield { layer, state };
    }
  }

  /** The line of a version, given the one before it; undefined when they have the same content. */
  async #line(
    { layer, state }: Version,
    before: Version | undefined,
    chunks: ChunkReader,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const sameKind = before !== undefined && kindOf(before.state.image) === kindOf(state.image);
    const old = sameKind ? before.state.content : undefined;
    if (old !== undefined && sameContent(old, state.content)) return undefined;
    const versions = [{ before: old, after: state.content }];
    const [examined = 'too large'] = await examine(
      { threads: this.#parts.threads, chunks },
      versions,
      'counts',
      signal,
    );
    if (examined !== 'too large' && examined.same) return undefined;
    const record = this.#parts.layers.all.get(layer);
    return JSON.stringify({
      layer: record?.name ?? 'working',
      id: layer,
      time: (record?.frozenAt ?? new Date(this.#parts.now())).toISOString(),
      ...(kindOf(state.image) === 'file' ? {} : { type: kindOf(state.image) }),
      size: state.content.size,
      hash: await hashOf(state.content, chunks, signal),
      ...countFields(examined),
    });
  }
}

function countFields(examined: Examined): object {
  if (examined === 'too large') return { too_large: true };
  return examined.binary ? { binary: true } : { lines_added: examined.added, lines_deleted: examined.deleted };
}
