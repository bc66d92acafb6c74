import { type Config, ConfigError, loadConfig } from './config.ts';
import type { Environment } from './env.ts';
import { watchConfigFile } from './file.ts';
import { ALL_SETTINGS } from './settings.ts';

/** What a changed file means for a running sidecar. */
export interface Reload {
  /** The running configuration, with the live settings of the new one. */
  readonly config: Config;
  /** Names of the settings that changed and are in force. */
  readonly changed: readonly string[];
  /** Names of the settings that changed and need a restart. */
  readonly needRestart: readonly string[];
}

/** Takes over what may change while the sidecar runs. */
export function reload(running: Config, loaded: Config): Reload {
  const { logLevel, commitIntervalMs, cache, native, layer, audit } = loaded;
  const differs = ALL_SETTINGS.filter((setting) => setting.show(running) !== setting.show(loaded));
  // Their text forms have no secrets, so a new password alone shows only here.
  const secretDiffers = running.database.url !== loaded.database.url ? ['DATABASE_URL'] : [];
  const fixed = differs.filter(({ live }) => live !== true).map(({ name }) => name);
  return {
    config: { ...running, logLevel, commitIntervalMs, cache, native, layer, audit },
    changed: differs.filter(({ live }) => live === true).map(({ name }) => name),
    needRestart: [...new Set([...fixed, ...secretDiffers])],
  };
}

/** Who is told of changes. */
export interface Follower {
  onReload(reload: Reload): void;
  /** The file is wrong: the running configuration stays in force. */
  onProblem(problem: ConfigError): void;
}

/** Re-reads the file when it changes. Without a file there is nothing to follow. */
export function followConfig(start: Config, env: Environment, follower: Follower): { close(): Promise<void> } {
  let running = start;
  /** The file said something that isn't in force. */
  let differs = false;
  if (start.configFile === undefined) return { close: () => Promise.resolve() };
  return watchConfigFile(start.configFile, () => {
    try {
      const result = reload(running, loadConfig(env));
      if (result.changed.length === 0 && result.needRestart.length === 0 && !differs) return;
      running = result.config;
      differs = result.needRestart.length > 0;
      follower.onReload(result);
    } catch (problem) {
      if (!(problem instanceof ConfigError)) throw problem;
      differs = true;
      follower.onProblem(problem);
    }
  });
}
