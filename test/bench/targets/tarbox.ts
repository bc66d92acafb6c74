import { mkdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { missingForMounts, startTarbox } from '../../support/tarbox.ts';
import { run } from '../program.ts';
import type { ServingProcess, TargetKind } from './target.ts';

export interface TarboxVariant {
  readonly name: string;
  /** What differs from the defaults, in words. */
  readonly description: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Tarbox over its embedded server, with a data directory of its own. */
export function tarbox(variant: TarboxVariant): TargetKind {
  return {
    name: variant.name,
    subject: true,
    missing: missingForMounts,
    async start({ directory, signal }) {
      const dataDir = join(directory, 'data');
      const mount = join(directory, 'mnt');
      mkdirSync(mount);
      const running = await startTarbox({ dataDir, mount, env: variant.env });
      return {
        name: variant.name,
        description: `embedded server, ${variant.description}`,
        root: mount,
        processes: () => processesOf(running.pids),
        // The kernel hands over its dirty pages, then fsync of a directory is the barrier for everything.
        barrier: async (place) => {
          await run('sync', ['-f', place], { signal });
          await run('sync', [place], { signal });
        },
        dropOwnCaches: () => writeFile(join(mount, '.tarbox/control/flush'), 'all\n'),
        remount: () => running.restart(),
        stop: () => running.remove(),
      };
    },
  };
}

function processesOf(pids: { supervisor: number; daemon: number; postgres: number | undefined }): ServingProcess[] {
  const { supervisor, daemon, postgres } = pids;
  const found = [
    { role: 'supervisor', pid: supervisor },
    { role: 'daemon', pid: daemon },
  ];
  if (postgres === undefined) return found;
  return [...found, { role: 'postgres', pid: postgres }, ...childrenOf(postgres)];
}

/** The server's backends and helpers, all in one role. */
function childrenOf(postgres: number): ServingProcess[] {
  try {
    const children = readFileSync(`/proc/${postgres}/task/${postgres}/children`, 'utf8');
    return children
      .split(' ')
      .filter((pid) => pid !== '')
      .map((pid) => ({ role: 'postgres', pid: Number(pid) }));
  } catch {
    return []; // it is being restarted
  }
}
