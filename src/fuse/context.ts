import type { Ino } from '../brand.ts';
import type { ControlPort } from '../control/port.ts';
import { FsError } from '../errno.ts';
import type { Caller, Workspace } from '../vfs/workspace.ts';
import { inHeader } from './wire/abi.ts';
import type { ValueOf } from './wire/struct.ts';

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
  /** Close waits for the commit. */
  readonly closeWaits: boolean;
}

/** nodeid = view << 44 | ino: view 0 is the live tree, the last one the control files. */
const VIEW_SHIFT_HI = 12;
const INO_MASK_HI = 0xfff;
const WORD = 4294967296;
export const LIVE_VIEW = 0;
export const CONTROL_VIEW = 0xf_ffff;

/**
 * The request being served, decoded in place. One object is used again for every request, so nothing in it may be
 * kept beyond the call.
 */
export class Context {
  readonly workspace: Workspace;
  readonly services: Services;
  request: Buffer = Buffer.alloc(0);
  /** Where the request's extensions, or else the request, ends. */
  end = 0;
  reply: Buffer = Buffer.alloc(0);
  header: ValueOf<typeof inHeader> = inHeader.blank();
  readonly caller: { -readonly [K in keyof Caller]: Caller[K] } = { uid: 0, gid: 0, pid: 0 };
  /** Set by a handler whose answer must wait for this, besides being parked. */
  after: Promise<unknown> | undefined;
  readonly #readHeader = inHeader.reader();

  constructor(workspace: Workspace, services: Services) {
    this.workspace = workspace;
    this.services = services;
  }

  /** Takes the next request. @throws {FsError} EIO when it's shorter than it says. */
  take(request: Buffer, length: number, reply: Buffer): void {
    if (length < inHeader.size) throw new FsError('EIO', `a request of ${length} bytes has no header`);
    this.request = request;
    this.reply = reply;
    const header = this.#readHeader(request, 0);
    this.header = header;
    this.after = undefined;
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

export function inoOf(nodeidLo: number, nodeidHi: number): Ino {
  return ((nodeidHi & INO_MASK_HI) * WORD + nodeidLo) as Ino; // a nodeid carries the ino that it was made of
}

/** The upper word of the nodeid of `ino` in a view. */
export function nodeidHi(view: number, ino: number): number {
  return ((view << VIEW_SHIFT_HI) | Math.floor(ino / WORD)) >>> 0;
}
