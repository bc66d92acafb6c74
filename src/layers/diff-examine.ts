import type { ByteString } from '../vfs/store.ts';
import type { ChunkReader } from './diff-chunks.ts';
import type { Compared, Pair, Want } from './diff-jobs.ts';
import { differingPieces, type Piece, type PiecePart, partsOfPiece, wholeOf } from './diff-pieces.ts';
import { type DiffThread, type DiffThreads, type Part, TooMuch } from './diff-threads.ts';
import type { Content } from './reader.ts';

/** Two versions of a file's content; undefined where there's none. */
export interface Versions {
  readonly before: Content | undefined;
  readonly after: Content | undefined;
}

/** What came of comparing two versions; `too large` to be looked at, so that they only seem to differ. */
export type Examined = (Compared & { readonly binary: boolean }) | 'too large';

export interface ExamineParts {
  readonly threads: DiffThreads;
  readonly chunks: ChunkReader;
}

/**
 * What is compared of one version at most. For a patch that's the whole file; for counts, what lies between the first
 * and the last chunk that differ.
 */
const MOST_BYTES = 64 * 1024 * 1024;
/** A NUL among the first bytes makes a file binary, as it does for git (xdiff-interface.c, buffer_is_binary). */
const TOLD_BY_BYTES = 8000;

/**
 * Compares versions of some files, on a thread. All of them are in memory at once.
 *
 * @throws {FsError} EIO for a chunk that is missing or damaged; the signal's reason
 */
export async function examine(
  parts: ExamineParts,
  all: readonly Versions[],
  want: Want,
  signal: AbortSignal,
): Promise<Examined[]> {
  const results: Examined[] = [];
  const plans: Plan[] = [];
  for (const [index, versions] of all.entries()) {
    const plan = planOf(versions, want, index);
    if (plan === 'same') results[index] = SAME;
    else if (plan === 'too large') results[index] = plan;
    else plans.push(plan);
  }
  if (plans.length === 0) return results;
  try {
    const { compared, binaries } = await compare(parts, plans, want, signal);
    for (const [at, { index }] of plans.entries()) {
      const result = compared[at];
      if (result !== undefined) results[index] = { ...result, binary: binaries.has(index) };
    }
  } catch (problem) {
    if (!(problem instanceof TooMuch)) throw problem;
    for (const { index } of plans) {
      const alone = all.length === 1 ? [] : await examine(parts, all.slice(index, index + 1), want, signal);
      results[index] = alone[0] ?? 'too large';
    }
  }
  return results;
}

const SAME: Examined = {
  same: true,
  added: 0,
  deleted: 0,
  similarity: 100,
  binary: false,
  blobBefore: '',
  blobAfter: '',
  body: new Uint8Array(0),
};

/** What is compared of the versions with this index. */
interface Plan {
  readonly index: number;
  readonly before: Piece | undefined;
  readonly after: Piece | undefined;
}

function planOf({ before, after }: Versions, want: Want, index: number): Plan | 'same' | 'too large' {
  let pieces = [before && wholeOf(before), after && wholeOf(after)] as const;
  if (want === 'counts' && before !== undefined && after !== undefined) {
    const differing = differingPieces(before, after);
    if (differing === undefined) return 'same';
    pieces = differing;
  }
  if (pieces.some((piece) => piece !== undefined && piece.bytes > MOST_BYTES)) return 'too large';
  return { index, before: pieces[0], after: pieces[1] };
}

function compare(
  { threads, chunks }: ExamineParts,
  plans: readonly Plan[],
  want: Want,
  signal: AbortSignal,
): Promise<{ compared: readonly Compared[]; binaries: ReadonlySet<number> }> {
  return threads.use(signal, async (thread) => {
    const files: Piece[] = [];
    const add = (piece: Piece | undefined) => (piece === undefined ? undefined : files.push(piece) - 1);
    const numbered = plans.map(({ index, before, after }) => ({ index, before: add(before), after: add(after) }));
    thread.begin(files.map(({ bytes }) => bytes));
    const binaryFiles = await give(thread, chunks, files);
    const isBinary = (file: number | undefined) => file !== undefined && binaryFiles.has(file);
    const pairs = numbered.map(({ before, after }): Pair => {
      return { before, after, binary: isBinary(before) || isBinary(after) };
    });
    const binaries = new Set(numbered.flatMap(({ index }, at) => (pairs[at]?.binary ? [index] : [])));
    return { compared: await thread.compare(pairs, want), binaries };
  });
}

/** Gives a thread the bytes of its files; resolves to those that aren't text. */
async function give(thread: DiffThread, chunks: ChunkReader, files: readonly Piece[]): Promise<Set<number>> {
  const binary = new Set<number>();
  const inRows: Part[] = [];
  const places = new Map<ByteString, { file: number; part: PiecePart }[]>();
  const firsts = new Map<ByteString, number[]>();
  for (const [file, piece] of files.entries()) {
    const { content } = piece;
    const first = content.chunks.get(0);
    if (content.head !== undefined || first === undefined) {
      if (looksBinary(content, content.head)) binary.add(file);
    } else addTo(firsts, first.hash, file);
    for (const part of partsOfPiece(piece)) {
      const { source, at, length } = part;
      if ('bytes' in source) inRows.push({ bytes: source.bytes, places: [{ file, at, length }] });
      else addTo(places, source.hash, { file, part });
    }
  }
  if (inRows.length > 0) thread.give(inRows);
  const hashes = [...new Set([...firsts.keys(), ...places.keys()])];
  for await (const found of chunks.read(hashes)) {
    const parts: Part[] = [];
    for (const [hash, bytes] of found) {
      for (const file of firsts.get(hash) ?? []) {
        const content = files[file]?.content;
        const length = content?.chunks.get(0)?.length ?? 0;
        if (content !== undefined && looksBinary(content, bytes.subarray(0, length))) binary.add(file);
      }
      const wanted = places.get(hash);
      if (wanted === undefined) continue;
      const length = Math.max(...wanted.map(({ part }) => part.length));
      const placed = wanted.map(({ file, part }) => ({ file, at: part.at, length: part.length }));
      parts.push({ bytes: bytes.subarray(0, length), places: placed });
    }
    thread.give(parts);
  }
  return binary;
}

function addTo<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** `first`: the stored bytes of its first chunk. */
function looksBinary({ size }: Content, first: Uint8Array | undefined): boolean {
  const told = Math.min(size, TOLD_BY_BYTES);
  return told > 0 && (first === undefined || first.length < told || first.subarray(0, told).includes(0));
}
