import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT_INO } from '../brand.ts';
import { type Config, effectiveConfig } from '../config/config.ts';
import type { ControlPort } from '../control/port.ts';
import { controlFiles } from '../control/table.ts';
import { controlTree } from '../control/tree.ts';
import type { Negotiated } from '../fuse/init.ts';
import type { Journal } from '../journal/journal.ts';
import type { Layers } from '../layers/layers.ts';
import type { UsageStore } from '../layers/port.ts';
import { usageOf } from '../layers/usage.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { AuditTrail } from './auditing.ts';
import type { Comparing } from './comparing.ts';
import type { Health } from './health.ts';
import { patiently } from './layering.ts';
import type { NativePart } from './native.ts';
import type { Statistics } from './statistics.ts';
import type { Upkeep } from './upkeep.ts';

/** The parts of a daemon that its control files tell of. */
export interface ControlSources {
  readonly config: () => Config;
  readonly health: Health;
  readonly journal: Journal;
  readonly workspace: Workspace;
  readonly layers: Layers;
  readonly comparing: Comparing;
  readonly upkeep: Upkeep;
  readonly native: NativePart;
  readonly statistics: Statistics;
  readonly usage: UsageStore;
  readonly audit: AuditTrail;
  readonly takeKernelPages: () => Promise<void>;
  readonly negotiated: Negotiated;
  readonly startedMs: number;
}

/** `/.tarbox` of a running daemon. */
export function controlPort(sources: ControlSources): ControlPort {
  const { config, health, journal, workspace, layers, upkeep, takeKernelPages, negotiated, startedMs } = sources;
  const version = () => ({
    tarbox: packageVersion,
    fuse: `${negotiated.major}.${negotiated.minor}`,
    node: process.version,
  });
  const { statistics } = sources;
  const measured = { config, workspace, journal, health, version, nativeMounts: () => sources.native.statuses };
  const totals = () => ({ inodes: workspace.usedInodes, bytes: workspace.usedBytes });
  const usage = usageOf({ store: sources.usage, layers, totals });
  const files = controlFiles({
    version,
    performance: () => statistics.performance(),
    cache: () => statistics.cache(measured),
    metrics: () => statistics.metrics(measured),
    health: () => ({
      ...health.report(),
      tenant: config().tenant,
      up_since: new Date(startedMs).toISOString(),
      last_commit_at: statistics.committedAt?.toISOString() ?? null,
      dirty_bytes: journal.dirtyBytes,
    }),
    config: () => effectiveConfig(config()),
    layers,
    ...sources.comparing,
    audit: sources.audit.files,
    collectGarbage: (dry) => upkeep.collectGarbage(dry),
    checkTree: (repair) => upkeep.checkTree(repair),
    nativeMounts: () => sources.native.statuses,
    nativeRules: () => config().native.rules,
    usage: () => patiently(usage),
    totals,
    flush: {
      takeKernelPages,
      commit: () => journal.sync(),
      dropMetadata: () => workspace.dropMetadata(),
      dropChunks: () => workspace.dropChunks(),
    },
  });
  return controlTree(files, {
    access: config().control.access,
    visible: config().control.visible,
    owner: () => workspace.cached(ROOT_INO) ?? config().owner,
    startedMs,
  });
}

// The project's own manifest is a JSON object with a version.
const { version: packageVersion } = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
) as { version: string };
