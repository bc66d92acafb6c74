import { systemClock } from '../clock.ts';
import { type Config, ConfigError, loadConfig, secretsOf } from '../config/config.ts';
import { createLogger, type Logger } from '../log.ts';
import { Supervisor } from './supervisor.ts';

/** The sidecar's whole life: from the environment to an exit code. Signals end it cleanly. */
export async function main(): Promise<void> {
  let config: Config;
  try {
    config = loadConfig(process.env);
  } catch (problem) {
    if (!(problem instanceof ConfigError)) throw problem;
    process.stderr.write(`tarbox: ${problem.message}\n`);
    process.exitCode = 2;
    return;
  }
  let supervisor: Supervisor | undefined;
  const log = createLogger({
    level: () => supervisor?.logLevel ?? config.logLevel,
    stream: process.stderr,
    clock: systemClock(),
    secrets: secretsOf(config),
  });
  supervisor = new Supervisor(config, process.env, log);
  const wasStopped = stopOnSignals(supervisor, log);
  try {
    const started = await supervisor.start();
    log.info('ready', { ...started, tenant: config.tenant });
    if (process.stdout.isTTY) process.stdout.write(welcome(config));
  } catch (problem) {
    if (wasStopped()) {
      process.exitCode = await supervisor.done;
      return;
    }
    log.error('start-failed', { reason: problem instanceof Error ? problem.message : String(problem) });
    log.debug('start-failed', { problem });
    process.exitCode = 1;
    return;
  }
  process.exitCode = await supervisor.done;
}

/** The function that it returns says whether a signal has come. */
function stopOnSignals(supervisor: Supervisor, log: Logger): () => boolean {
  let asked = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      log.info(asked ? 'still-stopping' : 'stopping', { signal });
      asked = true;
      supervisor.stop().catch((problem: unknown) => log.error('stop-failed', { problem }));
    });
  return () => asked;
}

function welcome({ mount, tenant }: Config): string {
  return `
  The workspace of tenant '${tenant}' is at ${mount}. Try, in another terminal:

    echo hello > ${mount}/hello.txt
    cat ${mount}/.tarbox/README

  Ctrl-C commits everything, unmounts and stops.

`;
}
