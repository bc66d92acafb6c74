import type { Ino, LayerId } from '../brand.ts';

/**
 * The port that storage implements: what the file system loads on a miss, and what the journal commits.
 * Every value is plain data. Names, symlink targets and hashes are *byte strings*: JavaScript strings
 * whose char codes are bytes (latin1), because names need not be UTF-8 and such strings are compact and hash fast.
 */

/** A string in which each char code (0 to 255) is one byte. */
export type ByteString = string;

/** One row of `inodes`. Times are whole seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999). */
export interface InodeImage {
  readonly ino: Ino;
  /** S_IFMT type and permission bits, as in stat(2). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  /** Bytes of content held, holes left out; what `st_blocks` tells. */
  readonly allocated: number;
  readonly atimeSec: number;
  readonly atimeNsec: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly ctimeSec: number;
  readonly ctimeNsec: number;
  readonly btimeSec: number;
  readonly btimeNsec: number;
  /** Device number as the kernel encodes it in 32 bits (`new_encode_dev`); 0 unless a device node. */
  readonly rdev: number;
  /** A directory's parent (the root's is itself); for other types the directory it was last linked in, as a hint. */
  readonly parent: Ino;
  /** Symlink target; empty for other types. */
  readonly target: ByteString;
  /** Extended attributes, packed by `packXattrs`; null when there are none. */
  readonly xattrs: Uint8Array | null;
}

/** One row of `dentries`. `cookie` orders a directory's listing: larger is younger, unique within the tenant, kept across reloads. */
export interface DentryImage {
  readonly parent: Ino;
  readonly name: ByteString;
  readonly ino: Ino;
  /** S_IFMT type bits of the inode, shifted right by 12 (DT_*). */
  readonly type: number;
  readonly cookie: number;
}

/** A stored piece of a file, or a hole. `length` is how much of the chunk counts (a truncated file uses a prefix). */
export interface ChunkRef {
  /** SHA-256 of the whole stored chunk as a 32-byte ByteString; empty for a hole. */
  readonly hash: ByteString;
  /** Bytes of the chunk that belong to the file, 0 (hole) to CHUNK_BYTES; what lies behind reads as zeros. */
  readonly length: number;
}

/**
 * One row of `contents`: chunks [index * SEGMENT_CHUNKS, (index + 1) * SEGMENT_CHUNKS) of a file.
 * Trailing holes are left out. `inline` holds the bytes themselves when the whole file is tiny;
 * then `chunks` is empty and `index` is 0.
 */
export interface SegmentImage {
  readonly ino: Ino;
  readonly index: number;
  readonly chunks: readonly ChunkRef[];
  readonly inline: Uint8Array | null;
}

/** A page of a directory, in cookie order, with the inodes that it names. */
export interface DirectoryPage {
  readonly dentries: readonly DentryImage[];
  readonly inodes: readonly InodeImage[];
  /** True when these are all the names with a cookie above the one asked for. */
  readonly complete: boolean;
}

/**
 * Where a tree's rows are: in a layer and those below it. Of each row the newest version among them counts.
 * `ranges` are closed intervals of layer ids, in order, `layer` in the last one.
 */
export interface Place {
  readonly layer: LayerId;
  readonly ranges: readonly (readonly [from: number, to: number])[];
  /** Inodes from this number on, and what is in directories among them, have no rows in the layers below. */
  readonly firstIno: number;
  readonly firstCookie: number;
}

/** With this batch the layer is frozen, and the next one begins. */
export interface Seal {
  readonly name: string;
  readonly description: string;
  readonly next: Place;
  /** Layers that go at the same time, with all they hold; no other layer builds on them. */
  readonly discards: readonly LayerId[];
  /** Number of the request that asks for it; undefined when a request asks for more than that. */
  readonly request: number | undefined;
}

/**
 * Everything that changed since the last commit, coalesced: applied as one transaction or not at all.
 * A key occurs once; removals and images of one table never share a key.
 * Every chunk that a segment refers to has been stored by `putChunks` before.
 */
export interface Batch {
  /** The rows are this place's layer's. */
  readonly place: Place;
  readonly seal: Seal | undefined;
  /** Number of the last operation that it contains; grows from commit to commit. */
  readonly sequence: number;
  /** First inode number and first cookie not yet handed out. */
  readonly nextIno: number;
  readonly nextCookie: number;
  /** Totals of the files that have a name, after this batch. */
  readonly usedBytes: number;
  readonly usedInodes: number;
  readonly inodes: readonly InodeImage[];
  /** Gone with their content. */
  readonly removedInodes: readonly Ino[];
  readonly dentries: readonly DentryImage[];
  readonly removedDentries: readonly { readonly parent: Ino; readonly name: ByteString }[];
  readonly segments: readonly SegmentImage[];
  /** Rows of `contents` with this index or a higher one are removed, save those that `segments` writes. */
  readonly removedSegments: readonly { readonly ino: Ino; readonly index: number }[];
}

/**
 * Why storage failed: `unavailable` (try the same again), `full` (no disk space: try again later), `lease-lost`
 * (another epoch holds the tenant: never again), `refused` (a defect on one side).
 */
export type StoreFailure = 'unavailable' | 'full' | 'lease-lost' | 'refused';

/** What every rejected load and commit carries. The message never has a secret in it. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly failure: StoreFailure;

  constructor(failure: StoreFailure, what: string, options?: { cause?: unknown }) {
    super(what, options);
    this.failure = failure;
  }
}

/** What a daemon finds when it takes a tenant over. */
export interface TenantState {
  readonly sequence: number;
  readonly nextIno: number;
  readonly nextCookie: number;
  readonly usedBytes: number;
  readonly usedInodes: number;
}

/** Reads. Any number may run at once; each rejects with an Error (never a wrong answer) when the database is away. */
export interface Loads {
  /** The inodes that exist among those asked for, in any order. */
  inodes(inos: readonly Ino[]): Promise<readonly InodeImage[]>;
  /** The names of a directory with a cookie above `after`, at most `limit`, with their inodes. */
  directory(parent: Ino, after: number, limit: number): Promise<DirectoryPage>;
  /** One name with its inode; undefined when the directory hasn't got it. */
  name(parent: Ino, name: ByteString): Promise<{ dentry: DentryImage; inode: InodeImage } | undefined>;
  /** Names of an inode, a few at most. */
  namesOf(ino: Ino): Promise<readonly { readonly parent: Ino; readonly name: ByteString }[]>;
  /** Rows of `contents` in the index range [from, to); those without a row are all holes. */
  segments(ino: Ino, from: number, to: number): Promise<readonly SegmentImage[]>;
  /** The first segment of each of these files, at most about `maxBytes` of inline bytes in all; read ahead for small files. */
  firstSegments(inos: readonly Ino[], maxBytes: number): Promise<readonly SegmentImage[]>;
  /**
   * Raw bytes by hash. Rejects with FsError EIO naming a chunk that is missing or doesn't match its hash. `cached` gives
   * those of others that are at hand, which they may be made from.
   */
  chunks(
    hashes: readonly ByteString[],
    cached?: (hash: ByteString) => Buffer | undefined,
  ): Promise<ReadonlyMap<ByteString, Buffer>>;
  /** Inodes without a name (nlink 0) left behind by an earlier daemon; `own`: in the tree's own layer only. */
  orphans(own: boolean): Promise<readonly InodeImage[]>;
}

/** Writes; one at a time each, but a `putChunks` may run beside a `commit` and beside another `putChunks`. */
export interface Commits {
  /**
   * Hashes these raw chunks and stores those that aren't yet; resolves to their hashes, in order. They mean nothing
   * until a commit refers to them, and storing one twice is harmless. The bytes are copied before this returns.
   */
  putChunks(chunks: readonly Uint8Array[]): Promise<readonly ByteString[]>;
  /**
   * Applies the batch in one transaction, fenced by the lease's epoch, durable when it resolves.
   * After a rejection with `unavailable` it may be committed or not; committing the same batch again is harmless.
   *
   * @throws {StoreError} `lease-lost`: another epoch holds the tenant, nothing was written and nothing ever will be.
   */
  commit(batch: Batch): Promise<void>;
}
