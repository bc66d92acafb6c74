import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { ByteString } from '../vfs/store.ts';
import { decode } from './compress.ts';
import { sha256 } from './hash.ts';

/** The codec of a chunk that is stored as a delta: zstd with the bytes of another one as dictionary. */
export const DELTA = 2;

/** Most deltas in a row of which each is made from what replaced it. Each adds 0.1 ms to reading 128 KiB. */
export const MAX_RUN = 16;
/** Most deltas between a chunk and one that is whole: the last of a run may be made from its anchor. */
export const MAX_DELTAS = MAX_RUN + 1;

/** A chain that is loaded in two parts may be as long as two while the packer is at it; a longer one is a circle. */
const MAX_LOADED = 2 * MAX_DELTAS;

/** A chunk as it's stored. */
export interface StoredChunk {
  readonly hash: ByteString;
  readonly codec: number;
  /** Whose bytes a delta needs; undefined for a chunk that is whole. */
  readonly base: ByteString | undefined;
  readonly data: Uint8Array;
}

/** With the next level, zstd takes twenty times as long and saves nothing. */
const LEVEL = 9;

/** What makes `data` of `base`: 0.5 ms for 128 KiB of text. Undefined where zstd can't use the base. */
export function encodeDelta(data: Uint8Array, base: Uint8Array): Uint8Array | undefined {
  try {
    return zstdCompressSync(data, {
      params: { [constants.ZSTD_c_compressionLevel]: LEVEL },
      dictionary: base,
      pledgedSrcSize: data.length,
    });
  } catch {
    return undefined; // it begins as a trained dictionary does, and isn't one
  }
}

/**
 * The raw bytes of `wanted`, each checked against its hash, given the chunks that they are made from. Undefined for one
 * that is damaged, or whose chain is broken or a circle. `known` has raw bytes, which are taken for what they are.
 */
export function restore(
  wanted: readonly ByteString[],
  stored: ReadonlyMap<ByteString, StoredChunk>,
  known: ReadonlyMap<ByteString, Uint8Array>,
): (Uint8Array | undefined)[] {
  // Only what is wanted is kept meanwhile: the chains of many together may be large.
  const restored = new Map<ByteString, Uint8Array>();
  return wanted.map((hash) => {
    const bytes = restoreOne(hash, stored, (base) => known.get(base) ?? restored.get(base));
    if (bytes !== undefined) restored.set(hash, bytes);
    return bytes;
  });
}

function restoreOne(
  hash: ByteString,
  stored: ReadonlyMap<ByteString, StoredChunk>,
  find: (hash: ByteString) => Uint8Array | undefined,
): Uint8Array | undefined {
  const deltas: Uint8Array[] = [];
  let at = hash;
  let bytes = find(at);
  try {
    while (bytes === undefined) {
      const chunk = stored.get(at);
      if (chunk === undefined) return undefined;
      if (chunk.base === undefined) bytes = decode(chunk);
      else {
        if (deltas.push(chunk.data) > MAX_LOADED) return undefined;
        at = chunk.base;
        bytes = find(at);
      }
    }
    for (const delta of deltas.reverse()) bytes = zstdDecompressSync(delta, { dictionary: bytes });
  } catch {
    return undefined; // whatever is wrong with it, it's damaged
  }
  return sha256(bytes) === hash ? bytes : undefined;
}
