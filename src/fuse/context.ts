import type { Ino } from '../brand.ts';
import type { ControlPort } from '../control/port.ts';
import { FsError } from '../errno.ts';
import type { Caller, Workspace } from '../vfs/workspace.ts';
import type { Placeholders } from './placeholders.ts';
import { inHeader } from './wire/abi.ts';
import { FOPEN } from './wire/flags.ts';
import type { ValueOf } from './wire/struct.ts';

/** As long as the kernel likes, since every change passes by us. */
export const FOREVER = 0x7fff_ffff;

/** A tree that doesn't change any more. */
export interface FrozenTree {
  readonly workspace: Workspace;
  readonly view: number;
  /** Added to inode numbers for st_ino, so that no two trees seem to have the same file. */
  readonly inoBase: number;
}

/** What the file system as a whole tells of its space (statfs(2)). */
export interface SpaceReport {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
}

/** What handlers need beside the workspace: when something is committed, how much space there is, the control files. */
export interface Services {
  /** Resolves when everything done so far is committed. @throws {FsError} */
  readonly sync: () => Promise<void>;
  readonly space: () => SpaceReport;
  readonly control: ControlPort;
  /** Mount points of native mounts. */
  readonly placeholders: Placeholders;
  /** The frozen tree in which a view of an inode is, other than the one that it has in the live tree. */
  readonly frozen: (view: number, ino: Ino) => FrozenTree | undefined;
  /** Close waits for the commit. */
  readonly closeWaits: boolean;
}

/**
 * nodeid = view << 44 | ino. In the live tree an inode has view 0, or the one that the last switch to change it gave it;
 * with an earlier one it's as it was before. Views from SNAPSHOT_VIEW on are whole trees, each of one layer. The last
 * view is that of the control files, the one before that of the mount points of native mounts.
 */
export const VIEW_SHIFT_HI = 12;
const INO_MASK_HI = 0xfff;
const WORD = 4294967296;
export const LIVE_VIEW = 0;
export const CONTROL_VIEW = 0xf_ffff;
export const PLACEHOLDER_VIEW = 0xf_fffe;
export const SNAPSHOT_VIEW = 0x8_0000;
/** Layers that can have a view of their own. */
export const SNAPSHOT_LAYERS = PLACEHOLDER_VIEW - SNAPSHOT_VIEW;

/**
 * The request being served, decoded in place. One object is used again for every request, so nothing in it may be
 * kept beyond the call.
 */
export class Context {
  readonly live: Workspace;
  /** The tree that the request is about: the live one, unless `frozen` says which. */
  workspace: Workspace;
  frozen: FrozenTree | undefined;
  #isThere = true;
  readonly services: Services;
  request: Buffer = Buffer.alloc(0);
  /** Where the request's extensions, or else the request, ends. */
  end = 0;
  reply: Buffer = Buffer.alloc(0);
  header: ValueOf<typeof inHeader> = inHeader.blank();
  readonly caller: { -readonly [K in keyof Caller]: Caller[K] } = { uid: 0, gid: 0, pid: 0 };
  /** Set by a handler whose answer must wait for this, besides being parked. */
  after: Promise<unknown> | undefined;
  /** Set with it where the wait may be ended: ends what is being done for it. */
  interrupt: (() => void) | undefined;
  /** Any signal ends the wait, since nothing else may; otherwise one that ends the process. */
  endless = false;
  /** Seconds for which the kernel may keep names and attributes, and how it opens files: as caching is on or off. */
  validSec = FOREVER;
  openFlags: number = FOPEN.KEEP_CACHE;
  readonly #readHeader = inHeader.reader();

  constructor(workspace: Workspace, services: Services) {
    this.live = workspace;
    this.workspace = workspace;
    this.services = services;
  }

  /** Has the kernel keep what it's told from now on, or ask every time. */
  setCaching(on: boolean): void {
    this.validSec = on ? FOREVER : 0;
    this.openFlags = on ? FOPEN.KEEP_CACHE : FOPEN.DIRECT_IO;
  }

  /** Takes the next request. @throws {FsError} EIO when it's shorter than it says. */
  take(request: Buffer, length: number, reply: Buffer): void {
    if (length < inHeader.size) throw new FsError('EIO', `a request of ${length} bytes has no header`);
    this.request = request;
    this.reply = reply;
    const header = this.#readHeader(request, 0);
    this.header = header;
    this.after = undefined;
    this.interrupt = undefined;
    this.endless = false;
    this.workspace = this.live;
    this.frozen = undefined;
    this.#isThere = true;
    if (header.len !== length) throw new FsError('EIO', `a request of ${length} bytes says that it has ${header.len}`);
    this.end = length - header.totalExtlen * 8;
    this.caller.uid = header.uid;
    this.caller.gid = header.gid;
    this.caller.pid = header.pid;
  }

  get view(): number {
    return this.header.nodeidHi >>> VIEW_SHIFT_HI;
  }

  get ino(): Ino {
    return inoOf(this.header.nodeidLo, this.header.nodeidHi);
  }

  /** The kernel's number of the request; the same when it's sent again to another daemon. */
  get number(): number {
    return requestNumber(this.header.uniqueLo, this.header.uniqueHi);
  }

  /** Finds the tree that the request's inode is in. False when there's none any more. */
  enterTree(): boolean {
    const { view, ino } = this;
    this.#isThere = view === viewIn(this.live, ino) || this.enterFrozen(view, ino);
    return this.#isThere;
  }

  enterFrozen(view: number, ino: Ino): boolean {
    this.frozen = this.services.frozen(view, ino);
    if (this.frozen === undefined) return false;
    this.workspace = this.frozen.workspace;
    return true;
  }

  /** As `workspace`; undefined where that tree is gone. */
  get tree(): Workspace | undefined {
    return this.#isThere ? this.workspace : undefined;
  }

  /** The tree that another nodeid in the request is in. Undefined when there's none any more, and of what is in none. */
  treeOf(nodeidLo: number, nodeidHi: number): Workspace | undefined {
    const ino = inoOf(nodeidLo, nodeidHi);
    const view = nodeidHi >>> VIEW_SHIFT_HI;
    if (view === viewIn(this.live, ino)) return this.live;
    return view >= PLACEHOLDER_VIEW ? undefined : this.services.frozen(view, ino)?.workspace;
  }

  /**
   * The inode of another nodeid in the request, which must be in the live tree, too.
   *
   * @throws {FsError} ESTALE for one that a switch has changed, EROFS for one of a snapshot; EXDEV for a control file:
   *   programs that copy or move then read and write instead
   */
  liveIno(nodeidLo: number, nodeidHi: number): Ino {
    const ino = inoOf(nodeidLo, nodeidHi);
    const view = nodeidHi >>> VIEW_SHIFT_HI;
    if (view === viewIn(this.live, ino)) return ino;
    if (view === CONTROL_VIEW || view === PLACEHOLDER_VIEW) throw new FsError('EXDEV', 'that is not in the same tree');
    if (view >= SNAPSHOT_VIEW) throw new FsError('EROFS', 'a snapshot cannot be changed');
    throw new FsError('ESTALE', `inode ${ino} is not what it was`);
  }

  /** @throws {FsError} EIO when the request ends before `at` */
  require(at: number): void {
    if (at > this.end) throw new FsError('EIO', 'the request holds less than it says');
  }

  /** Where the NUL of the name that starts at `at` is. @throws {FsError} EIO when the request ends before it. */
  nameEnd(at: number): number {
    const end = this.request.indexOf(0, at);
    if (end < 0 || end >= this.end) throw new FsError('EIO', 'a name in the request has no end');
    return end;
  }

  /** The name that starts at `at`, one character a byte. @throws as `nameEnd` */
  name(at: number): string {
    return this.request.toString('latin1', at, this.nameEnd(at));
  }
}

/** Unique numbers grow from 0 by two and stay far below 2^53; the resend bit isn't part of the identity. */
export function requestNumber(uniqueLo: number, uniqueHi: number): number {
  return (uniqueHi & 0x1f_ffff) * WORD + uniqueLo;
}

export function inoOf(nodeidLo: number, nodeidHi: number): Ino {
  return ((nodeidHi & INO_MASK_HI) * WORD + nodeidLo) as Ino; // a nodeid carries the ino that it was made of
}

/** The view that an inode has in the live tree. */
export function viewIn(live: Workspace, ino: Ino): number {
  return live.views.size === 0 ? LIVE_VIEW : (live.views.get(ino) ?? LIVE_VIEW);
}

/** The upper word of the nodeid of `ino` in a view. */
export function nodeidHi(view: number, ino: number): number {
  return ((view << VIEW_SHIFT_HI) | Math.floor(ino / WORD)) >>> 0;
}
