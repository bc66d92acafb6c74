import environment from 'env-var';
import { ConfigError, nearest, quoted } from './problem.ts';
import { ALL_SETTINGS } from './settings.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Kubernetes and Docker's links set these for a service whose name begins with "tarbox". */
const OF_A_SERVICE =
  /^TARBOX_(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;

/**
 * Reads a variable. An empty one counts as not set: that is what compose makes of one that its own environment lacks.
 */
export function readVariable(env: Environment, name: string): string | undefined {
  const text = environment.from(env).get(name).asString();
  return text === '' ? undefined : text;
}

/** @throws {ConfigError} when a variable has our prefix and is none of ours: a typing error would go unnoticed. */
export function refuseUnknownVariables(env: Environment): void {
  const known = ALL_SETTINGS.flatMap(({ env: name }) => name ?? []);
  for (const name of Object.keys(env)) {
    if (!name.startsWith('TARBOX_') || known.includes(name) || OF_A_SERVICE.test(name)) continue;
    throw new ConfigError(`${quoted(name)} is not a setting; did you mean ${nearest(name, known)}?`);
  }
}
