import { createHash, randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import type { LayerId } from '../../src/brand.ts';
import type { Replaced } from '../../src/layers/port.ts';
import { describeOnEach, useServer } from '../support/postgres.ts';
import { batchOf, ino, inodeRow } from './rows.ts';
import { newTenant, type TestTenant, takeTenant } from './tenant.ts';

const hashOf = (data: Uint8Array): string => createHash('sha256').update(data).digest().toString('latin1');
const LAYER = 2 as LayerId; // the first working layer
const FIRST = 10;

/** Versions of some content, each with a few bytes more than the one before. */
function versionsOf(count: number, bytes: number): Buffer[] {
  const versions = [randomBytes(bytes)];
  for (let n = 1; n < count; n++)
    versions.push(Buffer.concat([Buffer.from(`version ${n}`), versions[n - 1] ?? Buffer.alloc(0)]).subarray(0, bytes));
  return versions;
}

/** Each version replaced by the next one; `row`: where the first one's bytes are. */
function replaced(versions: readonly Buffer[], from: number, to: number): Replaced[] {
  return Array.from({ length: to - from }, (_, n) => ({
    row: { ino: ino(FIRST), segment: 0, layer: LAYER },
    old: { hash: hashOf(versions[from + n] ?? Buffer.alloc(0)) },
    by: { hash: hashOf(versions[from + n + 1] ?? Buffer.alloc(0)) },
  }));
}

describeOnEach((kind) => {
  const server = useServer(kind);

  const codecs = async ({ lease }: TestTenant): Promise<number[]> => {
    const rows = await server().query<{ codec: number }>(
      `SELECT codec FROM tarbox.chunks WHERE tenant_id = ${lease.tenantId} ORDER BY codec`,
    );
    return rows.map(({ codec }) => codec);
  };

  async function expectReadable({ loads }: TestTenant, versions: readonly Buffer[]): Promise<void> {
    const found = await loads.chunks(versions.map(hashOf));
    for (const version of versions) {
      expect(found.get(hashOf(version))?.equals(version)).toBe(true);
      expect((await loads.chunks([hashOf(version), hashOf(version)])).get(hashOf(version))?.equals(version)).toBe(true);
    }
  }

  it('makes deltas that read as what they were, alone and together', async () => {
    const tenant = await newTenant(server().options);
    for (const bytes of [2000, 128 * 1024]) {
      const versions = versionsOf(5, bytes);
      await tenant.commits.putChunks(versions);
      for (let n = 0; n < 4; n++) await tenant.packing.pack(replaced(versions, n, n + 1));
      await expectReadable(tenant, versions);
    }
    expect(await codecs(tenant)).toEqual([0, 0, 2, 2, 2, 2, 2, 2, 2, 2]);
  });

  it('reads what is made from a chunk that is at hand, whatever lies behind the end of that one', async () => {
    const tenant = await newTenant(server().options);
    const [old = Buffer.alloc(0), by = Buffer.alloc(0)] = versionsOf(2, 50_000);
    await tenant.commits.putChunks([old, by]);
    await tenant.packing.pack(replaced([old, by], 0, 1));
    for (const cached of [by, Buffer.concat([by, randomBytes(5000)])]) {
      const found = await tenant.loads.chunks([hashOf(old)], () => cached);
      expect(found.get(hashOf(old))?.equals(old)).toBe(true);
    }
  });

  it('packs the same again to no effect, and never makes a circle', async () => {
    const tenant = await newTenant(server().options);
    const versions = versionsOf(2, 20_000);
    const [one, other] = versions;
    await tenant.commits.putChunks(versions);
    const forth = replaced(versions, 0, 1);
    const back = replaced([other ?? Buffer.alloc(0), one ?? Buffer.alloc(0)], 0, 1);
    for (const pieces of [forth, forth, back, forth, back, [...forth, ...back]]) {
      await tenant.packing.pack(pieces);
      expect(await codecs(tenant)).toEqual([0, 2]);
      await expectReadable(tenant, versions);
      await tenant.check.begin();
      expect(await tenant.check.chains('', 10)).toMatchObject({ bad: [] });
      await tenant.check.end();
    }
  });

  it('leaves what differs altogether as it is, and what is damaged', async () => {
    const tenant = await newTenant(server().options);
    const [good, by, bad] = [randomBytes(20_000), randomBytes(20_000), randomBytes(20_000)];
    await tenant.commits.putChunks([good, by, bad]);
    const ofBad = `tenant_id = ${tenant.lease.tenantId} AND hash = '\\x${Buffer.from(hashOf(bad), 'latin1').toString('hex')}'`;
    await server().query(`UPDATE tarbox.chunks SET data = 'rubbish' WHERE ${ofBad}`);
    await tenant.packing.pack([...replaced([good, by], 0, 1), ...replaced([bad, good], 0, 1)]);
    expect(await codecs(tenant)).toEqual([0, 0, 0]);
  });

  it('moves the bytes of a row into a chunk, unless the row has others by now', async () => {
    const tenant = await newTenant(server().options);
    const [old = Buffer.alloc(0), by = Buffer.alloc(0)] = versionsOf(2, 3000);
    const store = (inline: Buffer) =>
      tenant.commits.commit(
        batchOf({
          inodes: [inodeRow(FIRST, { size: inline.length, allocated: inline.length })],
          segments: [{ ino: ino(FIRST), index: 0, chunks: [], inline }],
        }),
      );
    const row = { ino: ino(FIRST), segment: 0, layer: LAYER };
    await store(Buffer.from('something else'));
    await tenant.packing.pack([{ row, old: { bytes: old }, by: { bytes: by } }]);
    expect((await tenant.loads.segments(ino(FIRST), 0, 1))[0]?.inline?.toString()).toBe('something else');
    await store(old);
    await tenant.packing.pack([{ row, old: { bytes: old }, by: { bytes: by } }]);
    const [segment] = await tenant.loads.segments(ino(FIRST), 0, 1);
    expect(segment).toMatchObject({ inline: null, chunks: [{ length: 3000, hash: hashOf(old) }] });
    await expectReadable(tenant, [old, by]);
  });

  it('changes nothing once another has the lease, whose packer goes on', async () => {
    const first = await newTenant(server().options);
    const versions = versionsOf(3, 20_000);
    await first.commits.putChunks(versions);
    await first.packing.pack(replaced(versions, 0, 1));
    const second = await takeTenant(server().options, first.name, 'a test');
    await expect(first.packing.pack(replaced(versions, 1, 2))).rejects.toMatchObject({ failure: 'lease-lost' });
    await expect(first.packing.finish(LAYER)).rejects.toMatchObject({ failure: 'lease-lost' });
    expect(await codecs(second)).toEqual([0, 0, 2]);
    await second.packing.pack(replaced(versions, 1, 2));
    expect(await codecs(second)).toEqual([0, 2, 2]);
    await expectReadable(second, versions);
  });

  it('begins a layer anew after its connection was lost', async () => {
    const { packing } = await newTenant(server().options);
    const place = { layer: LAYER, ranges: [[1, LAYER]], firstIno: 2, firstCookie: 16 } as const;
    await packing.gather(place);
    expect(await packing.replaced(0, 10)).toEqual({ last: undefined, pieces: [] });
    await server().query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tarbox upkeep'`,
    );
    await expect(
      (async () => {
        for (let n = 0; n < 100; n++) await packing.replaced(0, 10);
      })(),
    ).rejects.toMatchObject({ failure: 'unavailable' });
    await packing.gather(place);
    expect(await packing.replaced(0, 10)).toEqual({ last: undefined, pieces: [] });
  });
});
