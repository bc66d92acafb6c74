/** Operations on the content of open files. */
import { CHUNK_BYTES, SEGMENT_CHUNKS } from '../../src/vfs/geometry.ts';
import type { HandleInfo, Model } from './model.ts';
import { openHandle } from './names.ts';
import { handleOf, type Outcome, outcome, type Row, row, type Side } from './operation.ts';
import { Random } from './random.ts';
import { pageMemory, SEEK } from './syscalls.ts';

const PAGE_BYTES = 4096;
const SEGMENT_BYTES = CHUNK_BYTES * SEGMENT_CHUNKS;
const EBADF = 9;
const ENXIO = 6;

/** Around these, things differ: a page, what is kept inside a row, a chunk, a segment, 4 GiB; and half of what a file may have. */
const EDGES = [PAGE_BYTES, 2 * PAGE_BYTES, CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES] as const;
const FAR_EDGES = [SEGMENT_BYTES, SEGMENT_BYTES + 3 * CHUNK_BYTES, 2 ** 32, 2 ** 39] as const;

function randomOffset(random: Random): number {
  return random.weighted<() => number>([
    [6, () => 0],
    [8, () => random.below(2 * PAGE_BYTES)],
    [8, () => random.pick(EDGES) + random.between(-2, 2)],
    [6, () => random.below(4 * CHUNK_BYTES)],
    [1, () => random.pick(FAR_EDGES) + random.between(-2, 2)],
  ])();
}

function randomLength(random: Random): number {
  return random.weighted<() => number>([
    [1, () => 0],
    [10, () => random.between(1, 100)],
    [8, () => random.below(2 * PAGE_BYTES)],
    [4, () => random.pick([PAGE_BYTES, 2 * PAGE_BYTES, CHUNK_BYTES]) + random.between(-1, 1)],
    [2, () => random.below(2 * CHUNK_BYTES)],
  ])();
}

/** A size to cut or stretch a file to. */
export function randomSize(random: Random): number {
  return random.weighted<() => number>([
    [4, () => 0],
    [10, () => randomOffset(random)],
    [1, () => -1],
  ])();
}

/** Bytes that don't compress, to write pieces of; each piece is known by where it starts. */
const NOISE_BYTES = 1 << 20;
const NOISE = Buffer.alloc(NOISE_BYTES);
const noise = new Random(1);
for (let at = 0; at < NOISE_BYTES; at += 4) NOISE.writeUInt32LE(noise.next(), at);
const ZEROS = Buffer.alloc(512 * 1024);

/** What to write: where its noise starts, or undefined for zeros. */
type Pattern = number | undefined;

function randomPattern(random: Random): Pattern {
  return random.chance(0.1) ? undefined : random.below(NOISE_BYTES / 2);
}

function bytesOf(pattern: Pattern, length: number): Buffer {
  return pattern === undefined ? ZEROS.subarray(0, length) : NOISE.subarray(pattern, pattern + length);
}

/** Pipes and devices are the kernel's own; what they read and write never reaches a file system. */
function isFile({ hint, direct, pathOnly }: HandleInfo): boolean {
  return hint === 'file' && !direct && !pathOnly;
}

/** A directory, or O_PATH. What O_DIRECT demands is the file system's own affair (open(2)). */
function isOdd({ hint, direct }: HandleInfo): boolean {
  return hint !== 'special' && !direct;
}

/** A file that can be read; now and then a handle that can't, or a directory. */
function readable(random: Random, model: Model): { readonly handle: number } | undefined {
  const odd = random.chance(0.05);
  const handle = openHandle(random, model, (info) => (isFile(info) && info.reads) || (odd && isOdd(info)));
  return handle === undefined ? undefined : { handle };
}

function writable(random: Random, model: Model): { readonly handle: number } | undefined {
  const odd = random.chance(0.05);
  const handle = openHandle(random, model, (info) => (isFile(info) && info.writes) || (odd && isOdd(info)));
  return handle === undefined ? undefined : { handle };
}

type ReadArguments = { readonly handle: number; readonly length: number; readonly offset?: number };

function readOutcome(into: Buffer, length: number): Outcome {
  return length < 0 ? outcome(length) : outcome(length, `${length} bytes`, into.subarray(0, length));
}

const read = row<ReadArguments>('read', {
  weight: 4,
  generate: (random, model) => {
    const found = readable(random, model);
    return found && { ...found, length: randomLength(random) };
  },
  run: (side, { handle, length }) => {
    const into = Buffer.alloc(length);
    return readOutcome(into, side.system.read(handleOf(side, handle), into));
  },
});

const pread = row<ReadArguments & { readonly offset: number }>('pread', {
  weight: 8,
  generate: (random, model) => {
    const found = readable(random, model);
    return found && { ...found, offset: randomOffset(random), length: randomLength(random) };
  },
  run: (side, { handle, length, offset }) => {
    const into = Buffer.alloc(length);
    return readOutcome(into, side.system.pread(handleOf(side, handle), into, offset));
  },
});

type WriteArguments = { readonly handle: number; readonly length: number; readonly pattern: Pattern };

const write = row<WriteArguments>('write', {
  dropsPrivileges: true,
  weight: 7,
  generate: (random, model) => {
    const found = writable(random, model);
    return found && { ...found, length: randomLength(random), pattern: randomPattern(random) };
  },
  run: (side, { handle, length, pattern }) =>
    outcome(side.system.write(handleOf(side, handle), bytesOf(pattern, length))),
});

const pwrite = row<WriteArguments & { readonly offset: number }>('pwrite', {
  dropsPrivileges: true,
  weight: 12,
  generate: (random, model) => {
    const found = writable(random, model);
    const where = { offset: randomOffset(random), length: randomLength(random) };
    return found && { ...found, ...where, pattern: randomPattern(random) };
  },
  run: (side, { handle, length, offset, pattern }) =>
    outcome(side.system.pwrite(handleOf(side, handle), bytesOf(pattern, length), offset)),
});

/** Whole pages from memory that starts at a page: what O_DIRECT demands of the strictest file system. */
const ALIGNED_PAGES = 40;

type DirectArguments = {
  readonly handle: number;
  readonly page: number;
  readonly pages: number;
  readonly pattern: Pattern;
};

const direct = row<DirectArguments & { readonly writes: boolean }>('direct', {
  dropsPrivileges: true,
  weight: 2,
  needs: ['directIo'],
  generate: (random, model) => {
    const handle = openHandle(random, model, (info) => info.direct && info.hint === 'file');
    if (handle === undefined) return undefined;
    const where = { page: random.below(2 * ALIGNED_PAGES), pages: random.between(1, ALIGNED_PAGES) };
    return { handle, ...where, pattern: randomPattern(random), writes: random.chance(0.5) };
  },
  run: (side, { handle, page, pages, pattern, writes }) => {
    const buffer = alignedMemory().subarray(0, pages * PAGE_BYTES);
    const at = handleOf(side, handle);
    if (!writes) {
      const length = side.system.pread(at, buffer, page * PAGE_BYTES);
      return readOutcome(Buffer.from(buffer), length);
    }
    bytesOf(pattern, buffer.length).copy(buffer);
    return outcome(side.system.pwrite(at, buffer, page * PAGE_BYTES));
  },
});

let aligned: Buffer | undefined;

function alignedMemory(): Buffer {
  aligned ??= pageMemory(ALIGNED_PAGES * PAGE_BYTES);
  return aligned;
}

type SeekArguments = { readonly handle: number; readonly offset: number; readonly whence: 'SET' | 'CUR' | 'END' };

const lseek = row<SeekArguments>('lseek', {
  weight: 4,
  generate: (random, model) => {
    const handle = openHandle(random, model, isFile);
    if (handle === undefined) return undefined;
    if (random.chance(0.5)) return { handle, offset: randomOffset(random), whence: 'SET' };
    // Small steps: behind 16 TiB, ext4 has no offsets.
    return { handle, offset: random.between(-100, 4 * CHUNK_BYTES), whence: random.pick(['CUR', 'END']) };
  },
  run: (side, { handle, offset, whence }) => outcome(side.system.lseek(handleOf(side, handle), offset, SEEK[whence])),
});

type FindArguments = {
  readonly handle: number;
  /** Taken modulo the size where `inside` is set. */
  readonly offset: number;
  readonly inside: boolean;
  readonly whence: 'DATA' | 'HOLE';
};

const seekData = row<FindArguments>('seek data', {
  weight: 4,
  needs: ['seekHole'],
  generate: (random, model) => {
    const handle = openHandle(random, model, isFile);
    if (handle === undefined) return undefined;
    const offset = random.chance(0.05) ? -1 : random.chance(0.5) ? randomOffset(random) : random.below(2 ** 31);
    return { handle, offset, inside: random.chance(0.8), whence: random.pick(['DATA', 'HOLE']) };
  },
  run: (side, args) => {
    const { handle, inside, whence } = args;
    const at = handleOf(side, handle);
    const size = sizeOf(side, at);
    const offset = inside && size > 0 ? args.offset % size : args.offset;
    const position = side.system.lseek(at, 0, SEEK.CUR);
    const answer = side.system.lseek(at, offset, SEEK[whence]);
    side.system.lseek(at, position, SEEK.SET);
    if (offset < 0 || offset >= size) return outcome(answer);
    return whence === 'DATA'
      ? dataOutcome(side, at, offset, size, answer)
      : holeOutcome(side, at, offset, size, answer);
  },
});

function sizeOf(side: Side, handle: number): number {
  const found = side.system.stat(handle, true);
  return typeof found === 'number' ? 0 : found.size;
}

/**
 * Where data and holes lie is the file system's own affair: a hole may be told as data, but what is told as a hole
 * must read as zeros (lseek(2)).
 */
function dataOutcome(side: Side, handle: number, offset: number, size: number, answer: number): Outcome {
  if (answer < 0 && answer !== -ENXIO) return outcome(answer);
  const end = answer < 0 ? size : answer;
  if (end < offset || end > size || answer === size) return outcome(0, `data of a file of ${size} bytes at ${answer}`);
  return outcome(
    0,
    readsAsZeros(side, handle, offset, end) ? 'legal' : `a hole from ${offset} to ${end} with data in it`,
  );
}

function holeOutcome(side: Side, handle: number, offset: number, size: number, answer: number): Outcome {
  if (answer < 0) return outcome(answer);
  if (answer < offset || answer > size) return outcome(0, `a hole of a file of ${size} bytes at ${answer}`);
  if (answer === size) return outcome(0, 'legal');
  return outcome(0, readsAsZeros(side, handle, answer, answer + 1) ? 'legal' : `a hole at ${answer} with data in it`);
}

/** As far as it's open for reading, and at most a few MiB from either end of the range. */
function readsAsZeros(side: Side, handle: number, from: number, to: number): boolean {
  const pieces = to - from <= 2 * ZEROS.length ? [from, from + ZEROS.length] : [from, to - ZEROS.length];
  return pieces.every((start) => {
    const into = Buffer.alloc(Math.max(0, Math.min(ZEROS.length, to - start)));
    const length = side.system.pread(handle, into, start);
    return length === -EBADF || length < 0 || into.subarray(0, length).equals(ZEROS.subarray(0, length));
  });
}

const FALLOCATE = {
  allocate: 0,
  'allocate|keep size': 1,
  'punch hole|keep size': 3,
  'punch hole': 2,
  'zero range': 16,
  'zero range|keep size': 17,
  unknown: 1 << 20,
} as const;

type FallocateArguments = {
  readonly handle: number;
  readonly how: keyof typeof FALLOCATE;
  readonly offset: number;
  readonly length: number;
};

function fallocateRow(
  name: string,
  need: 'fallocate' | 'punchHole' | 'zeroRange',
  hows: readonly (keyof typeof FALLOCATE)[],
): Row {
  return row<FallocateArguments>(name, {
    dropsPrivileges: true,
    weight: 3,
    needs: [need],
    generate: (random, model) => {
      const found = writable(random, model);
      const offset = random.chance(0.03) ? -1 : randomOffset(random);
      return found && { ...found, how: random.pick(hows), offset, length: randomLength(random) };
    },
    run: (side, { handle, how, offset, length }) =>
      outcome(side.system.fallocate(handleOf(side, handle), FALLOCATE[how], offset, length)),
  });
}

type CopyArguments = {
  readonly handle: number;
  readonly other: number;
  readonly from?: number;
  readonly onto?: number;
  readonly length: number;
};

/** Mostly at chunk edges, where chunks can be shared. */
function copyOffset(random: Random): number {
  return random.chance(0.5) ? random.below(4) * CHUNK_BYTES : randomOffset(random);
}

const copy = row<CopyArguments>('copy', {
  dropsPrivileges: true,
  weight: 6,
  needs: ['copyFileRange'],
  generate: (random, model) => {
    const from = readable(random, model);
    const to = writable(random, model);
    if (from === undefined || to === undefined) return undefined;
    return {
      handle: from.handle,
      other: to.handle,
      ...(random.chance(0.7) ? { from: copyOffset(random) } : {}),
      ...(random.chance(0.7) ? { onto: copyOffset(random) } : {}),
      length: random.pick([CHUNK_BYTES, 2 * CHUNK_BYTES, 10 * CHUNK_BYTES, randomLength(random)]),
    };
  },
  run: copyAll,
});

/** A copy may end early and is then gone on with (copy_file_range(2)); what counts is how far it comes. */
function copyAll(side: Side, { handle, other, from, onto, length }: CopyArguments): Outcome {
  let copied = 0;
  for (;;) {
    const next = (offset: number | undefined) => (offset === undefined ? undefined : offset + copied);
    const [source, target] = [handleOf(side, handle), handleOf(side, other)];
    const result = side.system.copyFileRange(source, next(from), target, next(onto), length - copied);
    if (result < 0) return copied === 0 ? outcome(result) : outcome(0, `${copied} bytes, then errno ${-result}`);
    copied += result;
    if (result === 0 || copied >= length) return outcome(0, `${copied} bytes`);
  }
}

type MapArguments = {
  readonly handle: number;
  readonly page: number;
  readonly length: number;
  readonly pattern: Pattern;
};

/** Never beyond the end of the file: touching that ends the process (mmap(2), SIGBUS). */
const mapped = row<MapArguments & { readonly writes: boolean }>('mmap', {
  weight: 3,
  generate: (random, model) => {
    const found = readable(random, model);
    const where = { page: random.below(70), length: randomLength(random) };
    return found && { ...found, ...where, pattern: randomPattern(random), writes: random.chance(0.6) };
  },
  run: (side, { handle, page, length, pattern, writes }) => {
    const at = handleOf(side, handle);
    const count = Math.min(length, sizeOf(side, at) - page * PAGE_BYTES);
    if (count <= 0) return outcome(0, 'nothing to map');
    const bytes = Buffer.from(writes ? bytesOf(pattern, count) : Buffer.alloc(count));
    const result = side.system.mapped(at, page * PAGE_BYTES, bytes, writes);
    return result < 0 || writes ? outcome(result) : outcome(0, `${count} bytes`, bytes);
  },
});

const sync = row<{ readonly handle: number; readonly dataOnly: boolean }>('sync', {
  weight: 2,
  generate: (random, model) => {
    const handle = openHandle(random, model, () => true);
    return handle === undefined ? undefined : { handle, dataOnly: random.chance(0.5) };
  },
  run: (side, { handle, dataOnly }) => {
    const at = handleOf(side, handle);
    return outcome(dataOnly ? side.system.fdatasync(at) : side.system.fsync(at));
  },
});

const LOCKS = { shared: 1, exclusive: 2, unlock: 8 } as const;
const LOCK_NONBLOCKING = 4;

const lock = row<{ readonly handle: number; readonly how: keyof typeof LOCKS }>('flock', {
  weight: 2,
  generate: (random, model) => {
    const handle = openHandle(random, model, () => true);
    return handle === undefined ? undefined : { handle, how: random.pick(['shared', 'exclusive', 'unlock']) };
  },
  run: (side, { handle, how }) => outcome(side.system.flock(handleOf(side, handle), LOCKS[how] | LOCK_NONBLOCKING)),
});

export const dataOperations: readonly Row[] = [
  read,
  pread,
  write,
  pwrite,
  direct,
  lseek,
  seekData,
  fallocateRow('fallocate', 'fallocate', ['allocate', 'allocate|keep size', 'unknown']),
  fallocateRow('punch hole', 'punchHole', ['punch hole|keep size', 'punch hole|keep size', 'punch hole']),
  fallocateRow('zero range', 'zeroRange', ['zero range', 'zero range|keep size']),
  copy,
  mapped,
  sync,
  lock,
];
