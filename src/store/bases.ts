import type { TenantId } from '../brand.ts';
import { MAX_DELTAS, type StoredChunk } from '../content/delta.ts';
import type { DeltaCoder } from '../content/delta-coder.ts';
import type { ByteString } from '../vfs/store.ts';
import type { Connection } from './connection.ts';
import { copyOut } from './copy.ts';

/** Raw bytes of a chunk where they're at hand. */
export type Cached = (hash: ByteString) => Uint8Array | undefined;

/** Deltas that are restored at a time: what they're made from may be as large as they are. */
const RESTORED_AT_ONCE = 32;

/**
 * The raw bytes of deltas, in order; undefined for one that's damaged or whose base is missing. What they're made from is
 * fetched with one query for many. That may be another moment than the one at which the deltas were loaded: the bytes
 * that a hash stands for never change, however they're stored meanwhile.
 */
export async function restoreDeltas(
  connection: Connection,
  coder: DeltaCoder,
  tenant: TenantId,
  deltas: readonly StoredChunk[],
  cached: Cached = () => undefined,
): Promise<(Buffer | undefined)[]> {
  const restored: (Buffer | undefined)[] = [];
  for (let at = 0; at < deltas.length; at += RESTORED_AT_ONCE) {
    const some = deltas.slice(at, at + RESTORED_AT_ONCE);
    let raw = await restoreSome(connection, coder, tenant, some, cached);
    // A cached chunk that was written a moment ago may have more bytes behind its end than it's made of.
    if (raw.includes(undefined)) raw = await restoreSome(connection, coder, tenant, some, () => undefined);
    restored.push(...raw);
  }
  return restored;
}

async function restoreSome(
  connection: Connection,
  coder: DeltaCoder,
  tenant: TenantId,
  deltas: readonly StoredChunk[],
  cached: Cached,
): Promise<(Buffer | undefined)[]> {
  const own = new Set(deltas.map(({ hash }) => hash));
  const known = new Map<ByteString, Uint8Array>();
  const absent = new Set<ByteString>();
  for (const { base } of deltas) {
    if (base === undefined || own.has(base)) continue;
    const bytes = cached(base);
    if (bytes === undefined) absent.add(base);
    else known.set(base, bytes);
  }
  const bases = absent.size === 0 ? [] : await loadChains(connection, tenant, [...absent]);
  // What was loaded last counts: a chunk may have become whole in between, and its base a delta of it.
  return await coder.restore(
    deltas.map(({ hash }) => hash),
    [...deltas, ...bases],
    [...known],
  );
}

/** SQL for a list of hashes. */
export function hashList(hashes: readonly ByteString[]): string {
  return `'{${hashes.map((hash) => `"\\\\x${Buffer.from(hash, 'latin1').toString('hex')}"`).join()}}'::bytea[]`;
}

/** These chunks and all that they're made from, as far as a chain may go. */
async function loadChains(
  connection: Connection,
  tenant: TenantId,
  hashes: readonly ByteString[],
): Promise<StoredChunk[]> {
  const ofTenant = `tenant_id = ${Number(tenant)}`;
  const rows = await connection.run((client) =>
    copyOut(
      client,
      // Hashes first, so that what is gone through is small; each is looked up by itself.
      `COPY (WITH RECURSIVE chain (hash, depth) AS (
           SELECT hash, 1 FROM unnest(${hashList(hashes)}) AS wanted (hash)
           UNION
           SELECT next.base_hash, depth + 1 FROM chain, LATERAL (
             SELECT base_hash FROM tarbox.chunks
             WHERE ${ofTenant} AND hash = chain.hash AND base_hash IS NOT NULL OFFSET 0) AS next
           WHERE depth < ${MAX_DELTAS})
         SELECT found.* FROM (SELECT DISTINCT hash FROM chain) AS needed, LATERAL (
           SELECT hash, codec, data, base_hash FROM tarbox.chunks
           WHERE ${ofTenant} AND hash = needed.hash OFFSET 0) AS found) TO STDOUT (FORMAT binary)`,
    ),
  );
  return rows.map(([hash, codec, data, base]) => ({
    hash: hash?.toString('latin1') ?? '',
    codec: codec?.readInt16BE(0) ?? -1,
    base: base?.toString('latin1'),
    data: data ?? Buffer.alloc(0),
  }));
}
