import { systemClock } from '../clock.ts';
import { loadConfig } from '../config/config.ts';
import { unmount } from '../fuse/device.ts';
import { createLogger } from '../log.ts';
import { Engine } from './engine.ts';
import type { FromDaemon, StartMessage, ToDaemon } from './messages.ts';

/** The process that serves the workspace. Its supervisor starts it and tells it when to stop. */

const config = loadConfig(process.env);
const log = createLogger({ level: config.logLevel, stream: process.stderr, clock: systemClock() });
let engine: Engine | undefined;

function tell(message: FromDaemon): void {
  process.send?.(message);
}

async function start(message: StartMessage): Promise<void> {
  engine = new Engine(config, log, message, tell);
  await engine.prepare();
  if (message.resume === undefined) tell({ type: 'prepared' });
  else await engine.serve();
}

async function stop(): Promise<void> {
  try {
    await engine?.stop();
    process.exit(0);
  } catch (problem) {
    log.error('stop-failed', { problem });
    process.exit(1);
  }
}

function fatal(problem: unknown): void {
  log.error('daemon-failed', { problem });
  tell({ type: 'fatal', message: problem instanceof Error ? problem.message : String(problem) });
  setImmediate(() => process.exit(1));
}

process.on('message', (message: ToDaemon) => {
  if (message.type === 'start') start(message).catch(fatal);
  else if (message.type === 'mounted') engine?.serve().catch(fatal);
  else void stop();
});

// The supervisor is gone, and with it whoever could start another daemon: leave nothing behind.
process.on('disconnect', () => {
  log.error('supervisor-lost', { reason: 'unmounting and committing what is left' });
  void unmount(config.mount, { lazy: true })
    .catch((problem: unknown) => log.warn('unmount-failed', { problem }))
    .then(stop);
});

// Ctrl-C goes to the whole foreground group; the supervisor says when to stop.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
