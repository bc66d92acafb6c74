import { describe, expect, it } from 'vitest';
import type { InodeImage } from '../../src/vfs/store.ts';
import { describeOnEach, useServer } from '../support/postgres.ts';
import { batchOf, chunkRef, chunkSegment, dentryRow, hole, inlineSegment, ino, inodeRow } from './rows.ts';
import { newTenant, type TestTenant } from './tenant.ts';

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const highBytes = everyByte.subarray(128).toString('latin1');

describeOnEach((kind) => {
  const server = useServer(kind);

  async function comesBack(inode: InodeImage): Promise<void> {
    const { commits, loads } = await newTenant(server().options);
    await commits.commit(batchOf({ inodes: [inode] }));
    expect(await loads.inodes([inode.ino])).toEqual([inode]);
  }

  describe('an inode comes back as it was', () => {
    const times: readonly [what: string, sec: number, nsec: number][] = [
      ['now', 1_800_000_000, 123_456_789],
      ['the start of 1970', 0, 0],
      ['within its first second', 0, 7],
      ['at the end of its first second', 0, 999_999_999],
      ['in the second before 1970', -1, 999_999_999],
      ['a whole second before 1970', -1, 0],
      ['before 1970', -86_400 * 365, 500_000_000],
      ['long before 1970', -9_223_372_035, 1],
      ['as late as is kept', 9_223_372_035, 999_999_999],
    ];
    it.each(times)('with times %s', async (_, sec, nsec) => {
      await comesBack(
        inodeRow(1, {
          atimeSec: sec,
          atimeNsec: nsec,
          mtimeSec: sec,
          mtimeNsec: nsec,
          ctimeSec: sec,
          ctimeNsec: nsec,
          btimeSec: sec,
          btimeNsec: nsec,
        }),
      );
    });

    it('with sizes of 53 bits and the largest inode number', async () => {
      await comesBack(
        inodeRow(2 ** 44 - 1, { size: Number.MAX_SAFE_INTEGER, allocated: 2 ** 50, parent: ino(2 ** 44 - 2) }),
      );
    });

    it('with owners and a device number of 32 bits', async () => {
      await comesBack(inodeRow(1, { mode: 0o060660, uid: 0xffff_fffe, gid: 0xffff_ffff, rdev: 0xfff0_ff01 }));
    });

    it('with every mode and the most links', async () => {
      await comesBack(inodeRow(1, { mode: 0o177777, nlink: 65_000 }));
    });

    it('with a symlink target of any bytes but 0', async () => {
      await comesBack(inodeRow(1, { mode: 0o120777, target: everyByte.subarray(1).toString('latin1') }));
    });

    it('with extended attributes of any bytes, large ones too', async () => {
      await comesBack(inodeRow(1, { xattrs: Buffer.concat([everyByte, Buffer.alloc(200_000, 0xfe)]) }));
    });

    it('with extended attributes beside inodes without any', async () => {
      const { commits, loads } = await newTenant(server().options);
      const inodes = [inodeRow(1), inodeRow(2, { xattrs: Buffer.from('x') }), inodeRow(3, { target: 'somewhere' })];
      await commits.commit(batchOf({ inodes }));
      expect(await loads.inodes([1, 2, 3].map(ino))).toEqual(inodes);
    });

    it('after it was changed in everything but its birth', async () => {
      const { commits, loads } = await newTenant(server().options);
      await commits.commit(batchOf({ inodes: [inodeRow(1, { target: 'old', xattrs: Buffer.from('old') })] }));
      const changed = inodeRow(1, {
        mode: 0o100600,
        uid: 1,
        gid: 2,
        nlink: 0,
        size: 9,
        allocated: 8,
        atimeSec: 7,
        mtimeSec: 6,
        ctimeSec: 5,
        parent: ino(4),
      });
      await commits.commit(batchOf({ inodes: [changed] }));
      expect(await loads.inodes([ino(1)])).toEqual([changed]);
    });
  });

  describe('names', () => {
    it('are any bytes, in the order of their cookies, with their inodes', async () => {
      const { commits, loads } = await newTenant(server().options);
      const names = [
        highBytes,
        'a',
        '\xff',
        '\\',
        '{"quoted, with comma}',
        "'; DROP SCHEMA tarbox; --",
        'ä'.repeat(255),
      ];
      const dentries = names.map((name, index) => dentryRow(1, name, index + 10, 1000 - index));
      await commits.commit(batchOf({ dentries, inodes: names.map((_, index) => inodeRow(index + 10)) }));
      const page = await loads.directory(ino(1), 0, 100);
      expect(page.dentries).toEqual(dentries.toReversed());
      expect(page.inodes.map((inode) => inode.ino)).toEqual(page.dentries.map((dentry) => dentry.ino));
      expect(page.complete).toBe(true);
      for (const dentry of dentries)
        expect(await loads.name(ino(1), dentry.name)).toEqual({ dentry, inode: inodeRow(dentry.ino) });
    });

    it('come in pages, the last of which says so', async () => {
      const { commits, loads } = await newTenant(server().options);
      const dentries = Array.from({ length: 7 }, (_, index) => dentryRow(1, `n${index}`, index + 10));
      await commits.commit(batchOf({ dentries, inodes: dentries.map((dentry) => inodeRow(dentry.ino)) }));
      const pages = [];
      for (let after = 0; ; ) {
        const page = await loads.directory(ino(1), after, 3);
        pages.push(page.dentries.map(({ name }) => name));
        if (page.complete) break;
        after = page.dentries.at(-1)?.cookie ?? 0;
      }
      expect(pages).toEqual([['n0', 'n1', 'n2'], ['n3', 'n4', 'n5'], ['n6']]);
    });

    it('that are absent are undefined, in a directory that isn’t there too', async () => {
      const { commits, loads } = await newTenant(server().options);
      await commits.commit(batchOf({ dentries: [dentryRow(1, 'here', 10)], inodes: [inodeRow(10)] }));
      expect(await loads.name(ino(1), 'Here')).toBeUndefined();
      expect(await loads.name(ino(2), 'here')).toBeUndefined();
      expect(await loads.directory(ino(2), 0, 10)).toEqual({ dentries: [], inodes: [], complete: true });
    });

    it('are removed, and may come back for another inode', async () => {
      const { commits, loads } = await newTenant(server().options);
      await commits.commit(
        batchOf({
          dentries: [dentryRow(1, highBytes, 10), dentryRow(1, 'b', 11)],
          inodes: [inodeRow(10), inodeRow(11)],
        }),
      );
      await commits.commit(
        batchOf({ removedDentries: [{ parent: ino(1), name: highBytes }], removedInodes: [ino(10)] }),
      );
      expect((await loads.directory(ino(1), 0, 10)).dentries.map(({ name }) => name)).toEqual(['b']);
      await commits.commit(batchOf({ dentries: [dentryRow(1, highBytes, 11, 777)] }));
      expect((await loads.name(ino(1), highBytes))?.dentry).toEqual(dentryRow(1, highBytes, 11, 777));
    });
  });

  describe('contents', () => {
    async function segmentsOf({ loads }: TestTenant, number: number, from = 0, to = 100) {
      return loads.segments(ino(number), from, to);
    }

    it('are chunks with holes between them, or the bytes themselves', async () => {
      const tenant = await newTenant(server().options);
      const full = Array.from({ length: 64 }, (_, index) => (index % 3 === 0 ? hole : chunkRef(index, 131_072)));
      const segments = [
        chunkSegment(5, 0, full),
        chunkSegment(5, 7, [hole, chunkRef(255, 1)]),
        chunkSegment(5, 2 ** 40, [chunkRef(1)]),
        chunkSegment(6, 0, []),
        inlineSegment(7, everyByte),
        inlineSegment(8, Buffer.alloc(4096, 0xff)),
        inlineSegment(9, Buffer.from('a')),
      ];
      await tenant.commits.commit(batchOf({ segments }));
      expect(await segmentsOf(tenant, 5, 0, 2 ** 41)).toEqual(segments.slice(0, 3));
      expect(await segmentsOf(tenant, 5, 1, 7)).toEqual([]);
      expect(await segmentsOf(tenant, 5, 1, 8)).toEqual(segments.slice(1, 2));
      for (const segment of segments.slice(3)) expect(await segmentsOf(tenant, segment.ino)).toEqual([segment]);
    });

    it('change from bytes to chunks and back', async () => {
      const tenant = await newTenant(server().options);
      for (const segment of [
        inlineSegment(5, everyByte),
        chunkSegment(5, 0, [chunkRef(3)]),
        inlineSegment(5, Buffer.from('b')),
      ]) {
        await tenant.commits.commit(batchOf({ segments: [segment] }));
        expect(await segmentsOf(tenant, 5)).toEqual([segment]);
      }
    });

    it('change from bytes to chunks and back when there is much of both', async () => {
      const tenant = await newTenant(server().options);
      const inline = Array.from({ length: 40 }, (_, index) => inlineSegment(index + 10, Buffer.alloc(4000, index)));
      const chunks = inline.map(({ ino: number }) => chunkSegment(number, 0, [chunkRef(3)]));
      for (const segments of [inline, chunks, inline]) {
        await tenant.commits.commit(batchOf({ segments }));
        const found = await Promise.all(segments.map((segment) => segmentsOf(tenant, segment.ino)));
        expect(found.flat()).toEqual(segments);
      }
    });

    it('are removed from a segment on, save those that the same batch writes', async () => {
      const tenant = await newTenant(server().options);
      const old = [0, 1, 2, 3, 4, 5].map((index) => chunkSegment(5, index, [chunkRef(index + 1)]));
      const other = chunkSegment(6, 3, [chunkRef(9)]);
      await tenant.commits.commit(batchOf({ segments: [...old, other] }));
      const written = [3, 8].map((index) => chunkSegment(5, index, [chunkRef(77)]));
      await tenant.commits.commit(batchOf({ segments: written, removedSegments: [{ ino: ino(5), index: 2 }] }));
      expect(await segmentsOf(tenant, 5)).toEqual([...old.slice(0, 2), ...written]);
      expect(await segmentsOf(tenant, 6)).toEqual([other]);
      await tenant.commits.commit(batchOf({ removedSegments: [{ ino: ino(5), index: 0 }] }));
      expect(await segmentsOf(tenant, 5)).toEqual([]);
    });

    it('are replaced by a batch that removes all of them and writes the first', async () => {
      const tenant = await newTenant(server().options);
      await tenant.commits.commit(
        batchOf({ segments: [inlineSegment(5, everyByte), chunkSegment(5, 1, [chunkRef(1)])] }),
      );
      for (const segment of [inlineSegment(5, Buffer.from('tiny')), chunkSegment(5, 0, [chunkRef(8)])]) {
        await tenant.commits.commit(batchOf({ segments: [segment], removedSegments: [{ ino: ino(5), index: 0 }] }));
        expect(await segmentsOf(tenant, 5)).toEqual([segment]);
      }
    });

    it('of many small files are read ahead while their bytes fit, the first one always', async () => {
      const { commits, loads } = await newTenant(server().options);
      const segments = [10, 11, 12, 13].map((number) => inlineSegment(number, Buffer.alloc(1000, number)));
      await commits.commit(
        batchOf({ segments: [...segments, chunkSegment(14, 0, [chunkRef(1)]), chunkSegment(15, 1, [chunkRef(1)])] }),
      );
      const inos = [12, 10, 15, 14, 99, 13].map(ino);
      const numbers = async (maxBytes: number) =>
        (await loads.firstSegments(inos, maxBytes)).map((segment) => segment.ino);
      expect(new Set(await numbers(10_000))).toEqual(new Set([12, 10, 14, 13]));
      expect(new Set(await numbers(2500))).toEqual(new Set([12, 10, 14]));
      expect(await numbers(1)).toEqual([12]);
    });
  });

  it('finds the inodes without a name that were left behind', async () => {
    const { commits, loads } = await newTenant(server().options);
    await commits.commit(batchOf({ inodes: [inodeRow(5, { nlink: 0 }), inodeRow(6), inodeRow(7, { nlink: 0 })] }));
    expect((await loads.orphans(false)).map((inode) => inode.ino).sort()).toEqual([5, 7]);
    await commits.commit(batchOf({ inodes: [inodeRow(5)], removedInodes: [ino(7)] }));
    expect(await loads.orphans(false)).toEqual([]);
  });

  it('takes an empty batch, and keeps its numbers', async () => {
    const tenant = await newTenant(server().options);
    const { sequence } = batchOf({});
    await tenant.commits.commit(batchOf({ nextIno: 55 }));
    const again = await tenant.store.takeLease({ tenant: tenant.name, create: false, owner: 'a test', ttlMs: 1000 });
    expect(again).toMatchObject({ taken: true, lease: { state: { sequence: sequence + 1, nextIno: 55 } } });
  });

  it('does the same when it’s given a batch twice', async () => {
    const tenant = await newTenant(server().options);
    const { commits, loads } = tenant;
    await commits.commit(
      batchOf({
        inodes: [inodeRow(5), inodeRow(6)],
        dentries: [dentryRow(1, 'a', 5), dentryRow(1, 'b', 6)],
        segments: [
          inlineSegment(5, Buffer.from('x')),
          chunkSegment(6, 0, [chunkRef(1)]),
          chunkSegment(6, 1, [chunkRef(2)]),
        ],
      }),
    );
    const batch = batchOf({
      inodes: [inodeRow(6, { size: 6 })],
      removedInodes: [ino(5)],
      dentries: [dentryRow(1, 'c', 6)],
      removedDentries: [{ parent: ino(1), name: 'a' }],
      segments: [chunkSegment(6, 0, [chunkRef(9)])],
      removedSegments: [
        { ino: ino(5), index: 0 },
        { ino: ino(6), index: 0 },
      ],
    });
    for (let round = 0; round < 2; round++) {
      await commits.commit(batch);
      expect(await loads.inodes([ino(5), ino(6)])).toEqual([inodeRow(6, { size: 6 })]);
      expect((await loads.directory(ino(1), 0, 9)).dentries.map(({ name }) => name)).toEqual(['b', 'c']);
      expect(await loads.segments(ino(6), 0, 9)).toEqual([chunkSegment(6, 0, [chunkRef(9)])]);
      expect(await loads.segments(ino(5), 0, 9)).toEqual([]);
    }
  });

  it('takes and removes 20,000 files at once', async () => {
    const { commits, loads } = await newTenant(server().options);
    const numbers = Array.from({ length: 20_000 }, (_, index) => index + 2);
    const content = (number: number) => Buffer.from(`content of ${number}`.repeat(10));
    await commits.commit(
      batchOf({
        inodes: numbers.map((number) => inodeRow(number, { size: number, target: `${number}` })),
        dentries: numbers.map((number) => dentryRow(1, `file ${number}`, number)),
        segments: numbers.map((number) => inlineSegment(number, content(number))),
      }),
    );
    const sample = [2, 10_000, 20_001].map(ino);
    expect((await loads.inodes(sample)).map((inode) => [inode.size, inode.target])).toEqual([
      [2, '2'],
      [10_000, '10000'],
      [20_001, '20001'],
    ]);
    for (const number of sample) {
      expect((await loads.name(ino(1), `file ${number}`))?.dentry.ino).toBe(number);
      expect((await loads.segments(number, 0, 1))[0]?.inline).toEqual(content(number));
    }
    expect((await loads.directory(ino(1), 0, 30_000)).dentries).toHaveLength(20_000);
    const gone = numbers.slice(1).map(ino);
    await commits.commit(
      batchOf({
        removedInodes: gone,
        removedDentries: gone.map((number) => ({ parent: ino(1), name: `file ${number}` })),
        removedSegments: gone.map((number) => ({ ino: number, index: 0 })),
      }),
    );
    expect((await loads.inodes(numbers.map(ino))).map((inode) => inode.ino)).toEqual([2]);
    expect((await loads.directory(ino(1), 0, 30_000)).dentries.map(({ name }) => name)).toEqual(['file 2']);
    expect(await loads.firstSegments(numbers.map(ino), 1e9)).toHaveLength(1);
  });
});
