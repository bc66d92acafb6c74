import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventCsv, eventJson, eventLine, timeText } from '../../src/audit/format.ts';
import { parseGlob } from '../../src/audit/glob.ts';
import { Levels, parseRules } from '../../src/audit/levels.ts';
import { BASIC, FULL, OFF, STANDARD } from '../../src/audit/operations.ts';
import { RecentLines } from '../../src/audit/recent.ts';
import type { Event } from '../../src/audit/record.ts';
import { parseTime } from '../../src/audit/since.ts';
import { followEvents } from '../../src/audit/stream.ts';
import { memoryLog } from '../support/audit-log.ts';

const TELLING = { tenant: 'red', layer: (id: number) => id };
const EVENT: Event = {
  event: 1,
  timeUs: 1_769_860_800_123_456,
  op: 1,
  result: 0,
  layer: 2,
  ino: 3,
  uid: 0,
  gid: 0,
  pid: 0,
  durationUs: 5,
  bytes: -1,
  read: -1,
  position: -1,
  added: -1,
  deleted: -1,
  comm: null,
  path: Buffer.from('/a'),
  target: null,
};

describe('a pattern', () => {
  const matches = (pattern: string, path: string) => {
    const bytes = Buffer.from(path);
    return parseGlob(pattern)?.matches(bytes, 0, bytes.length);
  };

  it.each([
    ['/a/b', ['/a/b'], ['/a', '/a/b/c', '/a/bc']],
    ['a/b', ['/a/b'], ['/x/a/b']],
    ['/a/*', ['/a/b', '/a/', '/a/.x'], ['/a', '/a/b/c']],
    ['/a/**', ['/a/b', '/a/b/c', '/a/'], ['/a', '/ab']],
    ['/**/b', ['/b', '/a/b', '/a/a/b'], ['/ab', '/b/a']],
    ['/a/**/b', ['/a/b', '/a/x/b', '/a/x/y/b'], ['/ab', '/a/xb', '/a/b/c']],
    ['/**', ['/', '/a', '/a/b'], []],
    ['/a?c', ['/abc', '/aüc', '/a🙂c'], ['/ac', '/a/c', '/abbc']],
    ['/[a-c]x', ['/ax', '/cx'], ['/dx', '/x', '/ abx']],
    ['/[!a-c]x', ['/dx', '/üx'], ['/ax', '//x', '/x']],
    ['/\\*', ['/*'], ['/a', '/\\*']],
    ['/*.ts', ['/a.ts', '/.ts', '/a.b.ts'], ['/a.tsx', '/d/a.ts']],
    ['/*a*b*', ['/ab', '/xaybz', '/aabb'], ['/ba', '/a/b']],
    ['/größe/*', ['/größe/1'], ['/grosse/1']],
  ])('%s matches %j and not %j', (pattern, yes, no) => {
    for (const path of yes) expect(matches(pattern, path), path).toBe(true);
    for (const path of no) expect(matches(pattern, path), path).toBe(false);
  });

  it('is refused when it is empty, too long, or has an open set', () => {
    for (const pattern of ['', '/[a', 'x'.repeat(1025)]) expect(parseGlob(pattern)).toBeUndefined();
  });

  it('that is hostile takes time in proportion to its length and the path', () => {
    const path = `/${'a'.repeat(4000)}`;
    const steps = (stars: number) => {
      const started = process.cpuUsage();
      expect(matches(`/${'*a'.repeat(stars)}b`, path)).toBe(false);
      const { user } = process.cpuUsage(started);
      return user;
    };
    steps(10);
    // Without that, 100 stars would take longer than anyone lives.
    expect(steps(100)).toBeLessThan(5_000_000);
  });

  it('finds what the same pattern as a regular expression finds', () => {
    const symbol = fc.constantFrom('a', 'b', '/', '*', '**', '?');
    const letter = fc.constantFrom('a', 'b', '/');
    fc.assert(
      fc.property(fc.array(symbol, { maxLength: 8 }), fc.array(letter, { maxLength: 10 }), (symbols, letters) => {
        const pattern = `/a${symbols.join('')}`.replace(/\*{3,}/g, '**');
        const source = pattern.replace(/\/\*\*\/|\*\*|\*|\?/g, (found) =>
          found === '/**/' ? '/(?:.*/)?' : found === '**' ? '.*' : found === '*' ? '[^/]*' : '[^/]',
        );
        // Of `**/**/` the expression takes the first part only.
        fc.pre(!pattern.includes('**/**'));
        const path = `/a${letters.join('')}`;
        expect(matches(pattern, path)).toBe(new RegExp(`^${source}$`).test(path));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('levels', () => {
  const of = (levels: Levels, path: string) => levels.of(Buffer.from(path), 0, path.length);

  it('are those of the last rule that matches, or else of all', () => {
    const levels = new Levels(STANDARD, parseRules('/a/**=off, /a/b/*=full,/c=basic') ?? []);
    expect(['/x', '/a/x', '/a/b/x', '/a/b/x/y', '/c'].map((path) => of(levels, path))).toEqual([
      STANDARD,
      OFF,
      FULL,
      OFF,
      BASIC,
    ]);
    expect(levels.highest).toBe(FULL);
    expect(levels.seesAll).toBe(true);
  });

  it('are off for every path while recording is off', () => {
    const levels = new Levels(OFF, parseRules('/a=full') ?? []);
    expect([levels.highest, levels.seesAll, of(levels, '/a')]).toEqual([OFF, false, OFF]);
  });
});

describe('an event as text', () => {
  it('is JSON that reads back as the same bytes, and one line, whatever the names', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.uint8Array({ maxLength: 16 }), (path, comm) => {
        const event = { ...EVENT, path: Buffer.from(path), target: Buffer.from(path), comm: Buffer.from(comm) };
        const fields = JSON.parse(eventJson(event, TELLING));
        const bytesOf = (key: string) =>
          fields[`${key}_base64`] === undefined
            ? Buffer.from(fields[key])
            : Buffer.from(fields[`${key}_base64`], 'base64');
        expect(bytesOf('path').equals(event.path)).toBe(true);
        expect(bytesOf('target').equals(event.path)).toBe(true);
        expect(bytesOf('comm').equals(event.comm)).toBe(true);
        const line = eventLine(event);
        expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
  });

  it('says null where nothing is known', () => {
    expect(JSON.parse(eventJson({ ...EVENT, path: null, ino: 0, layer: 0 }, TELLING))).toEqual({
      time: '2026-01-31T12:00:00.123456Z',
      op: 'create',
      path: null,
      result: 'ok',
      uid: 0,
      gid: 0,
      pid: null,
      comm: null,
      tenant: 'red',
      layer: null,
      ino: null,
      bytes: null,
      bytes_read: null,
      offset: null,
      duration_us: 5,
      lines_added: null,
      lines_deleted: null,
      event: 1,
    });
  });

  it('is a row of CSV, quoted where it must be', () => {
    expect(eventCsv({ ...EVENT, path: Buffer.from('/a,"b"\n') }, TELLING)).toBe(
      '2026-01-31T12:00:00.123456Z,create,"/a,""b""\n",,,,ok,0,0,,,red,2,3,,,,5,,,1',
    );
  });

  it('has the time to the microsecond', () => {
    expect([0, 1, 999_999, 1_000_000].map(timeText)).toEqual([
      '1970-01-01T00:00:00.000000Z',
      '1970-01-01T00:00:00.000001Z',
      '1970-01-01T00:00:00.999999Z',
      '1970-01-01T00:00:01.000000Z',
    ]);
  });
});

describe('a time', () => {
  const NOW = Date.parse('2026-01-31T12:00:00Z');

  it.each([
    ['now', '2026-01-31T12:00:00Z'],
    ['1h', '2026-01-31T11:00:00Z'],
    ['90 min ago', '2026-01-31T10:30:00Z'],
    ['1 day ago', '2026-01-30T12:00:00Z'],
    ['1.5 days', '2026-01-30T00:00:00Z'],
    ['2 weeks ago', '2026-01-17T12:00:00Z'],
    ['30s', '2026-01-31T11:59:30Z'],
    ['2026-01-02', '2026-01-02T00:00:00Z'],
    ['2026-01-02 03:04', '2026-01-02T03:04:00Z'],
    ['2026-01-02T03:04:05.678Z', '2026-01-02T03:04:05.678Z'],
    ['2026-01-02T03:04:05+02:00', '2026-01-02T01:04:05Z'],
  ])('%s is %s', (text, time) => {
    expect(parseTime(text, NOW)).toBe(Date.parse(time));
  });

  it.each(['', 'soon', '1', '1 fortnight', '2026', '2026-13-01', '-1h', '1e9h', '99999999 weeks', "1h'; --"])(
    '%j is none',
    (text) => {
      expect(parseTime(text, NOW)).toBeUndefined();
    },
  );
});

describe('whoever follows', () => {
  it('is told of each event once, and how many were missed by one who was too slow', async () => {
    const log = memoryLog();
    const abort = new AbortController();
    const lines = followEvents(log, 0, TELLING, abort.signal);
    const next = async () =>
      String((await lines.next()).value)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    const record = (ino: number) => {
      log.draft.clear();
      log.draft.op = 1;
      log.draft.ino = ino;
      log.draft.path.set(Buffer.alloc(4000, 'x'));
      log.record(0, 0);
      log.ring.stored = log.ring.count;
    };
    record(1);
    expect((await next()).map(({ ino }) => ino)).toEqual([1]);
    const waiting = next();
    record(2);
    expect((await waiting).map(({ ino }) => ino)).toEqual([2]);
    for (let ino = 3; ino < 5000; ino++) record(ino);
    const [first, second] = await next();
    expect(first.missed).toBeGreaterThan(1000);
    expect(second.ino).toBe(3 + first.missed);
    abort.abort(new Error('no more'));
    while (!(await lines.next().catch(() => ({ done: true }))).done);
  });

  it('waits for an event of which something is still being found out', async () => {
    const log = memoryLog();
    log.draft.clear();
    const ordinal = log.record(0, 0);
    log.unsettle(ordinal);
    log.record(0, 0);
    expect(log.settled).toBe(ordinal);
    log.settle(ordinal, 7, 8);
    expect(log.settled).toBe(log.ring.count);
    expect(log.ring.event(ordinal)).toMatchObject({ added: 7, deleted: 8 });
  });
});

describe('the newest events', () => {
  const record = (log: ReturnType<typeof memoryLog>, name: string): number => {
    log.draft.clear();
    log.draft.op = 1;
    log.draft.path.known = log.draft.path.prepend(name);
    return log.record(0, 0);
  };

  it('are the same told piece by piece as told at once, and a thousand', () => {
    const log = memoryLog();
    const recent = new RecentLines(log);
    for (const count of [0, 1, 3, 998, 1, 5, 400, 1500, 1]) {
      for (let more = 0; more < count; more++)
        record(log, more % 7 === 0 ? 'long'.repeat(500) : `file-${log.ring.count}`);
      const text = recent.text();
      expect(text).toBe(new RecentLines(log).text());
      const all = Math.min(log.ring.count, 1000);
      expect(text.trim().split('\n').filter(Boolean)).toHaveLength(all);
      if (all > 0 && count > 0) expect(text).toMatch(new RegExp(`/(long|file-${log.ring.count - 1}$)[^\n]*\n$`, 'm'));
    }
  });

  it('have the lines that were counted after they had been told', () => {
    const log = memoryLog();
    const recent = new RecentLines(log);
    record(log, 'before');
    const ordinal = record(log, 'edited');
    log.unsettle(ordinal);
    record(log, 'after');
    expect(recent.text()).not.toContain('lines=');
    log.settle(ordinal, 3, 1);
    const lines = recent.text().trim().split('\n');
    expect(lines.map((line) => line.includes('lines=+3,-1'))).toEqual([false, true, false]);
  });
});
