import type { TenantId } from '../brand.ts';
import type { Coder, LentChunk } from '../content/coder.ts';
import { DELTA, type StoredChunk } from '../content/delta.ts';
import type { DeltaCoder } from '../content/delta-coder.ts';
import { HASH_BYTES } from '../content/packed.ts';
import { FsError } from '../errno.ts';
import type { ByteString } from '../vfs/store.ts';
import { type Cached, hashList, restoreDeltas } from './bases.ts';
import { isUniqueViolation } from './classify.ts';
import type { Client, Connection } from './connection.ts';
import { copyMessages, copyOut, MESSAGE_HEAD_BYTES, putMessageHead } from './copy.ts';

const COLUMNS = '(tenant_id, hash, codec, raw_size, data)';
/** What a row of COLUMNS has before its data: the number of its fields, their lengths, and the other four. */
const FRAME_BYTES = MESSAGE_HEAD_BYTES + 2 + (4 + 8) + (4 + HASH_BYTES) + (4 + 2) + (4 + 4) + 4;

/** The chunks among these that aren't stored yet. */
async function absent(client: Client, tenant: TenantId, chunks: readonly LentChunk[]): Promise<LentChunk[]> {
  const hashes = Buffer.concat(chunks.map(({ hash }) => Buffer.from(hash, 'latin1')));
  const rows = await client.unsafe<{ n: number }[]>(
    // A scalar subquery: a NOT EXISTS planned while the table is empty would read all of it for each hash.
    `SELECT n FROM generate_series(0, $2::integer - 1) AS n
     WHERE (SELECT true FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash = substring($3::bytea FROM n * 32 + 1 FOR 32) LIMIT 1) IS NULL`,
    [tenant, chunks.length, hashes],
    { prepare: true },
  );
  return rows.flatMap(({ n }) => chunks[n] ?? []);
}

/** See `Commits.putChunks`. Nothing is sent that is stored already; what another has just stored is no error. */
export async function putChunks(
  connection: Connection,
  coder: Coder,
  tenant: TenantId,
  raw: readonly Uint8Array[],
): Promise<ByteString[]> {
  const { chunks, giveBack } = await coder.encode(raw, FRAME_BYTES);
  try {
    const distinct = new Map(chunks.map((chunk) => [chunk.hash, chunk]));
    await storeAbsent(connection, tenant, [...distinct.values()]);
  } finally {
    giveBack();
  }
  return chunks.map(({ hash }) => hash);
}

async function storeAbsent(connection: Connection, tenant: TenantId, chunks: readonly LentChunk[]): Promise<void> {
  const missing = await connection.run((client) => absent(client, tenant, chunks));
  if (missing.length === 0) return;
  // Two that store the same chunks wait for each other's keys; in one order they can't deadlock.
  missing.sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const rows = missing.map((chunk) => framed(tenant, chunk));
  const statement = `COPY tarbox.chunks ${COLUMNS} FROM STDIN (FORMAT binary)`;
  try {
    await connection.run((client) => copyMessages(client, statement, rows));
  } catch (problem) {
    if (!isUniqueViolation(problem)) throw problem;
    await connection.run((client) => merge(client, rows));
  }
}

/** The chunk's row of COLUMNS in COPY's binary format, as a message, in the memory that the chunk was lent with. */
function framed(tenant: TenantId, { framed: message, hash, codec, data, rawBytes }: LentChunk): Buffer {
  let at = message.writeInt16BE(5, MESSAGE_HEAD_BYTES); // so many fields, each with its length before it
  at = message.writeBigInt64BE(BigInt(tenant), message.writeInt32BE(8, at));
  at = message.writeInt32BE(HASH_BYTES, at);
  at += message.write(hash, at, 'latin1');
  at = message.writeInt16BE(codec, message.writeInt32BE(2, at));
  at = message.writeInt32BE(rawBytes, message.writeInt32BE(4, at));
  message.writeInt32BE(data.length, at);
  putMessageHead(message);
  return message;
}

async function merge(client: Client, rows: readonly Buffer[]): Promise<void> {
  await client.unsafe(`CREATE TEMPORARY TABLE incoming (LIKE tarbox.chunks INCLUDING DEFAULTS)`);
  await copyMessages(client, `COPY incoming ${COLUMNS} FROM STDIN (FORMAT binary)`, rows);
  await client.unsafe(`INSERT INTO tarbox.chunks SELECT * FROM incoming ON CONFLICT DO NOTHING`);
  await client.unsafe('DROP TABLE incoming');
}

/** What restores chunks, whole ones and deltas. */
export interface Coders {
  readonly coder: Coder;
  readonly deltaCoder: DeltaCoder;
}

/** See `Loads.chunks`. */
export async function loadChunks(
  connection: Connection,
  { coder, deltaCoder }: Coders,
  tenant: TenantId,
  hashes: readonly ByteString[],
  cached?: Cached,
): Promise<Map<ByteString, Buffer>> {
  const rows = await connection.run((client) =>
    copyOut(
      client,
      // Each is looked up by itself: by a list of them, PostgreSQL may go through all of a table that it thinks small.
      `COPY (SELECT found.* FROM unnest(${hashList(hashes)}) AS wanted (hash), LATERAL (
         SELECT hash, codec, data, base_hash FROM tarbox.chunks
         WHERE tenant_id = ${Number(tenant)} AND hash = wanted.hash OFFSET 0) AS found) TO STDOUT (FORMAT binary)`,
    ),
  );
  const all = rows.map(storedChunk);
  const deltas = all.filter(({ codec }) => codec === DELTA);
  const wholes = deltas.length === 0 ? all : all.filter(({ codec }) => codec !== DELTA);
  const raw = await coder.decode(wholes);
  if (deltas.length > 0) raw.push(...(await restoreDeltas(connection, deltaCoder, tenant, deltas, cached)));
  const stored = [...wholes, ...deltas];
  const found = new Map<ByteString, Buffer>();
  for (const [index, { hash }] of stored.entries()) {
    const bytes = raw[index];
    if (bytes === undefined) throw new FsError('EIO', `chunk ${hexOf(hash)} is damaged`);
    found.set(hash, bytes);
  }
  for (const hash of hashes) if (!found.has(hash)) throw new FsError('EIO', `chunk ${hexOf(hash)} is missing`);
  return found;
}

function storedChunk([hash, codec, data, base]: readonly (Buffer | null)[]): StoredChunk {
  if (!hash || !codec || !data) throw new FsError('EIO', 'a stored chunk has no data');
  return { hash: hash.toString('latin1'), codec: codec.readInt16BE(0), base: base?.toString('latin1'), data };
}

function hexOf(hash: ByteString): string {
  return Buffer.from(hash, 'latin1').toString('hex');
}
