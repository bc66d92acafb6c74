import { DELTA, MAX_DELTAS, MAX_RUN } from '../content/delta.ts';
import type { DeltaPair } from '../content/delta-jobs.ts';
import { sha256 } from '../content/hash.ts';
import { FsError } from '../errno.ts';
import type { Packed, PackStore, Piece, Replaced } from '../layers/port.ts';
import { type ByteString, StoreError } from '../vfs/store.ts';
import { type Coders, loadChunks } from './chunks.ts';
import type { Client, Connection } from './connection.ts';
import { fenceOut } from './gc.ts';
import type { Lease } from './lease.ts';
import {
  type BaseChunk,
  type ChunkState,
  type DeltaChunk,
  finishPacking,
  loadChunkStates,
  type MovedRow,
  nextToPack,
  type PackStep,
  type WholeChunk,
  writeStep,
} from './pack.ts';
import { gatherReplaced, loadReplaced } from './replaced.ts';

/** Runs a change in its turn among all changes of the lease, with its number. */
type Change = <T>(work: (client: Client, number: number) => Promise<T>) => Promise<T>;

/** A delta is only kept when it's smaller than this share of what it replaces. */
const WORTH = 0.8;
/** The same of one that is made from an anchor: where history has gone far from it, the next run has another one. */
const WORTH_OF_ANCHOR = 0.5;
/** What a chunk of its own costs beside its bytes: its row, and an entry in two indexes. */
const CHUNK_ROW_BYTES = 260;

/** A piece by its hash, and its bytes where they're at hand. */
interface Hashed {
  readonly hash: ByteString;
  readonly bytes: Buffer | undefined;
}

/** What was replaced, and what by. */
interface Pair extends Replaced {
  readonly from: Hashed;
  readonly to: Hashed;
}

interface Candidate extends Pair {
  /** What the delta is to be made from: what replaced it, or its anchor. */
  readonly base: Hashed;
}

/** Reads in a session of its own; what changes something takes its turn among the changes. */
export function packStore(lease: Lease, upkeep: Connection, coders: Coders, change: Change): PackStore {
  let losses = -1;
  const here = () => {
    if (losses !== upkeep.losses)
      throw new StoreError('unavailable', 'the connection was lost while a layer was packed');
  };

  /** Those of these chunks that can be loaded: what is damaged is left alone. */
  async function loadSound(hashes: readonly ByteString[]): Promise<ReadonlyMap<ByteString, Buffer>> {
    if (hashes.length === 0) return new Map();
    try {
      return await loadChunks(upkeep, coders, lease.tenantId, hashes);
    } catch (problem) {
      if (!(problem instanceof FsError)) throw problem;
      if (hashes.length === 1) return new Map();
      const found = new Map<ByteString, Buffer>();
      for (const hash of hashes) for (const [key, bytes] of await loadSound([hash])) found.set(key, bytes);
      return found;
    }
  }

  return {
    next: () => upkeep.run((client) => nextToPack(client, lease)),
    gather: async (place) => {
      await upkeep.run((client) => gatherReplaced(client, lease, place));
      losses = upkeep.losses;
    },
    replaced: async (after, limit) => {
      here();
      const page = await upkeep.run((client) => loadReplaced(client, lease, after, limit));
      here();
      return page;
    },
    pack: async (pieces) => {
      const all = pieces.map((piece) => ({ ...piece, from: hashed(piece.old), to: hashed(piece.by) }));
      const hashes = new Set(all.flatMap(({ from, to }) => [from.hash, to.hash]));
      const states = await upkeep.run((client) => loadChunkStates(client, lease, [...hashes]));
      const anchors = [...states.values()].flatMap(({ height, anchor }) =>
        anchor && height >= MAX_RUN ? [anchor] : [],
      );
      if (anchors.length > 0)
        for (const [hash, state] of await upkeep.run((client) => loadChunkStates(client, lease, anchors)))
          states.set(hash, state);
      const candidates = choose(all, states);
      const raw = new Map<ByteString, Buffer>();
      for (const { hash, bytes } of candidates.flatMap(({ from, base }) => [from, base]))
        if (bytes) raw.set(hash, bytes);
      const absent = candidates.flatMap(({ from, base }) => [from.hash, base.hash]).filter((hash) => !raw.has(hash));
      for (const [hash, bytes] of await loadSound([...new Set(absent)])) raw.set(hash, bytes);
      const { step, packed } = await encodeStep(all, candidates, states, raw, coders);
      if (step.deltas.length + step.moved.length + step.bases.length > 0)
        await change((client, number) => writeStep(client, lease, number, step));
      return packed;
    },
    finish: (layer) => change((client, number) => finishPacking(client, lease, number, layer)),
    fence: () => change((client, number) => fenceOut(client, lease, number)),
  };
}

function hashed(piece: Piece): Hashed {
  return 'hash' in piece ? { hash: piece.hash, bytes: undefined } : { hash: sha256(piece.bytes), bytes: piece.bytes };
}

/** Those that may become deltas, each once. What replaces something else, or is an anchor of others, stays whole. */
function choose(all: readonly Pair[], states: ReadonlyMap<ByteString, ChunkState>): Candidate[] {
  const current = new Set(all.map(({ to }) => to.hash));
  const chosen = new Map<ByteString, Candidate>();
  for (const pair of all) {
    const { from, to } = pair;
    const state = states.get(from.hash);
    if (current.has(from.hash) || chosen.has(from.hash)) continue;
    if (state === undefined ? from.bytes === undefined : state.codec === DELTA || state.height >= MAX_DELTAS) continue;
    if (to.bytes === undefined && !states.has(to.hash)) continue;
    const base = state !== undefined && state.height >= MAX_RUN ? anchorOf(state, states) : to;
    if (base === undefined || base.hash === from.hash) continue;
    chosen.set(from.hash, { ...pair, base });
  }
  return [...chosen.values()].filter(({ base }) => !chosen.has(base.hash));
}

/** What the end of a run can be made from; undefined where that isn't stored, or not whole any more. */
function anchorOf({ anchor }: ChunkState, states: ReadonlyMap<ByteString, ChunkState>): Hashed | undefined {
  if (anchor === undefined || (states.get(anchor)?.codec ?? DELTA) === DELTA) return undefined;
  return { hash: anchor, bytes: undefined };
}

/** The anchors of what replaced something: that of what it replaced, or this itself where it's the end of a run and whole. */
function anchorsOf(
  all: readonly Pair[],
  states: ReadonlyMap<ByteString, ChunkState>,
  packed: ReadonlySet<ByteString>,
): Map<ByteString, ByteString> {
  const anchors = new Map<ByteString, ByteString>();
  for (const { from, to } of all) {
    const state = states.get(from.hash);
    if (state === undefined || state.codec === DELTA) continue;
    const anchor = state.height >= MAX_RUN && !packed.has(from.hash) ? from.hash : state.anchor;
    if (anchor !== undefined && anchor !== to.hash && anchor !== states.get(to.hash)?.anchor)
      anchors.set(to.hash, anchor);
  }
  return anchors;
}

async function encodeStep(
  all: readonly Pair[],
  candidates: readonly Candidate[],
  states: ReadonlyMap<ByteString, ChunkState>,
  raw: ReadonlyMap<ByteString, Buffer>,
  { deltaCoder }: Coders,
): Promise<{ step: PackStep; packed: Packed }> {
  const sound = candidates.filter(({ from, base }) => raw.has(from.hash) && raw.has(base.hash));
  const pairs = sound.map(({ from, base }): DeltaPair => ({ data: bytesOf(raw, from), base: bytesOf(raw, base) }));
  // A base that isn't whole was replaced once, and is there again: others are to be made from it, and it's read more.
  const unwhole = [...new Set(sound.map(({ base }) => base.hash))].filter(
    (hash) => (states.get(hash)?.codec ?? DELTA) === DELTA,
  );
  const encoded = await deltaCoder.encode(
    pairs,
    unwhole.map((hash) => raw.get(hash) ?? Buffer.alloc(0)),
  );
  const deltas: DeltaChunk[] = [];
  const heights = new Map<ByteString, number>();
  let [bytesBefore, bytesAfter] = [0, 0];
  for (const [index, { from, to, base }] of sound.entries()) {
    const data = encoded.deltas[index];
    const state = states.get(from.hash);
    const rawBytes = bytesOf(raw, from).length;
    const storedBytes = state?.storedBytes ?? rawBytes - CHUNK_ROW_BYTES;
    if (data === undefined || data.length >= storedBytes * (base === to ? WORTH : WORTH_OF_ANCHOR)) continue;
    deltas.push({ hash: from.hash, base: base.hash, rawBytes, data });
    heights.set(base.hash, Math.max(heights.get(base.hash) ?? 0, (state?.height ?? 0) + 1));
    bytesBefore += storedBytes;
    bytesAfter += data.length;
  }
  const packed = new Set(deltas.map(({ hash }) => hash));
  const anchors = anchorsOf(all, states, packed);
  const wholes = unwhole.flatMap((hash, index): WholeChunk[] => {
    const whole = encoded.wholes[index];
    const height = heights.get(hash);
    return whole === undefined || height === undefined
      ? []
      : [{ ...whole, hash, height, anchor: anchors.get(hash), rawBytes: raw.get(hash)?.length ?? 0 }];
  });
  const made = new Set(unwhole);
  const bases = [...new Set([...heights.keys(), ...anchors.keys()])]
    .filter((hash) => states.has(hash) && !made.has(hash) && !packed.has(hash))
    .map((hash): BaseChunk => ({ hash, height: heights.get(hash) ?? 0, anchor: anchors.get(hash) }));
  const moved = all.flatMap(({ row, from: { hash, bytes } }): MovedRow[] => {
    const isDelta = packed.has(hash) || states.get(hash)?.codec === DELTA;
    return bytes !== undefined && isDelta ? [{ row, hash, rawBytes: bytes.length }] : [];
  });
  return { step: { wholes, bases, deltas, moved }, packed: { chunks: deltas.length, bytesBefore, bytesAfter } };
}

function bytesOf(raw: ReadonlyMap<ByteString, Buffer>, { hash }: Hashed): Buffer {
  return raw.get(hash) ?? Buffer.alloc(0);
}
