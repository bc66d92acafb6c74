import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { LocalLog, type LogRecord } from '../../src/journal/log.ts';

const MEMORY_BYTES = 4096;
const NOTHING = Buffer.alloc(0);

function append(log: LocalLog, record: LogRecord): void {
  const { sequence, timeMs, request, answer } = record;
  const bytes = typeof answer === 'number' ? NOTHING : answer;
  log.append({
    sequence,
    timeMs,
    request: Buffer.concat([request, Buffer.from('behind the request')]),
    requestBytes: request.length,
    answer: Buffer.concat([Buffer.from('before'), bytes]),
    answerAt: 6,
    result: typeof answer === 'number' ? answer : answer.length,
  });
}

function record(sequence: number, bytes = 10, answer: Buffer | number = 0): LogRecord {
  return { sequence, timeMs: 1_700_000_000_000.25 + sequence, request: Buffer.alloc(bytes, sequence), answer };
}

/** What a new daemon finds in this memory. */
function recovered(memory: ArrayBuffer): LogRecord[] {
  return new LocalLog(memory.slice(0)).recover();
}

function newLog(): { memory: ArrayBuffer; log: LocalLog } {
  const memory = new ArrayBuffer(MEMORY_BYTES);
  const log = new LocalLog(memory);
  log.reset(5);
  return { memory, log };
}

/** Copies of the memory as it is before each write that `work` does to it. */
function snapshots(memory: ArrayBuffer, work: () => void): ArrayBuffer[] {
  const taken: ArrayBuffer[] = [];
  const before = <T extends object, K extends keyof T>(prototype: T, method: K) => {
    const original = prototype[method] as (...args: unknown[]) => unknown; // only methods are named below
    return vi.spyOn(prototype, method as never).mockImplementation(function (this: unknown, ...args: unknown[]) {
      taken.push(memory.slice(0));
      return original.apply(this, args);
    } as never);
  };
  const spies = [
    before(DataView.prototype, 'setUint32'),
    before(DataView.prototype, 'setInt32'),
    before(DataView.prototype, 'setFloat64'),
    before(Buffer.prototype, 'copy'),
  ];
  try {
    work();
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return taken;
}

describe('the local log', () => {
  it('gives back what was appended, with its times and answers', () => {
    const { memory, log } = newLog();
    const all = [
      record(1, 0),
      record(2, 7, -17),
      record(3, 8, Buffer.from('answer')),
      record(4, 100, Buffer.alloc(512, 1)),
    ];
    for (const one of all) append(log, one);
    expect(recovered(memory)).toEqual(all);
  });

  it('starts anywhere in the sequence', () => {
    const { memory, log } = newLog();
    const all = [record(1_000_000_000_007), record(1_000_000_000_008)];
    for (const one of all) append(log, one);
    expect(recovered(memory)).toEqual(all);
  });

  it('is empty at first, after a reset, and where nothing was ever written', () => {
    const { memory, log } = newLog();
    expect(recovered(memory)).toEqual([]);
    append(log, record(1));
    log.reset(6);
    expect(recovered(memory)).toEqual([]);
    expect(recovered(new ArrayBuffer(MEMORY_BYTES))).toEqual([]);
  });

  it('knows its epoch, and none where nothing was ever written', () => {
    const { memory } = newLog();
    expect(new LocalLog(memory).epoch()).toBe(5);
    expect(new LocalLog(new ArrayBuffer(MEMORY_BYTES)).epoch()).toBeUndefined();
  });

  it('is adopted by the next epoch and by no other', () => {
    const { memory, log } = newLog();
    append(log, record(1));
    expect(new LocalLog(memory.slice(0)).adopt({ epoch: 7, since: 6 })).toBe(false);
    const next = new LocalLog(memory);
    expect(next.adopt({ epoch: 6, since: 5 })).toBe(true);
    expect(next.epoch()).toBe(6);
    expect(next.recover()).toEqual([record(1)]);
    expect(new LocalLog(new ArrayBuffer(MEMORY_BYTES)).adopt({ epoch: 1, since: 1 })).toBe(false);
  });

  it('forgets what was appended before a mark, and nothing else', () => {
    const { memory, log } = newLog();
    append(log, record(1));
    append(log, record(2));
    const mark = log.mark();
    append(log, record(3));
    log.trim(mark);
    expect(recovered(memory)).toEqual([record(3)]);
    log.trim(log.mark());
    expect(recovered(memory)).toEqual([]);
    expect(log.usedBytes).toBe(0);
  });

  it('keeps what is held until it’s released', () => {
    const { memory, log } = newLog();
    append(log, record(1));
    log.hold();
    const mark = log.mark();
    append(log, record(2));
    log.trim(mark);
    expect(recovered(memory)).toEqual([record(1), record(2)]);
    log.release();
    expect(recovered(memory)).toEqual([record(2)]);
  });

  it('goes on behind what an earlier daemon left', () => {
    const { memory, log } = newLog();
    append(log, record(1));
    append(log, record(2));
    const next = new LocalLog(memory);
    next.recover();
    append(next, record(3));
    expect(recovered(memory)).toEqual([record(1), record(2), record(3)]);
  });

  it('has room for what it says it has, and says when it hasn’t', () => {
    const { memory, log } = newLog();
    const all: LogRecord[] = [];
    while (log.hasRoom(100)) {
      const next = record(all.length + 1, 100, Buffer.alloc(512, 9));
      append(log, next);
      all.push(next);
    }
    expect(all.length).toBeGreaterThan(2);
    expect(recovered(memory)).toEqual(all);
    expect(log.hasRoom(MEMORY_BYTES)).toBe(false);
    log.trim(log.mark());
    expect(log.hasRoom(100)).toBe(true);
  });

  it('goes round and round its memory without losing anything', () => {
    const { memory, log } = newLog();
    let kept: LogRecord[] = [];
    for (let sequence = 1; sequence < 500; sequence++) {
      const bytes = (sequence * 37) % 300;
      while (!log.hasRoom(bytes)) {
        const mark = log.mark();
        log.trim(mark);
        kept = [];
      }
      const next = record(sequence, bytes, sequence % 3 === 0 ? Buffer.alloc(sequence % 200, 1) : 0);
      const answer = typeof next.answer !== 'number' && next.answer.length === 0 ? 0 : next.answer;
      append(log, { ...next, answer });
      kept.push({ ...next, answer });
      expect(isDeepStrictEqual(recovered(memory), kept)).toBe(true);
    }
  });

  it('holds the same after any appends and trims as a list, and its use is that of the list', () => {
    const step = fc.oneof(
      fc.record({
        kind: fc.constant('append' as const),
        bytes: fc.nat({ max: 900 }),
        answer: fc.integer({ min: -40, max: 512 }),
      }),
      fc.record({ kind: fc.constant('mark' as const) }),
      fc.record({ kind: fc.constant('trim' as const) }),
      fc.record({ kind: fc.constant('restart' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const memory = new ArrayBuffer(MEMORY_BYTES);
        let log = new LocalLog(memory);
        log.reset(1);
        let list: LogRecord[] = [];
        let marked: { mark: number; count: number } | undefined;
        let sequence = 0;
        for (const one of steps) {
          if (one.kind === 'append' && log.hasRoom(one.bytes)) {
            const next = record(
              ++sequence,
              one.bytes,
              one.answer > 0 ? Buffer.alloc(one.answer, sequence) : one.answer,
            );
            append(log, next);
            list.push(next);
          } else if (one.kind === 'mark') marked = { mark: log.mark(), count: list.length };
          else if (one.kind === 'trim' && marked !== undefined) {
            log.trim(marked.mark);
            list = list.slice(marked.count);
            marked = undefined;
          } else if (one.kind === 'restart') {
            log = new LocalLog(memory);
            log.recover();
            marked = undefined;
          }
          expect(isDeepStrictEqual(recovered(memory), list)).toBe(true);
          expect(log.usedBytes === 0).toBe(list.length === 0);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('is found as it was before an append that was broken off anywhere', () => {
    const step = fc.record({
      bytes: fc.nat({ max: 900 }),
      answer: fc.integer({ min: -40, max: 512 }),
      trims: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), (steps) => {
        const { memory, log } = newLog();
        const list: LogRecord[] = [];
        /** The place behind each record of the list. */
        const marks: number[] = [];
        for (const [index, { bytes, answer, trims }] of steps.entries()) {
          for (let trim = trims; marks.length > 0 && (trim || !log.hasRoom(bytes)); trim = false) {
            const gone = Math.ceil(marks.length / 2);
            log.trim(marks[gone - 1] ?? 0);
            list.splice(0, gone);
            marks.splice(0, gone);
          }
          const next = record(index + 1, bytes, answer > 0 ? Buffer.alloc(answer, index) : answer);
          // A record counts by its last write, so before that there is none.
          for (const torn of snapshots(memory, () => append(log, next)))
            expect(isDeepStrictEqual(recovered(torn), list)).toBe(true);
          list.push(next);
          marks.push(log.mark());
          expect(isDeepStrictEqual(recovered(memory), list)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('takes no length that an earlier round left for that of a record broken off at the start of its memory', () => {
    const { memory, log } = newLog();
    let list: LogRecord[] = [];
    let mark = log.mark();
    for (let sequence = 1; sequence < 30; sequence++) {
      const next = record(sequence, 600);
      if (!log.hasRoom(600)) {
        log.trim(mark);
        list = list.slice(-1);
      }
      mark = log.mark();
      for (const torn of snapshots(memory, () => append(log, next)))
        expect(isDeepStrictEqual(recovered(torn), list)).toBe(true);
      list = [...list, next];
      expect(isDeepStrictEqual(recovered(memory), list)).toBe(true);
    }
  });

  it('is found whole when a trim is broken off: as before it, but for what needn’t be kept', () => {
    const { memory, log } = newLog();
    for (let sequence = 1; sequence <= 5; sequence++) append(log, record(sequence, 50));
    const mark = log.mark();
    append(log, record(6, 50));
    for (const torn of snapshots(memory, () => log.trim(mark))) expect(recovered(torn)).toContainEqual(record(6, 50));
    expect(recovered(memory)).toEqual([record(6, 50)]);
  });

  it('ends where the sequence does, and at what isn’t whole', () => {
    const { memory, log } = newLog();
    append(log, record(1));
    append(log, record(2));
    append(log, record(9));
    expect(recovered(memory)).toEqual([record(1), record(2)]);
    const damaged = memory.slice(0);
    new DataView(damaged).setUint32(32, 7, true); // the length of the first record
    expect(recovered(damaged)).toEqual([]);
  });

  it('refuses an answer that it has no room for', () => {
    const { log } = newLog();
    expect(() => append(log, record(1, 1, Buffer.alloc(513)))).toThrow('513 bytes');
  });
});
