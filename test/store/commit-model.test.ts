import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Ino } from '../../src/brand.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import type { Batch, ByteString, ChunkRef, DentryImage, InodeImage, Loads, SegmentImage } from '../../src/vfs/store.ts';
import { FIRST_PLACE } from '../support/empty-workspace.ts';
import { describeOnEach, useServer } from '../support/postgres.ts';
import { batchOf, hole, ino } from './rows.ts';

/** Few keys, so that batches meet each other's rows. */
const INOS = [2, 3, 4, 5, 6, 7, 2 ** 44 - 1].map(ino);
const NAMES: readonly ByteString[] = ['a', 'b', '\x01', '\xff\xfe', '\\x41', 'é', 'n'.repeat(255)];
const INDEXES = [0, 1, 2, 63, 2 ** 35];

/** The rows of a tenant as plain maps, changed by batches as the contract of `Commits` says. */
class Model {
  readonly inodes = new Map<Ino, InodeImage>();
  readonly dentries = new Map<string, DentryImage>();
  readonly segments = new Map<string, SegmentImage>();

  apply(batch: Batch): void {
    for (const inode of batch.inodes) this.inodes.set(inode.ino, inode);
    for (const number of batch.removedInodes) {
      this.inodes.delete(number);
      for (const [key, segment] of this.segments) if (segment.ino === number) this.segments.delete(key);
    }
    for (const dentry of batch.dentries) this.dentries.set(`${dentry.parent}/${dentry.name}`, dentry);
    for (const { parent, name } of batch.removedDentries) this.dentries.delete(`${parent}/${name}`);
    for (const { ino: number, index } of batch.removedSegments)
      for (const [key, segment] of this.segments)
        if (segment.ino === number && segment.index >= index) this.segments.delete(key);
    for (const segment of batch.segments) this.segments.set(`${segment.ino}/${segment.index}`, segment);
  }

  /** Names whose inode is there: listings bring both. */
  namesOf(parent: Ino): DentryImage[] {
    const all = [...this.dentries.values()].filter((dentry) => dentry.parent === parent && this.inodes.has(dentry.ino));
    return all.sort((a, b) => a.cookie - b.cookie);
  }

  segmentsOf(number: Ino): SegmentImage[] {
    return [...this.segments.values()].filter((segment) => segment.ino === number).sort((a, b) => a.index - b.index);
  }
}

const u32 = fc.nat({ max: 0xffff_ffff });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const byteString = bytes.map((buffer) => buffer.toString('latin1').replaceAll('\0', '.'));
const seconds = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -9_223_372_035, max: 9_223_372_035 }));
const nanoseconds = fc.oneof(fc.constantFrom(0, 1, 999_999_999), fc.nat({ max: 999_999_999 }));

function inodeOf(number: Ino, born: Pick<InodeImage, 'btimeSec' | 'btimeNsec' | 'rdev'>): fc.Arbitrary<InodeImage> {
  return fc.record({
    ino: fc.constant(number),
    mode: fc.nat({ max: 0o177777 }),
    uid: u32,
    gid: u32,
    nlink: fc.nat({ max: 3 }),
    size: fc.maxSafeNat(),
    allocated: fc.maxSafeNat(),
    atimeSec: seconds,
    atimeNsec: nanoseconds,
    mtimeSec: seconds,
    mtimeNsec: nanoseconds,
    ctimeSec: seconds,
    ctimeNsec: nanoseconds,
    // What never changes in the life of an inode.
    btimeSec: fc.constant(born.btimeSec),
    btimeNsec: fc.constant(born.btimeNsec),
    rdev: fc.constant(born.rdev),
    parent: fc.constantFrom(...INOS),
    target: byteString,
    xattrs: fc.option(bytes, { nil: null }),
  });
}

const chunk: fc.Arbitrary<ChunkRef> = fc.oneof(
  fc.constant(hole),
  fc.record({
    length: fc.integer({ min: 1, max: 131_072 }),
    hash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((hash) => Buffer.from(hash).toString('latin1')),
  }),
);

function segmentOf(number: Ino, index: number): fc.Arbitrary<SegmentImage> {
  const chunks = fc.array(chunk, { maxLength: 6 }).map((list) => ({ ino: number, index, chunks: list, inline: null }));
  if (index > 0) return chunks;
  const inline = fc.uint8Array({ minLength: 1, maxLength: 4096 });
  return fc.oneof(
    chunks,
    inline.map((array) => ({ ino: number, index, chunks: [], inline: Buffer.from(array) })),
  );
}

type Fate = 'kept' | 'written' | 'removed';
const fate = fc.constantFrom<Fate>('kept', 'written', 'removed');

/** What happens to each of these keys: something is written, it's removed, or nothing. */
function fates<K, Row>(
  keys: readonly K[],
  row: (key: K) => fc.Arbitrary<Row>,
): fc.Arbitrary<{ written: Row[]; removed: K[] }> {
  const each = keys.map((key) => fc.tuple(fate, row(key)));
  return fc.tuple(...each).map((all) => ({
    written: all.flatMap(([what, value]) => (what === 'written' ? [value] : [])),
    removed: keys.filter((_, index) => all[index]?.[0] === 'removed'),
  }));
}

const births = new Map(
  INOS.map((number) => [number, { btimeSec: number % 5, btimeNsec: number % 7, rdev: number % 3 }]),
);
const places = INOS.slice(0, 2).flatMap((parent) => NAMES.map((name) => ({ parent, name })));
const segments = INOS.slice(0, 3).flatMap((number) => INDEXES.map((index) => ({ number, index })));
let cookies = 100;

const batch: fc.Arbitrary<Batch> = fc
  .record({
    inodes: fates(INOS, (number) => inodeOf(number, births.get(number) ?? { btimeSec: 0, btimeNsec: 0, rdev: 0 })),
    dentries: fates(places, ({ parent, name }) =>
      fc.record({
        parent: fc.constant(parent),
        name: fc.constant(name),
        ino: fc.constantFrom(...INOS),
        type: fc.nat({ max: 15 }),
        cookie: fc.constant(0),
      }),
    ),
    segments: fates(segments, ({ number, index }) => segmentOf(number, index)),
    removedSegments: fates(INOS, () => fc.constantFrom(...INDEXES)),
    indexes: fc.array(fc.constantFrom(...INDEXES), { minLength: INOS.length, maxLength: INOS.length }),
  })
  .map((parts) =>
    batchOf({
      inodes: parts.inodes.written,
      removedInodes: parts.inodes.removed,
      // Cookies are unique in the tenant.
      dentries: parts.dentries.written.map((dentry) => ({ ...dentry, cookie: cookies++ })),
      removedDentries: parts.dentries.removed,
      // What is removed has no content any more.
      segments: parts.segments.written.filter((segment) => !parts.inodes.removed.includes(segment.ino)),
      removedSegments: parts.removedSegments.removed
        .map((number, at) => ({ ino: number, index: parts.indexes[at] ?? 0 }))
        .filter((segment) => !parts.inodes.removed.includes(segment.ino)),
    }),
  );

async function expectSame(loads: Loads, model: Model): Promise<void> {
  const byIno = (a: InodeImage, b: InodeImage) => a.ino - b.ino;
  const inodes = [...model.inodes.values()].sort(byIno);
  expect([...(await loads.inodes(INOS))].sort(byIno)).toEqual(inodes);
  expect([...(await loads.orphans(false))].sort(byIno)).toEqual(inodes.filter(({ nlink }) => nlink === 0));
  for (const parent of INOS.slice(0, 3)) {
    const names = model.namesOf(parent);
    const found: DentryImage[] = [];
    for (let complete = false; !complete; ) {
      const page = await loads.directory(parent, found.at(-1)?.cookie ?? 0, 5);
      expect(page.inodes).toEqual(page.dentries.map((dentry) => model.inodes.get(dentry.ino)));
      found.push(...page.dentries);
      complete = page.complete;
    }
    expect(found).toEqual(names);
    for (const name of NAMES) {
      const dentry = names.find((candidate) => candidate.name === name);
      const expected = dentry === undefined ? undefined : { dentry, inode: model.inodes.get(dentry.ino) };
      expect(await loads.name(parent, name)).toEqual(expected);
    }
  }
  for (const number of INOS) {
    const all = model.segmentsOf(number);
    expect(await loads.segments(number, 0, Number.MAX_SAFE_INTEGER)).toEqual(all);
    expect(await loads.segments(number, 1, 63)).toEqual(all.filter(({ index }) => index >= 1 && index < 63));
  }
  const firsts = INOS.flatMap((number) => model.segmentsOf(number).filter(({ index }) => index === 0));
  const bySegment = (a: SegmentImage, b: SegmentImage) => a.ino - b.ino;
  expect([...(await loads.firstSegments(INOS, 1e9))].sort(bySegment)).toEqual(firsts);
}

describeOnEach((kind) => {
  const server = useServer(kind);
  let store: Store;
  let tenants = 0;

  beforeAll(async () => {
    store = await openStore(server().options);
  });
  afterAll(() => store?.close());

  it('holds after any sequence of batches what a plain model holds, however often each is committed', async () => {
    const step = fc.record({ batch, times: fc.integer({ min: 1, max: 2 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (steps) => {
        const name = `modelled ${++tenants}`;
        const taken = await store.takeLease({ tenant: name, create: true, owner: 'model', ttlMs: 60_000 });
        if (!taken.taken) throw new Error('it was refused');
        const tenant = store.tenant(taken.lease);
        const { commits } = tenant;
        const loads = tenant.loads(() => FIRST_PLACE);
        const model = new Model();
        for (const { batch: changes, times } of steps) {
          for (let round = 0; round < times; round++) await commits.commit(changes);
          model.apply(changes);
          await expectSame(loads, model);
        }
      }),
      { numRuns: 25 },
    );
  });
});
