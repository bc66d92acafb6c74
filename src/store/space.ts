import { statfsSync } from 'node:fs';
import { type Batch, StoreError } from '../vfs/store.ts';

const MIB = 1024 * 1024;

/**
 * What a server on this machine is always left with. Where it finds no room for its write-ahead log, PostgreSQL does
 * not refuse: it ends, and then has no room to recover either. Four files of that log.
 */
const RESERVE_BYTES = 64 * MIB;
/** With less than this it's asked for a checkpoint, which makes its log shorter. */
const SCARCE_BYTES = 256 * MIB;
const CHECKPOINT_EVERY_MS = 10_000;
/** What a byte may take on disk until the next checkpoint: itself, and the log with whole pages. */
const BYTES_A_BYTE = 3;
const ROW_BYTES = 300;

/** Looks after the disk that a server's data is on. */
export class DiskSpace {
  readonly #directory: string;
  readonly #checkpoint: () => void;
  #checkpointAt = Number.NEGATIVE_INFINITY;

  /** `checkpoint` is called when space is scarce, now and then, and not waited for. */
  constructor(directory: string, checkpoint: () => void) {
    this.#directory = directory;
    this.#checkpoint = checkpoint;
  }

  /** @throws {StoreError} `full` when there's no room for this many bytes. */
  require(bytes: number): void {
    const { bavail, bsize } = statfsSync(this.#directory);
    const left = bavail * bsize - bytes * BYTES_A_BYTE;
    if (left < SCARCE_BYTES) this.#askForCheckpoint();
    if (left < RESERVE_BYTES)
      throw new StoreError('full', `the disk of ${this.#directory} is full: only PostgreSQL's reserve is left`);
  }

  #askForCheckpoint(): void {
    const now = performance.now();
    if (now - this.#checkpointAt < CHECKPOINT_EVERY_MS) return;
    this.#checkpointAt = now;
    this.#checkpoint();
  }
}

/** Roughly what a batch takes. */
export function bytesOfBatch(batch: Batch): number {
  const rows = [batch.inodes, batch.removedInodes, batch.dentries, batch.removedDentries, batch.removedSegments];
  let bytes = rows.reduce((count, list) => count + list.length, 0) * ROW_BYTES;
  for (const { xattrs } of batch.inodes) bytes += xattrs?.length ?? 0;
  for (const { chunks, inline } of batch.segments) bytes += ROW_BYTES + chunks.length * 36 + (inline?.length ?? 0);
  return bytes;
}
