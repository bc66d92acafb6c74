import { OVERFLOWS, type Overflow } from '../audit/levels.ts';
import { LEVELS, type Level } from '../audit/operations.ts';
import { LOG_LEVELS, type LogLevel } from '../log.ts';
import type { NativeRule } from '../native/rule.ts';
import { databaseUrl } from './database-url.ts';
import {
  auditRules,
  duration,
  type Kind,
  mode,
  oneOf,
  owner,
  path,
  paths,
  size,
  tenantName,
  wholeNumber,
  yesOrNo,
} from './kinds.ts';
import {
  CONTROL_ACCESSES,
  type Config,
  type ControlAccess,
  DURABILITIES,
  type Durability,
  TRACES,
  type Trace,
} from './model.ts';
import { nativeRules } from './native-rules.ts';

const KIB = 1024;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const SECOND_MS = 1000;
const HOUR_MS = 3600 * SECOND_MS;
/** Offsets are doubles here, and the page that holds the last byte must have an end. */
const MAX_FILE_BYTES = Number.MAX_SAFE_INTEGER - 4096;

/** `Value` includes undefined where a setting may stay unset. */
interface Row<Value> {
  /** Undefined: only in the file. */
  readonly env?: string;
  /** `section.key` of the file, or a list of tables. Undefined: only in the environment. */
  readonly toml?: `${string}.${string}` | 'native_mounts';
  readonly kind: Kind<Exclude<Value, undefined>>;
  readonly fallback: Value;
  readonly description: string;
  /** Its value is never printed. */
  readonly secret?: true;
  /** Takes effect when the file changes, without a restart. */
  readonly live?: true;
  /** Its value in a whole configuration. */
  of(config: Config): Value;
}

/** One setting: where it is set, what is allowed, and where its value goes. */
export interface Setting<Value> extends Row<Value> {
  /** Its name to a person: that of the variable, where there is one. */
  readonly name: string;
  /** Its value as it would be set, without secrets; null where it is not set. */
  show(config: Config): string | null;
}

function setting<Value>(row: Row<Value>): Setting<Value> {
  const name = row.env ?? row.toml;
  if (name === undefined) throw new Error('a setting that nothing can set');
  const show = (config: Config): string | null => {
    const value = row.of(config);
    return isSet(value) ? row.kind.format(value) : null;
  };
  return { ...row, name, show };
}

function isSet<Value>(value: Value): value is Exclude<Value, undefined> {
  return value !== undefined;
}

/** Every setting there is. The names that are allowed, the checks and `/.tarbox/config` follow from this table. */
export const SETTINGS = {
  configFile: setting<string | undefined>({
    env: 'TARBOX_CONFIG',
    kind: path,
    fallback: undefined,
    description: 'TOML file with the same settings; the environment wins',
    of: (config) => config.configFile,
  }),
  databaseUrl: setting<string | undefined>({
    env: 'DATABASE_URL',
    toml: 'database.url',
    kind: databaseUrl,
    fallback: undefined,
    description: 'the PostgreSQL that stores everything; without it the sidecar runs its own',
    secret: true,
    of: (config) => config.database.url,
  }),
  connectTimeoutMs: setting({
    env: 'TARBOX_DB_CONNECT_TIMEOUT',
    toml: 'database.connection_timeout',
    kind: duration({ min: SECOND_MS, max: HOUR_MS }),
    fallback: 10 * SECOND_MS,
    description: 'how long one attempt to connect to PostgreSQL may take',
    of: (config) => config.database.connectTimeoutMs,
  }),
  poolSize: setting({
    env: 'TARBOX_DB_POOL_SIZE',
    toml: 'database.pool_size',
    kind: wholeNumber({ min: 4, max: 64 }),
    fallback: 6,
    description: 'connections to PostgreSQL',
    of: (config) => config.database.poolSize,
  }),
  data: setting({
    env: 'TARBOX_DATA',
    toml: 'database.data_directory',
    kind: path,
    fallback: '/var/lib/tarbox',
    description: 'directory of the PostgreSQL that the sidecar runs itself',
    of: (config) => config.data,
  }),
  mount: setting<string | undefined>({
    env: 'TARBOX_MOUNT',
    toml: 'workspace.mount',
    kind: path,
    fallback: undefined,
    description: 'where the workspace is mounted; /workspace/<tenant> when not set',
    of: (config) => config.mount,
  }),
  protectMountPoint: setting({
    env: 'TARBOX_PROTECT_MOUNT_POINT',
    toml: 'workspace.protect_mount_point',
    kind: yesOrNo,
    fallback: true,
    description:
      'whether the directory underneath is made immutable, so that nobody writes there when nothing is mounted',
    of: (config) => config.protectMountPoint,
  }),
  requirePropagation: setting({
    env: 'TARBOX_REQUIRE_PROPAGATION',
    toml: 'workspace.require_propagation',
    kind: yesOrNo,
    fallback: false,
    description: 'whether the start fails where other containers could not see the mount (the image sets true)',
    of: (config) => config.requirePropagation,
  }),
  tenant: setting({
    env: 'TARBOX_TENANT',
    toml: 'workspace.tenant',
    kind: tenantName,
    fallback: 'default',
    description: 'whose workspace it is',
    of: (config) => config.tenant,
  }),
  createTenant: setting({
    env: 'TARBOX_TENANT_CREATE',
    toml: 'workspace.tenant_create',
    kind: yesOrNo,
    fallback: true,
    description: 'whether a tenant that does not exist is made',
    of: (config) => config.createTenant,
  }),
  owner: setting({
    env: 'TARBOX_OWNER',
    toml: 'workspace.owner',
    kind: owner,
    fallback: { uid: 0, gid: 0 },
    description: "uid:gid of a new workspace's root",
    of: (config) => config.owner,
  }),
  rootMode: setting({
    env: 'TARBOX_ROOT_MODE',
    toml: 'workspace.root_mode',
    kind: mode,
    fallback: 0o755,
    description: "permissions of a new workspace's root",
    of: (config) => config.rootMode,
  }),
  quotaBytes: setting({
    env: 'TARBOX_QUOTA_BYTES',
    toml: 'workspace.quota_bytes',
    kind: size({ min: 0, max: MAX_FILE_BYTES }),
    fallback: 0,
    description: 'most bytes in the workspace; 0 is no limit',
    of: (config) => config.quota.bytes,
  }),
  quotaInodes: setting({
    env: 'TARBOX_QUOTA_INODES',
    toml: 'workspace.quota_inodes',
    kind: wholeNumber({ min: 0, max: 2 ** 44 - 1 }),
    fallback: 0,
    description: 'most files and directories in the workspace; 0 is no limit',
    of: (config) => config.quota.inodes,
  }),
  commitIntervalMs: setting({
    env: 'TARBOX_COMMIT_INTERVAL',
    toml: 'filesystem.commit_interval',
    kind: duration({ min: 10, max: HOUR_MS }),
    fallback: SECOND_MS,
    description: 'within which every change is committed without being asked to',
    live: true,
    of: (config) => config.commitIntervalMs,
  }),
  durability: setting<Durability>({
    env: 'TARBOX_DURABILITY',
    toml: 'filesystem.durability',
    kind: oneOf(DURABILITIES),
    fallback: 'relaxed',
    description: 'what waits for the commit: fsync alone (relaxed), also close, or every change (strict)',
    of: (config) => config.durability,
  }),
  dirtyLimitBytes: setting({
    env: 'TARBOX_DIRTY_LIMIT',
    toml: 'filesystem.dirty_limit',
    kind: size({ min: 4 * MIB, max: GIB }),
    fallback: 32 * MIB,
    description: 'how much may wait for its commit before writers wait too',
    of: (config) => config.dirtyLimitBytes,
  }),
  maxFileBytes: setting({
    env: 'TARBOX_MAX_FILE_SIZE',
    toml: 'filesystem.max_file_size',
    kind: size({ min: MIB, max: MAX_FILE_BYTES }),
    fallback: TIB,
    description: 'largest size of a file',
    of: (config) => config.maxFileBytes,
  }),
  blockBytes: setting({
    toml: 'filesystem.block_size',
    kind: size({ min: 128 * KIB, max: 128 * KIB }),
    fallback: 128 * KIB,
    description: 'the pieces in which content is stored',
    of: () => 128 * KIB,
  }),
  leaseTtlMs: setting({
    env: 'TARBOX_LEASE_TTL',
    toml: 'workspace.lease_ttl',
    kind: duration({ min: 2 * SECOND_MS, max: HOUR_MS }),
    fallback: 10 * SECOND_MS,
    description: 'after which another sidecar may take the workspace of one that is gone',
    of: (config) => config.leaseTtlMs,
  }),
  metadataCacheBytes: setting({
    env: 'TARBOX_METADATA_CACHE',
    toml: 'cache.metadata_size',
    kind: size({ min: MIB, max: TIB }),
    fallback: 64 * MIB,
    description: 'memory for names and attributes',
    live: true,
    of: (config) => config.cache.metadataBytes,
  }),
  chunkCacheBytes: setting({
    env: 'TARBOX_CHUNK_CACHE',
    toml: 'cache.block_size',
    kind: size({ min: MIB, max: TIB }),
    fallback: 32 * MIB,
    description: 'memory for the content of files',
    live: true,
    of: (config) => config.cache.chunkBytes,
  }),
  cachePolicy: setting({
    toml: 'cache.policy',
    kind: oneOf(['lru']),
    fallback: 'lru',
    description: 'what leaves a full cache: what was not used for longest',
    of: () => 'lru' as const,
  }),
  controlVisible: setting({
    env: 'TARBOX_CONTROL_VISIBLE',
    toml: 'control.visible',
    kind: yesOrNo,
    fallback: false,
    description: 'whether the listing of the root has .tarbox in it',
    of: (config) => config.control.visible,
  }),
  controlAccess: setting<ControlAccess>({
    env: 'TARBOX_CONTROL_ACCESS',
    toml: 'control.access',
    kind: oneOf(CONTROL_ACCESSES),
    fallback: 'owner',
    description: "who may use .tarbox besides root: the workspace's owner, its group too, or all",
    of: (config) => config.control.access,
  }),
  autoCheckpoint: setting({
    env: 'TARBOX_LAYER_AUTO_CHECKPOINT',
    toml: 'layer.auto_checkpoint',
    kind: yesOrNo,
    fallback: false,
    description: 'whether checkpoints are taken by themselves',
    live: true,
    of: (config) => config.layer.autoCheckpoint,
  }),
  checkpointIntervalMs: setting({
    env: 'TARBOX_LAYER_CHECKPOINT_INTERVAL',
    toml: 'layer.checkpoint_interval',
    kind: duration({ min: SECOND_MS, max: 24 * HOUR_MS }),
    fallback: HOUR_MS,
    description: 'how often that is, where something has changed',
    live: true,
    of: (config) => config.layer.checkpointIntervalMs,
  }),
  nativeRules: setting<readonly NativeRule[]>({
    env: 'TARBOX_NATIVE_MOUNTS',
    toml: 'native_mounts',
    kind: nativeRules,
    fallback: [],
    description: 'directories of the host in the workspace: a JSON array here, `[[native_mounts]]` in the file',
    live: true,
    of: (config) => config.native.rules,
  }),
  nativeAllow: setting<readonly string[]>({
    env: 'TARBOX_NATIVE_ALLOW',
    toml: 'native.allow',
    kind: paths,
    fallback: ['/var/tarbox'],
    description: 'directories that native mounts may come from, with colons between them',
    live: true,
    of: (config) => config.native.allow,
  }),
  auditEnabled: setting({
    env: 'TARBOX_AUDIT_ENABLED',
    toml: 'audit.enabled',
    kind: yesOrNo,
    fallback: true,
    description: 'whether operations are recorded at all',
    live: true,
    of: (config) => config.audit.enabled,
  }),
  auditLevel: setting<Level>({
    env: 'TARBOX_AUDIT_LEVEL',
    toml: 'audit.level',
    kind: oneOf(LEVELS),
    fallback: 'standard',
    description: 'which operations are recorded',
    live: true,
    of: (config) => config.audit.level,
  }),
  auditRules: setting({
    env: 'TARBOX_AUDIT_RULES',
    toml: 'audit.rules',
    kind: auditRules,
    fallback: '',
    description: 'other levels for some paths, the last pattern that matches: /secrets/**=full,/build/**=off',
    live: true,
    of: (config) => config.audit.rules,
  }),
  auditOverflow: setting<Overflow>({
    env: 'TARBOX_AUDIT_OVERFLOW',
    toml: 'audit.overflow',
    kind: oneOf(OVERFLOWS),
    fallback: 'block',
    description:
      'what happens when the queue of events is full: operations wait (block), or events are left out (drop)',
    live: true,
    of: (config) => config.audit.overflow,
  }),
  auditRetentionDays: setting({
    env: 'TARBOX_AUDIT_RETENTION_DAYS',
    toml: 'audit.retention_days',
    kind: wholeNumber({ min: 1, max: 36_500 }),
    fallback: 90,
    description: 'how many days events are kept besides today',
    live: true,
    of: (config) => config.audit.retentionDays,
  }),
  auditBatchSize: setting({
    env: 'TARBOX_AUDIT_BATCH_SIZE',
    toml: 'audit.batch_size',
    kind: wholeNumber({ min: 1, max: 100_000 }),
    fallback: 5000,
    description: 'events that are stored at once without waiting for more',
    live: true,
    of: (config) => config.audit.batchSize,
  }),
  logLevel: setting<LogLevel>({
    env: 'TARBOX_LOG_LEVEL',
    toml: 'log.level',
    kind: oneOf(LOG_LEVELS),
    fallback: 'info',
    description: 'least level of what is logged',
    live: true,
    of: (config) => config.logLevel,
  }),
  trace: setting<Trace>({
    env: 'TARBOX_TRACE',
    toml: 'log.trace',
    kind: oneOf(TRACES),
    fallback: '',
    description: "'fuse' writes every request of the kernel and its reply to standard error",
    of: (config) => config.trace,
  }),
} as const;

/** The same, in order. */
export const ALL_SETTINGS = Object.values(SETTINGS);
