import { type Ino, ROOT_INO } from '../../src/brand.ts';
import type { Batch, ByteString, ChunkRef, DentryImage, InodeImage, SegmentImage } from '../../src/vfs/store.ts';
import { FIRST_PLACE } from '../support/empty-workspace.ts';

/** Rows for tests: whole, with whatever a test doesn't care about filled in. */

export function ino(number: number): Ino {
  return number as Ino; // the brand is a compile-time mark only
}

export function inodeRow(number: number, fields: Partial<InodeImage> = {}): InodeImage {
  return {
    ino: ino(number),
    mode: 0o100644,
    uid: 1000,
    gid: 1000,
    nlink: 1,
    size: 0,
    allocated: 0,
    atimeSec: 1_700_000_000,
    atimeNsec: 1,
    mtimeSec: 1_700_000_000,
    mtimeNsec: 20,
    ctimeSec: 1_700_000_000,
    ctimeNsec: 300,
    btimeSec: 1_700_000_000,
    btimeNsec: 4000,
    rdev: 0,
    parent: ROOT_INO,
    target: '',
    xattrs: null,
    ...fields,
  };
}

export function dentryRow(parent: number, name: ByteString, number: number, cookie = number + 100): DentryImage {
  return { parent: ino(parent), name, ino: ino(number), type: 8, cookie };
}

export function chunkRef(byte: number, length = 1000): ChunkRef {
  return { hash: String.fromCharCode(byte).repeat(32), length };
}

export const hole: ChunkRef = { hash: '', length: 0 };

export function chunkSegment(number: number, index: number, chunks: readonly ChunkRef[]): SegmentImage {
  return { ino: ino(number), index, chunks, inline: null };
}

export function inlineSegment(number: number, inline: Uint8Array): SegmentImage {
  return { ino: ino(number), index: 0, chunks: [], inline };
}

let sequence = 0;

/** A batch of these rows; its sequence is larger than that of every batch before. */
export function batchOf(rows: Partial<Batch>): Batch {
  return {
    place: FIRST_PLACE,
    seal: undefined,
    sequence: ++sequence,
    nextIno: 1000,
    nextCookie: 5000,
    usedBytes: 0,
    usedInodes: 0,
    inodes: [],
    removedInodes: [],
    dentries: [],
    removedDentries: [],
    segments: [],
    removedSegments: [],
    ...rows,
  };
}
