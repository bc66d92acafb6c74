import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from '../program.ts';
import type { StartContext, Target } from './target.ts';

const START_DEADLINE_MS = 10_000;
const STOP_DEADLINE_MS = 10_000;

export interface MirrorOptions {
  readonly name: string;
  readonly description: string;
  /** The command that serves `mount` from `source` in the foreground. */
  command(source: string, mount: string): readonly string[];
}

/** A FUSE filesystem that shows a directory of the local one. */
export async function startMirror(options: MirrorOptions, { directory, signal }: StartContext): Promise<Target> {
  const source = join(directory, 'source');
  const mount = join(directory, 'mnt');
  mkdirSync(source);
  mkdirSync(mount);
  const command = options.command(source, mount);
  let server = await startServer(command, mount);
  return {
    name: options.name,
    description: options.description,
    root: mount,
    processes: () => (server.pid === undefined ? [] : [{ role: options.name, pid: server.pid }]),
    // Linux doesn't pass syncfs on to a FUSE server, so what the server wrote is synced at its source.
    barrier: async (place) => {
      await run('sync', ['-f', place], { signal });
      await run('sync', ['-f', source], { signal });
      await run('sync', [place], { signal });
    },
    dropOwnCaches: async () => {},
    remount: async () => {
      await stopServer(server, mount);
      server = await startServer(command, mount);
    },
    stop: () => stopServer(server, mount),
  };
}

async function startServer(command: readonly string[], mount: string): Promise<ChildProcess> {
  const [program = '', ...args] = command;
  // A group of its own: Ctrl-C must not reach it before the bench has unmounted.
  const server = spawn(program, args, { cwd: '/', stdio: ['ignore', 'ignore', 'inherit'], detached: true });
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!isMounted(mount)) {
    if (hasEnded(server) || performance.now() > deadline) {
      server.kill('SIGKILL');
      throw new Error(`${command.join(' ')} did not mount`);
    }
    await delay(10);
  }
  return server;
}

async function stopServer(server: ChildProcess, mount: string): Promise<void> {
  const signal = AbortSignal.timeout(STOP_DEADLINE_MS);
  // The server ends when its mount is gone.
  if (isMounted(mount)) await run('umount', [mount], { signal }).catch(() => run('umount', ['-l', mount], { signal }));
  const deadline = performance.now() + STOP_DEADLINE_MS;
  while (!hasEnded(server)) {
    if (performance.now() > deadline) server.kill('SIGKILL');
    await delay(10);
  }
}

function hasEnded(server: ChildProcess): boolean {
  return server.exitCode !== null || server.signalCode !== null || server.pid === undefined;
}

function isMounted(directory: string): boolean {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.some((line) => line.split(' ')[4] === directory);
}
