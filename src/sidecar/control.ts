import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT_INO } from '../brand.ts';
import { type Config, effectiveConfig } from '../config/config.ts';
import type { ControlPort } from '../control/port.ts';
import { controlFiles } from '../control/table.ts';
import { controlTree } from '../control/tree.ts';
import { FsError } from '../errno.ts';
import type { Negotiated } from '../fuse/init.ts';
import { closeHandle, openDirectory, syncFileSystem } from '../fuse/libc.ts';
import type { Journal } from '../journal/journal.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { Health } from './health.ts';
import type { Tenancy } from './tenancy.ts';

/** The parts of a daemon that its control files tell of. */
export interface ControlSources {
  readonly config: Config;
  readonly health: Health;
  readonly journal: Journal;
  readonly workspace: Workspace;
  readonly tenancy: Tenancy;
  readonly negotiated: Negotiated;
  readonly startedMs: number;
}

/** `/.tarbox` of a running daemon. */
export function controlPort(sources: ControlSources): ControlPort {
  const { config, health, journal, workspace, tenancy, negotiated, startedMs } = sources;
  const files = controlFiles({
    version: () => ({
      tarbox: packageVersion,
      fuse: `${negotiated.major}.${negotiated.minor}`,
      node: process.version,
    }),
    health: () => ({
      ...health.report(),
      tenant: config.tenant,
      up_since: new Date(startedMs).toISOString(),
      dirty_bytes: journal.dirtyBytes,
    }),
    config: () => effectiveConfig(config),
    currentLayer: async () => {
      const { created_at, ...layer } = await tenancy.store.layer();
      const { usedInodes, usedBytes } = workspace;
      return { ...layer, created_at: created_at.toISOString(), inodes: usedInodes, bytes: usedBytes };
    },
    flush: {
      takeKernelPages: () => takeKernelPages(config.mount),
      commit: () => journal.sync(),
      dropMetadata: () => workspace.dropMetadata(),
      dropChunks: () => workspace.dropChunks(),
    },
  });
  return controlTree(files, {
    access: config.control.access,
    visible: config.control.visible,
    owner: () => workspace.cached(ROOT_INO) ?? config.owner,
    startedMs,
  });
}

/** @throws {FsError} EIO when the kernel can't write them back */
async function takeKernelPages(mount: string): Promise<void> {
  const handle = await openDirectory(mount);
  const code = await syncFileSystem(handle);
  closeHandle(handle);
  if (code !== 0) throw new FsError('EIO', `the kernel could not write back its dirty pages (errno ${code})`);
}

// The project's own manifest is a JSON object with a version.
const { version: packageVersion } = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
) as { version: string };
