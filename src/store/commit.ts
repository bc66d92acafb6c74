import { type Batch, StoreError } from '../vfs/store.ts';
import { Blob } from './blob.ts';
import { PARTS, type Plan, type SegmentRange } from './commit-parts.ts';
import type { Client } from './connection.ts';
import type { Lease } from './lease.ts';
import { stageInline } from './stage.ts';
import { viewBelow } from './view.ts';

/** Parameters that every commit has; see PARTS. */
const FIXED = 12;
/** Inline bytes from which they go ahead of the statement, in binary, instead of as its parameter. */
const STAGED_BYTES = 32 * 1024;

/**
 * The condition on which everything else hangs: the epoch is still ours, and no later commit has been carried out.
 * Without the latter, one whose connection was given up, and that the server reads after all when others have been
 * committed on a new connection, would put old rows over new ones. It also locks the tenant's row.
 */
const FENCE = `fence AS (
  UPDATE tarbox.tenants
  SET sequence = $5, next_ino = $6, next_cookie = $7, used_bytes = $8, used_inodes = $9, commit_number = $10,
    working_layer = $12::bigint, next_layer = greatest(next_layer, $12::bigint + 1)
  WHERE tenant_id = $1 AND lease_epoch = $2 AND commit_number < $10
  RETURNING tenant_id)`;

/** `unnest($13::bigint[], …) AS lists (c1, …)`, its parameters numbered from `first`. */
function unnest(types: readonly string[], first: number): string {
  const lists = types.map((type, index) => `$${first + index}::${type}[]`).join(', ');
  return `unnest(${lists}) AS lists (${types.map((_, index) => `c${index + 1}`).join(', ')})`;
}

/**
 * The rows to remove, without those that the batch writes: one statement must not touch a row twice (PostgreSQL
 * manual, WITH Queries, Data-Modifying Statements).
 */
function rangesToRemove(batch: Batch): SegmentRange[] {
  if (batch.removedSegments.length === 0) return [];
  const written = new Map<number, number[]>();
  for (const { ino, index } of batch.segments) {
    const indexes = written.get(ino);
    if (indexes === undefined) written.set(ino, [index]);
    else indexes.push(index);
  }
  const ranges: SegmentRange[] = [];
  for (const { ino, index } of batch.removedSegments) {
    let from = index;
    for (const kept of (written.get(ino) ?? []).sort((a, b) => a - b)) {
      if (kept < from) continue;
      if (kept > from) ranges.push({ ino, from, to: kept });
      from = kept + 1;
    }
    ranges.push({ ino, from, to: Number.MAX_SAFE_INTEGER });
  }
  return ranges;
}

/** The rows of a file's content that go because the file goes. */
function wholeFile(ino: number): SegmentRange {
  return { ino, from: 0, to: Number.MAX_SAFE_INTEGER };
}

/** Sends what is better sent ahead, and sorts the rest. */
async function planOf(client: Client, batch: Batch): Promise<Plan> {
  const { firstIno } = batch.place;
  const isOld = (ino: number) => ino < firstIno;
  const isBorn = (ino: number) => ino >= firstIno;
  const ranges = rangesToRemove(batch);
  const sorted = {
    removedInodesBorn: batch.removedInodes.filter(isBorn),
    removedInodesOld: batch.removedInodes.filter(isOld),
    removedNamesBorn: batch.removedDentries.filter(({ parent }) => isBorn(parent)),
    removedNamesOld: batch.removedDentries.filter(({ parent }) => isOld(parent)),
    // What a removed inode had below is hidden with it.
    removedRangesBorn: [...ranges.filter(({ ino }) => isBorn(ino)), ...batch.removedInodes.map(wholeFile)],
    removedRangesOld: ranges.filter(({ ino }) => isOld(ino)),
  };
  const inlineBytes = batch.segments.reduce((bytes, { inline }) => bytes + (inline?.length ?? 0), 0);
  if (inlineBytes < STAGED_BYTES) return { ...batch, ...sorted, staged: [] };
  const staged = batch.segments.filter(({ inline }) => inline !== null);
  await stageInline(client, staged);
  return { ...batch, ...sorted, segments: batch.segments.filter(({ inline }) => inline === null), staged };
}

/**
 * Applies a batch with one statement, which is one transaction and one round trip, so nothing between its parts can
 * fail alone. See `Commits.commit`. `number` grows with every call of one lease, from 1.
 */
export async function commitBatch(client: Client, lease: Lease, batch: Batch, number: number): Promise<void> {
  const plan = await planOf(client, batch);
  const blob = new Blob();
  const lists: string[] = [];
  const statements = [FENCE];
  for (const part of PARTS) {
    if (!part.present(plan)) continue;
    statements.push(part.sql(unnest(part.types, FIXED + 1 + lists.length)));
    lists.push(...part.lists(plan, blob));
  }
  const text = `WITH ${statements.join(',\n')}
    SELECT count(*)::integer AS held, length($4::bytea) FROM fence,
      (SELECT $3::bigint, $11::int8multirange) AS layers`;
  const { sequence, nextIno, nextCookie, usedBytes, usedInodes, place, seal } = batch;
  const fixed = [lease.tenantId, lease.epoch, place.layer, blob.concat()];
  const totals = [sequence, nextIno, nextCookie, usedBytes, usedInodes, number];
  const layers = [viewBelow(place), seal?.next.layer ?? place.layer];
  const values = [...fixed, ...totals, ...layers, ...lists];
  const rows = await client.unsafe<{ held: number }[]>(text, values, { prepare: true });
  if (rows[0]?.held !== 1) throw new StoreError('lease-lost', 'another sidecar has taken the tenant over');
}
