/** A filesystem under measurement, running. */
export interface Target {
  readonly name: string;
  /** How it's run: options that matter, and what its caches are. */
  readonly description: string;
  /** The directory that workloads work in. */
  readonly root: string;
  /** The processes that serve it now, by role; none where the kernel does. */
  processes(): readonly ServingProcess[];
  /** Resolves when everything that was written below `directory` before is on the disk. */
  barrier(directory: string): Promise<void>;
  /** Has the target drop what it caches itself; what the kernel caches is dropped by whoever calls. */
  dropOwnCaches(): Promise<void>;
  /** Stops it and starts it again on what it holds. */
  remount(): Promise<void>;
  /** Stops it and leaves nothing behind. Safe to call when it has stopped. */
  stop(): Promise<void>;
}

export interface ServingProcess {
  readonly role: string;
  readonly pid: number;
}

/** What a target needs to start. */
export interface StartContext {
  /** An empty directory of its own, on the filesystem that all targets store in. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** A target that can be started. */
export interface TargetKind {
  readonly name: string;
  /** Tarbox itself, in one configuration: its columns are compared with the others. */
  readonly subject: boolean;
  /** What this machine lacks for it; undefined when nothing. */
  missing(): string | undefined;
  start(context: StartContext): Promise<Target>;
}
