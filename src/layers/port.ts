import type { Ino, LayerId } from '../brand.ts';
import type { Place } from '../vfs/store.ts';

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
