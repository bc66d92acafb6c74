import type { ByteString, ChunkRef } from '../vfs/store.ts';

/** Bytes of a SHA-256. */
export const HASH_BYTES = 32;
/** Bytes of a chunk in a packed list. */
export const ENTRY_BYTES = 4 + HASH_BYTES;

/** The list of a segment's chunks as it's stored: for each its length (u32, little-endian) and hash; holes are zeros. */
export function packChunks(chunks: readonly ChunkRef[]): Buffer {
  const packed = Buffer.alloc(chunks.length * ENTRY_BYTES);
  let at = 0;
  for (const { length, hash } of chunks) {
    packed.writeUInt32LE(length, at);
    packed.write(hash, at + 4, 'latin1');
    at += ENTRY_BYTES;
  }
  return packed;
}

/** @throws {RangeError} when `packed` isn't what `packChunks` made. */
export function unpackChunks(packed: Buffer): ChunkRef[] {
  if (packed.length % ENTRY_BYTES !== 0) throw new RangeError('a packed list of chunks is cut short');
  const chunks: ChunkRef[] = [];
  for (let at = 0; at < packed.length; at += ENTRY_BYTES) {
    const length = packed.readUInt32LE(at);
    const hash: ByteString = length === 0 ? '' : packed.toString('latin1', at + 4, at + ENTRY_BYTES);
    chunks.push({ length, hash });
  }
  return chunks;
}
