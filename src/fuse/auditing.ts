import type { Lines } from '../audit/lines.ts';
import type { AuditLog } from '../audit/log.ts';
import { BASIC, OFF, OPERATIONS, STANDARD } from '../audit/operations.ts';
import type { Text } from '../audit/record.ts';
import type { Ino } from '../brand.ts';
import type { Clock } from '../clock.ts';
import { errno } from '../errno.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { CONTROL_KINDS, KINDS, type Kind, type Subject } from './audit-kinds.ts';
import { childOf, Paths } from './audit-paths.ts';
import { CONTROL_VIEW, type Context, inoOf, PLACEHOLDER_VIEW, SNAPSHOT_VIEW, VIEW_SHIFT_HI } from './context.ts';
import { PAYLOAD } from './session.ts';
import * as abi from './wire/abi.ts';
import { FATTR, O, UNIQUE_RESEND_HI } from './wire/flags.ts';
import { OPCODE } from './wire/operations.ts';

const ARGUMENT = 40;
/** Of a command's text, what is kept. */
const COMMAND_BYTES = 1024;

/** An event whose result is still to come. */
export interface Deferred {
  readonly op: number;
  readonly timeMs: number;
  readonly layer: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly comm: Buffer;
  readonly path: Buffer | undefined;
  readonly target: Buffer | undefined;
  readonly bytes: number;
  readonly position: number;
  readonly request: number;
}

/**
 * Tells the log of requests. `begin` before a request is carried out notes what it's about, while the paths are what
 * they are; `end` after it records it.
 */
export class Auditing {
  readonly #log: AuditLog;
  readonly #live: Workspace;
  readonly #clock: Clock;
  readonly #lines: Lines | undefined;
  /** An earlier daemon's last request and change whose events were recorded. */
  readonly #lastRequest: number;
  readonly #lastSequence: number;
  /** Of the running request: its operation, or 0 where it isn't recorded; where its name of the new inode comes from. */
  #op = 0;
  #opcode = 0;
  #startMs = 0;
  readonly #paths = new Paths();
  /** Of a file that is opened to be written, what it holds. */
  #before: ReturnType<Lines['before']>;
  readonly #readSetattr = abi.setattrIn.reader();
  readonly #readOpen = abi.openIn.reader();
  readonly #readRead = abi.readIn.reader();
  readonly #readWrite = abi.writeIn.reader();
  readonly #readRelease = abi.releaseIn.reader();
  readonly #readLink = abi.linkIn.reader();
  readonly #readRename = abi.renameIn.reader();
  readonly #readCopy = abi.copyFileRangeIn.reader();
  readonly #readFallocate = abi.fallocateIn.reader();

  /** Without `lines` none are counted. */
  constructor(log: AuditLog, live: Workspace, clock: Clock, lines: Lines | undefined) {
    this.#log = log;
    this.#live = live;
    this.#clock = clock;
    this.#lines = lines;
    this.#lastRequest = log.ring.request;
    this.#lastSequence = log.ring.sequence;
  }

  /** Whether the request must wait for room in the log. */
  mustWait(context: Context): boolean {
    const found = KINDS[context.header.opcode];
    if (found === undefined || context.view === CONTROL_VIEW) return false;
    return this.#leastLevel(found) <= this.#log.levels.highest && this.#log.full;
  }

  #leastLevel({ code, level }: Kind): number {
    return code === OPERATIONS['open-truncate'].code ? BASIC : level;
  }

  room(): Promise<void> {
    return this.#log.room();
  }

  /**
   * Notes what the request is about. `startMs`: when it came, if that wasn't now. `mayMiss`: whether to have the names of
   * a path loaded; otherwise it stays unknown where they aren't.
   *
   * @throws {PathMissing} for a path's names
   */
  begin(context: Context, startMs: number | undefined, mayMiss: boolean): void {
    const { opcode } = context.header;
    const isControl = context.view === CONTROL_VIEW;
    const found = (isControl ? CONTROL_KINDS : KINDS)[opcode];
    this.#op = 0;
    this.#opcode = opcode;
    const { levels, draft } = this.#log;
    if (found === undefined || levels.highest === OFF || this.#leastLevel(found) > levels.highest) return;
    const { code, level } = this.#specific(context, found);
    if (level > levels.highest) return;
    draft.clear();
    this.#paths.mayMiss = mayMiss;
    if (isControl) this.#aboutControl(context, found.subject);
    else this.#about(context, found.subject);
    // What was commanded is recorded whatever the rules say of its path.
    if (!levels.same && code !== OPERATIONS.command.code && level > this.#levelOfPaths(found.subject)) return;
    this.#op = code;
    this.#startMs = startMs ?? this.#clock.now();
    this.#describe(context);
    this.#before = undefined;
    if (!isControl && opensHandle(opcode)) this.#keepBefore(context);
  }

  #keepBefore(context: Context): void {
    const { opcode } = context.header;
    if (this.#lines === undefined || opcode === OPCODE.TMPFILE || context.tree !== this.#live) return;
    if (opcode === OPCODE.OPEN && (this.#readOpen(context.request, ARGUMENT).flags & O.ACCMODE) === O.RDONLY) return;
    const { ino } = this.#log.draft;
    const inode = ino === 0 ? undefined : this.#live.cached(ino as Ino); // a draft's numbers of inodes are some
    if (inode !== undefined || opcode === OPCODE.CREATE) this.#before = this.#lines.before(inode);
  }

  /** Which operation an opcode with several stands for. */
  #specific(context: Context, found: Kind): { readonly code: number; readonly level: number } {
    switch (context.header.opcode) {
      case OPCODE.SETATTR:
        return OPERATIONS[attributeOperation(this.#readSetattr(context.request, ARGUMENT).valid)];
      case OPCODE.OPEN: {
        const truncates = (this.#readOpen(context.request, ARGUMENT).flags & O.TRUNC) !== 0;
        return OPERATIONS[truncates && context.view !== CONTROL_VIEW ? 'open-truncate' : 'open'];
      }
      case OPCODE.READDIR:
      case OPCODE.READDIRPLUS:
        return OPERATIONS[this.#readRead(context.request, ARGUMENT).offset === 0 ? 'readdir' : 'readdir-next'];
      default:
        return found;
    }
  }

  /** The highest level of the paths in the draft. One that isn't known may be any. */
  #levelOfPaths(subject: Subject): number {
    const { levels, draft } = this.#log;
    const of = ({ bytes, start, known }: Text): number =>
      known ? levels.of(bytes, start, bytes.length) : levels.highest;
    const hasTarget = subject === 'link' || subject === 'copy' || (typeof subject === 'object' && 'names' in subject);
    return hasTarget ? Math.max(of(draft.path), of(draft.target)) : of(draft.path);
  }

  /** Who asks, when, and the numbers in the request. */
  #describe(context: Context): void {
    const { draft, processes, handles } = this.#log;
    const { request } = context;
    draft.layer = layerOf(context);
    draft.uid = context.header.uid;
    draft.gid = context.header.gid;
    if (this.#opcode === OPCODE.RELEASE) {
      const { fh } = this.#readRelease(request, ARGUMENT);
      draft.bytes = handles.bytesWritten(fh);
      draft.read = handles.bytesRead(fh);
      if (handles.describe(fh, draft)) return;
    }
    const process = processes.of(context.header.pid, performance.now());
    draft.pid = process.pid;
    draft.commBytes = process.commBytes;
    for (let index = 0; index < process.commBytes; index++) draft.comm[index] = process.comm[index] ?? 0;
    switch (this.#opcode) {
      case OPCODE.READ:
        draft.position = this.#readRead(request, ARGUMENT).offset;
        break;
      case OPCODE.WRITE:
        if (context.view === CONTROL_VIEW) break;
        draft.position = this.#readWrite(request, ARGUMENT).offset;
        break;
      case OPCODE.SETATTR: {
        const { valid, size } = this.#readSetattr(request, ARGUMENT);
        if ((valid & FATTR.SIZE) !== 0) draft.position = size;
        break;
      }
      case OPCODE.FALLOCATE: {
        const { offset, length } = this.#readFallocate(request, ARGUMENT);
        draft.position = offset;
        draft.bytes = length;
        break;
      }
      case OPCODE.COPY_FILE_RANGE:
      case OPCODE.COPY_FILE_RANGE_64:
        draft.position = this.#readCopy(request, ARGUMENT).offOut;
    }
  }

  /** @throws {PathMissing} */
  #about(context: Context, subject: Subject): void {
    const { draft } = this.#log;
    const { tree, ino, request } = context;
    const paths = this.#paths;
    if (subject === 'inode') {
      draft.ino = ino;
      // A close doesn't wait: what it lets go of is let go of before whatever comes next.
      const opened = this.#opcode === OPCODE.RELEASE ? this.#pathOfHandle(context) : undefined;
      if (opened !== undefined) paths.mayMiss = false;
      paths.put(draft.path, tree, ino);
      if (opened !== undefined && !draft.path.known) draft.path.set(opened);
    } else if (subject === 'link') {
      const name = context.name(ARGUMENT + abi.linkIn.size);
      const { oldnodeidLo, oldnodeidHi } = this.#readLink(request, ARGUMENT);
      draft.ino = fileOf(oldnodeidLo, oldnodeidHi);
      paths.putOther(draft.path, context, oldnodeidLo, oldnodeidHi);
      paths.putName(draft.target, tree, ino, name);
    } else if (subject === 'copy') {
      const { nodeidOutLo, nodeidOutHi } = this.#readCopy(request, ARGUMENT);
      draft.ino = ino;
      paths.put(draft.path, tree, ino);
      paths.putOther(draft.target, context, nodeidOutLo, nodeidOutHi);
    } else if ('name' in subject) {
      const name = context.name(ARGUMENT + subject.name);
      draft.ino = childOf(tree, ino, name);
      paths.putName(draft.path, tree, ino, name);
    } else {
      const name = context.name(ARGUMENT + subject.names);
      draft.ino = childOf(tree, ino, name);
      paths.putName(draft.path, tree, ino, name);
      this.#putNewName(context, subject.names);
    }
  }

  #pathOfHandle({ request }: Context): Buffer | undefined {
    return this.#log.handles.path(this.#readRelease(request, ARGUMENT).fh);
  }

  /** Of a rename, where to. */
  #putNewName(context: Context, names: number): void {
    const newName = context.name(context.nameEnd(ARGUMENT + names) + 1);
    const { newdirLo, newdirHi } = this.#readRename(context.request, ARGUMENT);
    this.#paths.putOther(this.#log.draft.target, context, newdirLo, newdirHi, newName);
  }

  #aboutControl(context: Context, subject: Subject): void {
    const { draft } = this.#log;
    if (typeof subject === 'object')
      draft.path.prepend(context.name(ARGUMENT + ('name' in subject ? subject.name : subject.names)));
    this.#paths.putControl(draft.path, context, context.header.nodeidLo);
    if (typeof subject === 'object' && 'names' in subject) this.#putNewName(context, subject.names);
    if (this.#opcode !== OPCODE.WRITE) return;
    const { size } = this.#readWrite(context.request, ARGUMENT);
    const from = ARGUMENT + abi.writeIn.size;
    const text = context.request.subarray(from, Math.min(from + size, context.end));
    draft.bytes = size;
    draft.target.set(withoutNewline(text).subarray(0, COMMAND_BYTES));
  }

  /** Before the answer goes anywhere: gives a number to a handle that has been opened. */
  answered(context: Context, result: number): void {
    const opcode = this.#opcode;
    if (this.#log.levels.highest < STANDARD || context.view === CONTROL_VIEW) return;
    if (opcode === OPCODE.READ || opcode === OPCODE.WRITE) this.#count(context, result);
    else if (opcode === OPCODE.COPY_FILE_RANGE && result > 0)
      this.#log.handles.wrote(this.#readCopy(context.request, ARGUMENT).fhOut, context.reply.readUInt32LE(PAYLOAD));
    else if (this.#op !== 0 && result > 0 && opensHandle(opcode)) {
      const at = opcode === OPCODE.OPEN ? PAYLOAD : PAYLOAD + abi.entryOut.size;
      const number = this.#log.handles.open(this.#log.draft);
      this.#lines?.opened(number, this.#before);
      context.reply.writeUInt32LE(number >>> 0, at);
      context.reply.writeUInt32LE(Math.floor(number / 2 ** 32), at + 4);
    }
  }

  #count(context: Context, result: number): void {
    if (result <= 0) return;
    const { handles } = this.#log;
    if (this.#opcode === OPCODE.READ) handles.read(this.#readRead(context.request, ARGUMENT).fh, result);
    else {
      const { fh, size } = this.#readWrite(context.request, ARGUMENT);
      handles.wrote(fh, size);
    }
  }

  /** Records the request that `begin` told of, with its result: bytes of the answer, or a negative errno. */
  end(context: Context, result: number): void {
    const count = this.#opcode === OPCODE.RELEASE && context.view !== CONTROL_VIEW ? this.#closed(context) : undefined;
    if (this.#op === 0 || this.#isRepeated(context)) return;
    const isAbsent = this.#opcode === OPCODE.LOOKUP && result > 0 && context.reply.readUInt32LE(PAYLOAD) === 0;
    if (result > 0 && !isAbsent) this.#fromAnswer(context, result);
    const ordinal = this.#record(this.#clock.now(), isAbsent ? -errno.ENOENT : result, context.number);
    if (ordinal >= 0) count?.(ordinal);
  }

  #closed(context: Context): ReturnType<Lines['closed']> {
    const { fh } = this.#readRelease(context.request, ARGUMENT);
    const { handles } = this.#log;
    const written = handles.bytesWritten(fh);
    handles.close(fh);
    const inode = context.tree === this.#live ? this.#live.cached(context.ino) : undefined;
    return this.#lines?.closed(fh, inode, written);
  }

  #record(nowMs: number, result: number, request: number): number {
    const { draft, ring } = this.#log;
    draft.op = this.#op;
    draft.timeUs = Math.floor(this.#startMs * 1000);
    draft.durationUs = Math.max(0, Math.round((nowMs - this.#startMs) * 1000));
    draft.result = result < 0 ? -result : 0;
    this.#op = 0;
    return this.#log.record(Math.max(this.#live.sequence, ring.sequence), request);
  }

  /** What only the answer tells. */
  #fromAnswer(context: Context, result: number): void {
    const { draft } = this.#log;
    const { reply } = context;
    switch (this.#opcode) {
      case OPCODE.CREATE:
      case OPCODE.TMPFILE:
      case OPCODE.MKDIR:
      case OPCODE.MKNOD:
      case OPCODE.SYMLINK:
      case OPCODE.LOOKUP:
        draft.ino = fileOf(reply.readUInt32LE(PAYLOAD), reply.readUInt32LE(PAYLOAD + 4));
        break;
      case OPCODE.READ:
        draft.bytes = result;
        break;
      case OPCODE.WRITE:
      case OPCODE.COPY_FILE_RANGE:
      case OPCODE.COPY_FILE_RANGE_64:
        if (context.view !== CONTROL_VIEW) draft.bytes = reply.readUInt32LE(PAYLOAD);
    }
  }

  /** An earlier daemon has recorded it, and then died before it could answer. */
  #isRepeated({ header, number }: Context): boolean {
    return (header.uniqueHi & UNIQUE_RESEND_HI) !== 0 && number === this.#lastRequest;
  }

  /**
   * What `begin` told of, to be recorded when its result is there, or as another operation; undefined where it isn't
   * recorded.
   */
  copy(context: Context, operation?: keyof typeof OPERATIONS): Deferred | undefined {
    if (this.#op === 0 || this.#isRepeated(context)) return undefined;
    const { layer, ino, uid, gid, pid, comm, commBytes, path, target, bytes, position } = this.#log.draft;
    const copy = (text: Text) => (text.known ? Buffer.from(text.bytes.subarray(text.start)) : undefined);
    return {
      op: operation === undefined ? this.#op : OPERATIONS[operation].code,
      timeMs: this.#startMs,
      request: context.number,
      layer,
      ino,
      uid,
      gid,
      pid,
      comm: Buffer.from(comm.subarray(0, commBytes)),
      path: copy(path),
      target: copy(target),
      bytes,
      position,
    };
  }

  /** Records a deferred one. Never call it while a request is being served. */
  complete(deferred: Deferred, result: number): void {
    const { draft } = this.#log;
    draft.clear();
    draft.layer = deferred.layer;
    draft.ino = deferred.ino;
    draft.uid = deferred.uid;
    draft.gid = deferred.gid;
    draft.pid = deferred.pid;
    draft.commBytes = deferred.comm.copy(draft.comm);
    if (deferred.path !== undefined) draft.path.set(deferred.path);
    if (deferred.target !== undefined) draft.target.set(deferred.target);
    draft.bytes = deferred.bytes;
    draft.position = deferred.position;
    this.#op = deferred.op;
    this.#startMs = deferred.timeMs;
    this.#record(this.#clock.now(), result, deferred.request);
  }

  /** Whether a change that is carried out again has to be recorded, too: its daemon died before it could. */
  isNew(sequence: number): boolean {
    return sequence > this.#lastSequence;
  }

  /** What `begin` noted means nothing any more. */
  drop(): void {
    this.#op = 0;
    this.#opcode = 0;
  }
}

function attributeOperation(valid: number): 'truncate' | 'chown' | 'chmod' | 'utimes' {
  if ((valid & FATTR.SIZE) !== 0) return 'truncate';
  if ((valid & (FATTR.UID | FATTR.GID)) !== 0) return 'chown';
  return (valid & FATTR.MODE) !== 0 ? 'chmod' : 'utimes';
}

function opensHandle(opcode: number): boolean {
  return opcode === OPCODE.OPEN || opcode === OPCODE.CREATE || opcode === OPCODE.TMPFILE;
}

function withoutNewline(text: Buffer): Buffer {
  return text[text.length - 1] === 10 ? text.subarray(0, -1) : text;
}

/** The inode of a nodeid; 0 of a control file, or a mount point of a native mount. */
function fileOf(nodeidLo: number, nodeidHi: number): Ino | 0 {
  return nodeidHi >>> VIEW_SHIFT_HI >= PLACEHOLDER_VIEW ? 0 : inoOf(nodeidLo, nodeidHi);
}

/** The layer that the request's tree is of; of a snapshot also where its layer is gone. 0 where that isn't known. */
function layerOf({ tree, live, view }: Context): number {
  if (view >= PLACEHOLDER_VIEW) return live.place.layer;
  if (tree === undefined) return view >= SNAPSHOT_VIEW ? view - SNAPSHOT_VIEW : 0;
  return tree.place.layer;
}
