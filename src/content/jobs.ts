import type { ByteString } from '../vfs/store.ts';
import { type Batch, partsOf } from './batch.ts';
import { codec, decode, encode } from './compress.ts';
import { sha256 } from './hash.ts';

/** Chunks in a piece of memory, each at its offset. */
export interface Laid {
  readonly memory: ArrayBuffer;
  readonly offsets: readonly number[];
  readonly lengths: readonly number[];
}

/**
 * What the coder thread is asked for: raw chunks to hash and compress where they lie, or stored ones to restore and
 * check.
 */
export type Job =
  | { readonly kind: 'encode'; readonly raw: Laid }
  | {
      readonly kind: 'decode';
      readonly stored: Batch;
      readonly codecs: readonly number[];
      readonly hashes: readonly ByteString[];
    };

/** Each list is in the order of the job's chunks. */
export type Done =
  /** Each chunk now is at its offset in the memory as it's stored, in so many bytes. */
  | {
      readonly kind: 'encode';
      readonly memory: ArrayBuffer;
      readonly lengths: readonly number[];
      readonly codecs: readonly number[];
      readonly hashes: readonly ByteString[];
    }
  /** Each in memory of its own, so that keeping one keeps no other; null for one that its hash says is damaged. */
  | { readonly kind: 'decode'; readonly raw: readonly (ArrayBuffer | null)[] };

/** The memory that a finished job can hand over. */
export function memoryOf(done: Done): ArrayBuffer[] {
  return done.kind === 'encode' ? [done.memory] : done.raw.filter((bytes) => bytes !== null);
}

/** Does a job, synchronously. */
export function perform(job: Job): Done {
  return job.kind === 'encode' ? encodeAll(job.raw) : decodeAll(job.stored, job.codecs, job.hashes);
}

function encodeAll({ memory, offsets, lengths: rawLengths }: Laid): Done {
  const lengths: number[] = [];
  const codecs: number[] = [];
  const hashes: ByteString[] = [];
  for (const [index, offset] of offsets.entries()) {
    const raw = new Uint8Array(memory, offset, rawLengths[index]);
    hashes.push(sha256(raw));
    const encoded = encode(raw);
    if (encoded.codec !== codec.raw) raw.set(encoded.data);
    lengths.push(encoded.data.length);
    codecs.push(encoded.codec);
  }
  return { kind: 'encode', memory, lengths, codecs, hashes };
}

function decodeAll(stored: Batch, codecs: readonly number[], hashes: readonly ByteString[]): Done {
  const raw = partsOf(stored).map((data, index) => {
    const bytes = decoded(data, codecs[index] ?? -1);
    return bytes !== undefined && sha256(bytes) === hashes[index] ? new Uint8Array(bytes).buffer : null;
  });
  return { kind: 'decode', raw };
}

function decoded(data: Uint8Array, code: number): Uint8Array | undefined {
  try {
    return decode({ codec: code, data });
  } catch {
    return undefined; // whatever is wrong with it, it's damaged
  }
}
