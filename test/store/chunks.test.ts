import { createHash, randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { describeOnEach, eventually, useServer } from '../support/postgres.ts';
import { batchOf, inodeRow } from './rows.ts';
import { newTenant, takeTenant } from './tenant.ts';

const CHUNK_BYTES = 128 * 1024;
const ABSENT = 'a'.repeat(32);

const hashOf = (data: Uint8Array) => createHash('sha256').update(data).digest().toString('latin1');
const hexOf = (hash: string) => Buffer.from(hash, 'latin1').toString('hex');
const textOf = (bytes: number, seed: string) => Buffer.alloc(bytes, `${seed}: some text that compresses\n`);

/** Sorts and sizes of content that chunks are made of. */
const contents: readonly [what: string, data: Buffer][] = [
  ['a byte', Buffer.from([0])],
  ['text too short to compress', Buffer.from('short')],
  ['text', textOf(5000, 'small')],
  ['a full chunk of text', textOf(CHUNK_BYTES, 'large')],
  ['a full chunk of noise', randomBytes(CHUNK_BYTES)],
  ['noise', randomBytes(40_000)],
  ['zeros', Buffer.alloc(CHUNK_BYTES)],
  ['text with noise in its middle', Buffer.concat([textOf(50_000, 'a'), randomBytes(20_000), textOf(50_000, 'b')])],
  ['noise with text in its middle', Buffer.concat([randomBytes(50_000), textOf(20_000, 'c'), randomBytes(50_000)])],
];

describeOnEach((kind) => {
  const server = useServer(kind);

  async function storedRows(tenantId: number) {
    return server().query<{ codec: number; raw_size: number; stored: number }>(
      `SELECT codec, raw_size, length(data) AS stored FROM tarbox.chunks WHERE tenant_id = ${tenantId}`,
    );
  }

  it.each(contents)('brings %s back as it was, under its SHA-256', async (_, data) => {
    const { commits, loads } = await newTenant(server().options);
    const hashes = await commits.putChunks([data]);
    expect(hashes).toEqual([hashOf(data)]);
    const found = await loads.chunks(hashes);
    expect(found.get(hashOf(data))?.equals(data)).toBe(true);
  });

  it('brings many back at once, whatever they are', async () => {
    const { commits, loads } = await newTenant(server().options);
    const all = [...contents.map(([, data]) => data), ...Array.from({ length: 60 }, () => randomBytes(CHUNK_BYTES))];
    const hashes = await commits.putChunks(all);
    expect(hashes).toEqual(all.map(hashOf));
    const found = await loads.chunks(hashes);
    expect(found.size).toBe(all.length);
    for (const data of all) expect(found.get(hashOf(data))?.equals(data)).toBe(true);
  });

  it('takes and gives nothing', async () => {
    const { commits, loads } = await newTenant(server().options);
    expect(await commits.putChunks([])).toEqual([]);
    expect(await loads.chunks([])).toEqual(new Map());
  });

  it('stores what compresses smaller and the rest as it is', async () => {
    const { commits, lease } = await newTenant(server().options);
    await commits.putChunks([textOf(CHUNK_BYTES, 'x'), randomBytes(CHUNK_BYTES)]);
    const rows = (await storedRows(lease.tenantId)).sort((a, b) => a.stored - b.stored);
    expect(rows[0]?.stored).toBeLessThan(CHUNK_BYTES / 10);
    expect(rows[1]).toEqual({ codec: 0, raw_size: CHUNK_BYTES, stored: CHUNK_BYTES });
    expect(rows[0]?.raw_size).toBe(CHUNK_BYTES);
  });

  it('stores the same content once, within a call and across calls', async () => {
    const { commits, loads, lease } = await newTenant(server().options);
    const [one, two] = [textOf(3000, 'one'), textOf(3000, 'two')];
    const first = await commits.putChunks([one, two, Buffer.from(one)]);
    expect(first).toEqual([one, two, one].map(hashOf));
    expect(await commits.putChunks([two, one])).toEqual([two, one].map(hashOf));
    expect(await storedRows(lease.tenantId)).toHaveLength(2);
    expect((await loads.chunks([...first, ...first])).size).toBe(2);
  });

  it('stores the same content once when many store it at the same time, in any order', async () => {
    const tenant = await newTenant(server().options);
    const chunks = Array.from({ length: 40 }, (_, index) => textOf(2000, `raced ${index}`));
    const orders = [chunks, chunks.toReversed(), chunks.slice(20), [...chunks.slice(20), ...chunks.slice(0, 20)]];
    const all = await Promise.all([...orders, ...orders].map((order) => tenant.commits.putChunks(order)));
    expect(all[1]).toEqual(chunks.toReversed().map(hashOf));
    expect(await storedRows(tenant.lease.tenantId)).toHaveLength(40);
    expect((await tenant.loads.chunks(chunks.map(hashOf))).size).toBe(40);
  });

  it('stores the rest when another stores some of it between the question and the answer', async () => {
    const tenant = await newTenant(server().options);
    const chunks = Array.from({ length: 10 }, (_, index) =>
      index % 2 === 0 ? textOf(2000, `in between ${index}`) : randomBytes(CHUNK_BYTES),
    );
    const other = await takeTenant(server().options, tenant.name, 'a test');
    // The other one's chunk is in the table, and not yet committed, while ours are asked about.
    await server().query(`CREATE OR REPLACE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_advisory_xact_lock(4242); RETURN NULL; END $$`);
    await server().query(`CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON tarbox.chunks
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.hold()`);
    const locked = server()
      .query(`SELECT pg_advisory_lock(4242), pg_sleep(600)`)
      .catch(() => 'ended');
    const waiting = (event: string) =>
      eventually(`somebody waits for ${event}`, async () => {
        const rows = await server().query(`SELECT 1 FROM pg_stat_activity WHERE wait_event = '${event}'`);
        return rows.length > 0 ? true : undefined;
      });
    await waiting('PgSleep');
    const theirs = tenant.commits.putChunks(chunks.slice(3, 4));
    await waiting('advisory');
    const ours = other.commits.putChunks(chunks);
    await waiting('transactionid');
    await server().query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`);
    expect(await locked).toBe('ended');
    expect(await theirs).toEqual([hashOf(chunks[3] ?? Buffer.alloc(0))]);
    expect(await ours).toEqual(chunks.map(hashOf));
    // The refusal cost no connection, after whose loss the chunks would have to be stored again.
    await other.commits.commit(batchOf({ inodes: [inodeRow(1)] }));
    await server().query('DROP TRIGGER hold ON tarbox.chunks');
    expect(await storedRows(tenant.lease.tenantId)).toHaveLength(10);
  });

  it('names a chunk that is missing', async () => {
    const { commits, loads } = await newTenant(server().options);
    const hashes = await commits.putChunks([textOf(100, 'here')]);
    await expect(loads.chunks([...hashes, ABSENT])).rejects.toMatchObject({
      name: 'FsError',
      code: 'EIO',
      message: `chunk ${hexOf(ABSENT)} is missing`,
    });
  });

  it('names a chunk that is damaged, compressed or not, and however it’s damaged', async () => {
    const { commits, loads, lease } = await newTenant(server().options);
    const damages: readonly string[] = [
      `data = set_byte(data, length(data) / 2, get_byte(data, length(data) / 2) # 1)`,
      `data = substring(data FROM 1 FOR length(data) - 1)`,
      `data = ''`,
      `codec = 1 - codec`,
      `codec = 7`,
    ];
    for (const damage of damages)
      for (const data of [textOf(CHUNK_BYTES, damage), randomBytes(CHUNK_BYTES), textOf(1000, damage)]) {
        const [hash = ''] = await commits.putChunks([data]);
        await server().query(
          `UPDATE tarbox.chunks SET ${damage} WHERE tenant_id = ${lease.tenantId} AND hash = '\\x${hexOf(hash)}'`,
        );
        await expect(loads.chunks([hash])).rejects.toMatchObject({
          name: 'FsError',
          code: 'EIO',
          message: `chunk ${hexOf(hash)} is damaged`,
        });
      }
  });

  it('goes on giving whole chunks after a damaged one', async () => {
    const { commits, loads, lease } = await newTenant(server().options);
    const [bad = '', good = ''] = await commits.putChunks([textOf(5000, 'bad'), textOf(5000, 'good')]);
    await server().query(
      `UPDATE tarbox.chunks SET data = 'rubbish' WHERE tenant_id = ${lease.tenantId} AND hash = '\\x${hexOf(bad)}'`,
    );
    await expect(loads.chunks([good, bad])).rejects.toThrow('is damaged');
    for (let round = 0; round < 4; round++) expect((await loads.chunks([good])).size).toBe(1);
  });

  it('gives no tenant another’s chunks', async () => {
    const [one, two] = [await newTenant(server().options), await newTenant(server().options)];
    const hashes = await one.commits.putChunks([textOf(500, 'private')]);
    await expect(two.loads.chunks(hashes)).rejects.toThrow('is missing');
    await two.commits.putChunks([textOf(500, 'private')]);
    expect(await storedRows(two.lease.tenantId)).toHaveLength(1);
  });

  it('has copied the bytes before it returns', async () => {
    const { commits, loads } = await newTenant(server().options);
    const data = textOf(CHUNK_BYTES, 'changing');
    const before = Buffer.from(data);
    const storing = commits.putChunks([data]);
    data.fill(0);
    const hashes = await storing;
    expect(hashes).toEqual([hashOf(before)]);
    expect((await loads.chunks(hashes)).get(hashOf(before))?.equals(before)).toBe(true);
  });
});
