import { AuditFiles } from '../audit/files.ts';
import { Levels, parseRules } from '../audit/levels.ts';
import { type LineCount, Lines } from '../audit/lines.ts';
import { AuditLog } from '../audit/log.ts';
import { levelNumber, OFF } from '../audit/operations.ts';
import { AuditWriter } from '../audit/writer.ts';
import type { Clock } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { lineEdits } from '../layers/diff-lines.ts';
import { DiffThreads } from '../layers/diff-threads.ts';
import type { Layers } from '../layers/layers.ts';
import type { Logger } from '../log.ts';
import type { TenantStore } from '../store/store.ts';
import type { Loads } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { Health } from './health.ts';

export interface AuditingParts {
  readonly memory: ArrayBuffer;
  readonly tenantId: number;
  readonly config: Config;
  readonly store: TenantStore;
  readonly layers: Layers;
  readonly workspace: Workspace;
  readonly loads: Loads;
  readonly clock: Clock;
  readonly log: Logger;
  readonly health: Health;
}

/** How often dropped events are told of in the log. */
const DROPS_MS = 10_000;

/** A tenant's audit log: what is recorded, how it's stored, and what `audit/` tells of it. */
export class AuditTrail {
  readonly events: AuditLog;
  readonly files: AuditFiles;
  readonly lines: Lines;
  readonly #writer: AuditWriter;
  readonly #log: Logger;
  readonly #drops: NodeJS.Timeout;
  #toldDrops = 0;
  #retentionDays: number;

  constructor(parts: AuditingParts) {
    const { memory, tenantId, config, store, layers, workspace, loads, clock, log, health } = parts;
    this.#log = log;
    this.#retentionDays = config.audit.retentionDays;
    this.events = new AuditLog({
      memory,
      tenant: tenantId,
      nowMs: clock.now(),
      onRecord: (waiting) => this.#writer.recorded(waiting),
    });
    const { ring } = this.events;
    this.#writer = new AuditWriter(
      {
        log: this.events,
        store: store.audit,
        now: () => clock.now(),
        onState: (state, reason) => {
          health.set('audit', state, reason === '' ? '' : `events cannot be stored: ${reason}`);
          if (state === 'ok') log.info('audit-stores-again');
          else log.warn('audit-storing-fails', { reason });
        },
        onRetained: (tables, problem) => {
          if (problem === undefined) log.info('audit-days-dropped', { tables });
          else log.warn('audit-days-not-dropped', { problem });
        },
      },
      config.audit,
      ring.count > ring.stored,
    );
    this.files = new AuditFiles({
      log: this.events,
      store: store.audit,
      flush: (signal) => this.#writer.flush(signal),
      telling: {
        tenant: config.tenant,
        layer: (id) => {
          const layer = [...layers.all.values()].find((one) => one.id === id);
          return layer === undefined ? id : (layer.name ?? 'working');
        },
      },
      now: () => clock.now(),
      layerOf: (name) => layerNamed(layers, name),
      retentionDays: () => this.#retentionDays,
    });
    const threads = new DiffThreads();
    this.lines = new Lines({
      log: this.events,
      workspace,
      segments: loads.segments,
      chunks: loads.chunks,
      compare: (before, after) => compare(threads, before, after),
    });
    this.configure(config);
    this.#drops = setInterval(() => this.#tellDrops(), DROPS_MS).unref();
  }

  /** Goes on storing what an earlier daemon left, and what is recorded from now on. */
  start(): void {
    this.#writer.start();
  }

  configure({ audit }: Config): void {
    const { enabled, level, rules, overflow, retentionDays } = audit;
    this.events.levels = new Levels(enabled ? levelNumber(level) : OFF, parseRules(rules) ?? []);
    this.events.overflow = overflow;
    // Whoever waits needn't, if they may be dropped now.
    this.events.madeRoom();
    this.#retentionDays = retentionDays;
    this.#writer.options = audit;
  }

  /** The kernel may keep what it's told: not every request has to be seen. */
  get mayCache(): boolean {
    return !this.events.levels.seesAll;
  }

  #tellDrops(): void {
    const { drops } = this.events;
    if (drops === this.#toldDrops) return;
    this.#log.warn('audit-dropped', { events: drops - this.#toldDrops, reason: 'the queue was full' });
    this.#toldDrops = drops;
  }

  /** Stores what is left. @throws {StoreError} */
  async stop(): Promise<void> {
    clearInterval(this.#drops);
    this.#tellDrops();
    await this.#writer.stop();
  }
}

function layerNamed(layers: Layers, name: string): number | undefined {
  if (name === 'working') return layers.working.id;
  if (name === 'current') return layers.base.id;
  const tagged = layers.tags.get(name);
  if (tagged !== undefined) return tagged;
  for (const layer of layers.all.values()) if (layer.name === name || String(layer.id) === name) return layer.id;
  return /^\d{1,15}$/.test(name) ? Number(name) : undefined;
}

/** So much is compared at once: handing it to a thread would take longer. */
const AT_ONCE_BYTES = 16 * 1024;

async function compare(threads: DiffThreads, before: Buffer, after: Buffer): Promise<LineCount | undefined> {
  if (before.length + after.length <= AT_ONCE_BYTES) {
    const edits = lineEdits(before, after);
    return {
      added: edits.reduce((lines, { bLines }) => lines + bLines, 0),
      deleted: edits.reduce((lines, { aLines }) => lines + aLines, 0),
    };
  }
  const places = [before, after].map((bytes, file) => ({ bytes, places: [{ file, at: 0, length: bytes.length }] }));
  const [compared] = await threads.use(new AbortController().signal, (thread) => {
    thread.begin([before.length, after.length]);
    thread.give(places);
    return thread.compare([{ before: 0, after: 1, binary: false }], 'counts');
  });
  return compared;
}
