/**
 * The audit log by itself: how many events a second get into PostgreSQL, and how long questions take once there are
 * many, spread over ninety days.
 */
import { readFileSync, rmSync } from 'node:fs';
import { AuditFiles } from '../../src/audit/files.ts';
import { AUDIT_BYTES, AuditLog } from '../../src/audit/log.ts';
import { OPERATIONS } from '../../src/audit/operations.ts';
import type { AuditStore } from '../../src/audit/port.ts';
import { AuditWriter } from '../../src/audit/writer.ts';
import { startEmbedded } from '../../src/embedded/server.ts';
import { openStore } from '../../src/store/store.ts';
import { silentLog, temporaryFolder } from '../support/postgres.ts';
import type { Cleanup } from './cleanup.ts';

const DAYS = 90;
const DAY_MS = 86_400_000;
const RETENTION_DAYS = 365;
const REPEATS = 15;

export interface AuditFigure {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
}

/** Stores so many events and asks for some. */
export async function benchAudit(events: number, cleanup: Cleanup): Promise<AuditFigure[]> {
  const folder = temporaryFolder('tarbox-bench-audit-');
  cleanup.add('audit folder', async () => rmSync(folder, { recursive: true, force: true }));
  const server = await startEmbedded({ dataDir: folder, log: silentLog });
  cleanup.add('audit server', () => server.stop());
  const { socketDirectory, user, database } = server;
  const store = await openStore({ socketDirectory, user, database, connectTimeoutMs: 5000 });
  cleanup.add('audit store', () => store.close());
  const taken = await store.takeLease({ tenant: 'bench', create: true, owner: 'bench', ttlMs: 60_000 });
  if (!taken.taken) throw new Error('the tenant is taken');
  const { audit } = store.tenant(taken.lease);
  const nowMs = Date.now();
  let writer: AuditWriter | undefined;
  const log = new AuditLog({
    memory: new ArrayBuffer(AUDIT_BYTES),
    tenant: taken.lease.tenantId,
    nowMs,
    onRecord: (waiting) => writer?.recorded(waiting),
  });
  writer = newWriter(log, audit);
  const days = Array.from({ length: DAYS + 2 }, (_, index) => Math.floor(nowMs / DAY_MS) - DAYS + index);
  await audit.makeDays(days);
  writer.start();
  const before = processorMs(server.pid);
  const recording = await record(log, writer, events, nowMs);
  const storing = {
    name: "audit: PostgreSQL's processor time for one",
    unit: 'ns',
    value: ((processorMs(server.pid) - before) * 1e6) / events,
  };
  return [storing, ...recording, ...(await ask(log, writer, audit, nowMs))];
}

/** Of a server's processes that run now (proc(5), stat: ticks of 10 ms). */
function processorMs(postmaster: number): number {
  const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8').split(' ').filter(Boolean);
  return children.reduce((sum, pid) => {
    const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
    const fields = rest.split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) * 10;
  }, 0);
}

function newWriter(log: AuditLog, store: AuditStore): AuditWriter {
  const parts = {
    log,
    store,
    now: () => Date.now(),
    onState: (state: string, reason: string) => process.stderr.write(`audit: ${state} ${reason}\n`),
    onRetained: () => {},
  };
  return new AuditWriter(parts, { batchSize: 5000, retentionDays: RETENTION_DAYS }, false);
}

const OPS = [
  OPERATIONS.create,
  OPERATIONS.open,
  OPERATIONS.close,
  OPERATIONS.close,
  OPERATIONS.rename,
  OPERATIONS.unlink,
];
const COMMANDS = ['node', 'git', 'bash', 'python3', 'tsc'];
const DIRECTORIES = 400;
const FILES = 50;

function pathOf(number: number): string {
  const directory = number % DIRECTORIES;
  return `workspace/packages/package-${directory}/src/file-${Math.floor(number / DIRECTORIES) % FILES}.ts`;
}

async function record(log: AuditLog, writer: AuditWriter, events: number, nowMs: number): Promise<AuditFigure[]> {
  const started = performance.now();
  let recordingMs = 0;
  const stepUs = (DAYS * DAY_MS * 1000) / events;
  const firstUs = (nowMs - DAYS * DAY_MS) * 1000;
  for (let number = 0; number < events; ) {
    const before = performance.now();
    for (; number < events && !log.full; number++) {
      fill(log, number, Math.floor(firstUs + number * stepUs));
      log.record(number, number);
    }
    recordingMs += performance.now() - before;
    if (number < events) await log.room();
  }
  await writer.flush();
  const seconds = (performance.now() - started) / 1000;
  return [
    { name: 'audit: events recorded and stored', unit: 'events/s', value: events / seconds },
    { name: 'audit: recording one', unit: 'ns', value: (recordingMs * 1e6) / events },
  ];
}

function fill({ draft }: AuditLog, number: number, timeUs: number): void {
  draft.clear();
  draft.op = OPS[number % OPS.length]?.code ?? 0;
  draft.timeUs = timeUs;
  draft.durationUs = 20;
  draft.layer = 2;
  draft.ino = number % 10_000;
  draft.uid = 1000 + (number % 3);
  draft.gid = 1000;
  draft.pid = 1 + (number % 30_000);
  draft.bytes = number % 4096;
  draft.result = number % 50 === 0 ? 2 : 0;
  draft.commBytes = draft.comm.write(COMMANDS[number % COMMANDS.length] ?? '');
  draft.path.known = draft.path.prepend(pathOf(number));
  if (draft.op === OPERATIONS.rename.code) draft.target.known = draft.target.prepend(pathOf(number + 1));
}

async function ask(log: AuditLog, writer: AuditWriter, store: AuditStore, nowMs: number): Promise<AuditFigure[]> {
  const files = new AuditFiles({
    log,
    store,
    flush: (signal) => writer.flush(signal),
    telling: { tenant: 'bench', layer: (id) => id },
    now: () => nowMs,
    layerOf: Number,
    retentionDays: () => RETENTION_DAYS,
  });
  const never = new AbortController().signal;
  const hour = (daysAgo: number): object => ({
    since: new Date(nowMs - daysAgo * DAY_MS).toISOString(),
    until: new Date(nowMs - daysAgo * DAY_MS + 3_600_000).toISOString(),
  });
  const query = (fields: object) => files.query(JSON.stringify(fields), never);
  const read = async (pieces: AsyncIterable<Buffer>) => {
    let bytes = 0;
    for await (const piece of pieces) bytes += piece.length;
    return bytes;
  };
  const path = `/${pathOf(12_345)}`;
  return [
    await median('audit/recent', async () => files.recent()),
    await median('audit/path/<path>', async () => {
      await files.find(path);
      return await read(files.operations(path, never));
    }),
    await median('audit/query, an operation in an hour', (repeat) => query({ op: 'unlink', ...hour(repeat + 2) })),
    await median('audit/query, a pattern in an hour', (repeat) =>
      query({ path: '/workspace/packages/package-7/**', ...hour(repeat + 2) }),
    ),
    await median('audit/query, the newest of a directory', () => query({ path: '/workspace/packages/package-7/**' })),
    await median('audit/query, a user and a failure', () => query({ uid: 1001, result: 'ENOENT', limit: 100 })),
    await median('audit/query, a command', () => query({ comm: 'git', limit: 100 })),
    await median('audit/stats', () => files.stats(never)),
  ];
}

async function median(name: string, work: (repeat: number) => Promise<unknown>): Promise<AuditFigure> {
  const times: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const started = performance.now();
    await work(repeat);
    times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  return { name, unit: 'ms', value: times[Math.floor(times.length / 2)] ?? 0 };
}
