/** A running Tarbox as the model test's target, and what can happen to it. */
import { spawn } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startTarbox, type Tarbox } from '../support/tarbox.ts';
import type { Interruption } from './run.ts';

const TAKE_OVER_DEADLINE_MS = 60_000;

/** Room for little and commits all the time, so that much is dropped from memory and loaded again. */
const TIGHT = { TARBOX_METADATA_CACHE: '1MiB', TARBOX_CHUNK_CACHE: '1MiB', TARBOX_COMMIT_INTERVAL: '20ms' };

/** Starts one for a model test; `remove` ends it. */
export function startTarget(): Promise<Tarbox> {
  return startTarbox({ env: TIGHT });
}

/** Everything that may happen to a workspace without anyone noticing, or after which everything synced is there. */
export function interruptionsOf(tarbox: Tarbox): readonly Interruption[] {
  /** Resolves when the daemon that was killed last has a successor. */
  let takenOver: Promise<unknown> = Promise.resolve();
  const followTakeOver = () => {
    takenOver = tarbox.waitForLog('daemon-restarted', TAKE_OVER_DEADLINE_MS, tarbox.log.length);
    takenOver.catch(() => {}); // whoever waits for it gets the error
  };
  const quiet = (name: string, keepsHandles: boolean, happen: () => Promise<unknown>): Interruption => ({
    name,
    keepsHandles,
    run: async () => {
      await takenOver;
      await happen();
    },
  });
  return [
    quiet('a drop of the caches', true, () => writeFile(join(tarbox.mount, '.tarbox/control/flush'), 'all')),
    quiet('kill -9 of the daemon', true, () => {
      followTakeOver();
      process.kill(tarbox.pids.daemon, 'SIGKILL');
      return takenOver;
    }),
    quiet('a restart', false, () => tarbox.restart()),
    quiet('kill -9 of the daemon amid operations', true, async () => {
      followTakeOver();
      killSoon(tarbox.pids.daemon);
    }),
    quiet('a drop of the kernel’s names and inodes', true, () => writeFile('/proc/sys/vm/drop_caches', '2')),
    quiet('kill -9 of everything after fsync', false, async () => {
      await sync(tarbox.mount);
      await tarbox.killEverything();
      await tarbox.start();
    }),
  ];
}

/** From another process: this one is about to wait in system calls. */
function killSoon(pid: number): void {
  spawn('sh', ['-c', `sleep 0.0$(shuf -i 1-9 -n 1); kill -9 ${pid}`], { stdio: 'ignore' });
}

async function sync(directory: string): Promise<void> {
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
