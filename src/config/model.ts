import type { Overflow } from '../audit/levels.ts';
import type { Level } from '../audit/operations.ts';
import type { LogLevel } from '../log.ts';
import type { NativeRule } from '../native/rule.ts';

/** What a program's success promises about storage. */
export const DURABILITIES = [
  /** Committed within the commit interval. */
  'relaxed',
  /** Closing a file waits for the commit. */
  'close',
  /** Every change waits for the commit. */
  'strict',
] as const;

export type Durability = (typeof DURABILITIES)[number];

/** Who may use `/.tarbox`, besides root. */
export const CONTROL_ACCESSES = ['owner', 'group', 'all'] as const;

export type ControlAccess = (typeof CONTROL_ACCESSES)[number];

/** What is written to standard error besides the log: nothing, or every request and reply of the kernel. */
export const TRACES = ['', 'fuse'] as const;

export type Trace = (typeof TRACES)[number];

/** Everything that can be set, checked and with its defaults filled in. settings.ts says what each one means. */
export interface Config {
  readonly tenant: string;
  readonly createTenant: boolean;
  /** Absolute path. */
  readonly mount: string;
  /** Nothing can be made in the mount's directory while nothing is mounted there. */
  readonly protectMountPoint: boolean;
  /** The start fails where what is mounted can't be seen by other containers. */
  readonly requirePropagation: boolean;
  /** Absolute path. */
  readonly data: string;
  readonly database: {
    /** Secret. Undefined: the sidecar runs its own PostgreSQL. */
    readonly url: string | undefined;
    readonly connectTimeoutMs: number;
    readonly poolSize: number;
  };
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Permission bits of a new workspace's root. */
  readonly rootMode: number;
  readonly commitIntervalMs: number;
  readonly durability: Durability;
  readonly dirtyLimitBytes: number;
  readonly leaseTtlMs: number;
  readonly logLevel: LogLevel;
  readonly trace: Trace;
  readonly control: { readonly visible: boolean; readonly access: ControlAccess };
  readonly layer: { readonly autoCheckpoint: boolean; readonly checkpointIntervalMs: number };
  readonly audit: {
    readonly enabled: boolean;
    readonly level: Level;
    /** `pattern=level` pairs between commas. */
    readonly rules: string;
    readonly overflow: Overflow;
    readonly retentionDays: number;
    readonly batchSize: number;
  };
  /** 0: no limit. */
  readonly quota: { readonly bytes: number; readonly inodes: number };
  readonly cache: { readonly metadataBytes: number; readonly chunkBytes: number };
  readonly maxFileBytes: number;
  /** Native mounts, and the directories of the host that they may come from. */
  readonly native: { readonly rules: readonly NativeRule[]; readonly allow: readonly string[] };
  /** Absolute path of the TOML file, where there is one. */
  readonly configFile: string | undefined;
}
