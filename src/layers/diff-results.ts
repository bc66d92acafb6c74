import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import type { InodeImage, Place } from '../vfs/store.ts';
import type { Entry } from './diff-entries.ts';
import { type Examined, type ExamineParts, examine, type Versions } from './diff-examine.ts';
import type { Want } from './diff-jobs.ts';
import { hasText } from './kinds.ts';
import type { VersionStore } from './port.ts';
import { type FileState, readStates } from './reader.ts';

export interface ResultParts extends ExamineParts {
  readonly store: VersionStore;
  /** Where a layer's tree is at present; undefined when it's gone. */
  readonly placeOf: (layer: LayerId) => Place | undefined;
}

/** An entry, and what came of comparing its content, where it has any that isn't the same. */
export interface Result {
  readonly entry: Entry;
  readonly examined: Examined | undefined;
}

/** Entries and bytes of content, of both sides, that are looked at in one go; a larger file by itself. */
const ENTRIES_AT_ONCE = 200;
const BYTES_AT_ONCE = 4 * 1024 * 1024;

/**
 * Compares the content of entries, some of them at a time, in their order. One that isn't there any more is left out: in
 * a working layer it may have gone since.
 *
 * @throws {FsError} ESTALE when a layer is gone, EIO for damaged content; the signal's reason
 */
export async function* results(
  parts: ResultParts,
  from: LayerId,
  to: LayerId,
  entries: Iterable<Entry>,
  want: Want,
  signal: AbortSignal,
): AsyncGenerator<Result[]> {
  for (const batch of batchesOf(entries)) {
    signal.throwIfAborted();
    const wanted = batch.filter(needsLook);
    const [olds, news] = await statesOf(parts, from, to, wanted);
    const found: { entry: Entry; versions: Versions }[] = [];
    for (const entry of wanted) {
      const [before, after] = [stateOf(olds, entry.before), stateOf(news, entry.after)];
      if ((entry.before && !before) || (entry.after && !after)) continue;
      const looked = { ...entry, before: before?.image, after: after?.image };
      found.push({ entry: looked, versions: { before: before?.content, after: after?.content } });
    }
    const examined = await examine(
      parts,
      found.map(({ versions }) => versions),
      want,
      signal,
    );
    const looked = found.map(({ entry }, index): Result => ({ entry, examined: examined[index] }));
    const others = batch.filter((entry) => !needsLook(entry)).map((entry): Result => ({ entry, examined: undefined }));
    yield inOrderOf(batch, [...looked, ...others]);
  }
}

function inOrderOf(batch: readonly Entry[], found: readonly Result[]): Result[] {
  const key = ({ path, change }: Entry) => `${change} ${path}`;
  const byKey = new Map(found.map((result) => [key(result.entry), result]));
  return batch.flatMap((entry) => byKey.get(key(entry)) ?? []);
}

function needsLook({ before, after, sameContent }: Entry): boolean {
  const one = after ?? before;
  return !sameContent && one !== undefined && hasText(one);
}

function stateOf(states: ReadonlyMap<Ino, FileState>, image: InodeImage | undefined): FileState | undefined {
  return image && states.get(image.ino);
}

/** As of one moment. @throws {FsError} ESTALE */
async function statesOf(
  { store, placeOf }: ResultParts,
  from: LayerId,
  to: LayerId,
  entries: readonly Entry[],
): Promise<[Map<Ino, FileState>, Map<Ino, FileState>]> {
  if (entries.length === 0) return [new Map(), new Map()];
  const [old, now] = [required(from, placeOf), required(to, placeOf)];
  const states = await store.atOneMoment(async (moment): Promise<[Map<Ino, FileState>, Map<Ino, FileState>]> => {
    const olds = entries.flatMap(({ before }) => before?.ino ?? []);
    const news = entries.flatMap(({ after }) => after?.ino ?? []);
    return [await readStates(moment.tree(old), olds), await readStates(moment.tree(now), news)];
  });
  // One that went meanwhile has taken its rows along.
  required(from, placeOf);
  required(to, placeOf);
  return states;
}

/** @throws {FsError} ESTALE */
export function required(layer: LayerId, placeOf: ResultParts['placeOf']): Place {
  const place = placeOf(layer);
  if (place === undefined) throw new FsError('ESTALE', `layer ${layer} is gone`);
  return place;
}

function* batchesOf(entries: Iterable<Entry>): Generator<Entry[]> {
  let batch: Entry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const more = needsLook(entry) ? (entry.before?.size ?? 0) + (entry.after?.size ?? 0) : 0;
    if (batch.length > 0 && (batch.length >= ENTRIES_AT_ONCE || bytes + more > BYTES_AT_ONCE)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(entry);
    bytes += more;
  }
  if (batch.length > 0) yield batch;
}
