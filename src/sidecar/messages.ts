import type { Config } from '../config/config.ts';
import type { Reload } from '../config/live.ts';
import type { Negotiated } from '../fuse/init.ts';
import type { NativeNotice } from '../native/mounts.ts';
import type { DatabaseOptions } from '../store/connection.ts';

/** What the supervisor tells a daemon when it starts it. */
export interface StartMessage {
  readonly type: 'start';
  /** The supervisor's own: a later daemon must not find another one. */
  readonly config: Config;
  /** Who takes the lease: the same for every daemon of one supervisor. */
  readonly owner: string;
  readonly database: DatabaseOptions;
  /** Where the database keeps its data, when it's ours; statfs tells of the disk that it's on. */
  readonly databaseDirectory: string | undefined;
  /** Set when this daemon goes on where another one ended. */
  readonly resume: Negotiated | undefined;
  /** What an earlier daemon was told of native mounts. */
  readonly native: NativeNotice | undefined;
}

/** Native mounts have to be known before they are made. `number` comes back when that is so. */
export interface NativeMessage {
  readonly type: 'native';
  readonly number: number;
  readonly notice: NativeNotice;
}

export type ToDaemon =
  | StartMessage
  | { readonly type: 'mounted' }
  | { readonly type: 'reload'; readonly reload: Reload }
  /** The configuration file is wrong: what was in force stays. */
  | { readonly type: 'refuse'; readonly reason: string }
  | NativeMessage
  | { readonly type: 'stop' };

/** What a daemon tells its supervisor. */
export type FromDaemon =
  /** The tenant is ours and loaded: the device may be mounted. */
  | { readonly type: 'prepared'; readonly tenantId: number }
  | { readonly type: 'native'; readonly number: number }
  /** The kernel and we have agreed; a later daemon has to know on what. */
  | { readonly type: 'negotiated'; readonly negotiated: Negotiated }
  /** Requests are being served. */
  | { readonly type: 'serving'; readonly replayed: number }
  /** It can't go on, and another try wouldn't help; one line for a person. */
  | { readonly type: 'fatal'; readonly message: string };

/** Handles that a daemon inherits. */
export const DEVICE_HANDLE = 3;
export const LOG_HANDLE = 4;
export const AUDIT_HANDLE = 5;
