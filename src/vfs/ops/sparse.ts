import { FsError } from '../../errno.ts';
import {
  type Content,
  contentOf,
  requireAll,
  requireBytes,
  type Slot,
  setSlot,
  slotAt,
  slotBytes,
  writableSlot,
} from '../content.ts';
import { CHUNK_BYTES, SEGMENT_CHUNKS } from '../geometry.ts';
import type { Inode } from '../inode.ts';
import { dropPrivileges, killsBits } from '../permission.ts';
import type { Caller, Workspace } from '../workspace.ts';
import { checkSize, requireRegular, slotsIn, slotsKept, write } from './data.ts';

/** What `allocate` does with the range. */
export interface Allocation {
  /** The size stays what it is. */
  readonly keepSize: boolean;
  /** The range reads as zeros from now on. */
  readonly zero: boolean;
}

/**
 * fallocate(2): makes sure that the range can be written, or clears it. Space isn't set aside: what later writes
 * need is checked when they come.
 *
 * @throws {FsError} EFBIG, ENOSPC; {Missing}
 */
export function allocate(
  workspace: Workspace,
  inode: Inode,
  offset: number,
  length: number,
  allocation: Allocation,
  caller: Caller,
): void {
  requireRegular(inode);
  const end = offset + length;
  if (!allocation.keepSize) {
    checkSize(workspace, end);
    workspace.reserve(Math.max(0, end - inode.size), 0);
  }
  if (allocation.zero) clearRange(workspace, inode, offset, Math.min(end, inode.size));
  if (!allocation.keepSize && end > inode.size) inode.size = end;
  dropPrivileges(inode, killsBits(caller));
  workspace.touchContent(inode);
}

/** Makes [offset, end) read as zeros and gives its whole chunks back. @throws {Missing} before anything has changed. */
function clearRange(workspace: Workspace, inode: Inode, offset: number, end: number): void {
  if (offset >= end) return;
  const content = contentOf(inode);
  requireAll(inode, content);
  const chunks = chunksIn(content, Math.floor(offset / CHUNK_BYTES), Math.floor((end - 1) / CHUNK_BYTES));
  const covers = (chunk: number, slot: Slot) =>
    offset <= chunk * CHUNK_BYTES && end >= chunk * CHUNK_BYTES + slot.length;
  requireBytes(
    workspace,
    chunks.map(([chunk, slot]) => (covers(chunk, slot) ? undefined : slot)),
  );
  for (const [chunk, slot] of chunks) {
    if (covers(chunk, slot)) {
      setSlot(workspace, inode, content, chunk, undefined);
      continue;
    }
    const from = Math.max(0, offset - chunk * CHUNK_BYTES);
    const to = Math.min(slot.length, end - chunk * CHUNK_BYTES);
    if (from < to) writableSlot(workspace, inode, content, chunk, slot.length, false).data?.fill(0, from, to);
  }
}

/** The chunks in [first, last] that hold something. Visits what is there, so a huge hole costs nothing. */
function chunksIn(content: Content, first: number, last: number): [number, Slot][] {
  const found: [number, Slot][] = [];
  for (const [index, segment] of content.segments) {
    const base = index * SEGMENT_CHUNKS;
    const from = Math.max(0, first - base);
    const to = Math.min(segment.length - 1, last - base);
    for (let position = from; position <= to; position++) {
      const slot = segment[position];
      if (slot !== undefined) found.push([base + position, slot]);
    }
  }
  return found;
}

/**
 * The first offset at or behind `offset` that holds data (`SEEK_DATA`) or doesn't (`SEEK_HOLE`; the end of the
 * file counts as a hole).
 *
 * @throws {FsError} ENXIO when `offset` is at or behind the end, or no data follows (lseek(2)); {Missing}
 */
export function seek(inode: Inode, offset: number, wantsData: boolean): number {
  requireRegular(inode);
  if (offset < 0 || offset >= inode.size) throw new FsError('ENXIO', `offset ${offset} is behind the end of the file`);
  const content = contentOf(inode);
  requireAll(inode, content);
  const chunks = chunksIn(content, Math.floor(offset / CHUNK_BYTES), Math.floor((inode.size - 1) / CHUNK_BYTES));
  chunks.sort((a, b) => a[0] - b[0]);
  let position = offset;
  for (const [chunk, slot] of chunks) {
    const start = chunk * CHUNK_BYTES;
    const end = Math.min(start + slot.length, inode.size);
    if (wantsData && position < end) return Math.max(position, start);
    if (!wantsData && position < start) return position;
    if (!wantsData && position < end) position = end;
  }
  if (wantsData) throw new FsError('ENXIO', `no data follows offset ${offset}`);
  return position;
}

/** Bytes copied a call where chunks can't be shared; the kernel asks again for the rest. */
const COPY_BYTES = 4 * 1024 * 1024;

/**
 * copy_file_range(2): whole chunks at matching offsets are shared, the rest is copied. Returns how many bytes were
 * done, which may be fewer than asked for. The caller has checked that the ranges don't overlap in one file.
 *
 * @throws {FsError} EFBIG, ENOSPC; {Missing}
 */
export function copyRange(
  workspace: Workspace,
  source: Inode,
  sourceOffset: number,
  target: Inode,
  targetOffset: number,
  length: number,
  caller: Caller,
): number {
  requireRegular(source);
  requireRegular(target);
  const count = Math.min(length, source.size - sourceOffset);
  if (count <= 0) return 0;
  checkSize(workspace, targetOffset + count);
  const aligned = sourceOffset % CHUNK_BYTES === 0 && targetOffset % CHUNK_BYTES === 0;
  const toEnd = sourceOffset + count >= source.size && targetOffset + count >= target.size;
  const sharable = aligned ? (toEnd ? count : count - (count % CHUNK_BYTES)) : 0;
  if (sharable > 0) return shareChunks(workspace, source, sourceOffset, target, targetOffset, sharable, caller);
  return copyBytes(workspace, source, sourceOffset, target, targetOffset, Math.min(count, COPY_BYTES), caller);
}

function shareChunks(
  workspace: Workspace,
  source: Inode,
  sourceOffset: number,
  target: Inode,
  targetOffset: number,
  count: number,
  caller: Caller,
): number {
  const from = contentOf(source);
  const to = contentOf(target);
  requireAll(source, from);
  requireAll(target, to);
  const first = sourceOffset / CHUNK_BYTES;
  const last = Math.ceil((sourceOffset + count) / CHUNK_BYTES) - 1;
  const shift = targetOffset / CHUNK_BYTES - first;
  const shared = chunksIn(from, first, last);
  workspace.reserve(
    shared.reduce((bytes, [, slot]) => bytes + slot.length, 0),
    0,
  );
  for (const [chunk] of chunksIn(to, first + shift, last + shift)) setSlot(workspace, target, to, chunk, undefined);
  for (const [chunk, slot] of shared) {
    // The bytes wait for their commit on the source's account; both sides copy before they change them.
    if (!slot.shared && slot.data !== undefined) workspace.dirtyBytes -= slot.data.length;
    slot.shared = true;
    setSlot(workspace, target, to, chunk + shift, { ...slot });
  }
  if (targetOffset + count > target.size) target.size = targetOffset + count;
  dropPrivileges(target, killsBits(caller));
  workspace.touchContent(target);
  return count;
}

function copyBytes(
  workspace: Workspace,
  source: Inode,
  sourceOffset: number,
  target: Inode,
  targetOffset: number,
  count: number,
  caller: Caller,
): number {
  const from = contentOf(source);
  const [first, last] = [Math.floor(sourceOffset / CHUNK_BYTES), Math.ceil((sourceOffset + count) / CHUNK_BYTES)];
  const kept = slotsKept(target, contentOf(target), targetOffset, targetOffset + count);
  requireBytes(workspace, [...slotsIn(source, from, first, last), ...kept]);
  const bytes = Buffer.allocUnsafe(count);
  for (let position = 0; position < count; ) {
    const chunk = Math.floor((sourceOffset + position) / CHUNK_BYTES);
    const inChunk = sourceOffset + position - chunk * CHUNK_BYTES;
    const part = Math.min(CHUNK_BYTES - inChunk, count - position);
    const slot = slotAt(source, from, chunk);
    const held = slot === undefined ? 0 : Math.max(0, Math.min(part, slot.length - inChunk));
    if (slot !== undefined && held > 0) slotBytes(workspace, slot).copy(bytes, position, inChunk, inChunk + held);
    bytes.fill(0, position + held, position + part);
    position += part;
  }
  write(workspace, target, targetOffset, bytes, 0, count);
  dropPrivileges(target, killsBits(caller));
  return count;
}
