import { CHUNK_BYTES, SEGMENT_CHUNKS } from './geometry.ts';
import type { Inode } from './inode.ts';
import { Missing } from './miss.ts';
import type { ByteString, SegmentImage } from './store.ts';
import type { Workspace } from './workspace.ts';

/**
 * A chunk of a file. Bytes come from `data` when it has them, otherwise from the chunk cache by `hash`.
 * What lies behind `length` reads as zeros.
 */
export interface Slot {
  length: number;
  /** Empty until the bytes were hashed; stays empty for bytes kept inside their row. */
  hash: ByteString;
  /** At least `length` bytes. */
  data: Buffer | undefined;
  /** A batch or another slot uses it or its data: it's replaced, not changed, by what comes next. */
  shared: boolean;
}

/** Chunks [index * SEGMENT_CHUNKS, …) of a file; a hole where there's no slot. */
export type Segment = (Slot | undefined)[];

/** The content of a regular file, as far as it's loaded. */
export interface Content {
  readonly segments: Map<number, Segment>;
  /** Every segment that isn't in the map is a hole. */
  complete: boolean;
  /** Segments whose row must be written. */
  unsaved: Set<number>;
  /** Rows from this index on must be removed, save those in `unsaved`; Infinity for none. */
  trimmedFrom: number;
  /** Where a sequential reader would read next, and the chunk up to which has been read ahead. */
  nextRead: number;
  readAheadTo: number;
}

export const SEGMENT_BYTES = CHUNK_BYTES * SEGMENT_CHUNKS;

const SLOT_WEIGHT = 300;

/** The content of a regular file; starts out complete where there's nothing to load. */
export function contentOf(inode: Inode): Content {
  inode.content ??= {
    segments: new Map(),
    complete: inode.size === 0 || !inode.stored,
    unsaved: new Set(),
    trimmedFrom: Number.POSITIVE_INFINITY,
    nextRead: 0,
    readAheadTo: 0,
  };
  return inode.content;
}

/** Rough cost in the heap, chunk bytes that are shared with the cache left out. */
export function contentWeight(content: Content): number {
  let weight = 100;
  for (const segment of content.segments.values()) {
    for (const slot of segment) if (slot !== undefined) weight += SLOT_WEIGHT + (slot.data?.length ?? 0);
  }
  return weight;
}

/**
 * A segment, or undefined where the file has a hole.
 *
 * @throws {Missing} when it isn't loaded.
 */
export function segmentAt(inode: Inode, content: Content, index: number): Segment | undefined {
  const segment = content.segments.get(index);
  if (segment !== undefined || content.complete || index * SEGMENT_BYTES >= inode.size) return segment;
  throw new Missing({ kind: 'segments', ino: inode.ino, from: index, to: index + 1 });
}

/** @throws {Missing} unless all segments are loaded. */
export function requireAll(inode: Inode, content: Content): void {
  if (content.complete) return;
  const to = Math.max(1, Math.ceil(inode.size / SEGMENT_BYTES));
  throw new Missing({ kind: 'segments', ino: inode.ino, from: 0, to });
}

/** Takes in stored segments of the index range [from, to). Nothing is stored behind the end of the file. */
export function addStoredSegments(inode: Inode, from: number, to: number, images: readonly SegmentImage[]): void {
  const content = contentOf(inode);
  if (content.complete) return;
  for (const image of images) {
    if (content.segments.has(image.index) || content.unsaved.has(image.index) || image.index >= content.trimmedFrom)
      continue;
    content.segments.set(image.index, segmentFromImage(image));
  }
  if (from === 0 && to * SEGMENT_BYTES >= inode.size) content.complete = true;
  else for (let index = from; index < to; index++) if (!content.segments.has(index)) content.segments.set(index, []);
}

function segmentFromImage(image: SegmentImage): Segment {
  if (image.inline !== null) {
    const data = Buffer.from(image.inline.buffer, image.inline.byteOffset, image.inline.length);
    return [{ length: data.length, hash: '', data, shared: true }];
  }
  return image.chunks.map((chunk) =>
    chunk.length === 0 ? undefined : { length: chunk.length, hash: chunk.hash, data: undefined, shared: true },
  );
}

function loadedBytes(workspace: Workspace, slot: Slot): Buffer | undefined {
  return slot.data ?? workspace.chunks.get(slot.hash) ?? workspace.arrived.get(slot.hash);
}

/**
 * Makes sure that the bytes of all these chunks are there at once.
 *
 * @throws {Missing} with every chunk that has none of its own: those that are cached must not go when the others come.
 */
export function requireBytes(workspace: Workspace, slots: readonly (Slot | undefined)[]): void {
  if (slots.every((slot) => slot === undefined || loadedBytes(workspace, slot) !== undefined)) return;
  const hashes = slots.flatMap((slot) => (slot === undefined || slot.data !== undefined ? [] : [slot.hash]));
  throw new Missing({ kind: 'chunks', hashes });
}

/** @throws {Missing} when the chunk's bytes aren't loaded. */
export function slotBytes(workspace: Workspace, slot: Slot): Buffer {
  const data = loadedBytes(workspace, slot);
  if (data === undefined) throw new Missing({ kind: 'chunks', hashes: [slot.hash] });
  return data;
}

/** The slot of a chunk, or undefined for a hole. @throws {Missing} */
export function slotAt(inode: Inode, content: Content, chunk: number): Slot | undefined {
  return segmentAt(inode, content, Math.floor(chunk / SEGMENT_CHUNKS))?.[chunk % SEGMENT_CHUNKS];
}

/** Puts a slot (or a hole) in a chunk's place and keeps the totals; the segment must be loaded. */
export function setSlot(
  workspace: Workspace,
  inode: Inode,
  content: Content,
  chunk: number,
  slot: Slot | undefined,
): void {
  const index = Math.floor(chunk / SEGMENT_CHUNKS);
  let segment = content.segments.get(index);
  if (segment === undefined) {
    segment = [];
    content.segments.set(index, segment);
  }
  const position = chunk % SEGMENT_CHUNKS;
  const old = segment[position];
  addAllocated(workspace, inode, (slot?.length ?? 0) - (old?.length ?? 0));
  if (old !== undefined && old !== slot) releaseDirty(workspace, old);
  while (segment.length < position) segment.push(undefined);
  segment[position] = slot;
  content.unsaved.add(index);
}

function addAllocated(workspace: Workspace, inode: Inode, bytes: number): void {
  inode.allocated += bytes;
  workspace.usedBytes += bytes;
  if (inode.nlink === 0 && workspace.orphans.has(inode.ino)) workspace.orphans.set(inode.ino, inode.allocated);
}

/** Takes a replaced or dropped slot's bytes out of those waiting for a commit. */
function releaseDirty(workspace: Workspace, slot: Slot): void {
  if (!slot.shared && slot.data !== undefined) workspace.dirtyBytes -= slot.data.length;
}

/**
 * A buffer for a slot that must hold `needed` bytes: exact at first, doubling as a file grows by small appends. Each in
 * memory of its own: a piece of a shared pool would keep the whole pool for as long as it's cached.
 */
function roomFor(needed: number, current: number): Buffer {
  return Buffer.allocUnsafeSlow(current === 0 ? needed : Math.min(CHUNK_BYTES, Math.max(needed, current * 2)));
}

/**
 * A slot of the chunk that may be changed in place and holds at least `length` bytes, its old bytes kept unless
 * the caller replaces all of them.
 *
 * @throws {Missing} when old bytes are needed that aren't loaded; nothing has changed then.
 */
export function writableSlot(
  workspace: Workspace,
  inode: Inode,
  content: Content,
  chunk: number,
  length: number,
  replacesAll: boolean,
): Slot {
  const old = slotAt(inode, content, chunk);
  if (old !== undefined && !old.shared && old.data !== undefined && old.data.length >= length) {
    if (length > old.length) {
      addAllocated(workspace, inode, length - old.length);
      old.length = length;
    }
    old.hash = '';
    content.unsaved.add(Math.floor(chunk / SEGMENT_CHUNKS));
    return old;
  }
  const keep = old === undefined || replacesAll ? 0 : old.length;
  const data = roomFor(Math.max(length, keep), old?.shared === false ? (old.data?.length ?? 0) : 0);
  if (old !== undefined && keep > 0) slotBytes(workspace, old).copy(data, 0, 0, keep);
  const slot: Slot = { length: Math.max(length, keep), hash: '', data, shared: false };
  setSlot(workspace, inode, content, chunk, slot);
  workspace.dirtyBytes += data.length;
  return slot;
}

/** Cuts or clears what lies at or behind `size`. @throws {Missing} before anything has changed. */
export function trimContent(workspace: Workspace, inode: Inode, content: Content, size: number): void {
  if (size === 0) {
    discardContent(workspace, content);
    addAllocated(workspace, inode, -inode.allocated);
    content.complete = true;
    return;
  }
  requireAll(inode, content);
  const edge = Math.floor(size / CHUNK_BYTES);
  const edgeLength = size % CHUNK_BYTES;
  const firstGone = edge + (edgeLength > 0 ? 1 : 0);
  for (const [index, segment] of content.segments) {
    const base = index * SEGMENT_CHUNKS;
    for (let position = Math.max(0, firstGone - base); position < segment.length; position++)
      if (segment[position] !== undefined) setSlot(workspace, inode, content, base + position, undefined);
    if (base >= firstGone) content.segments.delete(index);
    else if (segment.length > firstGone - base) segment.length = firstGone - base;
  }
  if (edgeLength > 0) cutSlot(workspace, inode, content, edge, edgeLength);
  const firstTrimmed = Math.ceil(firstGone / SEGMENT_CHUNKS);
  for (const index of content.unsaved) if (index >= firstTrimmed) content.unsaved.delete(index);
  content.trimmedFrom = Math.min(content.trimmedFrom, firstTrimmed);
}

/** Makes a chunk end at `length`: bytes behind it read as zeros from now on. */
function cutSlot(workspace: Workspace, inode: Inode, content: Content, chunk: number, length: number): void {
  const slot = slotAt(inode, content, chunk);
  if (slot === undefined || slot.length <= length) return;
  if (slot.shared) setSlot(workspace, inode, content, chunk, { ...slot, length });
  else {
    addAllocated(workspace, inode, length - slot.length);
    slot.length = length;
    slot.hash = '';
    content.unsaved.add(Math.floor(chunk / SEGMENT_CHUNKS));
  }
}

/** Drops all content and has every row removed. */
export function discardContent(workspace: Workspace, content: Content): void {
  for (const segment of content.segments.values())
    for (const slot of segment) if (slot !== undefined) releaseDirty(workspace, slot);
  content.segments.clear();
  content.unsaved.clear();
  content.trimmedFrom = 0;
}
