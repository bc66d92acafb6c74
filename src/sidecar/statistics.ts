import type { Config } from '../config/config.ts';
import { histogramSamples, type Metric, type Sample } from '../control/metrics.ts';
import { CONTROL_SERIES, Traffic } from '../fuse/traffic.ts';
import { OPCODE, operationOf } from '../fuse/wire/operations.ts';
import { Histogram } from '../histogram.ts';
import type { Journal } from '../journal/journal.ts';
import { NATIVE_STATES, type NativeStatus } from '../native/rule.ts';
import type { Commits } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { Health } from './health.ts';

/** Over how long rates are taken, and in how many steps that moves on. */
const RATE_STEP_MS = 10_000;
const RATE_STEPS = 6;
/** Bounds of the histograms for Prometheus: 10 µs to 10 s. */
const BOUNDS_MS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];
const COMMIT = 0;

/** What the daemon's figures are about. */
export interface StatisticsParts {
  readonly config: () => Config;
  readonly workspace: Workspace;
  readonly journal: Journal;
  readonly health: Health;
  readonly nativeMounts: () => readonly NativeStatus[];
  readonly version: () => Readonly<Record<string, string>>;
}

/** The figures of a daemon since its start. */
export class Statistics {
  readonly traffic = new Traffic();
  readonly #commits = new Histogram(1);
  #failedCommits = 0;
  #committedAt: Date | undefined;
  readonly #startedMs = performance.now();
  /** Earlier counts of operations, oldest first. */
  #earlier: { readonly atMs: number; readonly counts: Float64Array }[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#timer = setInterval(() => this.#step(), RATE_STEP_MS).unref();
    this.#step();
  }

  #step(): void {
    this.#earlier.push({ atMs: performance.now(), counts: this.traffic.durations.counts() });
    if (this.#earlier.length > RATE_STEPS) this.#earlier.shift();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** When the last commit ended well. */
  get committedAt(): Date | undefined {
    return this.#committedAt;
  }

  /** The same commits, counted and timed. */
  measured(commits: Commits): Commits {
    return {
      putChunks: (chunks) => commits.putChunks(chunks),
      commit: async (batch) => {
        const started = performance.now();
        try {
          await commits.commit(batch);
        } catch (problem) {
          this.#failedCommits++;
          throw problem;
        }
        this.#commits.record(COMMIT, performance.now() - started);
        this.#committedAt = new Date();
      },
    };
  }

  /** `stats/performance`. */
  performance(): object {
    const { durations } = this.traffic;
    const [oldest] = this.#earlier;
    const seconds = (performance.now() - (oldest?.atMs ?? 0)) / 1000;
    const rateOf = (series: number) => (durations.of(series).count - (oldest?.counts[series] ?? 0)) / seconds;
    const seen = this.traffic.seen();
    return {
      seconds: rounded((performance.now() - this.#startedMs) / 1000),
      rates_over_seconds: rounded(seconds),
      operations_per_second: rounded(seen.reduce((sum, series) => sum + rateOf(series), 0)),
      read_bytes: this.traffic.readBytes,
      written_bytes: this.traffic.writtenBytes,
      commits: { ...latencies(this.#commits, COMMIT), failed: this.#failedCommits },
      operations: Object.fromEntries(
        seen.map((series) => [
          nameOf(series),
          {
            ...latencies(durations, series),
            failed: this.traffic.failures(series),
            per_second: rounded(rateOf(series)),
          },
        ]),
      ),
    };
  }

  /** `stats/cache`. */
  cache({ workspace, config }: StatisticsParts): object {
    const use = workspace.cacheUse();
    const { metadataBytes, chunkBytes } = config().cache;
    const { durations, metadataMisses, chunkMisses } = this.traffic;
    const requests = this.traffic.seen().reduce((sum, series) => sum + durations.of(series).count, 0);
    return {
      metadata: {
        bytes: use.metadataBytes,
        limit_bytes: metadataBytes,
        inodes: use.inodes,
        ...hitRate(requests, metadataMisses),
      },
      chunks: {
        bytes: use.chunkBytes,
        limit_bytes: chunkBytes,
        ...hitRate(durations.of(OPCODE.READ).count, chunkMisses),
      },
    };
  }

  /** `metrics`. */
  metrics(parts: StatisticsParts): Metric[] {
    return [...this.#trafficMetrics(), ...this.#storageMetrics(parts), ...this.#stateMetrics(parts)];
  }

  #trafficMetrics(): Metric[] {
    const { durations, readBytes, writtenBytes } = this.traffic;
    const seen = this.traffic.seen();
    return [
      {
        name: 'tarbox_operation_duration_seconds',
        help: 'From an operation being read from the kernel to its answer.',
        type: 'histogram',
        samples: seen.flatMap((series) =>
          histogramSamples(
            { operation: nameOf(series) },
            BOUNDS_MS,
            durations.below(series, BOUNDS_MS),
            durations.of(series),
          ),
        ),
      },
      {
        name: 'tarbox_operation_failures_total',
        help: 'Operations that were answered with an error.',
        type: 'counter',
        samples: seen.map((series) => ({
          labels: { operation: nameOf(series) },
          value: this.traffic.failures(series),
        })),
      },
      single('tarbox_read_bytes_total', 'counter', 'Bytes that the kernel has read.', readBytes),
      single('tarbox_written_bytes_total', 'counter', 'Bytes that the kernel has written.', writtenBytes),
    ];
  }

  #storageMetrics({ workspace, journal, config }: StatisticsParts): Metric[] {
    const use = workspace.cacheUse();
    const { metadataMisses, chunkMisses } = this.traffic;
    const caches = (metadata: number, chunks: number): Sample[] => [
      { labels: { cache: 'metadata' }, value: metadata },
      { labels: { cache: 'chunks' }, value: chunks },
    ];
    const { metadataBytes, chunkBytes } = config().cache;
    const commits = this.#commits.of(COMMIT);
    return [
      gauges('tarbox_cache_bytes', 'Memory in use by a cache.', caches(use.metadataBytes, use.chunkBytes)),
      gauges('tarbox_cache_limit_bytes', 'Memory that a cache may use.', caches(metadataBytes, chunkBytes)),
      {
        name: 'tarbox_cache_misses_total',
        help: 'Operations that had to wait for a load.',
        type: 'counter',
        samples: caches(metadataMisses, chunkMisses),
      },
      {
        name: 'tarbox_commit_duration_seconds',
        help: "A commit's statement in PostgreSQL.",
        type: 'histogram',
        samples: histogramSamples({}, BOUNDS_MS, this.#commits.below(COMMIT, BOUNDS_MS), commits),
      },
      single('tarbox_commit_failures_total', 'counter', 'Commits that failed.', this.#failedCommits),
      single('tarbox_dirty_bytes', 'gauge', 'What waits for its commit.', journal.dirtyBytes),
      single('tarbox_workspace_bytes', 'gauge', 'Space that the files take.', workspace.usedBytes),
      single('tarbox_workspace_inodes', 'gauge', 'Files and directories.', workspace.usedInodes),
    ];
  }

  #stateMetrics({ health, nativeMounts, version, config }: StatisticsParts): Metric[] {
    const { status } = health.report();
    const mounts = nativeMounts();
    const memory = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    return [
      gauges(
        'tarbox_health',
        'What .tarbox/health says: 1 for its status.',
        (['ok', 'degraded', 'readonly'] as const).map((one) => ({
          labels: { status: one },
          value: one === status ? 1 : 0,
        })),
      ),
      gauges(
        'tarbox_native_mounts',
        'Native mounts by state.',
        NATIVE_STATES.map((state) => ({
          labels: { state },
          value: mounts.filter((mount) => mount.state === state).length,
        })),
      ),
      gauges('tarbox_build_info', 'Versions, and the tenant.', [
        { labels: { ...version(), tenant: config().tenant }, value: 1 },
      ]),
      single('process_resident_memory_bytes', 'gauge', "The daemon's memory.", memory.rss),
      single('process_cpu_seconds_total', 'counter', "The daemon's processor time.", (user + system) / 1e6),
      single('process_start_time_seconds', 'gauge', 'When the daemon began.', Date.now() / 1000 - process.uptime()),
    ];
  }
}

function gauges(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'gauge', samples };
}

function single(name: string, type: 'counter' | 'gauge', help: string, value: number): Metric {
  return { name, type, help, samples: [{ value }] };
}

function nameOf(series: number): string {
  return series === CONTROL_SERIES ? 'control' : (operationOf(series)?.name ?? `opcode_${series}`).toLowerCase();
}

/** Microseconds: what most operations take some of. */
function latencies(histogram: Histogram, series: number): object {
  const { count, totalMs, maxMs } = histogram.of(series);
  const micros = (ms: number) => rounded(ms * 1000);
  return {
    count,
    mean_us: count === 0 ? 0 : micros(totalMs / count),
    p50_us: micros(histogram.quantileMs(series, 0.5)),
    p90_us: micros(histogram.quantileMs(series, 0.9)),
    p99_us: micros(histogram.quantileMs(series, 0.99)),
    max_us: micros(maxMs),
  };
}

function hitRate(requests: number, misses: number): object {
  return {
    requests,
    misses,
    hit_rate: requests === 0 ? null : Math.round((1 - Math.min(1, misses / requests)) * 1e4) / 1e4,
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
