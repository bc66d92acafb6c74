import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parsePrometheus } from '../support/prometheus.ts';
import { missingForMounts, startTarbox, type Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

interface Latencies {
  readonly count: number;
  readonly mean_us: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly max_us: number;
  readonly failed: number;
}

interface Performance {
  readonly operations_per_second: number;
  readonly read_bytes: number;
  readonly written_bytes: number;
  readonly commits: Latencies;
  readonly operations: Readonly<Record<string, Latencies>>;
}

interface Cache {
  readonly bytes: number;
  readonly limit_bytes: number;
  readonly misses: number;
  readonly hit_rate: number;
}

describe.skipIf(missing !== undefined)(`figures${unless}`, () => {
  let tarbox: Tarbox;
  beforeAll(async () => {
    tarbox = await startTarbox();
  });
  afterAll(() => tarbox.remove());

  const sh = async (script: string): Promise<string> => {
    const { stdout } = await execa('bash', ['-ec', script], { cwd: tarbox.mount });
    return stdout;
  };
  const figures = async <T>(file: string): Promise<T> => JSON.parse(await sh(`cat .tarbox/${file}`));
  const scraped = async () => parsePrometheus(`${await sh('cat .tarbox/metrics')}\n`);

  it('count each operation once, with how long it takes', async () => {
    const before = await figures<Performance>('stats/performance');
    await sh('for i in $(seq 20); do mkdir d$i; done; head -c 300000 /dev/zero > file; sync file');
    const after = await figures<Performance>('stats/performance');
    expect(after.operations['mkdir']?.count).toBe((before.operations['mkdir']?.count ?? 0) + 20);
    expect(after.written_bytes - before.written_bytes).toBe(300_000);
    expect(after.commits.count).toBeGreaterThan(before.commits.count);
    expect(after.operations_per_second).toBeGreaterThan(0);
    for (const { count, p50_us, p99_us, max_us, mean_us } of [after.commits, ...Object.values(after.operations)]) {
      expect(count).toBeGreaterThan(0);
      expect(p50_us).toBeLessThanOrEqual(p99_us);
      expect(p99_us).toBeLessThanOrEqual(max_us);
      expect(mean_us).toBeLessThanOrEqual(max_us);
    }
  });

  it('take in how long an answer was waited for: a sync takes no less than its commit', async () => {
    const { operations, commits } = await figures<Performance>('stats/performance');
    expect(operations['fsync']?.max_us).toBeGreaterThan(commits.p50_us / 1.25);
  });

  it('tell failures from successes', async () => {
    const failed = async () => (await figures<Performance>('stats/performance')).operations['rmdir']?.failed ?? 0;
    await sh('mkdir -p full/inside; rmdir d1');
    const before = await failed();
    await sh('! rmdir full');
    expect(await failed()).toBe(before + 1);
  });

  it('tell how much is cached, and what had to be loaded', async () => {
    type Caches = { readonly metadata: Cache; readonly chunks: Cache };
    await sh('cat file > /dev/null; echo all > .tarbox/control/flush');
    const before = await figures<Caches>('stats/cache');
    await sh('cat file > /dev/null; ls -l > /dev/null; sync .');
    const after = await figures<Caches>('stats/cache');
    expect(after.chunks.misses + after.metadata.misses).toBeGreaterThan(before.chunks.misses + before.metadata.misses);
    for (const { bytes, limit_bytes, hit_rate } of [after.metadata, after.chunks]) {
      expect(bytes).toBeLessThanOrEqual(limit_bytes);
      expect(hit_rate).toBeGreaterThan(0);
      expect(hit_rate).toBeLessThanOrEqual(1);
    }
    expect(after.metadata.bytes).toBeGreaterThan(0);
  });

  it('are what a scraper reads, and the same', async () => {
    const found = await scraped();
    const value = (name: string, labels: Record<string, string> = {}) =>
      found.find(
        (sample) => sample.name === name && Object.entries(labels).every(([key, of]) => sample.labels[key] === of),
      )?.value;
    const { operations, written_bytes } = await figures<Performance>('stats/performance');
    const mkdirs = { operation: 'mkdir' };
    expect(value('tarbox_operation_duration_seconds_count', mkdirs)).toBe(operations['mkdir']?.count);
    expect(value('tarbox_operation_duration_seconds_bucket', { ...mkdirs, le: '+Inf' })).toBe(
      operations['mkdir']?.count,
    );
    expect(value('tarbox_written_bytes_total')).toBe(written_bytes);
    expect(value('tarbox_health', { status: 'ok' })).toBe(1);
    expect(value('tarbox_cache_limit_bytes', { cache: 'chunks' })).toBe(32 * 2 ** 20);
    expect(value('tarbox_build_info', { tenant: 'default', node: process.version })).toBe(1);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(10e6);
    expect(value('process_start_time_seconds')).toBeLessThan(Date.now() / 1000);
  });

  it('have the last commit in the health', async () => {
    const { last_commit_at } = await figures<{ last_commit_at: string }>('health');
    expect(Date.parse(last_commit_at)).toBeLessThanOrEqual(Date.now());
  });
});
