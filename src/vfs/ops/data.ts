import { FsError } from '../../errno.ts';
import {
  type Content,
  contentOf,
  requireBytes,
  type Slot,
  slotAt,
  slotBytes,
  trimContent,
  writableSlot,
} from '../content.ts';
import { CHUNK_BYTES } from '../geometry.ts';
import { type Inode, isRegular } from '../inode.ts';
import { Missing } from '../miss.ts';
import type { ByteString } from '../store.ts';
import type { Workspace } from '../workspace.ts';

/** Chunks fetched ahead of a sequential reader, at most; the window doubles up to it. */
const READ_AHEAD_CHUNKS = 64;

/** @throws {FsError} EINVAL or EISDIR when it's not a regular file. */
export function requireRegular(inode: Inode): void {
  if (isRegular(inode)) return;
  throw new FsError('EINVAL', `inode ${inode.ino} is not a regular file`);
}

/**
 * Reads up to `length` bytes at `offset` into `target` from `at` on.
 * Returns how many there were: fewer only at the end of the file. Holes read as zeros.
 *
 * @throws {Missing}
 */
export function read(
  workspace: Workspace,
  inode: Inode,
  offset: number,
  length: number,
  target: Buffer,
  at: number,
): number {
  requireRegular(inode);
  workspace.countRead(inode);
  if (offset >= inode.size) return 0;
  const content = contentOf(inode);
  const end = Math.min(offset + length, inode.size);
  readAhead(workspace, inode, content, offset, end);
  let position = offset;
  while (position < end) {
    const chunk = Math.floor(position / CHUNK_BYTES);
    const inChunk = position - chunk * CHUNK_BYTES;
    const count = Math.min(CHUNK_BYTES - inChunk, end - position);
    const slot = slotAt(inode, content, chunk);
    const to = at + position - offset;
    const held = slot === undefined ? 0 : Math.max(0, Math.min(count, slot.length - inChunk));
    if (slot !== undefined && held > 0) slotBytes(workspace, slot).copy(target, to, inChunk, inChunk + held);
    if (held < count) target.fill(0, to + held, to + count);
    position += count;
  }
  content.nextRead = end;
  return end - offset;
}

/**
 * Sees to it that what a read needs is fetched at once and, when it goes on where the last one ended, that the
 * chunks behind it are on their way.
 */
function readAhead(workspace: Workspace, inode: Inode, content: Content, offset: number, end: number): void {
  const first = Math.floor(offset / CHUNK_BYTES);
  const last = Math.ceil(end / CHUNK_BYTES);
  const needed = slotsIn(inode, content, first, last);
  const sequential = offset === content.nextRead;
  if (!sequential) content.readAheadTo = 0;
  const ahead = Math.min(READ_AHEAD_CHUNKS, Math.max(1, last));
  if (sequential && last + ahead / 2 > content.readAheadTo) {
    const from = Math.max(last, content.readAheadTo);
    const to = Math.min(last + ahead, Math.ceil(inode.size / CHUNK_BYTES));
    if (from < to) {
      content.readAheadTo = to;
      const hashes = knownAbsent(workspace, inode, content, from, to);
      if (hashes.length > 0) workspace.readAhead(hashes);
    }
  }
  requireBytes(workspace, needed);
}

/** The chunks [first, last), holes left out. @throws {Missing} for a segment that isn't loaded. */
export function slotsIn(inode: Inode, content: Content, first: number, last: number): readonly Slot[] {
  const slots: Slot[] = [];
  for (let chunk = first; chunk < last; chunk++) {
    const slot = slotAt(inode, content, chunk);
    if (slot !== undefined) slots.push(slot);
  }
  return slots;
}

/** The chunks [first, last) that must be fetched, as far as the segments are loaded. */
function knownAbsent(
  workspace: Workspace,
  inode: Inode,
  content: Content,
  first: number,
  last: number,
): readonly ByteString[] {
  try {
    const slots = slotsIn(inode, content, first, last);
    return slots.flatMap((slot) => (slot.data !== undefined || workspace.chunks.has(slot.hash) ? [] : [slot.hash]));
  } catch (problem) {
    if (problem instanceof Missing) return []; // the read itself will ask for the segment when it gets there
    throw problem;
  }
}

/** @throws {FsError} EFBIG when a file may not be that large. */
export function checkSize(workspace: Workspace, size: number): void {
  if (size > workspace.limits.maxFileBytes)
    throw new FsError('EFBIG', `a file may have ${workspace.limits.maxFileBytes} bytes at most`);
}

/**
 * Writes `length` bytes of `source` from `from` on, at `offset`. All or nothing. What that does to privileges is the
 * caller's business (`dropPrivileges`).
 *
 * @throws {FsError} EFBIG, ENOSPC; {Missing}
 */
export function write(
  workspace: Workspace,
  inode: Inode,
  offset: number,
  source: Buffer,
  from: number,
  length: number,
): void {
  requireRegular(inode);
  if (length === 0) return;
  const end = offset + length;
  checkSize(workspace, end);
  const content = contentOf(inode);
  requireBytes(workspace, slotsKept(inode, content, offset, end));
  if (workspace.limits.maxBytes > 0) reserveForWrite(workspace, inode, content, offset, end);
  let position = offset;
  while (position < end) {
    const chunk = Math.floor(position / CHUNK_BYTES);
    const inChunk = position - chunk * CHUNK_BYTES;
    const count = Math.min(CHUNK_BYTES - inChunk, end - position);
    const oldLength = slotAt(inode, content, chunk)?.length ?? 0;
    const replacesAll = inChunk === 0 && count >= oldLength;
    const data = writableSlot(workspace, inode, content, chunk, inChunk + count, replacesAll).data;
    if (data === undefined) throw new Error(`a writable chunk of inode ${inode.ino} has no bytes`);
    if (inChunk > oldLength) data.fill(0, oldLength, inChunk);
    const at = from + position - offset;
    source.copy(data, inChunk, at, at + count);
    position += count;
  }
  if (end > inode.size) inode.size = end;
  workspace.touchContent(inode);
}

/** The chunks of [offset, end) that a write there leaves some bytes of. @throws {Missing} for a segment that isn't loaded. */
export function slotsKept(inode: Inode, content: Content, offset: number, end: number): readonly Slot[] {
  const kept: Slot[] = [];
  const last = Math.floor((end - 1) / CHUNK_BYTES);
  for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk <= last; chunk++) {
    const slot = slotAt(inode, content, chunk);
    const start = chunk * CHUNK_BYTES;
    if (slot !== undefined && (offset > start || end < start + slot.length)) kept.push(slot);
  }
  return kept;
}

function reserveForWrite(workspace: Workspace, inode: Inode, content: Content, offset: number, end: number): void {
  let more = 0;
  const last = Math.floor((end - 1) / CHUNK_BYTES);
  for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk <= last; chunk++) {
    const length = Math.min(CHUNK_BYTES, end - chunk * CHUNK_BYTES);
    more += Math.max(0, length - (slotAt(inode, content, chunk)?.length ?? 0));
  }
  workspace.reserve(more, 0);
}

/**
 * Sets the size; what a file gains reads as zeros. Times are the caller's business.
 *
 * @throws {FsError} EFBIG; {Missing}
 */
export function resize(workspace: Workspace, inode: Inode, size: number): void {
  requireRegular(inode);
  checkSize(workspace, size);
  if (size < inode.size) trimContent(workspace, inode, contentOf(inode), size);
  inode.size = size;
}
