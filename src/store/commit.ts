import { packChunks } from '../content/packed.ts';
import type { Batch, SegmentImage } from '../vfs/store.ts';
import { StoreError } from '../vfs/store.ts';
import { Blob, placeInBlob } from './blob.ts';
import type { Client } from './connection.ts';
import { inodeLists } from './inodes.ts';
import type { Lease } from './lease.ts';

/** Parameters of every commit: tenant, epoch, layer, blob, sequence, next ino, next cookie, used bytes and inodes. */
const FIXED = 9;

/** One table's share of a commit: its lists, and the statement that applies them, given the number of its first list. */
interface Part {
  readonly present: boolean;
  readonly types: readonly string[];
  readonly lists: (batch: Batch, blob: Blob) => readonly string[];
  readonly sql: (from: string, withSegments: string | undefined) => string;
}

/** The condition on which everything else hangs: the epoch is still ours. It also locks the tenant's row. */
const FENCE = `fence AS (
  UPDATE tarbox.tenants
  SET sequence = $5, next_ino = $6, next_cookie = $7, used_bytes = $8, used_inodes = $9
  WHERE tenant_id = $1 AND lease_epoch = $2
  RETURNING tenant_id)`;

function parts(batch: Batch): readonly Part[] {
  return [
    {
      present: batch.inodes.length > 0,
      types: [...Array(8).fill('bigint'), 'integer', 'integer', 'oid', 'oid', 'oid', ...Array(4).fill('integer')],
      lists: ({ inodes }, blob) => inodeLists(inodes, blob),
      sql: (from) => `inodes AS (
        INSERT INTO tarbox.inodes (tenant_id, layer_id, ino, parent, size, allocated, atime, mtime, ctime, btime,
          mode, nlink, uid, gid, rdev, target, xattrs)
        SELECT $1, $3, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13,
          ${placeInBlob('$4::bytea', 'c14', 'c15')}, ${placeInBlob('$4::bytea', 'c16', 'c17')}
        FROM fence, ${from}
        ON CONFLICT (tenant_id, ino, layer_id) DO UPDATE SET parent = excluded.parent, size = excluded.size,
          allocated = excluded.allocated, atime = excluded.atime, mtime = excluded.mtime, ctime = excluded.ctime,
          mode = excluded.mode, nlink = excluded.nlink, uid = excluded.uid, gid = excluded.gid,
          target = excluded.target, xattrs = excluded.xattrs, deleted = false)`,
    },
    {
      present: batch.removedInodes.length > 0,
      types: ['bigint'],
      lists: ({ removedInodes }) => [`{${removedInodes.join()}}`],
      sql: (from) => `removed_inodes AS (
        DELETE FROM tarbox.inodes t USING fence, ${from}
        WHERE t.tenant_id = $1 AND t.ino = c1 AND t.layer_id = $3)`,
    },
    {
      present: batch.dentries.length > 0,
      types: ['bigint', 'bigint', 'bigint', 'smallint', 'integer', 'integer'],
      lists: ({ dentries }, blob) => [
        `{${dentries.map((dentry) => dentry.parent).join()}}`,
        `{${dentries.map((dentry) => dentry.ino).join()}}`,
        `{${dentries.map((dentry) => dentry.cookie).join()}}`,
        `{${dentries.map((dentry) => dentry.type).join()}}`,
        ...blob.lists(dentries.map((dentry) => Buffer.from(dentry.name, 'latin1'))),
      ],
      sql: (from) => `dentries AS (
        INSERT INTO tarbox.dentries (tenant_id, layer_id, parent, ino, cookie, type, name)
        SELECT $1, $3, c1, c2, c3, c4, ${placeInBlob('$4::bytea', 'c5', 'c6')} FROM fence, ${from}
        ON CONFLICT (tenant_id, parent, name, layer_id)
        DO UPDATE SET ino = excluded.ino, cookie = excluded.cookie, type = excluded.type)`,
    },
    {
      present: batch.removedDentries.length > 0,
      types: ['bigint', 'integer', 'integer'],
      lists: ({ removedDentries }, blob) => [
        `{${removedDentries.map((dentry) => dentry.parent).join()}}`,
        ...blob.lists(removedDentries.map((dentry) => Buffer.from(dentry.name, 'latin1'))),
      ],
      sql: (from) => `removed_dentries AS (
        DELETE FROM tarbox.dentries t USING fence, ${from}
        WHERE t.tenant_id = $1 AND t.parent = c1 AND t.name = ${placeInBlob('$4::bytea', 'c2', 'c3')}
          AND t.layer_id = $3)`,
    },
    {
      present: batch.segments.length > 0,
      types: ['bigint', 'bigint', ...Array(4).fill('integer')],
      lists: ({ segments }, blob) => [
        `{${segments.map((segment) => segment.ino).join()}}`,
        `{${segments.map((segment) => segment.index).join()}}`,
        ...blob.lists(segments.map(packedChunks)),
        ...blob.lists(segments.map((segment) => segment.inline)),
      ],
      sql: (from) => `segments AS (
        INSERT INTO tarbox.contents (tenant_id, layer_id, ino, segment, chunks, inline)
        SELECT $1, $3, c1, c2, ${placeInBlob('$4::bytea', 'c3', 'c4')}, ${placeInBlob('$4::bytea', 'c5', 'c6')}
        FROM fence, ${from}
        ON CONFLICT (tenant_id, ino, segment, layer_id) DO UPDATE SET chunks = excluded.chunks, inline = excluded.inline)`,
    },
    {
      present: batch.removedSegments.length > 0,
      types: ['bigint', 'bigint'],
      lists: ({ removedSegments }) => [
        `{${removedSegments.map((segment) => segment.ino).join()}}`,
        `{${removedSegments.map((segment) => segment.index).join()}}`,
      ],
      // A row that this statement also writes must not be removed by it as well.
      sql: (from, written) => `removed_segments AS (
        DELETE FROM tarbox.contents t USING fence, ${from}
        WHERE t.tenant_id = $1 AND t.ino = c1 AND t.segment >= c2 AND t.layer_id = $3
          ${written === undefined ? '' : `AND (t.ino, t.segment) NOT IN (SELECT c1, c2 FROM ${written})`})`,
    },
  ];
}

function packedChunks(segment: SegmentImage): Uint8Array | null {
  return segment.inline === null ? packChunks(segment.chunks) : null;
}

/** `unnest($10::bigint[], …) AS lists (c1, …)`, its parameters numbered from `first`. */
function unnest(types: readonly string[], first: number): string {
  const lists = types.map((type, index) => `$${first + index}::${type}[]`).join(', ');
  return `unnest(${lists}) AS lists (${types.map((_, index) => `c${index + 1}`).join(', ')})`;
}

/**
 * Applies a batch with one statement, which is one transaction and one round trip: 100,000 rows a second in batches
 * of thousands, and nothing between its parts can fail alone. See `Commits.commit`.
 */
export async function commitBatch(client: Client, lease: Lease, batch: Batch): Promise<void> {
  const blob = new Blob();
  const lists: string[] = [];
  const statements = [FENCE];
  let written: string | undefined;
  for (const [index, part] of parts(batch).entries()) {
    if (!part.present) continue;
    const from = unnest(part.types, FIXED + 1 + lists.length);
    if (index === 4) written = from;
    statements.push(part.sql(from, written));
    lists.push(...part.lists(batch, blob));
  }
  const text = `WITH ${statements.join(',\n')}\nSELECT count(*)::integer AS held, length($4::bytea) FROM fence, (SELECT $3::bigint) AS layer`;
  const { sequence, nextIno, nextCookie, usedBytes, usedInodes } = batch;
  const rows = await client.unsafe<{ held: number }[]>(
    text,
    [
      lease.tenantId,
      lease.epoch,
      lease.layer,
      blob.concat(),
      sequence,
      nextIno,
      nextCookie,
      usedBytes,
      usedInodes,
      ...lists,
    ],
    { prepare: true },
  );
  if (rows[0]?.held !== 1) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
}
