import { DELTA, MAX_DELTAS } from '../content/delta.ts';
import type { ByteString } from '../vfs/store.ts';
import type { Client } from './connection.ts';
import type { Lease } from './lease.ts';

const prepared = { prepare: true } as const;

interface ChainRow {
  hash: Buffer;
  codec: number;
  height: number;
  has_base: boolean;
  /** Null where the base isn't stored. */
  base_height: number | null;
}

/** See `CheckStore.chains`. Where every base is higher than what is made from it, no chain is too long or a circle. */
export async function checkChains(
  client: Client,
  lease: Lease,
  after: ByteString,
  limit: number,
): Promise<{ last: ByteString | undefined; bad: { hash: ByteString; problem: string }[] }> {
  const rows = await client.unsafe<ChainRow[]>(
    `SELECT c.hash, c.codec, c.height, c.base_hash IS NOT NULL AS has_base, (
       SELECT height FROM tarbox.chunks b WHERE b.tenant_id = $1 AND b.hash = c.base_hash LIMIT 1) AS base_height
     FROM (
       SELECT hash, codec, height, base_hash FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash > $2 ORDER BY hash LIMIT $3) AS c
     ORDER BY c.hash`,
    [lease.tenantId, Buffer.from(after, 'latin1'), limit],
    prepared,
  );
  return {
    last: rows[rows.length - 1]?.hash.toString('latin1'),
    bad: rows.flatMap((row) => {
      const problem = problemOf(row);
      return problem === undefined ? [] : [{ hash: row.hash.toString('latin1'), problem }];
    }),
  };
}

function problemOf({ codec, height, has_base, base_height }: ChainRow): string | undefined {
  if ((codec === DELTA) !== has_base)
    return has_base ? 'it has a base and is no delta' : 'it is a delta without a base';
  if (height < 0 || height > MAX_DELTAS) return `${height} deltas are said to be made from it, one after the other`;
  if (!has_base) return undefined;
  if (base_height === null) return 'its base is missing';
  return base_height > height ? undefined : 'its chain of bases may be too long, or a circle';
}
