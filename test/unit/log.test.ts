import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FsError } from '../../src/errno.ts';
import { createLogger, type LogFields, type LoggerOptions, type LogLevel } from '../../src/log.ts';

const NOON = Date.UTC(2025, 0, 2, 12, 0, 0, 7);

/** A logger and what it wrote. */
function recorded(options: Partial<LoggerOptions> & { readonly isTTY?: boolean } = {}) {
  const written: string[] = [];
  const stream = { write: (text: string) => written.push(text), isTTY: options.isTTY };
  const log = createLogger({ level: 'debug', stream, clock: { now: () => NOON }, ...options });
  return { log, written, text: () => written.join('') };
}

/** The one event that these fields make, parsed. */
function eventOf(fields: LogFields, options: Partial<LoggerOptions> = {}): Record<string, unknown> {
  const { log, text } = recorded(options);
  log.error('it', fields);
  return JSON.parse(text());
}

describe('a log that is no terminal', () => {
  it('has one line of JSON an event, with the time in UTC', () => {
    const { log, written } = recorded();
    log.info('mounted', { mount: '/workspace/a', pid: 7, ok: true, missing: undefined });
    log.warn('slow');
    expect(written).toEqual([
      '{"time":"2025-01-02T12:00:00.007Z","level":"info","event":"mounted","mount":"/workspace/a","pid":7,"ok":true}\n',
      '{"time":"2025-01-02T12:00:00.007Z","level":"warn","event":"slow"}\n',
    ]);
  });

  it('is one line of JSON whatever the fields hold', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: 'binary' }), fc.anything({ withBigInt: true, withDate: true })),
        (fields) => {
          const { log, text } = recorded();
          log.info('any', fields as LogFields); // the reserved names are a matter of types; at run time they are ignored
          expect(text().split('\n')).toHaveLength(2);
          expect(JSON.parse(text())).toMatchObject({ event: 'any', level: 'info' });
        },
      ),
    );
  });

  it('escapes control characters, line ends and bidirectional overrides, and keeps their meaning', () => {
    const nasty = 'a\n\x1b[31m\x7f\x9b\u2028\u202e\u{e0001}é';
    const { log, text } = recorded();
    log.info('named', { path: nasty });
    expect(text().trimEnd()).toMatch(/^[\x20-\x7eé]*$/);
    expect(JSON.parse(text())).toMatchObject({ path: nasty });
  });
});

describe('a log on a terminal', () => {
  it('has a readable line an event', () => {
    const { log, text } = recorded({ isTTY: true });
    log.info('mounted', { mount: '/workspace/a', note: 'two words', list: [1, 2], empty: '' });
    expect(text()).toBe(
      '2025-01-02T12:00:00.007Z info  mounted mount=/workspace/a note="two words" list=[1,2] empty=""\n',
    );
  });

  it('says an error with its causes in one sentence, and its stack below', () => {
    const { log, text } = recorded({ isTTY: true, level: 'info' });
    const problem = new Error('cannot start', { cause: new FsError('EIO', 'the disk is gone') });
    log.warn('failed', { problem });
    expect(text()).toBe('2025-01-02T12:00:00.007Z warn  failed problem="cannot start: the disk is gone (EIO)"\n');
    log.error('failed', { problem });
    expect(text()).toContain('\n    at ');
  });

  it('lets nothing move the cursor', () => {
    const { log, text } = recorded({ isTTY: true });
    log.info('named', { path: '\x1b[2J\r', 'ke\x1by': 1 });
    expect(text().trimEnd()).toMatch(/^[\x20-\x7e]*$/);
  });
});

describe('the level', () => {
  it.each([
    ['debug', 4],
    ['info', 3],
    ['warn', 2],
    ['error', 1],
  ] as const)('%s lets %i of four through', (level, count) => {
    const { log, written } = recorded({ level });
    log.debug('a');
    log.info('b');
    log.warn('c');
    log.error('d');
    expect(written).toHaveLength(count);
  });

  it('may change while the logger is in use', () => {
    let level: LogLevel = 'error';
    const { log, written } = recorded({ level: () => level });
    log.info('before');
    level = 'info';
    log.info('after');
    expect(written.join()).toContain('after');
    expect(written.join()).not.toContain('before');
  });
});

describe('an error', () => {
  it('has its message, code and causes', () => {
    const problem = new FsError('EIO', 'cannot commit', { cause: new TypeError('odd', { cause: 'text' }) });
    expect(eventOf({ problem })).toMatchObject({
      problem: { message: 'cannot commit', code: 'EIO', cause: { message: 'odd', cause: 'text' } },
    });
  });

  it('has its stack at level error, and below only while debugging', () => {
    const problem = new Error('odd');
    expect(eventOf({ problem })).toHaveProperty('problem.stack', expect.stringContaining('log.test.ts'));
    for (const [level, has] of [
      ['info', false],
      ['debug', true],
    ] as const) {
      const { log, text } = recorded({ level });
      log.warn('it', { problem });
      expect(text().includes('log.test.ts')).toBe(has);
    }
  });

  it('that stands for several shows each', () => {
    const problem = new AggregateError([new Error('no route'), new Error('refused')]);
    expect(eventOf({ problem })).toMatchObject({
      problem: { message: 'AggregateError', errors: [{ message: 'no route' }, { message: 'refused' }] },
    });
  });

  it('may be its own cause', () => {
    const problem = new Error('odd');
    problem.cause = problem;
    expect(eventOf({ problem })).toMatchObject({ problem: { cause: '[circular]' } });
  });
});

describe('a secret is not printed', () => {
  it.each([
    'postgres://user:hunter2@host/db',
    'cannot reach postgresql://user%40corp:hunter2@host:5432/db at all',
    'postgres://:hunter2@host/db',
    'postgres://user:hun@ter2/hunter2@host/db',
    'postgres%3A%2F%2Fuser%3Ahunter2%40host%2Fdb',
    'postgres://host/db?user=a&password=hunter2&x=y',
    'postgres://host/db?sslpassword=hunter2',
    'redirect=postgres%3A%2F%2Fhost%2Fdb%3Fpassword%3Dhunter2%26x',
    "host=h password = 'hunter2 \\' hunter2' dbname=d",
    'PGPASSWORD=hunter2 psql',
    '{"password":"hunter2"}',
    'https://user:hunter2@example.org/path',
  ])('in %s', (text) => {
    for (const isTTY of [true, false]) {
      const { log, text: written } = recorded({ isTTY });
      const problem = new Error(text, { cause: new Error(text) });
      log.error(text, {
        text,
        problem,
        list: [text],
        [text]: 1,
        bytes: Buffer.from(text),
        map: new Map([[text, text]]),
      });
      expect(written()).not.toContain('hunter2');
      expect(written()).toContain('***');
    }
  });

  it('in a field whose name says that it is one', () => {
    expect(eventOf({ password: 'hunter2', deep: { apiToken: 'hunter2' } })).toMatchObject({
      password: '***',
      deep: { apiToken: '***' },
    });
  });

  it('wherever the logger was told of it, percent-encoded or not', () => {
    const { log, text } = recorded({ secrets: ['p@ss w0rd', 'p@ss', 'en%2Fcoded'] });
    log.error('p@ss w0rd', {
      a: 'said p@ss w0rd twice: p@ss w0rd',
      b: 'p%40ss%20w0rd',
      c: 'en/coded',
      problem: new Error('p@ss', { cause: 'en%2Fcoded' }),
    });
    expect(text()).not.toMatch(/p@ss|p%40ss|w0rd|en.{1,3}coded/);
  });

  it('and what is none stays', () => {
    const text = 'postgres://user@host:5432/db?sslmode=require http://host:80/a 12:30 a@b.c';
    expect(eventOf({ text: text.split(' ') })).toMatchObject({ text: text.split(' ') });
  });
});

describe('a stream that is broken', () => {
  it('does not stop whoever logs', () => {
    const listeners: string[] = [];
    const stream = { write: () => false, on: (event: string) => listeners.push(event) };
    createLogger({ level: 'info', stream, clock: { now: () => NOON } }).info('lost');
    expect(listeners).toEqual(['error']);
  });
});
