import type { Ino } from '../brand.ts';
import { CHUNK_BYTES, INLINE_BYTES, SEGMENT_CHUNKS } from '../vfs/geometry.ts';
import type { ChunkRef, InodeImage, SegmentImage } from '../vfs/store.ts';
import { isFile } from './kinds.ts';
import type { TreeReads } from './port.ts';

/** Where a file's bytes are; those that are nowhere are zeros. */
export interface Content {
  readonly size: number;
  /** The bytes of the first chunk, where they're kept in the file's row; all of a symbolic link's target. */
  readonly head: Uint8Array | undefined;
  /** Stored chunks by their place in the file. */
  readonly chunks: ReadonlyMap<number, ChunkRef>;
}

/** An inode of a tree with its content, as of one moment. */
export interface FileState {
  readonly image: InodeImage;
  readonly content: Content;
}

/** Rows asked for at a time. */
const ROWS_AT_ONCE = 256;
const SEGMENT_BYTES = CHUNK_BYTES * SEGMENT_CHUNKS;

/** Those of these inodes that exist in a tree, with where their bytes are. */
export async function readStates(tree: TreeReads, inos: readonly Ino[]): Promise<Map<Ino, FileState>> {
  const states = new Map<Ino, FileState>();
  for (let at = 0; at < inos.length; at += ROWS_AT_ONCE) {
    const images = await tree.inodes(inos.slice(at, at + ROWS_AT_ONCE));
    const contents = await readContents(tree, images);
    for (const image of images) {
      const content = contents.get(image.ino);
      if (content !== undefined) states.set(image.ino, { image, content });
    }
  }
  return states;
}

/** Where the bytes of each of these inodes of a tree are. */
export async function readContents(tree: TreeReads, images: readonly InodeImage[]): Promise<Map<Ino, Content>> {
  const contents = new Map<Ino, Content>();
  for (let at = 0; at < images.length; at += ROWS_AT_ONCE) {
    const some = images.slice(at, at + ROWS_AT_ONCE);
    const files = some.filter((image) => isFile(image) && image.size > 0);
    const inos = files.map(({ ino }) => ino);
    const segments = new Map<Ino, SegmentImage[]>();
    const add = (segment: SegmentImage) => segments.set(segment.ino, [...(segments.get(segment.ino) ?? []), segment]);
    // As many bytes as they may have, so that all of them come.
    if (inos.length > 0) for (const one of await tree.firstSegments(inos, ROWS_AT_ONCE * INLINE_BYTES)) add(one);
    for (const { ino, size } of files)
      if (size > SEGMENT_BYTES) for (const one of await tree.segments(ino, 1, Number.MAX_SAFE_INTEGER)) add(one);
    for (const image of some) contents.set(image.ino, contentOf(image, segments.get(image.ino) ?? []));
  }
  return contents;
}

function contentOf(image: InodeImage, segments: readonly SegmentImage[]): Content {
  if (!isFile(image)) {
    const head = Buffer.from(image.target, 'latin1');
    return { size: head.length, head, chunks: new Map() };
  }
  let head: Uint8Array | undefined;
  const chunks = new Map<number, ChunkRef>();
  for (const { index, chunks: refs, inline } of segments) {
    if (inline !== null) head = inline;
    for (const [position, ref] of refs.entries())
      if (ref.length > 0) chunks.set(index * SEGMENT_CHUNKS + position, ref);
  }
  return { size: image.size, head, chunks };
}

/** Whether two files are known to have the same bytes. The same bytes may be stored in different ways. */
export function sameContent(a: Content, b: Content): boolean {
  if (a.size !== b.size || a.chunks.size !== b.chunks.size || !sameHead(a, b)) return false;
  for (const [index, ref] of a.chunks) if (!sameChunk(ref, b.chunks.get(index))) return false;
  return true;
}

export function sameHead({ head: a }: Content, { head: b }: Content): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.compare(a, b) === 0;
}

export function sameChunk(a: ChunkRef | undefined, b: ChunkRef | undefined): boolean {
  return a?.hash === b?.hash && a?.length === b?.length;
}
