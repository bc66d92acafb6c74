import type { AuditStore } from '../audit/port.ts';
import { FsError } from '../errno.ts';
import { StoreError } from '../vfs/store.ts';
import { selectCounts, selectEvents, selectFound, selectNames, timeOf } from './audit-select.ts';
import { type Client, Connection, type DatabaseOptions } from './connection.ts';
import { copyInRaw } from './copy.ts';
import type { Lease } from './lease.ts';

const COPY = `COPY tarbox.audit (tenant_id, event, time, layer_id, ino, bytes, bytes_read, position, duration, uid, gid,
  pid, lines_added, lines_deleted, result, op, comm, path, target) FROM STDIN (FORMAT binary)`;

/** Taken by whoever makes or drops the table of a day. */
const DAYS_LOCK = 7_364_912;
const DAY_MS = 86_400_000;
const DAY_TABLE = /^audit_(\d{4})(\d\d)(\d\d)$/;
/** How long dropping a table may hold up those who write. */
const DROP_WAIT_MS = 1000;

const QUERY_CANCELED = '57014';
/** Longest time for one statement that looks at events. */
const SELECT_MS = 15_000;
/**
 * What is planned for its values has them in it; what isn't, is planned once: with a table a day that takes longer than
 * looking, and it must suit a table that has grown since. A server whose client is gone ends what it does.
 */
const LOOKING = {
  statement_timeout: String(SELECT_MS),
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  jit: 'off',
  client_connection_check_interval: '1s',
};

/** The connections of `audit/`: one to write, one to look. */
export interface AuditConnections {
  readonly writing: Connection;
  readonly looking: Connection;
}

export function auditConnections(options: DatabaseOptions): AuditConnections {
  return {
    writing: new Connection(options, 'audit'),
    looking: new Connection(options, 'audit query', LOOKING),
  };
}

/** See AuditStore. */
export function auditStore(lease: Lease, { writing, looking }: AuditConnections): AuditStore {
  const { tenantId } = lease;
  return {
    makeDays: (days) => writing.run((client) => makeDays(client, days)),
    append: (rows) => writing.run((client) => copyInRaw(client, COPY, rows)),
    lastStored: (firstTimeUs, firstEvent, lastEvent) =>
      writing.run(async (client) => {
        const [row] = await client.unsafe<{ last: string | null }[]>(
          `SELECT max(event) AS last FROM tarbox.audit
           WHERE tenant_id = $1 AND time >= ${timeOf('$2')} AND event BETWEEN $3 AND $4`,
          // Clocks are set back now and then.
          [tenantId, firstTimeUs - DAY_MS * 1000, firstEvent, lastEvent],
        );
        return row?.last == null ? undefined : Number(row.last);
      }),
    retain: (days, today) => writing.run((client) => retain(client, lease, days, today)),
    select: (filter, after, limit, signal) =>
      look(looking, signal, (client) => selectEvents(client, tenantId, filter, after, limit)),
    find: (path, signal) => look(looking, signal, (client) => selectFound(client, tenantId, path)),
    names: (directory, limit, signal) =>
      look(looking, signal, (client) => selectNames(client, tenantId, directory, limit)),
    counts: (sinceUs, signal) => look(looking, signal, (client) => selectCounts(client, tenantId, sinceUs)),
  };
}

/**
 * When the signal aborts, the connection is given up, and the server ends what it does on it.
 *
 * @throws {FsError} the signal's reason; EAGAIN; EIO when the database is away
 */
async function look<T>(connection: Connection, signal: AbortSignal, work: (client: Client) => Promise<T>): Promise<T> {
  try {
    return await connection.run((client) => raceSignal(signal, () => work(client)));
  } catch (problem) {
    signal.throwIfAborted();
    const code = codeOf(problem);
    if (code === QUERY_CANCELED)
      throw new FsError('EAGAIN', 'that takes too long to find', {
        hint: 'ask for a shorter time with "since" and "until", or for one "op" or "path"',
      });
    const reason = problem instanceof Error ? problem.message : String(problem);
    throw new FsError('EIO', `the log cannot be read: ${reason}`, { cause: problem });
  }
}

/** The server's code for what a {StoreError} was made of. */
function codeOf(problem: unknown): unknown {
  const cause = problem instanceof StoreError ? problem.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
}

async function raceSignal<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop);
  });
  const running = work();
  running.catch(() => {}); // seen below, unless nobody waits for it any more
  try {
    return await Promise.race([running, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function tableOf(day: number): string {
  return `audit_${dateOf(day).replaceAll('-', '')}`;
}

function dateOf(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

/**
 * Made apart and then attached, which those who write and read needn't wait for (PostgreSQL manual, Table Partitioning,
 * Partition Maintenance). One string of statements is one transaction.
 */
async function makeDays(client: Client, days: readonly number[]): Promise<void> {
  const rows = await client.unsafe<{ relname: string }[]>(
    `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'tarbox.audit'::regclass`,
  );
  const there = new Set(rows.map(({ relname }) => relname));
  for (const day of days) {
    const table = tableOf(day);
    if (there.has(table)) continue;
    const bounds = `FROM ('${dateOf(day)} 00:00Z') TO ('${dateOf(day + 1)} 00:00Z')`;
    await client.unsafe(`
      SELECT pg_advisory_xact_lock(${DAYS_LOCK});
      DO $$ BEGIN
        IF to_regclass('tarbox.${table}') IS NULL THEN
          CREATE TABLE tarbox.${table} (LIKE tarbox.audit INCLUDING ALL);
          ALTER TABLE tarbox.audit ATTACH PARTITION tarbox.${table} FOR VALUES ${bounds};
        END IF;
      END $$`);
  }
}

async function retain(client: Client, { tenantId }: Lease, days: number, today: number): Promise<readonly string[]> {
  await client.unsafe(
    'UPDATE tarbox.tenants SET audit_days = $2 WHERE tenant_id = $1 AND audit_days IS DISTINCT FROM $2',
    [tenantId, days],
  );
  // A day's events are all tenants': it goes when it's too old for each of them.
  const [longest] = await client.unsafe<{ days: number | null }[]>(
    'SELECT max(audit_days) AS days FROM tarbox.tenants',
  );
  const first = tableOf(today - (longest?.days ?? days));
  const rows = await client.unsafe<{ relname: string }[]>(
    `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'tarbox.audit'::regclass`,
  );
  const old = rows.map(({ relname }) => relname).filter((name) => DAY_TABLE.test(name) && name < first);
  for (const table of old.sort())
    await client.unsafe(`
      SET LOCAL lock_timeout = ${DROP_WAIT_MS};
      SELECT pg_advisory_xact_lock(${DAYS_LOCK});
      DROP TABLE IF EXISTS tarbox.${table}`);
  return old;
}
