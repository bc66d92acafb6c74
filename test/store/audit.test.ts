import { expect, it } from 'vitest';
import { AUDIT_BYTES, AuditLog } from '../../src/audit/log.ts';
import { OPERATIONS } from '../../src/audit/operations.ts';
import type { AuditStore, Filter } from '../../src/audit/port.ts';
import { AuditWriter } from '../../src/audit/writer.ts';
import type { DatabaseOptions } from '../../src/store/connection.ts';
import { describeOnEach, eventually, useServer } from '../support/postgres.ts';
import { newTenant, type TestTenant } from './tenant.ts';

const DAY_MS = 86_400_000;
const HOUR_US = 3_600_000_000;
const NEVER = new AbortController().signal;

/** A log of a tenant with its writer; `memory` of an earlier one. */
function logOf(tenant: TestTenant, memory = new ArrayBuffer(AUDIT_BYTES)) {
  let writer: AuditWriter | undefined;
  const states: string[] = [];
  const log = new AuditLog({
    memory,
    tenant: tenant.lease.tenantId,
    nowMs: Date.now(),
    onRecord: (waiting) => writer?.recorded(waiting),
  });
  const parts = {
    log,
    store: tenant.audit,
    now: () => Date.now(),
    onState: (state: string) => states.push(state),
    onRetained: () => {},
  };
  const unsure = log.ring.count > log.ring.stored;
  const made = new AuditWriter(parts, { batchSize: 100, retentionDays: 90 }, unsure);
  writer = made;
  made.start();
  return { log, writer: made, states, memory };
}

interface Fields {
  readonly op?: number;
  readonly timeUs?: number;
  readonly uid?: number;
}

function record(log: AuditLog, path: string, { op = OPERATIONS.create.code, timeUs, uid = 0 }: Fields = {}): void {
  log.draft.clear();
  log.draft.op = op;
  log.draft.timeUs = timeUs ?? Date.now() * 1000;
  log.draft.uid = uid;
  log.draft.path.set(Buffer.from(path));
  if (log.record(0, 0) < 0) throw new Error('there is no room');
}

const select = (store: AuditStore, filter: Partial<Filter> = {}, limit = 100_000) =>
  store.select({ newestFirst: false, ...filter }, undefined, limit, NEVER);

const pathsOf = async (store: AuditStore, filter: Partial<Filter> = {}) =>
  (await select(store, filter)).map(({ path }) => path?.toString());

describeOnEach((kind) => {
  const server = useServer(kind);
  const tenant = (options: Partial<DatabaseOptions> = {}) => newTenant({ ...server().options, ...options });

  it('stores what is recorded without being asked to', async () => {
    const { audit, ...rest } = await tenant();
    const { log, writer } = logOf({ audit, ...rest });
    record(log, '/a');
    expect(await eventually('it is stored', async () => (await pathsOf(audit)).length > 0 && pathsOf(audit))).toEqual([
      '/a',
    ]);
    await writer.stop();
  });

  it('stores each event once, in order, however often its connection breaks', async () => {
    const one = await tenant();
    const { log, writer } = logOf(one);
    const expected: string[] = [];
    for (let round = 0; round < 30; round++) {
      for (let number = 0; number < 150; number++) {
        expected.push(`/${round}/${number}`);
        record(log, `/${round}/${number}`);
      }
      for (const pid of await server().backends('audit')) await server().query(`SELECT pg_terminate_backend(${pid})`);
    }
    await writer.stop();
    expect(await pathsOf(one.audit)).toEqual(expected);
  });

  it('stores each event once though a server carries out what was given up', async () => {
    const one = await tenant({ statementTimeoutMs: 300, connectTimeoutMs: 300 });
    const { log, writer, states } = logOf(one);
    record(log, '/first');
    await writer.flush();
    const expected = ['/first'];
    for (let round = 0; round < 5; round++) {
      server().pause();
      const before = states.length;
      for (let number = 0; number < 120; number++) {
        expected.push(`/${round}/${number}`);
        record(log, `/${round}/${number}`);
      }
      try {
        await eventually('storing has failed', () => states.slice(before).includes('degraded'));
      } finally {
        server().resume();
      }
      await writer.flush();
    }
    await writer.stop();
    expect(await pathsOf(one.audit)).toEqual(expected);
  });

  it('stores what an earlier daemon left, but for what that one had stored', async () => {
    const one = await tenant();
    const first = logOf(one);
    for (const path of ['/1', '/2', '/3']) record(first.log, path);
    await first.writer.stop();
    // It died before it noted that these are stored.
    first.log.ring.stored = 1;
    record(first.log, '/4');
    const second = logOf(one, first.memory);
    record(second.log, '/5');
    await second.writer.stop();
    expect(await pathsOf(one.audit)).toEqual(['/1', '/2', '/3', '/4', '/5']);
  });

  it('makes tables for whatever days the clock says', async () => {
    const one = await tenant();
    const { log, writer } = logOf(one);
    const times = ['1999-12-31T23:59:59.999Z', '2000-01-01', '2038-01-19', '2999-01-01'].map((time) =>
      Date.parse(time),
    );
    for (const time of times) record(log, `/${time}`, { timeUs: time * 1000 });
    await writer.stop();
    expect((await select(one.audit)).map(({ timeUs }) => timeUs / 1000)).toEqual(times);
    await server().query(
      'DROP TABLE tarbox.audit_19991231, tarbox.audit_20000101, tarbox.audit_20380119, tarbox.audit_29990101',
    );
  });

  it('drops the tables of days that no tenant keeps any more', async () => {
    const [short, long] = [await tenant(), await tenant()];
    const today = Math.floor(Date.now() / DAY_MS);
    const tables = async () =>
      (
        await server().query<{ name: string }>(
          `SELECT relname AS name FROM pg_class WHERE relname ~ '^audit_\\d+$' AND relkind = 'r' ORDER BY 1`,
        )
      ).length;
    await server().query('UPDATE tarbox.tenants SET audit_days = NULL');
    await short.audit.makeDays(Array.from({ length: 60 }, (_, ago) => today - ago));
    await long.audit.retain(30, today);
    const before = await tables();
    expect(await short.audit.retain(7, today)).toEqual([]);
    expect(await tables()).toBe(before);
    const dropped = await long.audit.retain(10, today);
    expect(dropped).toHaveLength(20);
    expect(await tables()).toBe(before - 20);
    expect(await long.audit.retain(10, today)).toEqual([]);
  });

  it('tells nothing of other tenants, whatever is asked', async () => {
    const [red, blue] = [await tenant(), await tenant()];
    for (const [one, name] of [
      [red, 'red'],
      [blue, 'blue'],
    ] as const) {
      const { log, writer } = logOf(one);
      record(log, '/shared');
      record(log, `/of-${name}/file`);
      await writer.stop();
    }
    const path = (text: string) => Buffer.from(text);
    for (const filter of [
      {},
      { ops: [1] },
      { ops: [1, 2] },
      { uid: 0 },
      { prefix: path('/') },
      { result: 0 },
      { layer: 0 },
    ])
      expect(await pathsOf(red.audit, filter)).toEqual(['/shared', '/of-red/file']);
    expect(await pathsOf(red.audit, { path: path('/shared') })).toEqual(['/shared']);
    expect(await pathsOf(red.audit, { path: path('/of-blue/file') })).toEqual([]);
    expect(await red.audit.find(path('/of-blue'), NEVER)).toEqual({ itself: false, below: false });
    expect((await red.audit.names(path(''), 10, NEVER)).map(({ name }) => name.toString()).sort()).toEqual([
      'of-red',
      'shared',
    ]);
    const counts = await red.audit.counts(0, NEVER);
    expect(counts.filter(({ by }) => by === 'op').map(({ events }) => events)).toEqual([2]);
    expect(counts.map(({ prefix }) => prefix?.toString())).not.toContain('/of-blue');
  });

  it('pages through events of one moment without leaving one out', async () => {
    const one = await tenant();
    const { log, writer } = logOf(one);
    const timeUs = Date.now() * 1000;
    for (let number = 0; number < 25; number++) record(log, `/${number}`, { timeUs });
    await writer.stop();
    for (const newestFirst of [true, false]) {
      const seen: string[] = [];
      let after: { timeUs: number; event: number } | undefined;
      for (;;) {
        const page = await one.audit.select({ newestFirst }, after, 7, NEVER);
        seen.push(...page.map(({ path }) => String(path)));
        after = page.at(-1);
        if (after === undefined) break;
      }
      const all = Array.from({ length: 25 }, (_, number) => `/${number}`);
      expect(seen).toEqual(newestFirst ? all.reverse() : all);
    }
  });

  it('reads little of a log that has grown, by path, operation or time', async () => {
    const one = await tenant();
    const now = Math.floor(Date.now() / DAY_MS) * DAY_MS * 1000;
    const { log, writer } = logOf(one);
    const look = (): [string, () => Promise<unknown>][] => [
      ['a path', () => select(one.audit, { path: Buffer.from('/d7/f7'), sinceUs: 0 })],
      ['whether there is one', () => one.audit.find(Buffer.from('/d7/f7'), NEVER)],
      ['an operation in an hour', () => select(one.audit, { ops: [2], sinceUs: now - HOUR_US, untilUs: now }, 100)],
      ['an hour', () => select(one.audit, { sinceUs: now - HOUR_US, untilUs: now }, 100)],
      ['the newest', () => select(one.audit, { newestFirst: true }, 100)],
    ];
    // What is planned once is planned now, with next to nothing in the tables.
    record(log, '/d7/f7', { timeUs: now - HOUR_US / 2 });
    await writer.flush();
    for (const [, work] of look()) await work();
    const DAYS = 10;
    const EACH = 4000;
    for (let day = 0; day < DAYS; day++) {
      const first = now - (day + 1) * DAY_MS * 1000;
      for (let number = 0; number < EACH; number++)
        record(log, `/d${number % 20}/f${number % 400}`, {
          timeUs: first + Math.floor((number * DAY_MS * 1000) / EACH),
          op: number % 100 === 0 ? 2 : 1,
        });
      await writer.flush();
    }
    await writer.stop();
    const reads = async () => {
      const [row] = await server().query<{ total: string }>(`SELECT
        (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = 'tarbox' AND relname LIKE 'audit%')
        + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'tarbox' AND relname LIKE 'audit%') AS total`);
      return Number(row?.total);
    };
    for (const [what, work] of look()) {
      const before = await settled(reads);
      await work();
      const read = (await settled(reads)) - before;
      expect(read, what).toBeLessThan(1500);
      if (what !== 'whether there is one') expect(read, what).toBeGreaterThan(0);
    }
  });
});

/** Statistics are written some time after: a figure that hasn't changed for a while, and for longer than that takes. */
async function settled(figure: () => Promise<number>): Promise<number> {
  let last = await figure();
  let since = performance.now();
  return eventually('the statistics are written', async () => {
    const now = await figure();
    if (now !== last) {
      last = now;
      since = performance.now();
    }
    return performance.now() - since > 1500 ? now : undefined;
  });
}
