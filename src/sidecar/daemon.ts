import { systemClock } from '../clock.ts';
import { type Config, secretsOf } from '../config/config.ts';
import { redact } from '../config/redact.ts';
import { createLogger, type Logger } from '../log.ts';
import { StoreError } from '../vfs/store.ts';
import { Engine } from './engine.ts';
import type { FromDaemon, StartMessage, ToDaemon } from './messages.ts';

/** The process that serves the workspace. Its supervisor starts it and tells it when to stop. */

let engine: Engine | undefined;
/** The same, once it has taken its tenant. */
let prepared: Engine | undefined;
let config: Config | undefined;
let log: Logger = createLogger({ level: 'info', stream: process.stderr, clock: systemClock() });

function tell(message: FromDaemon): void {
  process.send?.(message);
}

async function start(message: StartMessage): Promise<void> {
  config = message.config;
  const level = () => (config ?? message.config).logLevel;
  log = createLogger({ level, stream: process.stderr, clock: systemClock(), secrets: secretsOf(config) });
  const started = new Engine(config, log, message, tell);
  engine = started;
  const tenantId = await started.prepare();
  prepared = started;
  if (message.resume === undefined) tell({ type: 'prepared', tenantId });
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

/** What comes before a daemon serves comes again then. */
function take(message: ToDaemon): void {
  switch (message.type) {
    case 'start':
      start(message).catch(fatal);
      break;
    case 'mounted':
      engine?.serve().catch(fatal);
      break;
    case 'reload':
      config = message.reload.config;
      prepared?.reconfigure(message.reload);
      break;
    case 'refuse':
      prepared?.refuseConfig(message.reason);
      break;
    case 'native':
      prepared
        ?.setNative(message.notice)
        .then(() => tell({ type: 'native', number: message.number }))
        .catch(fatal);
      break;
    case 'stop':
      void stop();
      break;
  }
}

process.on('message', take);

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
