import { ROOT_INO } from '../../brand.ts';
import type { ControlEntry, ControlTarget } from '../../control/port.ts';
import { errno, FsError } from '../../errno.ts';
import { CONTROL_VIEW, type Context, SNAPSHOT_LAYERS, SNAPSHOT_VIEW } from '../context.ts';
import {
  controlIno,
  putControlAttributes,
  putControlEntry,
  putControlStatx,
  putEntry,
  putUnreferenced,
} from '../reply.ts';
import { NO_REPLY, PARKED, PAYLOAD } from '../session.ts';
import {
  batchForgetIn,
  createIn,
  entryOut,
  forgetIn,
  forgetOne,
  openIn,
  openOut,
  readIn,
  releaseIn,
  writeIn,
  writeOut,
} from '../wire/abi.ts';
import { appendDirent, appendDirentPlus, direntPlusBytes } from '../wire/dirent.ts';
import { DT, FOPEN, O } from '../wire/flags.ts';
import { OPCODE } from '../wire/operations.ts';

const ARGUMENT = 40;

const readOpen = openIn.reader();
const readCreate = createIn.reader();
const readRead = readIn.reader();
const readWrite = writeIn.reader();
const readRelease = releaseIn.reader();
const readForget = forgetIn.reader();
const writeOpen = openOut.writer();
const writeWritten = writeOut.writer();
const opened = openOut.blank();

/**
 * Serves a request on a control file or directory. Most of their tree is fixed: whatever would change it fails with
 * EPERM. Setting attributes does nothing and succeeds, so that `>` (which truncates) and `tee` work.
 */
export function serveControl(context: Context): number {
  const { control } = context.services;
  const id = context.header.nodeidLo;
  switch (context.header.opcode) {
    case OPCODE.LOOKUP:
      return lookup(context, id);
    case OPCODE.GETATTR:
    case OPCODE.SETATTR:
      return putControlAttributes(context.reply, PAYLOAD, id, control.attributes(id));
    case OPCODE.STATX:
      return putControlStatx(context.reply, PAYLOAD, id, control.attributes(id));
    case OPCODE.OPEN:
      return open(context, id);
    case OPCODE.CREATE:
      return create(context, id);
    case OPCODE.UNLINK:
      return remove(context, id);
    case OPCODE.OPENDIR:
      return -errno.ENOSYS;
    case OPCODE.RELEASE:
      control.release(readRelease(context.request, ARGUMENT).fh);
      return 0;
    case OPCODE.READ:
      return readFile(context, id);
    case OPCODE.WRITE:
      return writeFile(context, id);
    case OPCODE.READDIR:
      return list(context, id, false);
    case OPCODE.READDIRPLUS:
      return list(context, id, true);
    case OPCODE.GETXATTR:
      return -errno.ENODATA;
    case OPCODE.LISTXATTR:
      return -errno.EOPNOTSUPP;
    case OPCODE.FLUSH:
    case OPCODE.FSYNC:
    case OPCODE.FSYNCDIR:
      return 0;
    case OPCODE.FORGET:
      control.forget(id, readForget(context.request, ARGUMENT).nlookup);
      return NO_REPLY;
    // Programs that copy then read and write instead.
    case OPCODE.COPY_FILE_RANGE:
    case OPCODE.COPY_FILE_RANGE_64:
      return -errno.EXDEV;
    case OPCODE.LSEEK:
      return -errno.EINVAL;
    default:
      return -errno.EPERM;
  }
}

const readBatch = batchForgetIn.reader();
const readOne = forgetOne.reader();

/** Takes back those of a batch of references that are of control files. */
export function forgetControl(context: Context): void {
  const { count } = readBatch(context.request, ARGUMENT);
  for (let index = 0; index < count; index++) {
    const one = readOne(context.request, ARGUMENT + batchForgetIn.size + index * forgetOne.size);
    if (one.nodeidHi >>> 12 === CONTROL_VIEW) context.services.control.forget(one.nodeidLo, one.nlookup);
  }
}

function lookup(context: Context, id: number): number {
  const { control } = context.services;
  const name = context.name(ARGUMENT);
  if (name === '.') return putTarget(context, { node: id });
  if (name === '..') return id === 0 ? putLiveRoot(context) : putTarget(context, { node: control.parent(id) });
  const found = control.lookup(id, name);
  if (!(found instanceof Promise)) return putTarget(context, found);
  context.after = found.then((target) => {
    // Only directories that answer at once have snapshots in them.
    if (target === undefined || 'snapshot' in target) throw new FsError('ENOENT', 'no such control file');
    const reply = Buffer.alloc(entryOut.size);
    putControlEntry(reply, 0, target.node, control.attributes(target.node));
    return reply;
  });
  return PARKED;
}

function putLiveRoot(context: Context): number {
  return putEntry(context, PAYLOAD, context.live.inode(ROOT_INO));
}

/** @throws {Missing} for a snapshot whose root isn't loaded */
function putTarget(context: Context, target: ControlTarget | undefined): number {
  if (target === undefined) return -errno.ENOENT;
  if ('node' in target)
    return putControlEntry(context.reply, PAYLOAD, target.node, context.services.control.attributes(target.node));
  if (target.snapshot >= SNAPSHOT_LAYERS || !context.enterFrozen(SNAPSHOT_VIEW + target.snapshot, ROOT_INO))
    return -errno.ENOENT;
  // Another layer may have the name in a moment.
  return putEntry(context, PAYLOAD, context.workspace.inode(ROOT_INO), 0);
}

/** Control files are read and written past the page cache, whatever their size says. */
function open(context: Context, id: number): number {
  putOpened(context, PAYLOAD, id, readOpen(context.request, ARGUMENT).flags);
  return openOut.size;
}

function putOpened(context: Context, at: number, id: number, flags: number): void {
  const mode = flags & O.ACCMODE;
  opened.fh = context.services.control.open(id, { write: mode !== O.RDONLY });
  opened.openFlags = FOPEN.DIRECT_IO | (context.services.control.isStream(id) ? FOPEN.NONSEEKABLE : 0);
  writeOpen(context.reply, at, opened);
}

function create(context: Context, directory: number): number {
  const { control } = context.services;
  const { flags } = readCreate(context.request, ARGUMENT);
  const id = control.create(directory, context.name(ARGUMENT + createIn.size));
  const entryBytes = putControlEntry(context.reply, PAYLOAD, id, control.attributes(id));
  putOpened(context, PAYLOAD + entryBytes, id, flags);
  return entryBytes + openOut.size;
}

function remove(context: Context, directory: number): number {
  context.after = context.services.control.remove(directory, context.name(ARGUMENT), context.number);
  return PARKED;
}

function readFile(context: Context, id: number): number {
  const { fh, offset, size } = readRead(context.request, ARGUMENT);
  const { control } = context.services;
  const mayEnd = control.isStream(id) || control.isInterruptible(id);
  context.endless = control.isEndless(id);
  context.after = control.read(id, fh, offset, size, mayEnd ? interruptible(context) : NEVER.signal);
  return PARKED;
}

function writeFile(context: Context, id: number): number {
  const { fh, size } = readWrite(context.request, ARGUMENT);
  const data = ARGUMENT + writeIn.size;
  context.require(data + size);
  const bytes = Buffer.from(context.request.subarray(data, data + size));
  const { control } = context.services;
  // Any other command takes effect, whatever becomes of who gave it.
  const signal = control.isInterruptible(id) ? interruptible(context) : NEVER.signal;
  context.after = control.write(id, fh, bytes, context.number, signal).then(writtenReply);
  return PARKED;
}

const NEVER = new AbortController();

/** Aborts when the wait for an answer is ended. */
function interruptible(context: Context): AbortSignal {
  const abort = new AbortController();
  context.interrupt = () => abort.abort(new FsError('EINTR', 'interrupted'));
  return abort.signal;
}

function writtenReply(bytes: number): Buffer {
  const reply = Buffer.alloc(writeOut.size);
  writeWritten(reply, 0, { size: bytes });
  return reply;
}

function list(context: Context, id: number, plus: boolean): number {
  const { control } = context.services;
  const { offset, size } = readRead(context.request, ARGUMENT);
  const dots = [
    { name: '.', directory: true, node: id },
    { name: '..', directory: true, node: control.parent(id) },
  ];
  const found = control.list(id);
  if (!(found instanceof Promise))
    return putList(context.reply, PAYLOAD, PAYLOAD + size, offset, plus, [...dots, ...found]) - PAYLOAD;
  context.after = found.then((entries) => {
    const reply = Buffer.alloc(size);
    return reply.subarray(0, putList(reply, 0, size, offset, plus, [...dots, ...entries]));
  });
  return PARKED;
}

/** What has no number before it's looked up; 0 would make programs skip it. */
const UNNUMBERED = 2 ** 32;

/** An entry's place in the list is its cookie. None takes a reference: whoever wants one looks it up. */
function putList(
  reply: Buffer,
  start: number,
  end: number,
  offset: number,
  plus: boolean,
  entries: readonly ControlEntry[],
): number {
  const append = plus ? appendDirentPlus : appendDirent;
  let at = start;
  for (let index = offset; index < entries.length; index++) {
    const entry = entries[index];
    if (entry === undefined) break;
    const ino = controlIno(entry.node ?? UNNUMBERED);
    const next = append(reply, at, end, ino, index + 1, entry.directory ? DT.DIR : DT.REG, entry.name);
    if (next < 0) break;
    if (plus) putUnreferenced(reply, next);
    at = plus ? next + direntPlusBytes(entry.name.length) : next;
  }
  return at;
}
