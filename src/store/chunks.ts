import type { TenantId } from '../brand.ts';
import { decode, encode } from '../content/compress.ts';
import { sha256 } from '../content/hash.ts';
import { FsError } from '../errno.ts';
import type { ByteString, NewChunk } from '../vfs/store.ts';
import type { Client, Connection } from './connection.ts';
import { copyIn, copyOut, int2, int4, int8, type Value } from './copy.ts';

const COLUMNS = '(tenant_id, hash, codec, raw_size, data)';
const UNIQUE_VIOLATION = '23505';

function hashList(hashes: readonly ByteString[]): string {
  return `'{${hashes.map((hash) => `"\\\\x${Buffer.from(hash, 'latin1').toString('hex')}"`).join()}}'::bytea[]`;
}

/** The chunks among these that aren't stored yet. */
async function absent(client: Client, tenant: TenantId, chunks: readonly NewChunk[]): Promise<NewChunk[]> {
  const hashes = Buffer.concat(chunks.map(({ hash }) => Buffer.from(hash, 'latin1')));
  const rows = await client.unsafe<{ n: number }[]>(
    `SELECT n FROM generate_series(0, $2::integer - 1) AS n
     WHERE NOT EXISTS (SELECT FROM tarbox.chunks
       WHERE tenant_id = $1 AND hash = substring($3::bytea FROM n * 32 + 1 FOR 32))`,
    [tenant, chunks.length, hashes],
    { prepare: true },
  );
  return rows.flatMap(({ n }) => chunks[n] ?? []);
}

/** See `Commits.putChunks`. Nothing is sent that is stored already; what another has just stored is no error. */
export async function putChunks(connection: Connection, tenant: TenantId, chunks: readonly NewChunk[]): Promise<void> {
  const missing = await connection.run((client) => absent(client, tenant, chunks));
  if (missing.length === 0) return;
  const rows = await Promise.all(missing.map((chunk) => rowOf(tenant, chunk)));
  try {
    await connection.run((client) => copyIn(client, `COPY tarbox.chunks ${COLUMNS} FROM STDIN (FORMAT binary)`, rows));
  } catch (problem) {
    if (!String(problem).includes(UNIQUE_VIOLATION)) throw problem;
    await connection.run((client) => merge(client, rows));
  }
}

async function rowOf(tenant: TenantId, { hash, data }: NewChunk): Promise<readonly Value[]> {
  const encoded = await encode(data);
  return [int8(tenant), Buffer.from(hash, 'latin1'), int2(encoded.codec), int4(data.length), encoded.data];
}

async function merge(client: Client, rows: readonly (readonly Value[])[]): Promise<void> {
  await client.unsafe(`CREATE TEMPORARY TABLE incoming (LIKE tarbox.chunks)`);
  await copyIn(client, `COPY incoming ${COLUMNS} FROM STDIN (FORMAT binary)`, rows);
  await client.unsafe(`INSERT INTO tarbox.chunks SELECT * FROM incoming ON CONFLICT DO NOTHING`);
  await client.unsafe('DROP TABLE incoming');
}

/** See `Loads.chunks`. */
export async function loadChunks(
  connection: Connection,
  tenant: TenantId,
  hashes: readonly ByteString[],
): Promise<Map<ByteString, Buffer>> {
  const rows = await connection.run((client) =>
    copyOut(
      client,
      `COPY (SELECT hash, codec, data FROM tarbox.chunks WHERE tenant_id = ${Number(tenant)}
         AND hash = ANY (${hashList(hashes)})) TO STDOUT (FORMAT binary)`,
    ),
  );
  const found = new Map<ByteString, Buffer>();
  await Promise.all(
    rows.map(async ([hash, codec, data]) => {
      if (!hash || !codec || !data) throw new FsError('EIO', 'a stored chunk has no data');
      const raw = await decode({ codec: codec.readInt16BE(0), data });
      const name = hash.toString('latin1');
      if (sha256(raw) !== name) throw new FsError('EIO', `chunk ${hash.toString('hex')} is damaged`);
      found.set(name, raw);
    }),
  );
  for (const hash of hashes)
    if (!found.has(hash)) throw new FsError('EIO', `chunk ${Buffer.from(hash, 'latin1').toString('hex')} is missing`);
  return found;
}
