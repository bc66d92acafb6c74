import { systemClock } from '../clock.ts';
import { secretsOf } from '../config/config.ts';
import { followConfig } from '../config/live.ts';
import { redact } from '../config/redact.ts';
import { createLogger, type Logger } from '../log.ts';
import { StoreError } from '../vfs/store.ts';
import { Engine } from './engine.ts';
import type { FromDaemon, StartMessage, ToDaemon } from './messages.ts';

/** The process that serves the workspace. Its supervisor starts it and tells it when to stop. */

let engine: Engine | undefined;
let log: Logger = createLogger({ level: 'info', stream: process.stderr, clock: systemClock() });

function tell(message: FromDaemon): void {
  process.send?.(message);
}

async function start(message: StartMessage): Promise<void> {
  let config = message.config;
  const level = () => config.logLevel;
  log = createLogger({ level, stream: process.stderr, clock: systemClock(), secrets: secretsOf(config) });
  const started = new Engine(config, log, message, tell);
  engine = started;
  await started.prepare();
  followConfig(config, process.env, {
    onReload: (reload) => {
      config = reload.config;
      started.reconfigure(reload);
    },
    onProblem: (problem) => started.refuseConfig(problem),
  });
  if (message.resume === undefined) tell({ type: 'prepared' });
  else await started.serve();
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
  // What a person has to solve is said once, by the supervisor.
  if (problem instanceof StoreError) log.debug('daemon-failed', { problem });
  else log.error('daemon-failed', { problem });
  tell({ type: 'fatal', message: redact(problem instanceof Error ? problem.message : String(problem)) });
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
  void (engine?.leave() ?? Promise.resolve())
    .catch((problem: unknown) => log.warn('unmount-failed', { problem }))
    .then(stop);
});

// Ctrl-C goes to the whole foreground group; the supervisor says when to stop.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
