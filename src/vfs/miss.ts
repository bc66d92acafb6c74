import type { Ino } from '../brand.ts';
import type { ByteString } from './store.ts';

/**
 * Thrown by an operation that needs something that isn't loaded. The caller loads it and runs the operation
 * again from its start; so an operation changes nothing before everything that it needs is there.
 * Not an Error: it has no stack and never leaves the dispatcher.
 */
export type Miss =
  | LoadMiss
  /** What the kernel has let go of and hasn't told of yet: the space of files without a name. */
  | { readonly kind: 'releases' };

/** What storage has. */
export type LoadMiss =
  | { readonly kind: 'inodes'; readonly inos: readonly Ino[] }
  /** A name of the inode and of each above it, and themselves, as far as there are any. */
  | { readonly kind: 'named'; readonly ino: Ino }
  | { readonly kind: 'name'; readonly parent: Ino; readonly name: ByteString }
  | { readonly kind: 'directory'; readonly parent: Ino; readonly after: number }
  | { readonly kind: 'segments'; readonly ino: Ino; readonly from: number; readonly to: number }
  | { readonly kind: 'chunks'; readonly hashes: readonly ByteString[] };

export class Missing {
  readonly miss: Miss;

  constructor(miss: Miss) {
    this.miss = miss;
  }
}
