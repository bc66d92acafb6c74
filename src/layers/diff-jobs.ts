import { createHash } from 'node:crypto';
import type { Batch } from '../content/batch.ts';
import { partsOf } from '../content/batch.ts';
import { binaryPatch } from './diff-binary.ts';
import { hunks } from './diff-hunks.ts';
import { type Edit, lineEdits } from './diff-lines.ts';

/** Where bytes belong: in which of a job's files, and at which place of it. */
export interface Placed {
  readonly file: number;
  readonly at: number;
  readonly length: number;
}

/** Two versions of a file, each a number of one of the job's files; undefined where there's none. */
export interface Pair {
  readonly before: number | undefined;
  readonly after: number | undefined;
  /** It isn't text. */
  readonly binary: boolean;
}

/** What is wanted of each pair: how many lines differ, or the part of a patch. */
export type Want = 'counts' | 'patch';

/** What a diff thread is told. A job is `files`, then `bytes` any number of times, then `compare`. */
export type ToThread =
  /** Sizes of the job's files, which are zeros at first. */
  | { readonly kind: 'files'; readonly sizes: readonly number[] }
  /** For each part of the batch, where it belongs. */
  | { readonly kind: 'bytes'; readonly batch: Batch; readonly places: readonly (readonly Placed[])[] }
  | { readonly kind: 'compare'; readonly pairs: readonly Pair[]; readonly want: Want };

/** How two versions differ. */
export interface Compared {
  readonly same: boolean;
  /** Lines; 0 for what isn't text. */
  readonly added: number;
  readonly deleted: number;
  /** How much of the larger one is in both, in percent, rounded down. */
  readonly similarity: number;
  /** For a patch: git's names of both contents, and the part that follows the names of the files. */
  readonly blobBefore: string;
  readonly blobAfter: string;
  readonly body: Uint8Array;
}

const NOTHING = new Uint8Array(0);
/** git's name of no blob. */
export const NO_BLOB = '0'.repeat(40);

/** A job under way. */
export class DiffJob {
  #files: Buffer[] = [];

  begin(sizes: readonly number[]): void {
    this.#files = sizes.map((size) => Buffer.alloc(size));
  }

  place(batch: Batch, places: readonly (readonly Placed[])[]): void {
    for (const [index, part] of partsOf(batch).entries())
      for (const { file, at, length } of places[index] ?? []) part.copy(this.#file(file), at, 0, length);
  }

  /** Compares, and lets go of the files. */
  compare(pairs: readonly Pair[], want: Want): Compared[] {
    const results = pairs.map((pair) => this.#compare(pair, want));
    this.#files = [];
    return results;
  }

  #file(number: number): Buffer {
    const file = this.#files[number];
    if (file === undefined) throw new Error(`the job has no file ${number}`);
    return file;
  }

  #compare({ before, after, binary }: Pair, want: Want): Compared {
    const a = before === undefined ? undefined : this.#file(before);
    const b = after === undefined ? undefined : this.#file(after);
    const same = a !== undefined && b !== undefined && a.equals(b);
    const [from, to] = [a ?? Buffer.alloc(0), b ?? Buffer.alloc(0)];
    const edits = binary || same ? [] : lineEdits(from, to);
    const counts = {
      same,
      added: edits.reduce((lines, { bLines }) => lines + bLines, 0),
      deleted: edits.reduce((lines, { aLines }) => lines + aLines, 0),
      similarity: same ? 100 : binary ? 0 : similarity(from, to, edits),
    };
    if (want === 'counts') return { ...counts, blobBefore: '', blobAfter: '', body: NOTHING };
    const differs = !same && from.length + to.length > 0;
    return {
      ...counts,
      blobBefore: a === undefined ? NO_BLOB : blobName(a),
      blobAfter: b === undefined ? NO_BLOB : blobName(b),
      body: !differs ? NOTHING : binary ? binaryPatch(to) : hunks(from, to, edits),
    };
  }
}

function similarity(a: Buffer, b: Buffer, edits: readonly Edit[]): number {
  const stays = edits.reduce((bytes, { bFrom, bTo }) => bytes - (bTo - bFrom), b.length);
  const larger = Math.max(a.length, b.length);
  return larger === 0 ? 100 : Math.floor((stays * 100) / larger);
}

/** What git calls a blob with these bytes. */
export function blobName(bytes: Uint8Array): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}
