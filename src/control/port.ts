import type { LayerId } from '../brand.ts';

/** Attributes of a control file or directory. */
export interface ControlAttributes {
  /** Type and permission bits. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Last change, in milliseconds since 1970. */
  readonly timeMs: number;
}

export interface ControlEntry {
  readonly name: string;
  readonly directory: boolean;
  /** Its node, where it has one before it's looked up. */
  readonly node?: number;
}

/** What a name in the control files stands for: one of them, or the root of a layer's tree. */
export type ControlTarget = { readonly node: number } | { readonly snapshot: LayerId };

/** An answer that may take a while. */
export type Soon<T> = T | Promise<T>;

/**
 * The control files as a kernel binding sees them: a tree of numbered nodes, 0 being `/.tarbox` itself, and
 * handles on its files. A node lasts from the lookup that found it until it's forgotten as often as it was found.
 * Failures are FsErrors.
 */
export interface ControlPort {
  /** Whether a listing of the root names `.tarbox`. */
  readonly visible: boolean;
  /** Names are byte strings. @throws {FsError} ENOTDIR */
  lookup(directory: number, name: string): Soon<ControlTarget | undefined>;
  forget(id: number, count: number): void;
  parent(id: number): number;
  /** The names from `/.tarbox` down to a node, as far as they're known. */
  names(id: number): string[];
  list(directory: number): Soon<readonly ControlEntry[]>;
  /** @throws {FsError} ESTALE for a node that is gone */
  attributes(id: number): ControlAttributes;
  /** Makes a file for a name that isn't there yet, in a directory that takes new ones. @throws {FsError} EPERM, EINVAL */
  create(directory: number, name: string): number;
  /** `request`: see `write`. @throws {FsError} EPERM, ENOENT */
  remove(directory: number, name: string, request: number): Promise<void>;
  /** @throws {FsError} EISDIR, EACCES when the file takes no commands */
  open(id: number, access: { readonly write: boolean }): number;
  /** Whether a file can only be read from its start to its end. */
  isStream(id: number): boolean;
  /** Whether a read may wait for ever: any signal ends it. */
  isEndless(id: number): boolean;
  /** A handle that an earlier daemon opened is taken for one that has just been opened. When `signal` aborts, nobody waits. */
  read(id: number, handle: number, offset: number, size: number, signal: AbortSignal): Promise<Buffer>;
  /** Whether a command may be ended before it's carried out, with who gave it: it changes nothing. */
  isInterruptible(id: number): boolean;
  /**
   * One write is one command; resolves to the bytes taken once it has taken effect. A handle as for `read`. A request
   * with the number of one that an earlier daemon didn't answer is the same request: it's carried out once.
   */
  write(id: number, handle: number, bytes: Buffer, request: number, signal: AbortSignal): Promise<number>;
  release(handle: number): void;
}
