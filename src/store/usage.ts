import type { Ino, LayerId } from '../brand.ts';
import type { ChunkUsage, ContentKey, ContentUsage } from '../layers/port.ts';
import type { ByteString } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import { eachChunk, lengthOf } from './fsck.ts';
import type { Lease } from './lease.ts';

const prepared = { prepare: true } as const;

interface ChunkUsageRow {
  last: Buffer | null;
  chunks: number;
  raw: string | null;
  stored: string | null;
  deltas: number;
  delta_raw: string | null;
  delta_stored: string | null;
}

/** See `UsageStore.chunks`. */
export async function chunkUsage(client: Client, lease: Lease, after: ByteString, limit: number): Promise<ChunkUsage> {
  const [row] = await client.unsafe<ChunkUsageRow[]>(
    `WITH page AS MATERIALIZED (
       SELECT hash, raw_size, length(data) AS stored, base_hash IS NOT NULL AS is_delta FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash > $2 ORDER BY hash LIMIT $3)
     SELECT (SELECT hash FROM page ORDER BY hash DESC LIMIT 1) AS last, count(*)::integer AS chunks, sum(raw_size) AS raw,
       sum(stored) AS stored, count(*) FILTER (WHERE is_delta)::integer AS deltas,
       sum(raw_size) FILTER (WHERE is_delta) AS delta_raw, sum(stored) FILTER (WHERE is_delta) AS delta_stored
     FROM page`,
    [lease.tenantId, Buffer.from(after, 'latin1'), limit],
    prepared,
  );
  return {
    last: row?.last?.toString('latin1'),
    chunks: row?.chunks ?? 0,
    rawBytes: Number(row?.raw ?? 0),
    storedBytes: Number(row?.stored ?? 0),
    deltas: row?.deltas ?? 0,
    deltaRawBytes: Number(row?.delta_raw ?? 0),
    deltaStoredBytes: Number(row?.delta_stored ?? 0),
  };
}

/** See `UsageStore.contents`. */
export async function contentUsage(
  client: Client,
  lease: Lease,
  after: ContentKey,
  limit: number,
): Promise<ContentUsage> {
  const rows = await client.unsafe<{ ino: string; segment: string; layer_id: string; bytes: string; inline: number }[]>(
    `SELECT ino, segment, layer_id, COALESCE(length(inline), 0) AS inline, COALESCE(length(inline), (
       SELECT sum(${lengthOf('chunks')}) FROM ${eachChunk('chunks')}), 0) AS bytes
     FROM (
       SELECT ino, segment, layer_id, chunks, inline FROM tarbox.contents
       WHERE tenant_id = $1 AND (ino, segment, layer_id) > ($2::bigint, $3::bigint, $4::bigint)
       ORDER BY ino, segment, layer_id LIMIT $5) AS page
     ORDER BY ino, segment, layer_id`,
    [lease.tenantId, after.ino, after.segment, after.layer, limit],
    prepared,
  );
  const last = rows[rows.length - 1];
  return {
    // The casts give the numbers of these columns their names.
    last: last && {
      ino: Number(last.ino) as Ino,
      segment: Number(last.segment),
      layer: Number(last.layer_id) as LayerId,
    },
    bytes: rows.reduce((sum, row) => sum + Number(row.bytes), 0),
    inlineBytes: rows.reduce((sum, row) => sum + row.inline, 0),
  };
}

/** See `UsageStore.unpacked`. */
export async function countUnpacked(client: Client, lease: Lease): Promise<number> {
  const [row] = await client.unsafe<{ count: number }[]>(
    `SELECT count(*)::integer FROM tarbox.layers WHERE tenant_id = $1 AND frozen_at IS NOT NULL AND NOT packed`,
    [lease.tenantId],
    prepared,
  );
  return row?.count ?? 0;
}
