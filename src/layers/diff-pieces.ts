import { CHUNK_BYTES } from '../vfs/geometry.ts';
import type { ByteString } from '../vfs/store.ts';
import { type Content, sameChunk, sameHead } from './reader.ts';

/** The part of a file that is compared: whole chunks of it. */
export interface Piece {
  readonly content: Content;
  /** Bytes of the file before it, and its own. */
  readonly from: number;
  readonly bytes: number;
}

/** A chunk's bytes, or those that are in the file's row, and where they belong in the piece. */
export interface PiecePart {
  readonly source: { readonly hash: ByteString } | { readonly bytes: Uint8Array };
  readonly at: number;
  readonly length: number;
}

/** All of a file. */
export function wholeOf(content: Content): Piece {
  return { content, from: 0, bytes: content.size };
}

/**
 * The parts of two versions outside of which they're the same, with a chunk more on either side, so that lines which
 * begin or end there are whole; undefined when they are the same.
 */
export function differingPieces(a: Content, b: Content): readonly [Piece, Piece] | undefined {
  const differing = differingChunks(a, b);
  if (differing === undefined) return undefined;
  const from = Math.max(0, differing.first - 1) * CHUNK_BYTES;
  const to = (differing.last + 2) * CHUNK_BYTES;
  const pieceOf = (content: Content): Piece => {
    const end = Math.min(content.size, to);
    return { content, from: Math.min(from, end), bytes: Math.max(0, end - from) };
  };
  return [pieceOf(a), pieceOf(b)];
}

/** The first and the last chunk that isn't the same in both. */
function differingChunks(a: Content, b: Content): { first: number; last: number } | undefined {
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  const differs = (index: number) => {
    first = Math.min(first, index);
    last = Math.max(last, index);
  };
  if (!sameHead(a, b)) differs(0);
  for (const [index, ref] of a.chunks) if (!sameChunk(ref, b.chunks.get(index))) differs(index);
  for (const [index] of b.chunks) if (!a.chunks.has(index)) differs(index);
  if (a.size !== b.size) {
    differs(Math.floor(Math.min(a.size, b.size) / CHUNK_BYTES));
    differs(Math.floor(Math.max(a.size, b.size) / CHUNK_BYTES));
  }
  return first === Number.POSITIVE_INFINITY ? undefined : { first, last };
}

/** What a piece is made of; what isn't named is zeros. */
export function partsOfPiece({ content, from, bytes }: Piece): PiecePart[] {
  const parts: PiecePart[] = [];
  const add = (source: PiecePart['source'], start: number, stored: number) => {
    const length = Math.min(stored, content.size - start, from + bytes - start);
    if (start >= from && length > 0) parts.push({ source, at: start - from, length });
  };
  if (content.head !== undefined) add({ bytes: content.head }, 0, content.head.length);
  for (const [index, { hash, length }] of content.chunks) add({ hash }, index * CHUNK_BYTES, length);
  return parts;
}
