import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Draft, decode, type Event, encode } from '../../src/audit/record.ts';
import { Ring } from '../../src/audit/ring.ts';
import { memoryLog } from '../support/audit-log.ts';

/** The index of a ring, and so much for events. */
const SMALL_BYTES = 128 + 131_072 * 8 + 16 * 1024;

function fill(draft: Draft, number: number, pathBytes: number): Draft {
  draft.clear();
  draft.op = 1;
  draft.timeUs = 1_700_000_000_000_000 + number;
  draft.ino = number;
  draft.path.set(Buffer.alloc(pathBytes, 'x'));
  return draft;
}

function openRing(memory: ArrayBuffer): Ring {
  const ring = new Ring(memory, 0);
  ring.open(5000);
  return ring;
}

describe('an event', () => {
  it('is read back as it was recorded, whatever is in it', () => {
    const numbers = fc.record({
      op: fc.integer({ min: 0, max: 32_767 }),
      timeUs: fc.integer({ min: 0, max: 4_102_444_800_000_000 }),
      durationUs: fc.integer({ min: 0, max: 2 ** 52 }),
      layer: fc.maxSafeNat(),
      ino: fc.integer({ min: 0, max: 2 ** 44 - 1 }),
      uid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      gid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      pid: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      result: fc.integer({ min: 0, max: 4095 }),
      bytes: fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
      read: fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
      position: fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
      added: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
      deleted: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
    });
    const text = fc.option(fc.uint8Array({ maxLength: 4097 }));
    const comm = fc.uint8Array({ minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(numbers, comm, text, text, (fields, name, path, target) => {
        const draft = new Draft();
        draft.clear();
        Object.assign(draft, fields);
        draft.commBytes = name.length;
        draft.comm.set(name);
        if (path !== null) draft.path.set(path);
        if (target !== null) draft.target.set(target);
        const bytes = Buffer.alloc(draft.size);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        encode(draft, 7, 123, bytes, view, 0);
        const buffer = (one: Uint8Array | null) => (one === null ? null : Buffer.from(one));
        expect(decode(bytes, view, 0)).toEqual({
          event: 123,
          ...fields,
          comm: Buffer.from(name),
          path: buffer(path),
          target: buffer(target),
        } satisfies Event);
      }),
    );
  });

  it('whose path was not found whole has none', () => {
    const draft = new Draft();
    draft.clear();
    draft.path.prepend('half');
    const bytes = Buffer.alloc(draft.size);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    encode(draft, 1, 1, bytes, view, 0);
    expect(decode(bytes, view, 0).path).toBeNull();
  });
});

describe('the ring', () => {
  it('holds what is not stored, and of the rest what is still whole, through any use', () => {
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ append: fc.integer({ min: 0, max: 3000 }) }) },
      { weight: 3, arbitrary: fc.record({ store: fc.integer({ min: 1, max: 12 }) }) },
      { weight: 1, arbitrary: fc.constant({ reopen: true }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const memory = new ArrayBuffer(SMALL_BYTES);
        let ring = openRing(memory);
        const draft = new Draft();
        /** Bytes of each path, by ordinal. */
        const recorded: number[] = [];
        let stored = 0;
        for (const one of steps) {
          if ('append' in one) {
            const room = ring.room;
            fill(draft, recorded.length, one.append);
            const taken = ring.append(draft, 1, recorded.length + 100, recorded.length + 200);
            if (taken) recorded.push(one.append);
            // `room` may tell of less than there is, never of more.
            else expect(draft.size).toBeGreaterThan(room);
          } else if ('store' in one) {
            const piece = ring.next(one.store, ring.count);
            expect(piece === undefined).toBe(stored === recorded.length);
            if (piece === undefined) continue;
            expect(piece).toMatchObject({ from: stored, firstEvent: 5000 + stored, lastEvent: 5000 + piece.to - 1 });
            const sizes = recorded.slice(stored, piece.to).map((bytes) => fill(draft, 0, bytes).size);
            expect(piece.rows.reduce((sum, { length }) => sum + length, 0)).toBe(sizes.reduce((a, b) => a + b, 0));
            stored = piece.to;
            ring.stored = stored;
          } else ring = openRing(memory);
          expect(ring.count).toBe(recorded.length);
          expect(ring.oldest).toBeLessThanOrEqual(stored);
          for (let ordinal = ring.oldest; ordinal < ring.count; ordinal++) {
            const { event, ino, path } = ring.event(ordinal);
            expect([event, ino, path?.length]).toEqual([5000 + ordinal, ordinal, recorded[ordinal]]);
          }
          if (recorded.length > 0) {
            expect(ring.sequence).toBe(recorded.length + 99);
            expect(ring.request).toBe(recorded.length + 199);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('takes more events than its memory holds, as long as they are stored', () => {
    const ring = openRing(new ArrayBuffer(SMALL_BYTES));
    const draft = new Draft();
    for (let number = 0; number < 1000; number++) {
      expect(ring.append(fill(draft, number, 100), 1, 0, 0)).toBe(true);
      ring.stored = Math.max(ring.stored, number - 20);
    }
    expect(ring.event(999).ino).toBe(999);
  });

  it('keeps what an earlier daemon had not stored', () => {
    const memory = new ArrayBuffer(SMALL_BYTES);
    const draft = new Draft();
    const ring = openRing(memory);
    for (let number = 0; number < 10; number++) ring.append(fill(draft, number, 10), 1, number, number);
    ring.stored = 4;
    const next = new Ring(memory, 0);
    next.open(9_999_999);
    expect(next.next(100, 100)).toMatchObject({ from: 4, to: 10, firstEvent: 5004, lastEvent: 5009 });
    expect(next.append(fill(draft, 10, 10), 1, 10, 10)).toBe(true);
    expect(next.event(10).event).toBe(5010);
  });
});

describe('a log whose queue is full', () => {
  /** Records until no more fits; returns how many there were. */
  function flood(log: ReturnType<typeof memoryLog>): number {
    let count = 0;
    while (log.record(count, count) >= 0) {
      count++;
      fill(log.draft, count, 4000);
    }
    return count;
  }

  it('counts what it drops, and says so in an event when there is room', () => {
    const log = memoryLog();
    log.overflow = 'drop';
    expect(log.full).toBe(false);
    const count = flood(log);
    log.record(0, 0);
    expect(log.full).toBe(false);
    expect(log.drops).toBe(2);
    log.ring.stored = count;
    log.record(1, 1);
    expect(log.ring.event(count)).toMatchObject({ op: 21, bytes: 2 });
    expect(log.ring.event(count + 1).ino).toBe(count);
    expect(log.ring.dropped).toBe(0);
  });

  it('has others wait until some are stored', async () => {
    const log = memoryLog();
    const count = flood(log);
    expect(log.full).toBe(true);
    let waits = true;
    const room = log.room().then(() => {
      waits = false;
    });
    await Promise.resolve();
    expect(waits).toBe(true);
    log.ring.stored = count;
    log.madeRoom();
    await room;
    expect(log.full).toBe(false);
  });
});
