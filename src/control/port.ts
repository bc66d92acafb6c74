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
  readonly id: number;
  readonly name: string;
  readonly directory: boolean;
}

/**
 * The control files as a kernel binding sees them: a tree of numbered nodes, 0 being `/.tarbox` itself, and
 * handles on its files. Failures are FsErrors.
 */
export interface ControlPort {
  /** Whether a listing of the root names `.tarbox`. */
  readonly visible: boolean;
  /** The node of a name in a directory; undefined when there's none. @throws {FsError} ENOTDIR */
  lookup(directory: number, name: string): number | undefined;
  parent(id: number): number;
  list(directory: number): readonly ControlEntry[];
  attributes(id: number): ControlAttributes;
  /** @throws {FsError} EISDIR, EACCES when the file can't be read or written */
  open(id: number, access: { readonly read: boolean; readonly write: boolean }): number;
  read(handle: number, offset: number, size: number): Promise<Buffer>;
  /** One write is one command; resolves to the bytes taken once it has taken effect. */
  write(handle: number, bytes: Buffer): Promise<number>;
  release(handle: number): void;
}
