import { join } from 'node:path';
import { secretsOfUrl } from './database-url.ts';
import { type Environment, readVariable, refuseUnknownVariables } from './env.ts';
import { type FileValues, readConfigFile } from './file.ts';
import type { Kind } from './kinds.ts';
import type { Config } from './model.ts';
import { ConfigError, quoted } from './problem.ts';
import { ALL_SETTINGS, SETTINGS, type Setting } from './settings.ts';

export type { Config } from './model.ts';
export { ConfigError } from './problem.ts';

/**
 * The configuration: the environment, then the file that TARBOX_CONFIG names, then the defaults.
 *
 * @throws {ConfigError} one line that names the variable, or the file and key, the value and what is allowed.
 */
export function loadConfig(env: Environment): Config {
  refuseUnknownVariables(env);
  const configFile = valueFrom(SETTINGS.configFile, env, new Map());
  const file = configFile === undefined ? new Map<string, unknown>() : readConfigFile(configFile);
  const read = <Value>(setting: Setting<Value>): Value => valueFrom(setting, env, file, configFile);
  // Every value in the file is checked, also where the environment wins.
  for (const setting of ALL_SETTINGS) valueInFile<unknown>(setting, file, configFile);
  const tenant = read(SETTINGS.tenant);
  return {
    tenant,
    createTenant: read(SETTINGS.createTenant),
    mount: read(SETTINGS.mount) ?? join('/workspace', tenant),
    protectMountPoint: read(SETTINGS.protectMountPoint),
    requirePropagation: read(SETTINGS.requirePropagation),
    data: read(SETTINGS.data),
    database: {
      url: read(SETTINGS.databaseUrl),
      connectTimeoutMs: read(SETTINGS.connectTimeoutMs),
      poolSize: read(SETTINGS.poolSize),
    },
    owner: read(SETTINGS.owner),
    rootMode: read(SETTINGS.rootMode),
    commitIntervalMs: read(SETTINGS.commitIntervalMs),
    durability: read(SETTINGS.durability),
    dirtyLimitBytes: read(SETTINGS.dirtyLimitBytes),
    leaseTtlMs: read(SETTINGS.leaseTtlMs),
    logLevel: read(SETTINGS.logLevel),
    trace: read(SETTINGS.trace),
    control: { visible: read(SETTINGS.controlVisible), access: read(SETTINGS.controlAccess) },
    layer: {
      autoCheckpoint: read(SETTINGS.autoCheckpoint),
      checkpointIntervalMs: read(SETTINGS.checkpointIntervalMs),
    },
    audit: {
      enabled: read(SETTINGS.auditEnabled),
      level: read(SETTINGS.auditLevel),
      rules: read(SETTINGS.auditRules),
      overflow: read(SETTINGS.auditOverflow),
      retentionDays: read(SETTINGS.auditRetentionDays),
      batchSize: read(SETTINGS.auditBatchSize),
    },
    quota: { bytes: read(SETTINGS.quotaBytes), inodes: read(SETTINGS.quotaInodes) },
    cache: { metadataBytes: read(SETTINGS.metadataCacheBytes), chunkBytes: read(SETTINGS.chunkCacheBytes) },
    maxFileBytes: read(SETTINGS.maxFileBytes),
    native: { rules: read(SETTINGS.nativeRules), allow: read(SETTINGS.nativeAllow) },
    configFile,
  };
}

function valueFrom<Value>(setting: Setting<Value>, env: Environment, file: FileValues, configFile?: string): Value {
  const text = setting.env === undefined ? undefined : readVariable(env, setting.env);
  if (text === undefined) return valueInFile<Exclude<Value, undefined>>(setting, file, configFile) ?? setting.fallback;
  const value = setting.kind.parse(text);
  if (value === undefined) throw refused(setting.name, text, setting);
  return value;
}

/** What of a setting its reading needs. */
interface Readable<T> {
  readonly kind: Kind<T>;
  readonly toml?: string;
  readonly secret?: true;
}

/** Undefined where the file doesn't have it. @throws {ConfigError} */
function valueInFile<T>(setting: Readable<T>, file: FileValues, configFile: string | undefined): T | undefined {
  const raw = setting.toml === undefined ? undefined : file.get(setting.toml);
  if (setting.toml === undefined || raw === undefined) return undefined;
  const text = typeof raw === 'object' ? JSON.stringify(raw) : String(raw);
  const type = Array.isArray(raw) ? 'list' : typeof raw;
  const value = setting.kind.toml.some((allowed) => allowed === type) ? setting.kind.parse(text) : undefined;
  if (value !== undefined) return value;
  const [section, key] = setting.toml.split('.');
  throw refused(`${configFile}: ${key === undefined ? section : `[${section}] ${key}`}`, text, setting);
}

function refused(place: string, text: string, { kind, secret }: Readable<unknown>): ConfigError {
  const value = secret === true ? 'is not valid (its value is secret)' : `is ${quoted(text)}`;
  return new ConfigError(`${place} ${value}; allowed is ${kind.allowed}`);
}

/** Every setting by name, as it would be written, in readable units; null where it is not set. Has no secrets. */
export function effectiveConfig(config: Config): { readonly [name: string]: string | null } {
  return Object.fromEntries(ALL_SETTINGS.map((setting) => [setting.name, setting.show(config)]));
}

/** The texts in the configuration that must never be printed; for the logger. */
export function secretsOf(config: Config): string[] {
  return config.database.url === undefined ? [] : secretsOfUrl(config.database.url);
}
