import type { LayerId } from '../brand.ts';
import { DELTA, MAX_DELTAS } from '../content/delta.ts';
import { packChunks } from '../content/packed.ts';
import type { ContentKey } from '../layers/port.ts';
import { type ByteString, StoreError } from '../vfs/store.ts';
import { hashList } from './bases.ts';
import { Blob, placeInBlob } from './blob.ts';
import type { Client } from './connection.ts';
import { fenced } from './layers.ts';
import type { Lease } from './lease.ts';

const prepared = { prepare: true } as const;

/** How a chunk is stored at present. */
export interface ChunkState {
  readonly codec: number;
  readonly height: number;
  readonly anchor: ByteString | undefined;
  readonly storedBytes: number;
}

/** A chunk that others are made from: it's to be whole, with `height` deltas at most above it. */
export interface BaseChunk {
  readonly hash: ByteString;
  readonly height: number;
  /** Undefined leaves what it has. */
  readonly anchor: ByteString | undefined;
}

/** A base that isn't stored, or not whole. */
export interface WholeChunk extends BaseChunk {
  readonly codec: number;
  readonly rawBytes: number;
  readonly data: Uint8Array;
}

/** A chunk that is to be stored as a delta. */
export interface DeltaChunk {
  readonly hash: ByteString;
  readonly base: ByteString;
  readonly rawBytes: number;
  readonly data: Uint8Array;
}

/** A row whose bytes are to be replaced by a reference to a chunk. */
export interface MovedRow {
  readonly row: ContentKey;
  readonly hash: ByteString;
  readonly rawBytes: number;
}

/** What one step writes. No chunk is in it twice, save that a moved row refers to one. */
export interface PackStep {
  readonly wholes: readonly WholeChunk[];
  readonly bases: readonly BaseChunk[];
  readonly deltas: readonly DeltaChunk[];
  readonly moved: readonly MovedRow[];
}

export async function loadChunkStates(
  client: Client,
  lease: Lease,
  hashes: readonly ByteString[],
): Promise<Map<ByteString, ChunkState>> {
  const rows = await client.unsafe<
    { hash: Buffer; codec: number; height: number; anchor_hash: Buffer | null; bytes: number }[]
  >(
    `SELECT found.* FROM unnest(${hashList(hashes)}) AS wanted (hash), LATERAL (
       SELECT hash, codec, height, anchor_hash, length(data) AS bytes FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash = wanted.hash OFFSET 0) AS found`,
    [lease.tenantId],
  );
  return new Map(
    rows.map(({ hash, codec, height, anchor_hash, bytes }) => [
      hash.toString('latin1'),
      { codec, height, anchor: anchor_hash?.toString('latin1'), storedBytes: bytes },
    ]),
  );
}

const bytesAt = (offset: string, length: string): string => placeInBlob('$4::bytea', offset, length);
/** A column of the row of a chunk. */
const ofChunk = (hash: string, column: string): string =>
  `(SELECT ${column} FROM tarbox.chunks WHERE tenant_id = $1 AND hash = ${hash} LIMIT 1)`;

/** Rows are updated by their places, which subqueries of their own find; see PARTS of a commit. */
const STEP = `
  wholes AS (
    INSERT INTO tarbox.chunks (tenant_id, hash, codec, raw_size, height, data, anchor_hash)
    SELECT $1, ${bytesAt('c1', 'c2')}, c3, c4, c5, ${bytesAt('c6', 'c7')}, ${bytesAt('c8', 'c9')}
    FROM fence, unnest($5::integer[], $6::integer[], $7::smallint[], $8::integer[], $9::smallint[], $10::integer[],
      $11::integer[], $12::integer[], $13::integer[]) AS lists (c1, c2, c3, c4, c5, c6, c7, c8, c9)
    ON CONFLICT (tenant_id, hash) DO UPDATE SET codec = excluded.codec, base_hash = NULL, data = excluded.data,
      height = greatest(chunks.height, excluded.height), anchor_hash = excluded.anchor_hash
    RETURNING hash),
  bases AS (
    UPDATE tarbox.chunks SET height = greatest(chunks.height, b.height), anchor_hash = COALESCE(b.anchor, anchor_hash)
    FROM (
      SELECT c3 AS height, ${bytesAt('c4', 'c5')} AS anchor, ${ofChunk(bytesAt('c1', 'c2'), 'ctid')} AS place
      FROM fence, unnest($14::integer[], $15::integer[], $16::smallint[], $17::integer[], $18::integer[])
        AS lists (c1, c2, c3, c4, c5)) AS b
    WHERE chunks.ctid = b.place AND codec <> ${DELTA}
    RETURNING hash),
  deltas AS MATERIALIZED (
    SELECT d.*, ${ofChunk('d.hash', 'ctid')} AS place
    FROM (
      SELECT ${bytesAt('c1', 'c2')} AS hash, ${bytesAt('c3', 'c4')} AS base, c5 AS raw_size, ${bytesAt('c6', 'c7')} AS data
      FROM fence, unnest($19::integer[], $20::integer[], $21::integer[], $22::integer[], $23::integer[], $24::integer[],
        $25::integer[]) AS lists (c1, c2, c3, c4, c5, c6, c7)) AS d
    WHERE d.base IN (SELECT hash FROM wholes UNION ALL SELECT hash FROM bases)),
  packed AS (
    UPDATE tarbox.chunks SET codec = ${DELTA}, base_hash = d.base, anchor_hash = NULL, data = d.data FROM deltas d
    WHERE chunks.ctid = d.place AND codec <> ${DELTA} AND chunks.height < ${MAX_DELTAS}
    RETURNING 1),
  added AS (
    INSERT INTO tarbox.chunks (tenant_id, hash, codec, raw_size, base_hash, data)
    SELECT $1, hash, ${DELTA}, raw_size, base, data FROM deltas WHERE place IS NULL
    ON CONFLICT DO NOTHING RETURNING hash),
  moved AS (
    UPDATE tarbox.contents SET inline = NULL, chunks = m.list
    FROM (
      SELECT c4 AS hash, c5 AS list, (
        SELECT ctid FROM tarbox.contents WHERE tenant_id = $1 AND ino = c1 AND segment = c2 AND layer_id = c3) AS place
      FROM fence, (
        SELECT c1, c2, c3, ${bytesAt('c4', 'c5')}, ${bytesAt('c6', 'c7')}
        FROM unnest($26::bigint[], $27::bigint[], $28::bigint[], $29::integer[], $30::integer[], $31::integer[],
          $32::integer[]) AS lists (c1, c2, c3, c4, c5, c6, c7)) AS given (c1, c2, c3, c4, c5)) AS m
    WHERE contents.ctid = m.place AND sha256(contents.inline) = m.hash
      AND (m.hash IN (SELECT hash FROM added) OR ${ofChunk('m.hash', 'true')})
    RETURNING 1)`;

/** Writes a step in one statement. A crash leaves all of it or nothing. */
export async function writeStep(client: Client, lease: Lease, number: number, step: PackStep): Promise<void> {
  const blob = new Blob();
  const bytes = (hash: ByteString): Buffer => Buffer.from(hash, 'latin1');
  const anchorBytes = (anchor: ByteString | undefined): Buffer | null => (anchor === undefined ? null : bytes(anchor));
  const list = (numbers: readonly number[]): string => `{${numbers.join()}}`;
  const { wholes, bases, deltas, moved } = step;
  const values = [
    ...blob.lists(wholes.map(({ hash }) => bytes(hash))),
    list(wholes.map(({ codec }) => codec)),
    list(wholes.map(({ rawBytes }) => rawBytes)),
    list(wholes.map(({ height }) => height)),
    ...blob.lists(wholes.map(({ data }) => data)),
    ...blob.lists(wholes.map(({ anchor }) => anchorBytes(anchor))),
    ...blob.lists(bases.map(({ hash }) => bytes(hash))),
    list(bases.map(({ height }) => height)),
    ...blob.lists(bases.map(({ anchor }) => anchorBytes(anchor))),
    ...blob.lists(deltas.map(({ hash }) => bytes(hash))),
    ...blob.lists(deltas.map(({ base }) => bytes(base))),
    list(deltas.map(({ rawBytes }) => rawBytes)),
    ...blob.lists(deltas.map(({ data }) => data)),
    list(moved.map(({ row }) => row.ino)),
    list(moved.map(({ row }) => row.segment)),
    list(moved.map(({ row }) => row.layer)),
    ...blob.lists(moved.map(({ hash }) => bytes(hash))),
    ...blob.lists(moved.map(({ hash, rawBytes }) => packChunks([{ hash, length: rawBytes }]))),
  ];
  const [row] = await client.unsafe<{ held: number }[]>(
    `WITH ${fenced()}, ${STEP} SELECT count(*)::integer AS held FROM fence`,
    [lease.tenantId, lease.epoch, number, blob.concat(), ...values],
    prepared,
  );
  requireHeld(row?.held);
}

function requireHeld(held: number | undefined): void {
  if (held !== 1) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
}

/** See `PackStore.next`. */
export async function nextToPack(client: Client, lease: Lease): Promise<LayerId | undefined> {
  const [row] = await client.unsafe<{ layer_id: string }[]>(
    `SELECT layer_id FROM tarbox.layers WHERE tenant_id = $1 AND frozen_at IS NOT NULL AND NOT packed
     ORDER BY layer_id LIMIT 1`,
    [lease.tenantId],
    prepared,
  );
  return row && (Number(row.layer_id) as LayerId); // the column holds numbers of layers
}

/** See `PackStore.finish`. */
export async function finishPacking(client: Client, lease: Lease, number: number, layer: LayerId): Promise<void> {
  const [row] = await client.unsafe<{ held: number }[]>(
    `WITH ${fenced()}, finished AS (
       UPDATE tarbox.layers l SET packed = true FROM fence WHERE l.tenant_id = $1 AND l.layer_id = $4)
     SELECT count(*)::integer AS held FROM fence`,
    [lease.tenantId, lease.epoch, number, layer],
    prepared,
  );
  requireHeld(row?.held);
}
