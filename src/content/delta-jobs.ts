import type { ByteString } from '../vfs/store.ts';
import { type Encoded, encode } from './compress.ts';
import { encodeDelta, restore, type StoredChunk } from './delta.ts';

/** Bytes, and those of the chunk to make them from. */
export interface DeltaPair {
  readonly data: Uint8Array;
  readonly base: Uint8Array;
}

/** What the delta thread is asked for. */
export type DeltaJob =
  | { readonly kind: 'encode'; readonly pairs: readonly DeltaPair[]; readonly wholes: readonly Uint8Array[] }
  | {
      readonly kind: 'restore';
      readonly wanted: readonly ByteString[];
      readonly stored: readonly StoredChunk[];
      readonly known: readonly (readonly [ByteString, Uint8Array])[];
    };

/** Each list is in the order of the job's. */
export type DeltaDone =
  | {
      readonly kind: 'encode';
      readonly deltas: readonly (Uint8Array | undefined)[];
      readonly wholes: readonly Encoded[];
    }
  | { readonly kind: 'restore'; readonly raw: readonly (Uint8Array | undefined)[] };

/** Does a job, synchronously. */
export function performDelta(job: DeltaJob): DeltaDone {
  if (job.kind === 'encode')
    return {
      kind: 'encode',
      deltas: job.pairs.map(({ data, base }) => exact(encodeDelta(data, base))),
      wholes: job.wholes.map(encode),
    };
  const stored = new Map(job.stored.map((chunk) => [chunk.hash, chunk]));
  return { kind: 'restore', raw: restore(job.wanted, stored, new Map(job.known)).map(exact) };
}

/** The same bytes in memory of their own, so that keeping them keeps nothing else. */
function exact(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes && new Uint8Array(bytes);
}

/** How much a job has to do. */
export function bytesOfJob(job: DeltaJob): number {
  const parts =
    job.kind === 'encode'
      ? [...job.pairs.map(({ data }) => data), ...job.wholes]
      : [...job.stored.map(({ data }) => data), ...job.known.map(([, raw]) => raw)];
  return parts.reduce((bytes, { length }) => bytes + length, 0);
}
