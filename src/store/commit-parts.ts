import { packChunks } from '../content/packed.ts';
import type { Batch, ByteString, SegmentImage } from '../vfs/store.ts';
import { type Blob, placeInBlob } from './blob.ts';
import { inodeLists } from './inodes.ts';
import { STAGE } from './stage.ts';

/** Rows of `contents` with an index in [from, to). */
export interface SegmentRange {
  readonly ino: number;
  readonly from: number;
  readonly to: number;
}

interface RemovedName {
  readonly parent: number;
  readonly name: ByteString;
}

/**
 * What one statement applies: a batch, sorted by how it travels. `born`: in the batch's own layer, so that removing it
 * needs no whiteout; `old`: there may be rows in the layers below, which a whiteout must hide.
 */
export interface Plan extends Batch {
  /** Segments whose bytes are in the stage already. */
  readonly staged: readonly SegmentImage[];
  readonly removedInodesBorn: readonly number[];
  readonly removedInodesOld: readonly number[];
  readonly removedNamesBorn: readonly RemovedName[];
  readonly removedNamesOld: readonly RemovedName[];
  readonly removedRangesBorn: readonly SegmentRange[];
  readonly removedRangesOld: readonly SegmentRange[];
}

/** One table's share of a commit: its lists, and the statement that applies them, given what they're called. */
interface Part {
  readonly present: (plan: Plan) => boolean;
  readonly types: readonly string[];
  readonly lists: (plan: Plan, blob: Blob) => readonly string[];
  readonly sql: (lists: string) => string;
}

const bytesAt = (offset: string, length: string): string => placeInBlob('$4::bytea', offset, length);
const bytesOf = (name: ByteString): Buffer => Buffer.from(name, 'latin1');

const NAME_TYPES = ['bigint', 'integer', 'integer'];

function nameLists(names: readonly RemovedName[], blob: Blob): readonly string[] {
  return [`{${names.map(({ parent }) => parent).join()}}`, ...blob.lists(names.map(({ name }) => bytesOf(name)))];
}

const RANGE_TYPES = ['bigint', 'bigint', 'bigint'];

function rangeLists(ranges: readonly SegmentRange[]): readonly string[] {
  return [
    `{${ranges.map(({ ino }) => ino).join()}}`,
    `{${ranges.map(({ from }) => from).join()}}`,
    `{${ranges.map(({ to }) => to).join()}}`,
  ];
}

/** The name's row in the batch's layer. */
const OWN_NAME = `(SELECT d.ctid FROM tarbox.dentries d
  WHERE d.tenant_id = $1 AND d.parent = c1 AND d.name = ${bytesAt('c2', 'c3')} AND d.layer_id = $3)`;
/** What the name stands for in the layers below; null for nothing. */
const NAME_BELOW = `(SELECT d.ino FROM tarbox.dentries d
  WHERE d.tenant_id = $1 AND d.parent = c1 AND d.name = ${bytesAt('c2', 'c3')} AND $11::int8multirange @> d.layer_id
  ORDER BY d.layer_id DESC LIMIT 1)`;
const SEGMENTS_IN_RANGE = 's.tenant_id = $1 AND s.ino = c1 AND s.segment >= c2 AND s.segment < c3';

/**
 * $1 to $12 are the tenant, the epoch, the layer, the blob, five totals, the commit's number, the layers below and the
 * working layer that the commit leaves.
 *
 * Rows are removed by their place, which a subquery of its own finds for each: joined with the list, the table would be
 * gone through once for every row while the planner thinks that it's small.
 */
export const PARTS: readonly Part[] = [
  {
    present: ({ inodes }) => inodes.length > 0,
    types: [...Array(8).fill('bigint'), 'integer', 'integer', 'oid', 'oid', 'oid', ...Array(4).fill('integer')],
    lists: ({ inodes }, blob) => inodeLists(inodes, blob),
    sql: (lists) => `inodes AS (
      INSERT INTO tarbox.inodes (tenant_id, layer_id, ino, parent, size, allocated, atime, mtime, ctime, btime,
        mode, nlink, uid, gid, rdev, target, xattrs)
      SELECT $1, $3, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13,
        ${bytesAt('c14', 'c15')}, ${bytesAt('c16', 'c17')}
      FROM fence, ${lists}
      ON CONFLICT (tenant_id, ino, layer_id) DO UPDATE SET parent = excluded.parent, size = excluded.size,
        allocated = excluded.allocated, atime = excluded.atime, mtime = excluded.mtime, ctime = excluded.ctime,
        mode = excluded.mode, nlink = excluded.nlink, uid = excluded.uid, gid = excluded.gid,
        target = excluded.target, xattrs = excluded.xattrs, deleted = false)`,
  },
  {
    present: ({ removedInodesBorn }) => removedInodesBorn.length > 0,
    types: ['bigint'],
    lists: ({ removedInodesBorn }) => [`{${removedInodesBorn.join()}}`],
    sql: (lists) => `removed_inodes AS (
      DELETE FROM tarbox.inodes WHERE ctid = ANY (ARRAY(
        SELECT (SELECT i.ctid FROM tarbox.inodes i WHERE i.tenant_id = $1 AND i.ino = c1 AND i.layer_id = $3)
        FROM fence, ${lists})))`,
  },
  {
    present: ({ removedInodesOld }) => removedInodesOld.length > 0,
    types: ['bigint'],
    lists: ({ removedInodesOld }) => [`{${removedInodesOld.join()}}`],
    sql: (lists) => `hidden_inodes AS (
      INSERT INTO tarbox.inodes (tenant_id, layer_id, ino, parent, size, allocated, atime, mtime, ctime, btime,
        mode, nlink, uid, gid, rdev, deleted)
      SELECT $1, $3, c1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, true FROM fence, ${lists}
      ON CONFLICT (tenant_id, ino, layer_id)
      DO UPDATE SET deleted = true, nlink = 1, target = NULL, xattrs = NULL)`,
  },
  {
    present: ({ dentries }) => dentries.length > 0,
    types: ['bigint', 'bigint', 'bigint', 'smallint', 'integer', 'integer'],
    lists: ({ dentries }, blob) => [
      `{${dentries.map((dentry) => dentry.parent).join()}}`,
      `{${dentries.map((dentry) => dentry.ino).join()}}`,
      `{${dentries.map((dentry) => dentry.cookie).join()}}`,
      `{${dentries.map((dentry) => dentry.type).join()}}`,
      ...blob.lists(dentries.map((dentry) => Buffer.from(dentry.name, 'latin1'))),
    ],
    sql: (lists) => `dentries AS (
      INSERT INTO tarbox.dentries (tenant_id, layer_id, parent, ino, cookie, type, name)
      SELECT $1, $3, c1, c2, c3, c4, ${bytesAt('c5', 'c6')} FROM fence, ${lists}
      ON CONFLICT (tenant_id, parent, name, layer_id)
      DO UPDATE SET ino = excluded.ino, cookie = excluded.cookie, type = excluded.type)`,
  },
  {
    present: ({ removedNamesBorn }) => removedNamesBorn.length > 0,
    types: NAME_TYPES,
    lists: ({ removedNamesBorn }, blob) => nameLists(removedNamesBorn, blob),
    sql: (lists) => `removed_dentries AS (
      DELETE FROM tarbox.dentries WHERE ctid = ANY (ARRAY(SELECT ${OWN_NAME} FROM fence, ${lists})))`,
  },
  {
    present: ({ removedNamesOld }) => removedNamesOld.length > 0,
    types: NAME_TYPES,
    lists: ({ removedNamesOld }, blob) => nameLists(removedNamesOld, blob),
    sql: (lists) => `hidden_dentries AS (
      INSERT INTO tarbox.dentries (tenant_id, layer_id, parent, ino, cookie, type, name)
      SELECT $1, $3, c1, NULL, 0, 0, ${bytesAt('c2', 'c3')} FROM fence, ${lists} WHERE ${NAME_BELOW} IS NOT NULL
      ON CONFLICT (tenant_id, parent, name, layer_id) DO UPDATE SET ino = NULL, cookie = 0, type = 0),
    bare_dentries AS (
      DELETE FROM tarbox.dentries WHERE ctid = ANY (ARRAY(
        SELECT ${OWN_NAME} FROM fence, ${lists} WHERE ${NAME_BELOW} IS NULL)))`,
  },
  {
    present: ({ segments }) => segments.length > 0,
    types: ['bigint', 'bigint', ...Array(4).fill('integer')],
    lists: ({ segments }, blob) => [
      `{${segments.map((segment) => segment.ino).join()}}`,
      `{${segments.map((segment) => segment.index).join()}}`,
      ...blob.lists(segments.map(packedChunks)),
      ...blob.lists(segments.map((segment) => segment.inline)),
    ],
    sql: (lists) => `segments AS (
      INSERT INTO tarbox.contents (tenant_id, layer_id, ino, segment, chunks, inline)
      SELECT $1, $3, c1, c2, ${bytesAt('c3', 'c4')}, ${bytesAt('c5', 'c6')} FROM fence, ${lists}
      ON CONFLICT (tenant_id, ino, segment, layer_id) DO UPDATE SET chunks = excluded.chunks, inline = excluded.inline)`,
  },
  {
    present: ({ staged }) => staged.length > 0,
    types: [],
    lists: () => [],
    sql: () => `staged AS (
      INSERT INTO tarbox.contents (tenant_id, layer_id, ino, segment, inline)
      SELECT $1, $3, s.ino, s.segment, s.inline FROM fence, ${STAGE} s
      ON CONFLICT (tenant_id, ino, segment, layer_id) DO UPDATE SET chunks = NULL, inline = excluded.inline)`,
  },
  {
    present: ({ removedRangesBorn }) => removedRangesBorn.length > 0,
    types: RANGE_TYPES,
    lists: ({ removedRangesBorn }) => rangeLists(removedRangesBorn),
    sql: (lists) => `removed_segments AS (
      DELETE FROM tarbox.contents WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM fence, ${lists}, LATERAL (
          SELECT s.ctid FROM tarbox.contents s WHERE ${SEGMENTS_IN_RANGE} AND s.layer_id = $3 OFFSET 0) AS found)))`,
  },
  {
    present: ({ removedRangesOld }) => removedRangesOld.length > 0,
    types: RANGE_TYPES,
    lists: ({ removedRangesOld }) => rangeLists(removedRangesOld),
    // A row without chunks is a hole, which is what hides one of a layer below.
    sql: (lists) => `hidden_segments AS (
      INSERT INTO tarbox.contents (tenant_id, layer_id, ino, segment, chunks)
      SELECT $1, $3, c1, found.segment, ''::bytea FROM fence, ${lists}, LATERAL (
        SELECT DISTINCT s.segment FROM tarbox.contents s
        WHERE ${SEGMENTS_IN_RANGE} AND $11::int8multirange @> s.layer_id OFFSET 0) AS found
      ON CONFLICT (tenant_id, ino, segment, layer_id) DO UPDATE SET chunks = excluded.chunks, inline = NULL),
    bare_segments AS (
      DELETE FROM tarbox.contents WHERE ctid = ANY (ARRAY(
        SELECT found.ctid FROM fence, ${lists}, LATERAL (
          SELECT s.ctid FROM tarbox.contents s
          WHERE ${SEGMENTS_IN_RANGE} AND s.layer_id = $3 AND NOT EXISTS (
            SELECT FROM tarbox.contents b WHERE b.tenant_id = $1 AND b.ino = s.ino AND b.segment = s.segment
              AND $11::int8multirange @> b.layer_id)
          OFFSET 0) AS found)))`,
  },
  {
    present: ({ seal }) => seal !== undefined,
    types: ['integer', 'integer', 'integer', 'integer', 'bigint', 'bigint'],
    lists: ({ seal }, blob) => {
      if (seal === undefined) return [];
      const { name, description, next } = seal;
      const texts = [name, description].flatMap((text) => blob.lists([Buffer.from(text)]));
      return [...texts, `{${next.firstIno}}`, `{${next.firstCookie}}`];
    },
    sql: (lists) => `sealed AS (
      UPDATE tarbox.layers SET name = convert_from(${bytesAt('c1', 'c2')}, 'UTF8'),
        description = convert_from(${bytesAt('c3', 'c4')}, 'UTF8'), frozen_at = clock_timestamp(),
        used_bytes = $8, used_inodes = $9
      FROM fence, ${lists} WHERE layers.tenant_id = $1 AND layers.layer_id = $3),
    opened AS (
      INSERT INTO tarbox.layers (tenant_id, layer_id, parent_id, first_ino, first_cookie)
      SELECT $1, $12::bigint, $3, c5, c6 FROM fence, ${lists} ON CONFLICT (tenant_id, layer_id) DO NOTHING)`,
  },
  {
    present: ({ seal }) => seal?.request !== undefined,
    types: ['bigint', 'integer', 'integer'],
    lists: ({ seal }, blob) => [`{${seal?.request}}`, ...blob.lists([Buffer.from(seal?.name ?? '')])],
    sql: (lists) => `commanded AS (
      INSERT INTO tarbox.commands (tenant_id, request, layer_id, name)
      SELECT $1, c1, $3, convert_from(${bytesAt('c2', 'c3')}, 'UTF8') FROM fence, ${lists}
      ON CONFLICT (tenant_id)
      DO UPDATE SET request = excluded.request, layer_id = excluded.layer_id, name = excluded.name)`,
  },
  {
    present: ({ seal }) => seal !== undefined && seal.discards.length > 0,
    types: ['bigint'],
    lists: ({ seal }) => [`{${seal?.discards.join()}}`],
    sql: (lists) =>
      ['inodes', 'dentries', 'contents', 'tags', 'layers']
        .map(
          (table) => `${table}_gone AS (
      DELETE FROM tarbox.${table} t USING fence
      WHERE t.tenant_id = $1 AND t.layer_id > 0 AND t.layer_id = ANY (ARRAY(SELECT c1 FROM ${lists})))`,
        )
        .join(', '),
  },
];

function packedChunks(segment: SegmentImage): Uint8Array | null {
  return segment.inline === null ? packChunks(segment.chunks) : null;
}
