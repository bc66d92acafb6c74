import { LRUCache } from 'lru-cache';
import type { ByteString } from '../vfs/store.ts';

/** Chunks held by one reader, for versions that share some. */
const HELD_BYTES = 8 * 1024 * 1024;
/** Chunks loaded at a time: 4 MiB. */
const CHUNKS_AT_ONCE = 32;

export interface ChunkParts {
  readonly load: (hashes: readonly ByteString[]) => Promise<ReadonlyMap<ByteString, Buffer>>;
  /** One that is in memory anyway. */
  readonly cached: (hash: ByteString) => Buffer | undefined;
}

/** Chunks for one reader, who goes through files once: they leave the tree's cache as it is. */
export class ChunkReader {
  readonly #parts: ChunkParts;
  readonly #held = new LRUCache<ByteString, Buffer>({
    maxSize: HELD_BYTES,
    sizeCalculation: ({ length }) => length + 1,
  });

  constructor(parts: ChunkParts) {
    this.#parts = parts;
  }

  /** These chunks, of which there are few. @throws {FsError} EIO for one that is missing or damaged */
  async get(hashes: readonly ByteString[]): Promise<ReadonlyMap<ByteString, Buffer>> {
    const found = new Map<ByteString, Buffer>();
    const absent = new Set<ByteString>();
    for (const hash of hashes) {
      const chunk = this.#held.get(hash) ?? this.#parts.cached(hash);
      if (chunk === undefined) absent.add(hash);
      else found.set(hash, chunk);
    }
    if (absent.size > 0)
      for (const [hash, chunk] of await this.#parts.load([...absent])) {
        this.#held.set(hash, chunk);
        found.set(hash, chunk);
      }
    return found;
  }

  /** Any number of chunks, some at a time, in the order asked for. @throws as `get` */
  async *read(hashes: readonly ByteString[]): AsyncGenerator<ReadonlyMap<ByteString, Buffer>> {
    for (let at = 0; at < hashes.length; at += CHUNKS_AT_ONCE)
      yield await this.get(hashes.slice(at, at + CHUNKS_AT_ONCE));
  }
}
