import { createHash, type Hash } from 'node:crypto';
import { CHUNK_BYTES } from '../vfs/geometry.ts';
import type { ChunkReader } from './diff-chunks.ts';
import type { Content } from './reader.ts';

/** Hashed before others have their turn: a millisecond or two. */
const CHUNKS_A_TURN = 16;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/**
 * SHA-256 of all bytes of a file, in hexadecimal.
 *
 * @throws {FsError} EIO for a chunk that is missing or damaged; the signal's reason
 */
export async function hashOf(content: Content, chunks: ChunkReader, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const stored = [...content.chunks].sort(([a], [b]) => a - b);
  let at = put(hash, content.head ?? ZEROS.subarray(0, 0), content.size);
  for (let next = 0; next < stored.length; next += CHUNKS_A_TURN) {
    const some = stored.slice(next, next + CHUNKS_A_TURN);
    const found = await chunks.get(some.map(([, { hash: name }]) => name));
    for (const [index, { hash: name, length }] of some) {
      const start = index * CHUNK_BYTES;
      at = await putZeros(hash, at, Math.min(start, content.size), signal);
      at += put(hash, found.get(name)?.subarray(0, length) ?? ZEROS, content.size - start);
    }
  }
  await putZeros(hash, at, content.size, signal);
  return hash.digest('hex');
}

/** At most `most` bytes; returns how many. */
function put(hash: Hash, bytes: Uint8Array, most: number): number {
  const length = Math.max(0, Math.min(bytes.length, most));
  hash.update(bytes.subarray(0, length));
  return length;
}

async function putZeros(hash: Hash, from: number, to: number, signal: AbortSignal): Promise<number> {
  let chunks = 0;
  for (let at = from; at < to; at += CHUNK_BYTES) {
    put(hash, ZEROS, to - at);
    if (++chunks % CHUNKS_A_TURN !== 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
  }
  return to;
}
