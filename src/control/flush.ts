import { FsError } from '../errno.ts';
import type { Outcome } from './files.ts';

/** What `control/flush` needs of the rest. */
export interface FlushParts {
  /** Hands what programs changed through mappings, and the kernel still holds, to the workspace. */
  readonly takeKernelPages: () => Promise<void>;
  /** Commits every change. @throws {FsError} */
  readonly commit: () => Promise<void>;
  /** Lets go of what is committed; returns the bytes. */
  readonly dropMetadata: () => number;
  readonly dropChunks: () => number;
}

const WHAT = ['all', 'metadata', 'chunks'] as const;

/** Commits, then drops clean cache entries. @throws {FsError} EINVAL, and what the commit throws */
export async function flush(parts: FlushParts, text: string): Promise<Outcome> {
  const what = WHAT.find((name) => name === text.trim());
  if (what === undefined)
    throw new FsError('EINVAL', `'${text.slice(0, 100)}' cannot be flushed`, {
      hint: `write one of: ${WHAT.join(', ')}`,
    });
  await parts.takeKernelPages();
  await parts.commit();
  const metadataBytes = what === 'chunks' ? 0 : parts.dropMetadata();
  const chunkBytes = what === 'metadata' ? 0 : parts.dropChunks();
  return { flushed: what, metadata_bytes_dropped: metadataBytes, chunk_bytes_dropped: chunkBytes };
}
