import type { ByteString } from '../vfs/store.ts';
import { type Batch, batchOf, partsOf } from './batch.ts';
import { codec, decode, encode } from './compress.ts';
import { sha256 } from './hash.ts';

/** What the coder thread is asked for: raw chunks to hash and compress, or stored ones to restore and check. */
export type Job =
  | { readonly kind: 'encode'; readonly raw: Batch }
  | {
      readonly kind: 'decode';
      readonly stored: Batch;
      readonly codecs: readonly number[];
      readonly hashes: readonly ByteString[];
    };

/** Each list is in the order of the job's chunks. */
export type Done =
  | {
      readonly kind: 'encode';
      readonly stored: Batch;
      readonly codecs: readonly number[];
      readonly hashes: readonly ByteString[];
    }
  /** Each in memory of its own, so that keeping one keeps no other; null for one that its hash says is damaged. */
  | { readonly kind: 'decode'; readonly raw: readonly (ArrayBuffer | null)[] };

/** The memory that a finished job can hand over. */
export function memoryOf(done: Done): ArrayBuffer[] {
  return done.kind === 'encode' ? [done.stored.bytes] : done.raw.filter((bytes) => bytes !== null);
}

/** Does a job, synchronously. */
export function perform(job: Job): Done {
  return job.kind === 'encode' ? encodeAll(job.raw) : decodeAll(job.stored, job.codecs, job.hashes);
}

function encodeAll(raw: Batch): Done {
  const chunks = partsOf(raw);
  const encoded = chunks.map(encode);
  return {
    kind: 'encode',
    stored: encoded.every((chunk) => chunk.codec === codec.raw) ? raw : batchOf(encoded.map((chunk) => chunk.data)),
    codecs: encoded.map((chunk) => chunk.codec),
    hashes: chunks.map(sha256),
  };
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
