import { expect, it, onTestFinished } from 'vitest';
import type { LeaseRequest } from '../../src/store/lease.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import { StoreError } from '../../src/vfs/store.ts';
import { describeOnEach, eventually, useServer } from '../support/postgres.ts';
import { batchOf, dentryRow, inlineSegment, ino, inodeRow } from './rows.ts';
import { newTenant, takeTenant } from './tenant.ts';

describeOnEach((kind) => {
  const server = useServer(kind);

  async function open(): Promise<Store> {
    const store = await openStore(server().options);
    onTestFinished(() => store.close());
    return store;
  }

  /** Asks for a tenant in somebody's name. */
  function request(tenant: string, owner: string, more: Partial<LeaseRequest> = {}): LeaseRequest {
    return { tenant, create: true, owner, ttlMs: 60_000, ...more };
  }

  /** Lets a tenant's lease have run out, by the database's clock. */
  async function expire(tenant: string): Promise<void> {
    await server().query(
      `UPDATE tarbox.tenants SET lease_expires = clock_timestamp() - interval '1 second' WHERE name = '${tenant}'`,
    );
  }

  it('is taken with the state of an empty tenant, whose first layer is base', async () => {
    const tenant = await newTenant(server().options);
    expect(tenant.lease.state).toEqual({ sequence: 0, nextIno: 2, nextCookie: 16, usedBytes: 0, usedInodes: 1 });
    const { layers, working } = await tenant.layers.layers();
    expect(layers).toMatchObject([
      { id: 1, name: 'base', parent: undefined, usedInodes: 1 },
      { id: 2, name: undefined, parent: 1, frozenAt: undefined },
    ]);
    expect(working).toBe(2);
  });

  it('is not taken for a tenant that may not be made', async () => {
    const store = await open();
    const attempt = store.takeLease(request('nobody’s', 'me', { create: false }));
    await expect(attempt).rejects.toMatchObject({ failure: 'refused', message: expect.stringContaining('nobody’s') });
  });

  it('is refused to a second owner, who learns who holds it and until when', async () => {
    const store = await open();
    const before = Date.now();
    expect(await store.takeLease(request('held', 'first', { ttlMs: 30_000 }))).toMatchObject({ taken: true });
    const second = await store.takeLease(request('held', 'second'));
    if (second.taken) throw new Error('it was taken');
    expect(second.owner).toBe('first');
    expect(second.expires.getTime()).toBeGreaterThan(before + 29_000);
    expect(second.expires.getTime()).toBeLessThan(before + 90_000);
  });

  it('is taken again by its own owner, under a new epoch', async () => {
    const store = await open();
    const first = await store.takeLease(request('mine', 'me'));
    const second = await store.takeLease(request('mine', 'me'));
    if (!first.taken || !second.taken) throw new Error('it was refused');
    expect(second.lease.epoch).toBe(first.lease.epoch + 1);
    expect(second.lease.tenantId).toBe(first.lease.tenantId);
  });

  it('is taken over from an owner who is named as gone, and from nobody else', async () => {
    const store = await open();
    await store.takeLease(request('orphaned', 'dead'));
    expect(await store.takeLease(request('orphaned', 'new', { replaces: 'somebody else' }))).toMatchObject({
      taken: false,
    });
    expect(await store.takeLease(request('orphaned', 'new', { replaces: 'dead' }))).toMatchObject({ taken: true });
  });

  it('is taken over once it has run out', async () => {
    const store = await open();
    await store.takeLease(request('over', 'first'));
    await expire('over');
    expect(await store.takeLease(request('over', 'second'))).toMatchObject({ taken: true });
  });

  it('runs out by itself', async () => {
    const store = await open();
    await store.takeLease(request('short', 'first', { ttlMs: 200 }));
    const taken = await eventually('it has run out', async () => {
      const result = await store.takeLease(request('short', 'second'));
      return result.taken ? result : undefined;
    });
    expect(taken.lease.epoch).toBe(2);
  });

  it('lasts longer when it’s renewed, and tells the holder when it’s lost', async () => {
    const store = await open();
    const first = await store.takeLease(request('renewed', 'first'));
    if (!first.taken) throw new Error('it was refused');
    await expire('renewed');
    expect(await store.renewLease(first.lease, 60_000)).toBe(true);
    expect(await store.takeLease(request('renewed', 'second'))).toMatchObject({ taken: false });
    await expire('renewed');
    await store.takeLease(request('renewed', 'second'));
    expect(await store.renewLease(first.lease, 60_000)).toBe(false);
    expect(await store.leaseHolder(first.lease)).toBe('second');
  });

  it('is free for anyone once it’s released, but not when it’s another’s by then', async () => {
    const store = await open();
    const first = await store.takeLease(request('released', 'first'));
    if (!first.taken) throw new Error('it was refused');
    await store.releaseLease(first.lease);
    expect(await store.leaseHolder(first.lease)).toBe('nobody');
    expect(await store.takeLease(request('released', 'second'))).toMatchObject({ taken: true });
    await store.releaseLease(first.lease);
    expect(await store.leaseHolder(first.lease)).toBe('second');
  });

  it('goes to exactly one of many who ask at once', async () => {
    const stores = await Promise.all(Array.from({ length: 5 }, open));
    const results = await Promise.all(
      stores.map((store, index) => store.takeLease(request('wanted', `owner ${index}`))),
    );
    expect(results.filter(({ taken }) => taken)).toHaveLength(1);
  });

  it('fences a commit of its earlier holder, which writes nothing at all', async () => {
    const paused = await newTenant(server().options);
    await paused.commits.commit(
      batchOf({
        inodes: [inodeRow(1), inodeRow(2)],
        dentries: [dentryRow(1, 'kept', 2)],
        segments: [inlineSegment(2, Buffer.from('old'))],
        usedBytes: 3,
        usedInodes: 2,
      }),
    );
    await expire(paused.name);
    const next = await takeTenant(server().options, paused.name, 'the next one');
    const { sequence } = next.lease.state;
    const late = paused.commits.commit(
      batchOf({
        inodes: [inodeRow(2, { size: 99 }), inodeRow(3)],
        removedInodes: [ino(1)],
        dentries: [dentryRow(1, 'late', 3)],
        removedDentries: [{ parent: ino(1), name: 'kept' }],
        segments: [inlineSegment(3, Buffer.from('new'))],
        removedSegments: [{ ino: ino(2), index: 0 }],
        usedBytes: 999,
        usedInodes: 999,
      }),
    );
    await expect(late).rejects.toThrow(StoreError);
    await expect(late).rejects.toMatchObject({ failure: 'lease-lost' });

    expect((await next.loads.inodes([ino(1), ino(2), ino(3)])).map((inode) => [inode.ino, inode.size])).toEqual([
      [1, 0],
      [2, 0],
    ]);
    expect((await next.loads.directory(ino(1), 0, 10)).dentries.map(({ name }) => name)).toEqual(['kept']);
    expect((await next.loads.segments(ino(2), 0, 1))[0]?.inline).toEqual(Buffer.from('old'));
    expect(await next.loads.segments(ino(3), 0, 1)).toEqual([]);
    const again = await takeTenant(server().options, paused.name, 'the next one');
    // The earlier holder may have given out numbers that aren't stored.
    const nextIno = 1000 + 2 ** 20;
    expect(again.lease.state).toEqual({ sequence, nextIno, nextCookie: 5000, usedBytes: 3, usedInodes: 2 });
  });

  it('gives its next holder the state that the last commit left', async () => {
    const tenant = await newTenant(server().options);
    const batch = batchOf({ nextIno: 2 ** 40, nextCookie: 2 ** 50, usedBytes: 2 ** 45, usedInodes: 7 });
    await tenant.commits.commit(batch);
    const { lease } = await takeTenant(server().options, tenant.name, 'a test');
    expect(lease.state).toEqual({
      sequence: batch.sequence,
      nextIno: 2 ** 40,
      nextCookie: 2 ** 50,
      usedBytes: 2 ** 45,
      usedInodes: 7,
    });
  });

  it('of one tenant has nothing to do with another’s rows', async () => {
    const [one, two] = [await newTenant(server().options), await newTenant(server().options)];
    await one.commits.commit(batchOf({ inodes: [inodeRow(5, { size: 1 })], dentries: [dentryRow(1, 'x', 5)] }));
    await two.commits.commit(batchOf({ inodes: [inodeRow(5, { size: 2 })], dentries: [dentryRow(1, 'y', 5)] }));
    await one.commits.commit(batchOf({ removedInodes: [ino(5)], removedDentries: [{ parent: ino(1), name: 'x' }] }));
    expect(await one.loads.inodes([ino(5)])).toEqual([]);
    expect((await two.loads.inodes([ino(5)]))[0]?.size).toBe(2);
    expect((await two.loads.directory(ino(1), 0, 10)).dentries.map(({ name }) => name)).toEqual(['y']);
  });
});
