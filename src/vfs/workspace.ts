import { LRUCache } from 'lru-cache';
import { type Ino, ROOT_INO } from '../brand.ts';
import { FsError } from '../errno.ts';
import { contentWeight, discardContent } from './content.ts';
import { FIRST_COOKIE, newDirectory } from './directory.ts';
import { OpenHandles } from './handles.ts';
import { type Inode, inodeFromImage, isDirectory } from './inode.ts';
import { Missing } from './miss.ts';
import type { ByteString, Place, TenantState } from './store.ts';

/** Who asks, as the kernel tells it. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

export interface Limits {
  /** Largest file, in bytes. */
  readonly maxFileBytes: number;
  /** Quota of the workspace; 0 means none. */
  readonly maxBytes: number;
  readonly maxInodes: number;
}

export interface CacheSizes {
  readonly metadataBytes: number;
  readonly chunkBytes: number;
}

/** Asks for chunks that will probably be read next. Must not change anything before it returns. */
export type ReadAhead = (hashes: readonly ByteString[]) => void;

/** Rough cost in the heap of an inode and of a name. */
const INODE_WEIGHT = 800;
const NAME_WEIGHT = 200;

/** Range of the times that are kept: 64-bit nanoseconds around 1970. Others are clamped (POSIX utimensat, APPLICATION USAGE). */
const MAX_SECONDS = 9_223_372_035;

/** The part of the metadata cache that is for contents kept inside their rows, and for lists of chunks. */
function contentBytes(caches: CacheSizes): number {
  return caches.metadataBytes >>> 2;
}

/** An inode never weighs more than this, so that a huge directory can be held at all. */
function maxWeight(caches: CacheSizes): number {
  return Math.max(caches.metadataBytes >>> 3, INODE_WEIGHT);
}

/**
 * The loaded state of one tenant's tree: caches of inodes and chunks, totals, and what changed.
 * All operations on it are synchronous functions, so each is atomic.
 */
export class Workspace {
  readonly limits: Limits;
  /** Inodes with changes that no batch has taken yet. */
  changed = new Set<Inode>();
  /** Files and directories without a name that the kernel may still refer to, and the bytes that each holds. */
  readonly orphans = new Map<Ino, number>();
  /** Whether the kernel has told what it let go of since a file last lost its name. */
  releasesTaken = true;
  readonly handles = new OpenHandles();
  /** Inodes that were asked for their names and don't exist. */
  readonly nameless = new Set<Ino>();
  /** Grows when this becomes another tree: what was being loaded of the one before means nothing here. */
  tree = 0;
  /** Where the tree's rows are; the next batch's layer is this one's. */
  place: Place;
  /** Views of files that a switch changed, by inode: the kernel's earlier numbers for them mean what they were. */
  readonly views = new Map<Ino, number>();
  /** True once the running operation changed something; the dispatcher counts it and resets. */
  mutated = false;
  /** Number of the last operation that changed something. */
  sequence: number;
  nextIno: number;
  nextCookie: number;
  usedBytes: number;
  usedInodes: number;
  /** Reads of files so far. */
  reads = 0;
  /** Bytes of content that no batch has taken yet. */
  dirtyBytes = 0;
  /** Time of the running operation. */
  nowSec = 0;
  nowNsec = 0;
  /** Replaced when there is storage to read ahead from. */
  readAhead: ReadAhead = () => {};
  /** Told of each directory that is being listed. As `readAhead`. */
  listing: (directory: Inode) => void = () => {};
  #inodes: LRUCache<number, Inode>;
  /** Files whose content is loaded and committed; what this lets go of loses its content, not its attributes. */
  #contents: LRUCache<number, Inode>;
  /** Inodes that the cache let go of while they had uncommitted changes, and the root. */
  readonly #pinned = new Map<number, Inode>();
  #maxWeight: number;
  /** An inode leaves the cache only to come back at once. */
  #weighing = false;
  /** Raw chunks by hash. */
  chunks: LRUCache<ByteString, Buffer>;
  /** Chunks that were loaded for operations which are about to be tried again; there whether the cache has room or not. */
  readonly arrived = new Map<ByteString, Buffer>();

  /** `chunks`: a cache to share with another tree of the tenant. */
  constructor(
    state: TenantState,
    place: Place,
    limits: Limits,
    caches: CacheSizes,
    chunks = new LRUCache<ByteString, Buffer>({ maxSize: caches.chunkBytes }),
  ) {
    this.place = place;
    this.limits = limits;
    this.sequence = state.sequence;
    this.nextIno = Math.max(state.nextIno, ROOT_INO + 1);
    this.nextCookie = Math.max(state.nextCookie, FIRST_COOKIE);
    this.usedBytes = state.usedBytes;
    this.usedInodes = state.usedInodes;
    this.#maxWeight = maxWeight(caches);
    this.#inodes = this.#inodeCache(caches);
    this.#contents = this.#contentCache(caches);
    this.chunks = chunks;
  }

  #inodeCache(caches: CacheSizes): LRUCache<number, Inode> {
    return new LRUCache<number, Inode>({
      maxSize: caches.metadataBytes - contentBytes(caches),
      dispose: (inode, ino, reason) => {
        if (!this.#weighing) this.#contents.delete(ino);
        const stays = inode.dirty || inode.commits > 0 || ino === ROOT_INO;
        if (reason !== 'set' && stays && !this.#weighing) this.#pinned.set(ino, inode);
      },
    });
  }

  #contentCache(caches: CacheSizes): LRUCache<number, Inode> {
    return new LRUCache<number, Inode>({
      maxSize: contentBytes(caches),
      dispose: (inode, _, reason) => {
        if (reason === 'evict' && !inode.dirty && inode.commits === 0) inode.content = undefined;
      },
    });
  }

  /** Gives the caches other sizes; they keep what they hold as far as it has room. */
  resizeCaches(caches: CacheSizes): void {
    this.#maxWeight = maxWeight(caches);
    const old = this.#inodes;
    this.#inodes = this.#inodeCache(caches);
    for (const inode of [...old.rvalues()]) if (inode !== undefined) this.keep(inode);
    const contents = [...this.#contents.rvalues()];
    this.#contents = this.#contentCache(caches);
    for (const inode of contents) if (inode !== undefined) this.keepContent(inode);
    const chunks = this.chunks;
    this.chunks = new LRUCache<ByteString, Buffer>({ maxSize: caches.chunkBytes });
    for (const [hash, { value }] of chunks.dump().reverse()) this.chunks.set(hash, value, { size: value.length });
  }

  /** Sets the time of the operations that follow, in milliseconds since 1970. */
  setTime(nowMs: number): void {
    this.nowSec = Math.floor(nowMs / 1000);
    this.nowNsec = Math.floor((nowMs - this.nowSec * 1000) * 1e6);
  }

  /** The inode when it's loaded. */
  cached(ino: Ino): Inode | undefined {
    return this.#inodes.get(ino) ?? this.#pinned.get(ino);
  }

  /** @throws {Missing} when it isn't loaded. @throws {FsError} ESTALE when it's gone. */
  inode(ino: Ino): Inode {
    const inode = this.#inodes.get(ino) ?? this.#pinned.get(ino);
    if (inode === undefined) throw new Missing({ kind: 'inodes', inos: [ino] });
    if (inode.removed) throw new FsError('ESTALE', `inode ${ino} is gone`);
    return inode;
  }

  /** @throws {FsError} ENOTDIR, and what `inode` throws. */
  directory(ino: Ino): Inode {
    const inode = this.inode(ino);
    if (!isDirectory(inode)) throw new FsError('ENOTDIR', `inode ${ino} is not a directory`);
    return inode;
  }

  /** Puts a loaded or new inode into the cache, or weighs one anew that has grown. */
  keep(inode: Inode): void {
    // The cache takes a new size only with a new entry.
    this.#weighing = true;
    this.#inodes.delete(inode.ino);
    this.#weighing = false;
    this.#inodes.set(inode.ino, inode, { size: this.#weigh(inode) });
  }

  /** As `keep`, for a file's content. Never while an operation runs: that may be at work on what this pushes out. */
  keepContent(inode: Inode): void {
    if (inode.content === undefined) return;
    this.#contents.delete(inode.ino);
    this.#contents.set(inode.ino, inode, { size: Math.min(contentWeight(inode.content), this.contentAhead) });
  }

  /** A file's content is read. */
  countRead(inode: Inode): void {
    this.reads++;
    this.#contents.get(inode.ino);
  }

  /** How many bytes of content may be loaded on the chance that they are wanted, without pushing out what is. */
  get contentAhead(): number {
    return this.#contents.maxSize / 2;
  }

  /** How many inodes may be loaded on the chance that they are wanted, without pushing out what is. */
  get inodesAhead(): number {
    return Math.floor((2 * this.#maxWeight) / INODE_WEIGHT);
  }

  #weigh(inode: Inode): number {
    let weight = INODE_WEIGHT;
    if (inode.directory !== undefined) weight += inode.directory.names.size * NAME_WEIGHT;
    return Math.min(weight, this.#maxWeight);
  }

  /** Records that the running operation changes this inode, its names or its content. */
  touch(inode: Inode): void {
    this.mutated = true;
    if (inode.dirty) return;
    inode.dirty = true;
    this.changed.add(inode);
    // The running operation may have pushed it out of the cache by loading or making another.
    if (!this.#inodes.has(inode.ino)) this.#pinned.set(inode.ino, inode);
  }

  /** As `touch`, and the status changed now (ctime). */
  touchStatus(inode: Inode): void {
    inode.ctimeSec = this.nowSec;
    inode.ctimeNsec = this.nowNsec;
    this.touch(inode);
  }

  /** As `touch`, and the content changed now (mtime and ctime). */
  touchContent(inode: Inode): void {
    inode.mtimeSec = this.nowSec;
    inode.mtimeNsec = this.nowNsec;
    this.touchStatus(inode);
  }

  /** Called when a batch that held changes of this inode is committed. */
  settle(inode: Inode): void {
    inode.commits--;
    if (inode.dirty || inode.commits > 0) return;
    this.#pinned.delete(inode.ino);
    if (inode.removed) this.#inodes.delete(inode.ino);
    else {
      this.keep(inode);
      this.keepContent(inode);
    }
  }

  /** Takes a file out of the tree for good, with its space. It has neither names nor references. */
  remove(inode: Inode): void {
    inode.removed = true;
    this.orphans.delete(inode.ino);
    this.usedInodes--;
    this.usedBytes -= inode.allocated;
    if (inode.content !== undefined) discardContent(this, inode.content);
    this.touch(inode);
  }

  /**
   * @throws {FsError} ENOSPC when the quota leaves no room for this many more; {Missing} when there may be some once the
   *   kernel has told what it let go of: it takes a file away first, and tells later that nobody has it open.
   */
  reserve(bytes: number, inodes: number): void {
    const { maxBytes, maxInodes } = this.limits;
    const noBytes = maxBytes > 0 && bytes > 0 && this.usedBytes + bytes > maxBytes;
    const noInodes = maxInodes > 0 && inodes > 0 && this.usedInodes + inodes > maxInodes;
    if (!noBytes && !noInodes) return;
    if (this.orphans.size > 0 && !this.releasesTaken) throw new Missing({ kind: 'releases' });
    const full = noBytes ? `${maxBytes} bytes` : `${maxInodes} files`;
    throw new FsError('ENOSPC', `the workspace's quota of ${full} is used up`);
  }

  /** What the files without a name take, which is in `usedBytes` and `usedInodes`, and in no total that is stored. */
  orphanTotals(): { readonly bytes: number; readonly inodes: number } {
    let bytes = 0;
    for (const held of this.orphans.values()) bytes += held;
    return { bytes, inodes: this.orphans.size };
  }

  /** Takes over a file without a name that an earlier daemon has left. */
  adoptOrphan({ ino, allocated }: { readonly ino: Ino; readonly allocated: number }): void {
    this.orphans.set(ino, allocated);
    this.usedBytes += allocated;
    this.usedInodes++;
  }

  /** A new inode, not yet named. */
  newInode(mode: number, uid: number, gid: number, parent: Ino, rdev: number, target: ByteString): Inode {
    const inode = inodeFromImage(
      {
        ino: this.nextIno++ as Ino, // numbers from the counter are inode numbers by definition
        mode,
        uid,
        gid,
        nlink: 1,
        size: target.length,
        allocated: 0,
        atimeSec: this.nowSec,
        atimeNsec: this.nowNsec,
        mtimeSec: this.nowSec,
        mtimeNsec: this.nowNsec,
        ctimeSec: this.nowSec,
        ctimeNsec: this.nowNsec,
        btimeSec: this.nowSec,
        btimeNsec: this.nowNsec,
        rdev,
        parent,
        target,
        xattrs: null,
      },
      false,
    );
    if (isDirectory(inode)) {
      inode.nlink = 2;
      inode.directory = newDirectory(true);
    }
    this.usedInodes++;
    this.keep(inode);
    this.touch(inode);
    return inode;
  }

  /**
   * Becomes another tree: `changed` are the inodes that aren't the same in both. Everything must be committed. Inodes
   * that stay the same keep what is cached of them. `totals` are those of its named files.
   */
  becomes(
    place: Place,
    changed: readonly Ino[],
    totals: { readonly usedBytes: number; readonly usedInodes: number },
  ): void {
    if (this.changed.size > 0) throw new Error('the tree has changes that are not committed');
    this.tree++;
    this.place = place;
    this.nameless.clear();
    for (const ino of changed) {
      this.#inodes.delete(ino);
      this.#pinned.delete(ino);
      this.orphans.delete(ino);
    }
    const { bytes, inodes } = this.orphanTotals();
    this.usedBytes = totals.usedBytes + bytes;
    this.usedInodes = totals.usedInodes + inodes;
  }

  /** Lets go of the inodes, names and small files that are committed; returns their bytes. */
  dropMetadata(): number {
    const before = this.#metadataBytes;
    this.#inodes.clear();
    this.#contents.clear();
    return before - this.#metadataBytes;
  }

  /** Lets go of the chunks that are committed; returns their bytes. */
  dropChunks(): number {
    const before = this.chunks.calculatedSize;
    this.chunks.clear();
    return before;
  }

  clampSeconds(seconds: number): number {
    return Math.max(-MAX_SECONDS, Math.min(MAX_SECONDS, seconds));
  }

  get #metadataBytes(): number {
    return this.#inodes.calculatedSize + this.#contents.calculatedSize;
  }

  /** For `stats` and tests: how much is cached. */
  cacheUse(): { inodes: number; metadataBytes: number; chunkBytes: number } {
    return {
      inodes: this.#inodes.size + this.#pinned.size,
      metadataBytes: this.#metadataBytes,
      chunkBytes: this.chunks.calculatedSize,
    };
  }
}
