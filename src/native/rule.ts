/** One rule, as it is configured. */
export interface NativeRule {
  /** In the workspace, from its root. */
  readonly path: string;
  /** On the host; `{tenant}` and `{tenant_id}` stand for the tenant's name and number. */
  readonly source: string;
  /** Undefined: `ro` for system directories, otherwise `rw`. */
  readonly mode: 'ro' | 'rw' | undefined;
  /** False: the source is the tenant's own, and is made when it's missing. */
  readonly shared: boolean;
  /** The highest wins where rules have the same path. */
  readonly priority: number;
}

/** How a rule fares. */
export const NATIVE_STATES = [
  'mounted',
  /** The directory that its path is in isn't there yet. */
  'waiting',
  /** `error` says why. */
  'failed',
  /** Another rule has the same path. */
  'overridden',
  /** Its rule is gone or has changed; it goes when nobody uses it any more. */
  'leaving',
] as const;

export type NativeState = (typeof NATIVE_STATES)[number];

/** What `mounts/list` shows of a rule. */
export interface NativeStatus {
  readonly path: string;
  readonly source: string;
  readonly mode: 'ro' | 'rw';
  readonly shared: boolean;
  readonly priority: number;
  readonly state: NativeState;
  readonly error?: string;
}
