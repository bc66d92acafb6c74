import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Content, contentOf } from '../../src/vfs/content.ts';
import { CHUNK_BYTES, SEGMENT_CHUNKS } from '../../src/vfs/geometry.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import { Loader } from '../../src/vfs/load.ts';
import { Missing } from '../../src/vfs/miss.ts';
import { createNode } from '../../src/vfs/ops/create.ts';
import { read, resize, write } from '../../src/vfs/ops/data.ts';
import { allocate, copyRange, seek } from '../../src/vfs/ops/sparse.ts';
import { segmentImage, settleChanges, slotsToStore, type Taken, takeChanges } from '../../src/vfs/record.ts';
import type { Workspace } from '../../src/vfs/workspace.ts';
import { MemoryStore } from '../store/memory.ts';
import { addRoot, bareWorkspace } from '../support/empty-workspace.ts';

const CALLER = { uid: 0, gid: 0, pid: 1 };
const MIB = 1024 * 1024;
const SEGMENT_BYTES = CHUNK_BYTES * SEGMENT_CHUNKS;

/** A file as a list of bytes, chunk by chunk; a chunk that isn't there is zeros. */
class ModelFile {
  size = 0;
  readonly chunks = new Map<number, Buffer>();

  write(offset: number, bytes: Buffer): void {
    this.#each(offset, offset + bytes.length, (chunk, from, to, at) => bytes.copy(chunk, from, at, at + to - from));
    this.size = Math.max(this.size, offset + bytes.length);
  }

  zero(offset: number, end: number): void {
    this.#each(offset, Math.min(end, this.size), (chunk, from, to) => chunk.fill(0, from, to));
  }

  resize(size: number): void {
    if (size < this.size) this.zero(size, this.size);
    this.size = size;
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.size - offset)));
    this.#each(offset, offset + bytes.length, (chunk, from, to, at) => chunk.copy(bytes, at, from, to));
    return bytes;
  }

  #each(offset: number, end: number, use: (chunk: Buffer, from: number, to: number, at: number) => void): void {
    for (let position = offset; position < end; ) {
      const index = Math.floor(position / CHUNK_BYTES);
      const chunk = this.chunks.get(index) ?? Buffer.alloc(CHUNK_BYTES);
      this.chunks.set(index, chunk);
      const from = position - index * CHUNK_BYTES;
      const to = Math.min(CHUNK_BYTES, end - index * CHUNK_BYTES);
      use(chunk, from, to, position - offset);
      position += to - from;
    }
  }
}

/** Two files over storage in memory, beside their models. */
class Bench {
  readonly store = new MemoryStore();
  workspace: Workspace;
  loader: Loader;
  readonly files: number[] = [];
  readonly models = [new ModelFile(), new ModelFile()];
  readonly #chunkCacheBytes: number;

  constructor(chunkCacheBytes: number) {
    this.#chunkCacheBytes = chunkCacheBytes;
    this.workspace = this.#newWorkspace(0, 2, 16, 0, 0);
    this.loader = new Loader(this.workspace, this.store);
    const root = addRoot(this.workspace);
    for (const name of ['a', 'b']) {
      const node = { mode: 0o100644, umask: 0, rdev: 0, target: '' };
      this.files.push(createNode(this.workspace, root.ino, name, node, CALLER).ino);
    }
  }

  #newWorkspace(sequence: number, nextIno: number, nextCookie: number, usedBytes: number, usedInodes: number) {
    const state = { sequence, nextIno, nextCookie, usedBytes, usedInodes };
    return bareWorkspace(state, { chunkBytes: this.#chunkCacheBytes });
  }

  /** Runs an operation, loading what it misses, as the dispatcher does. */
  async run<T>(file: number, operation: (inode: Inode) => T): Promise<T> {
    for (;;) {
      try {
        return operation(this.workspace.inode(this.files[file] as never)); // numbers of files that were made above
      } catch (problem) {
        if (!(problem instanceof Missing) || problem.miss.kind === 'releases') throw problem;
        await this.loader.load(problem.miss);
      }
    }
  }

  async take(): Promise<Taken> {
    this.workspace.sequence++;
    return takeChanges(this.workspace);
  }

  async commit(taken: Taken): Promise<void> {
    const slots = slotsToStore(taken.plans);
    const hashes = await this.store.putChunks(slots.flatMap(({ data, length }) => data?.subarray(0, length) ?? []));
    for (const [index, slot] of slots.entries()) slot.hash = hashes[index] ?? '';
    await this.store.commit({ ...taken.batch, segments: taken.plans.map(segmentImage) });
  }

  /** Starts over from what is stored, as a new daemon does. */
  restart(): void {
    const { sequence, nextIno, nextCookie, usedBytes, usedInodes } = this.workspace;
    this.workspace = this.#newWorkspace(sequence, nextIno, nextCookie, usedBytes, usedInodes);
    this.loader = new Loader(this.workspace, this.store);
  }

  async expectSame(file: number): Promise<void> {
    const model = this.models[file];
    if (model === undefined) throw new Error('there is no such file');
    const piece = Buffer.alloc(CHUNK_BYTES);
    await this.run(file, ({ size }) => expect(size).toBe(model.size));
    for (const index of model.chunks.keys()) {
      const offset = index * CHUNK_BYTES;
      piece.fill(0xee);
      const count = await this.run(file, (inode) => read(this.workspace, inode, offset, CHUNK_BYTES, piece, 0));
      const expected = model.read(offset, CHUNK_BYTES);
      expect(count).toBe(expected.length);
      expect(piece.subarray(0, count).equals(expected)).toBe(true);
    }
    await this.run(file, (inode) => expectAccounted(inode, contentOf(inode)));
  }

  /** What waits for a commit is what is told to. */
  expectDirtyBytes(): void {
    let bytes = 0;
    for (const ino of this.files) {
      const content = this.workspace.cached(ino as never)?.content; // as above
      for (const segment of content?.segments.values() ?? [])
        for (const slot of segment) if (slot?.data !== undefined && !slot.shared) bytes += slot.data.length;
    }
    expect(this.workspace.dirtyBytes).toBe(bytes);
  }
}

/** Bytes held are those of the chunks. */
function expectAccounted(inode: Inode, content: Content): void {
  if (!content.complete) return;
  let bytes = 0;
  for (const segment of content.segments.values()) for (const slot of segment) bytes += slot?.length ?? 0;
  expect(inode.allocated).toBe(bytes);
}

/** Offsets where something ends or begins, and any others. */
const offset = fc.oneof(
  fc.nat({ max: 5000 }),
  fc
    .tuple(fc.constantFrom(0, 1, 2, 3, 63, 64, 65, 128), fc.integer({ min: -2, max: 2 }))
    .map(([chunk, more]) => Math.max(0, chunk * CHUNK_BYTES + more)),
  fc.nat({ max: 3 * CHUNK_BYTES }),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 10 }),
  fc.integer({ min: 1, max: 5000 }),
  fc.constantFrom(CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES),
);
const file = fc.nat({ max: 1 });

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('write' as const), file, offset, length, value: fc.nat({ max: 255 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('resize' as const), file, size: offset }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('punch' as const), file, offset, length }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('zero' as const), file, offset, length }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('copy' as const), file, from: offset, to: offset, length }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('take' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('drop' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Plays the steps on files and models alike; what a batch took is committed when the next step says so. */
async function play(bench: Bench, steps: readonly Step[]): Promise<void> {
  const { models } = bench;
  let taken: Taken | undefined;
  const settle = async () => {
    if (taken === undefined) return;
    const batch = taken;
    taken = undefined;
    await bench.commit(batch);
    await bench.loader.settled();
    settleChanges(bench.workspace, batch);
  };
  for (const one of steps) {
    if (one.kind === 'write') {
      const bytes = Buffer.alloc(one.length, one.value);
      for (let at = 0; at < bytes.length; at += 997) bytes[at] = at & 0xff;
      await bench.run(one.file, (inode) => write(bench.workspace, inode, one.offset, bytes, 0, bytes.length));
      models[one.file]?.write(one.offset, bytes);
    } else if (one.kind === 'resize') {
      await bench.run(one.file, (inode) => {
        resize(bench.workspace, inode, one.size);
        bench.workspace.touchContent(inode);
      });
      models[one.file]?.resize(one.size);
    } else if (one.kind === 'punch' || one.kind === 'zero') {
      const keepSize = one.kind === 'punch';
      const how = { keepSize, zero: true };
      await bench.run(one.file, (inode) => allocate(bench.workspace, inode, one.offset, one.length, how, CALLER));
      const model = models[one.file];
      model?.zero(one.offset, one.offset + one.length);
      if (!keepSize) model?.resize(Math.max(model.size, one.offset + one.length));
    } else if (one.kind === 'copy') {
      const [source, target] = [models[one.file], models[1 - one.file]];
      if (source === undefined || target === undefined) throw new Error('there is no such file');
      for (let done = 0; done < one.length; ) {
        const [from, to] = [one.from + done, one.to + done];
        // Both must be loaded, which one miss after the other sees to.
        const other = await bench.run(1 - one.file, (inode) => inode);
        const count = await bench.run(one.file, (inode) =>
          copyRange(bench.workspace, inode, from, bench.workspace.inode(other.ino), to, one.length - done, CALLER),
        );
        if (count === 0) break;
        target.write(to, source.read(from, count));
        done += count;
      }
    } else if (one.kind === 'take') {
      await settle();
      taken = await bench.take();
    } else if (one.kind === 'settle') {
      await settle();
      bench.expectDirtyBytes();
    } else if (one.kind === 'drop') {
      await bench.loader.settled();
      bench.workspace.dropMetadata();
      bench.workspace.dropChunks();
    } else {
      await settle();
      taken = await bench.take();
      await settle();
      bench.restart();
    }
    if (one.kind !== 'drop') bench.expectDirtyBytes();
    for (const which of [0, 1]) await bench.expectSame(which);
  }
}

describe('the content of files', () => {
  it('is what a plain list of bytes would be, whatever is done, committed, dropped and loaded again', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40, size: 'medium' }), async (steps) => {
        await play(new Bench(64 * MIB), steps);
      }),
      { numRuns: 80 },
    );
  });

  it('is the same with a cache that holds next to nothing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40, size: 'medium' }), async (steps) => {
        await play(new Bench(CHUNK_BYTES), steps);
      }),
      { numRuns: 40 },
    );
  });

  it('leaves a copy alone when the original is written in place, and the other way round', async () => {
    const bench = new Bench(64 * MIB);
    const whole = (value: number, at: number) => ({
      kind: 'write' as const,
      file: 0,
      offset: at,
      length: CHUNK_BYTES,
      value,
    });
    await play(bench, [
      whole(1, 0),
      whole(2, CHUNK_BYTES),
      { kind: 'copy', file: 0, from: 0, to: CHUNK_BYTES, length: 2 * CHUNK_BYTES },
      { kind: 'write', file: 0, offset: 10, length: 10, value: 9 },
      { kind: 'write', file: 1, offset: 2 * CHUNK_BYTES + 10, length: 10, value: 8 },
      { kind: 'take' },
      { kind: 'write', file: 0, offset: 20, length: 10, value: 7 },
      { kind: 'settle' },
      { kind: 'copy', file: 1, from: CHUNK_BYTES, to: 0, length: CHUNK_BYTES },
      { kind: 'restart' },
    ]);
    expect(bench.models[0]?.size).toBe(2 * CHUNK_BYTES);
  });

  it('shares chunks where whole ones are copied: no bytes are stored again', async () => {
    const bench = new Bench(64 * MIB);
    await play(bench, [
      { kind: 'write', file: 0, offset: 0, length: 2 * CHUNK_BYTES, value: 5 },
      { kind: 'restart' },
      { kind: 'copy', file: 0, from: 0, to: SEGMENT_BYTES, length: 2 * CHUNK_BYTES },
    ]);
    const taken = await bench.take();
    expect(slotsToStore(taken.plans)).toEqual([]);
    expect(taken.bytes).toBe(0);
    await bench.commit(taken);
  });

  it('reads as zeros where nothing was written, and holds nothing there', async () => {
    const bench = new Bench(64 * MIB);
    await play(bench, [
      { kind: 'write', file: 0, offset: 2 * SEGMENT_BYTES + 5, length: 10, value: 1 },
      { kind: 'restart' },
    ]);
    await bench.run(0, (inode) => {
      expect(inode.size).toBe(2 * SEGMENT_BYTES + 15);
      expect(seek(inode, 0, true)).toBe(2 * SEGMENT_BYTES);
      expect(seek(inode, 0, false)).toBe(0);
      expect(seek(inode, 2 * SEGMENT_BYTES, false)).toBe(2 * SEGMENT_BYTES + 15);
      expect(inode.allocated).toBe(15);
    });
  });

  it('does not come back after a file was cut and made longer again', async () => {
    const bench = new Bench(64 * MIB);
    const cutAndGrow = [
      { kind: 'resize' as const, file: 0, size: 1000 },
      { kind: 'resize' as const, file: 0, size: 3 * CHUNK_BYTES },
    ];
    await play(bench, [
      { kind: 'write', file: 0, offset: 0, length: 2 * CHUNK_BYTES, value: 5 },
      { kind: 'take' },
      ...cutAndGrow,
      { kind: 'settle' },
      { kind: 'restart' },
      { kind: 'write', file: 0, offset: 0, length: 2 * CHUNK_BYTES, value: 6 },
      { kind: 'restart' },
      ...cutAndGrow,
      { kind: 'write', file: 0, offset: 2 * CHUNK_BYTES, length: 10, value: 7 },
      { kind: 'restart' },
    ]);
  });
});
