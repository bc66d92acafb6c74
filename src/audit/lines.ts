import type { Ino } from '../brand.ts';
import type { Slot } from '../vfs/content.ts';
import { CHUNK_BYTES } from '../vfs/geometry.ts';
import { type Inode, isRegular } from '../vfs/inode.ts';
import type { ByteString, SegmentImage } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { AuditLog } from './log.ts';

/** How many lines a file gained and lost. */
export interface LineCount {
  readonly added: number;
  readonly deleted: number;
}

export interface LinesParts {
  readonly log: AuditLog;
  readonly workspace: Workspace;
  readonly segments: (ino: Ino, from: number, to: number) => Promise<readonly SegmentImage[]>;
  readonly chunks: (hashes: readonly ByteString[]) => Promise<ReadonlyMap<ByteString, Buffer>>;
  /** Compares two texts without holding anyone up. Undefined where that's too much. */
  readonly compare: (before: Buffer, after: Buffer) => Promise<LineCount | undefined>;
}

/** A piece of a file: its bytes, where they are at hand, or their hash. */
interface Part {
  readonly at: number;
  readonly length: number;
  readonly data: Buffer | undefined;
  readonly hash: ByteString;
}

/** What a file held at some moment. */
interface Version {
  readonly size: number;
  readonly parts: readonly Part[];
}

const EMPTY: Version = { size: 0, parts: [] };
/** Larger files aren't compared. */
const MOST_BYTES = 1024 * 1024;
/** What earlier versions of open files may take in all, where nothing else holds them. */
const MOST_HELD_BYTES = 16 * 1024 * 1024;
/** Where nobody need be spared: this much is counted at once. */
const AT_ONCE_BYTES = 128 * 1024;
/** How long an event waits for its lines. */
const COUNT_MS = 500;
/** Bytes that are looked at to tell whether it's text, as git does. */
const LOOKED_AT = 8000;

/** Counts the lines that files gain and lose between the open and the close of a handle that was written through. */
export class Lines {
  readonly #parts: LinesParts;
  readonly #open = new Map<
    number,
    { readonly before: Version | Promise<Version | undefined>; readonly held: number }
  >();
  #heldBytes = 0;

  constructor(parts: LinesParts) {
    this.#parts = parts;
  }

  /** What a file holds now, before it's opened to be written; undefined for a file that won't be compared. */
  before(inode: Inode | undefined): Version | Promise<Version | undefined> | undefined {
    if (inode === undefined) return EMPTY;
    if (!isRegular(inode) || inode.size > MOST_BYTES) return undefined;
    if (inode.size === 0) return EMPTY;
    return this.#versionOf(inode) ?? this.#load(inode);
  }

  /** Undefined where it isn't loaded. Bytes that may be written over are copied. */
  #versionOf(inode: Inode): Version | undefined {
    const content = inode.content;
    const segment = content?.segments.get(0);
    if (content === undefined || (segment === undefined && !content.complete)) return undefined;
    const parts = (segment ?? []).flatMap((slot, index) => partOf(slot, index));
    return { size: inode.size, parts };
  }

  /** From storage, which has what isn't loaded, until the next commit takes what is done meanwhile. */
  async #load(inode: Inode): Promise<Version | undefined> {
    const { workspace, segments } = this.#parts;
    const { size, ino } = inode;
    const { changed } = workspace;
    const [image] = await segments(ino, 0, 1).catch(() => []);
    if (image === undefined || workspace.changed !== changed) return undefined;
    if (image.inline !== null)
      return { size, parts: [{ at: 0, length: image.inline.length, data: Buffer.from(image.inline), hash: '' }] };
    const parts = image.chunks.flatMap(({ hash, length }, index) =>
      length === 0 ? [] : [{ at: index * CHUNK_BYTES, length, data: undefined, hash }],
    );
    return { size, parts };
  }

  opened(handle: number, before: Version | Promise<Version | undefined> | undefined): void {
    if (before === undefined || handle === 0) return;
    const held =
      before instanceof Promise ? 0 : before.parts.reduce((bytes, { data }) => bytes + (data?.length ?? 0), 0);
    if (this.#heldBytes + held > MOST_HELD_BYTES) return;
    this.#heldBytes += held;
    this.#open.set(handle, { before, held });
  }

  /**
   * The handle is closed. What can be counted at once is put into the log's draft; otherwise the returned function is to
   * be called with the event's ordinal.
   */
  closed(handle: number, inode: Inode | undefined, written: number): ((ordinal: number) => void) | undefined {
    const open = this.#open.get(handle);
    if (open === undefined) return undefined;
    this.#open.delete(handle);
    this.#heldBytes -= open.held;
    if (inode === undefined || inode.size > MOST_BYTES) return undefined;
    const { before } = open;
    if (written <= 0 && (before === EMPTY || inode.size > 0)) return undefined;
    if (before === EMPTY && inode.size <= AT_ONCE_BYTES && this.#countNew(inode)) return undefined;
    const after = inode.size === 0 ? EMPTY : this.#versionOf(inode);
    if (after === undefined) return undefined;
    return (ordinal) => {
      this.#count(ordinal, before, after);
    };
  }

  /** Counts a new file's lines, if its bytes are at hand. */
  #countNew(inode: Inode): boolean {
    const { draft } = this.#parts.log;
    let lines = 0;
    let last = 10;
    const segment = inode.content?.segments.get(0);
    if (segment === undefined) return false;
    for (const slot of segment) {
      if (slot?.data === undefined) return false;
      const bytes = slot.data.subarray(0, slot.length);
      if (isBinary(bytes)) return true;
      lines += newlines(bytes);
      last = bytes[bytes.length - 1] ?? last;
    }
    draft.added = lines + (last === 10 ? 0 : 1);
    draft.deleted = 0;
    return true;
  }

  #count(ordinal: number, before: Version | Promise<Version | undefined>, after: Version): void {
    const { log } = this.#parts;
    log.unsettle(ordinal);
    const timer = setTimeout(() => log.settle(ordinal, -1, -1), COUNT_MS);
    this.#compare(before, after)
      .then(
        (count) => log.settle(ordinal, count?.added ?? -1, count?.deleted ?? -1),
        () => log.settle(ordinal, -1, -1), // a count that can't be had is none
      )
      .finally(() => clearTimeout(timer));
  }

  async #compare(before: Version | Promise<Version | undefined>, after: Version): Promise<LineCount | undefined> {
    const earlier = await before;
    if (earlier === undefined) return undefined;
    const [a, b] = await Promise.all([this.#bytesOf(earlier), this.#bytesOf(after)]);
    if (isBinary(a) || isBinary(b)) return undefined;
    return this.#parts.compare(a, b);
  }

  async #bytesOf({ size, parts }: Version): Promise<Buffer> {
    const bytes = Buffer.alloc(size);
    const absent = parts.filter((part) => this.#dataOf(part) === undefined).map(({ hash }) => hash);
    const loaded = absent.length === 0 ? undefined : await this.#parts.chunks(absent);
    for (const part of parts) {
      const data = this.#dataOf(part) ?? loaded?.get(part.hash);
      if (data === undefined) throw new Error('a chunk is gone');
      data.copy(bytes, part.at, 0, part.length);
    }
    return bytes;
  }

  #dataOf({ data, hash }: Part): Buffer | undefined {
    return data ?? this.#parts.workspace.chunks.peek(hash);
  }
}

function partOf(slot: Slot | undefined, index: number): Part[] {
  if (slot === undefined || slot.length === 0) return [];
  const { length, data, shared, hash } = slot;
  const at = index * CHUNK_BYTES;
  // Bytes of a shared one stay what they are.
  const kept = data !== undefined && !shared ? Buffer.from(data.subarray(0, length)) : data;
  return [{ at, length, data: kept, hash }];
}

/** Whether it isn't text: there's a NUL near its beginning. */
function isBinary(bytes: Buffer): boolean {
  return bytes.subarray(0, LOOKED_AT).indexOf(0) >= 0;
}

function newlines(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}
