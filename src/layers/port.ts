import type { Ino, LayerId } from '../brand.ts';
import type { ByteString, Loads, Place } from '../vfs/store.ts';

/** A stored layer. `name` and `frozenAt` are undefined while it takes writes. */
export interface LayerRecord {
  readonly id: LayerId;
  readonly parent: LayerId | undefined;
  readonly name: string | undefined;
  readonly description: string;
  readonly createdAt: Date;
  readonly frozenAt: Date | undefined;
  /** Of the whole tree as of this layer, once it's frozen. */
  readonly usedBytes: number;
  readonly usedInodes: number;
  readonly firstIno: number;
  readonly firstCookie: number;
}

/** A file or directory that differs between two trees: its mode in each; undefined where it doesn't exist. */
export interface ChangedInode {
  readonly ino: Ino;
  readonly before: number | undefined;
  readonly after: number | undefined;
}

/** A name in a directory. */
export interface NameOf {
  readonly parent: Ino;
  /** A byte string. */
  readonly name: string;
}

/** A regular file that a switch changed, and the layer that its earlier view shows. */
export interface MovedFile {
  readonly ino: Ino;
  /** The view that it has had since. */
  readonly view: number;
  /** What the view before that one shows. */
  readonly layer: LayerId;
}

/**
 * The command that a change carries out: the number of its request, and the layer that it's about. The last one is
 * stored, so that a request which comes again, to a daemon after the one that carried it out, is known.
 */
export interface Command {
  readonly request: number;
  readonly layer: LayerId;
  readonly name: string;
}

/** A switch that the kernel may not have been told of. */
export interface LastSwitch {
  readonly from: LayerId;
  readonly to: LayerId;
}

/** What concerns the kernel since the mount was made. */
export interface Mounted {
  /** Files that switches changed. */
  readonly files: readonly MovedFile[];
  readonly nextView: number;
  readonly lastSwitch: LastSwitch | undefined;
  readonly lastCommand: Command | undefined;
}

export interface SwitchRequest {
  readonly command: Command;
  /** The empty working layer, which moves on top of the target. */
  readonly working: LayerId;
  readonly target: LayerId;
  /** The trees before and after. */
  readonly from: Place;
  readonly to: Place;
  /** Layers that belong to one of the two trees only. */
  readonly between: readonly LayerId[];
  /** Number of the view that changed files have from now on. */
  readonly view: number;
  /** Totals of the target's tree. */
  readonly usedBytes: number;
  readonly usedInodes: number;
}

/** What a name stands for from a layer on, until its next version. */
export interface NameVersion {
  readonly parent: Ino;
  readonly layer: LayerId;
  /** Undefined where the name is gone. */
  readonly ino: Ino | undefined;
  readonly isDirectory: boolean;
}

/** A tree's rows. */
export type TreeReads = Pick<Loads, 'inodes' | 'directory' | 'firstSegments' | 'segments'>;

/** Everything that is committed at one moment, whatever is committed meanwhile. */
export interface Moment {
  tree(place: Pick<Place, 'ranges'>): TreeReads;
  /** What differs between two trees. */
  changed(from: Place, to: Place, between: readonly LayerId[]): Promise<readonly ChangedInode[]>;
  /** The names that files have in a tree. */
  namesOf(place: Place, inos: readonly Ino[]): Promise<readonly (NameOf & { readonly ino: Ino })[]>;
  /** What a name has stood for in each of these directories, oldest first. */
  nameVersions(place: Place, parents: readonly Ino[], name: ByteString): Promise<readonly NameVersion[]>;
  /** Every name that has been in one of these directories, with its last type. */
  namesEver(
    place: Place,
    parents: readonly Ino[],
  ): Promise<readonly { readonly name: ByteString; readonly isDirectory: boolean }[]>;
  /** Layers that have changed an inode, newest first. */
  layersOf(place: Place, ino: Ino): Promise<readonly LayerId[]>;
}

/** What comparing trees needs of storage. Rejections are StoreErrors. */
export interface VersionStore {
  /** Hands `work` what is committed now. Nothing else may be waited for in there: it has the connection to itself. */
  atOneMoment<T>(work: (moment: Moment) => Promise<T>): Promise<T>;
  /** As `Loads.chunks`. */
  chunks(hashes: readonly ByteString[]): Promise<ReadonlyMap<ByteString, Buffer>>;
}

/**
 * What layers need of storage. Every change is one transaction, fenced by the lease's epoch and durable when it
 * resolves; trying it again after `unavailable` is harmless. Rejections are StoreErrors.
 */
export interface LayerStore {
  /** All layers, oldest first, and the working one among them. */
  layers(): Promise<{ readonly layers: readonly LayerRecord[]; readonly working: LayerId; readonly nextLayer: number }>;
  tags(): Promise<ReadonlyMap<string, LayerId>>;
  /** Points a tag at a layer. */
  setTag(name: string, command: Command): Promise<void>;
  removeTag(name: string, command: Command): Promise<void>;
  /** Whether a layer has changed nothing. */
  isEmpty(layer: LayerId): Promise<boolean>;
  /** Makes the tree what it is as of another layer; resolves to what differs, directories included. */
  switchTo(request: SwitchRequest): Promise<readonly ChangedInode[]>;
  /** What differs between two trees. */
  changed(from: Place, to: Place, between: readonly LayerId[]): Promise<readonly ChangedInode[]>;
  /** The names that files have in a tree. */
  namesOf(place: Place, inos: readonly Ino[]): Promise<readonly (NameOf & { readonly ino: Ino })[]>;
  mounted(): Promise<Mounted>;
  /** Begins a new mount. */
  forgetMounted(): Promise<void>;
  /** Copies files as they are at a place, under a number of a layer that is none, for their earlier views to show. */
  hold(inos: readonly Ino[], place: Place, copy: LayerId): Promise<void>;
  /** Takes a layer away. The trees of the layers that build on it stay what they are. */
  drop(command: Command, parent: LayerId, children: readonly LayerId[]): Promise<void>;
  /** Makes a run of layers, oldest first, one: the last, which is the command's, with a new name, on top of `parent`. */
  squash(command: Command, run: readonly LayerId[], parent: LayerId): Promise<void>;
}

/** A row of `contents`. */
export interface ContentKey {
  readonly ino: Ino;
  readonly segment: number;
  readonly layer: LayerId;
}

/** Before every row. */
export const FIRST_CONTENT: ContentKey = { ino: 0 as Ino, segment: -1, layer: 0 as LayerId }; // no row has these

/** Chunks in the order of their hashes. */
export interface SweptPage {
  /** Undefined when there are no more. */
  readonly last: ByteString | undefined;
  readonly chunks: number;
  /** As they're stored. */
  readonly bytes: number;
  /** Those that nothing refers to. */
  readonly garbage: readonly ByteString[];
  readonly garbageBytes: number;
}

/**
 * What collecting garbage needs of storage. Each call is a step of bounded size. Those that change something are fenced
 * by the lease's epoch. Marks are lost with the connection: after `unavailable`, everything begins anew. Rejections are
 * StoreErrors.
 */
export interface GarbageStore {
  /** Begins: nothing is marked. From now on, what commits refer to is. No commit may be under way. */
  begin(): Promise<void>;
  /** Ends; what was marked means nothing any more. */
  end(): void;
  /** Marks what at most `limit` rows of `contents` behind `after` refer to; resolves to the last of them. */
  mark(after: ContentKey, limit: number): Promise<ContentKey | undefined>;
  /** Looks at no more than `limit` chunks with hashes behind `after`. */
  sweep(after: ByteString, limit: number): Promise<SweptPage>;
  /**
   * Removes those of these chunks that nothing refers to still; resolves to how much that was, and to the chunks that
   * they were made from. No commit may be under way.
   */
  remove(hashes: readonly ByteString[]): Promise<{ chunks: number; bytes: number; bases: readonly ByteString[] }>;
  /** Resolves when no change that was given up can be carried out any more. */
  fence(): Promise<void>;
  /** Numbers of layers that have rows and don't exist. */
  lostLayers(): Promise<readonly LayerId[]>;
  /** The following remove rows, at most about `limit`, and resolve to how many that was. */
  removeLost(layer: LayerId, limit: number): Promise<number>;
  /** Whiteouts that hide nothing, and the content of deleted files, in the layer of a place. */
  removeUseless(place: Place, limit: number): Promise<number>;
  /** Copies of files that no handle reads any more. */
  removeCopies(copy: LayerId, inos: readonly Ino[]): Promise<number>;
  /** Files without a name in frozen layers. */
  unnamed(limit: number): Promise<readonly { readonly ino: Ino; readonly layer: LayerId }[]>;
  removeUnnamed(place: Place, inos: readonly Ino[]): Promise<number>;
}

/** A piece of a file's content: a stored chunk, or the bytes that a row has. */
export type Piece = { readonly hash: ByteString } | { readonly bytes: Buffer };

/** A piece of content that a layer replaced, and what is there instead. */
export interface Replaced {
  /** The row that has the old piece. */
  readonly row: ContentKey;
  readonly old: Piece;
  readonly by: Piece;
}

/** What packing has come to. Bytes are as they were stored, and are now. */
export interface Packed {
  readonly chunks: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/**
 * What packing needs of storage. Each call is a step of bounded size, save `gather`, which takes as long as the layer is
 * large and changes nothing. Those that change something are fenced by the lease's epoch. What was gathered is lost with
 * the connection: after `unavailable`, the layer is begun anew. Rejections are StoreErrors.
 */
export interface PackStore {
  /** The oldest frozen layer that isn't packed. */
  next(): Promise<LayerId | undefined>;
  /** Finds what the layer of a place has replaced in those below. */
  gather(place: Place): Promise<void>;
  /** The pieces in at most `limit` of the rows gathered, behind the number `after`. */
  replaced(
    after: number,
    limit: number,
  ): Promise<{ readonly last: number | undefined; readonly pieces: readonly Replaced[] }>;
  /** Stores old pieces as what differs from the new ones where that is smaller. */
  pack(pieces: readonly Replaced[]): Promise<Packed>;
  /** Notes that the layer is done. */
  finish(layer: LayerId): Promise<void>;
  /** Resolves when no change that was given up can be carried out any more. */
  fence(): Promise<void>;
}

/** A page of stored chunks, summed up. */
export interface ChunkUsage {
  /** Undefined when there are no more. */
  readonly last: ByteString | undefined;
  readonly chunks: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
  /** Of them those that are stored as deltas. */
  readonly deltas: number;
  readonly deltaRawBytes: number;
  readonly deltaStoredBytes: number;
}

/** A page of rows of content, summed up. */
export interface ContentUsage {
  readonly last: ContentKey | undefined;
  /** Bytes of content that the rows stand for, holes left out. */
  readonly bytes: number;
  /** Of them those that are in the rows themselves. */
  readonly inlineBytes: number;
}

/** What `stats/usage` needs of storage. Each call looks at `limit` rows at most. Rejections are StoreErrors. */
export interface UsageStore {
  chunks(after: ByteString, limit: number): Promise<ChunkUsage>;
  contents(after: ContentKey, limit: number): Promise<ContentUsage>;
  /** Frozen layers that aren't packed yet. */
  unpacked(): Promise<number>;
}

/** What is stored of one file as of a layer, for it to be judged. Undefined fields: there's no such file. */
export interface CheckedFile {
  readonly ino: Ino;
  /** Whose row counts. */
  readonly layer: LayerId | undefined;
  readonly mode: number | undefined;
  readonly nlink: number;
  readonly size: number;
  readonly allocated: number;
  readonly parent: Ino;
  readonly targetBytes: number;
  /** How many names it has, a directory with one of them, and how many of them say another type than its own. */
  readonly names: number;
  readonly namedIn: Ino | undefined;
  readonly wrongTypes: number;
  /** Directories in it; for what isn't a directory, anything in it. */
  readonly children: number;
  /** Bytes of content, holes left out, and where the last one ends. */
  readonly heldBytes: number;
  readonly contentEnd: number;
  /** Rows of content in the layer itself. */
  readonly contentRows: number;
}

/** A reference to a chunk that can't be right. */
export interface BadReference extends ContentKey {
  readonly problem: 'missing' | 'damaged' | 'too short' | 'malformed';
}

export interface StoredTenant {
  readonly layers: readonly LayerRecord[];
  readonly tags: ReadonlyMap<string, LayerId>;
  readonly working: LayerId;
  readonly nextLayer: number;
  readonly nextIno: number;
  readonly nextCookie: number;
  readonly usedBytes: number;
  readonly usedInodes: number;
  /** The highest numbers that rows have. */
  readonly lastIno: number;
  readonly lastCookie: number;
}

/**
 * What checking needs of storage: everything between `begin` and `end` is as of one moment, whatever is committed
 * meanwhile. Each call is a step of bounded size, save that some take as long as the layer is large. Rejections are
 * StoreErrors; after `unavailable` the moment is over.
 */
export interface CheckStore {
  begin(): Promise<void>;
  end(): Promise<void>;
  tenant(): Promise<StoredTenant>;
  /** Finds the files that something in a place's own layer is about. */
  gather(place: Place): Promise<void>;
  /** Those files, by number from `after` on. */
  files(place: Place, after: Ino, limit: number): Promise<readonly CheckedFile[]>;
  /** What the own layer adds to the totals of those below, and the highest number that an inode has in them. */
  totals(place: Place): Promise<{ readonly bytes: number; readonly inodes: number; readonly lastInoBelow: number }>;
  /** Names of the own layer whose place in the listing can't be right, at most `limit`. */
  badCookies(place: Place, nextCookie: number, limit: number): Promise<readonly NameOf[]>;
  namesOf(place: Place, inos: readonly Ino[]): Promise<readonly (NameOf & { readonly ino: Ino })[]>;
  /** Loads at most `limit` chunks behind `after`, and checks them against their hashes. */
  chunks(
    after: ByteString,
    limit: number,
  ): Promise<{ last: ByteString | undefined; chunks: number; bytes: number; damaged: readonly ByteString[] }>;
  /** Checks what at most `limit` chunks behind `after` are made from. */
  chains(
    after: ByteString,
    limit: number,
  ): Promise<{ last: ByteString | undefined; bad: readonly { readonly hash: ByteString; readonly problem: string }[] }>;
  /** Checks what at most `limit` rows of `contents` behind `after` refer to, given chunks that are damaged. */
  references(
    after: ContentKey,
    limit: number,
    damaged: readonly ByteString[],
  ): Promise<{ last: ContentKey | undefined; rows: number; bad: readonly BadReference[] }>;
  /** Layers that have rows and don't exist. */
  lostLayers(): Promise<readonly LayerId[]>;
}

/** What is to be written where the stored tree is wrong. */
export interface Repairs {
  /** Of a file as of a layer. */
  readonly inodes: readonly {
    readonly ino: Ino;
    readonly place: Place;
    readonly nlink: number | undefined;
    readonly parent: Ino | undefined;
    readonly allocated: number | undefined;
  }[];
  /** Names that go, as of a layer. */
  readonly names: readonly (NameOf & { readonly layer: LayerId })[];
  /** Files whose content in a layer goes. */
  readonly contents: readonly { readonly ino: Ino; readonly layer: LayerId }[];
  /** Names that say another type than their file's, as of a layer. */
  readonly types: readonly { readonly ino: Ino; readonly place: Place }[];
  readonly totals: readonly {
    readonly layer: LayerId;
    readonly working: boolean;
    readonly bytes: number;
    readonly inodes: number;
  }[];
  readonly tags: readonly string[];
}

export interface RepairStore {
  /** Writes repairs; one transaction each, fenced by the lease's epoch. No commit may be under way. */
  repair(repairs: Repairs): Promise<void>;
}
