import { ROOT_INO } from '../../brand.ts';
import { errno } from '../../errno.ts';
import type { Context } from '../context.ts';
import { controlIno, putControlAttributes, putControlEntry, putEntry, putUnreferenced } from '../reply.ts';
import { NO_REPLY, PARKED, PAYLOAD } from '../session.ts';
import { openIn, openOut, readIn, releaseIn, writeIn, writeOut } from '../wire/abi.ts';
import { appendDirent, appendDirentPlus } from '../wire/dirent.ts';
import { DT, FOPEN, O } from '../wire/flags.ts';
import { OPCODE } from '../wire/operations.ts';

const ARGUMENT = 40;
const PLUS_FIXED_BYTES = 152;

const readOpen = openIn.reader();
const readRead = readIn.reader();
const readWrite = writeIn.reader();
const readRelease = releaseIn.reader();
const writeOpen = openOut.writer();
const writeWritten = writeOut.writer();
const opened = openOut.blank();

/**
 * Serves a request on a control file or directory. Their tree is fixed: whatever would change it fails with EPERM.
 * Setting attributes does nothing and succeeds, so that `>` (which truncates) and `tee` work.
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
    case OPCODE.OPEN:
      return open(context, id);
    case OPCODE.OPENDIR:
      return -errno.ENOSYS;
    case OPCODE.RELEASE:
      control.release(readRelease(context.request, ARGUMENT).fh);
      return 0;
    case OPCODE.READ:
      return readFile(context);
    case OPCODE.WRITE:
      return writeFile(context);
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
      return NO_REPLY;
    case OPCODE.LSEEK:
      return -errno.EINVAL;
    default:
      return -errno.EPERM;
  }
}

function lookup(context: Context, id: number): number {
  const { control } = context.services;
  const name = context.name(ARGUMENT);
  if (name === '..' && id === 0) return putEntry(context.reply, PAYLOAD, context.workspace.inode(ROOT_INO));
  const found = name === '.' ? id : name === '..' ? control.parent(id) : control.lookup(id, name);
  if (found === undefined) return -errno.ENOENT;
  return putControlEntry(context.reply, PAYLOAD, found, control.attributes(found));
}

/** Control files are read and written past the page cache, whatever their size says. */
function open(context: Context, id: number): number {
  const { flags } = readOpen(context.request, ARGUMENT);
  const mode = flags & O.ACCMODE;
  opened.fh = context.services.control.open(id, { read: mode !== O.WRONLY, write: mode !== O.RDONLY });
  opened.openFlags = FOPEN.DIRECT_IO;
  writeOpen(context.reply, PAYLOAD, opened);
  return openOut.size;
}

function readFile(context: Context): number {
  const { fh, offset, size } = readRead(context.request, ARGUMENT);
  context.after = context.services.control.read(fh, offset, size);
  return PARKED;
}

function writeFile(context: Context): number {
  const { fh, size } = readWrite(context.request, ARGUMENT);
  const data = ARGUMENT + writeIn.size;
  if (data + size > context.end) return -errno.EIO;
  const bytes = Buffer.from(context.request.subarray(data, data + size));
  context.after = context.services.control.write(fh, bytes).then(writtenReply);
  return PARKED;
}

function writtenReply(bytes: number): Buffer {
  const reply = Buffer.alloc(writeOut.size);
  writeWritten(reply, 0, { size: bytes });
  return reply;
}

/** The listing is short: its order numbers are its cookies. */
function list(context: Context, id: number, plus: boolean): number {
  const { control } = context.services;
  const { offset, size } = readRead(context.request, ARGUMENT);
  const entries = [
    { id, name: '.', directory: true },
    { id: control.parent(id), name: '..', directory: true },
    ...control.list(id),
  ];
  const end = PAYLOAD + size;
  let at = PAYLOAD;
  for (let index = offset; index < entries.length; index++) {
    const entry = entries[index];
    if (entry === undefined) break;
    const type = entry.directory ? DT.DIR : DT.REG;
    const ino = controlIno(entry.id);
    const append = plus ? appendDirentPlus : appendDirent;
    const next = append(context.reply, at, end, ino, index + 1, type, entry.name);
    if (next < 0) break;
    if (plus) {
      if (index < 2) putUnreferenced(context.reply, next);
      else putControlEntry(context.reply, next, entry.id, control.attributes(entry.id));
    }
    at = plus ? next + ((PLUS_FIXED_BYTES + entry.name.length + 7) & ~7) : next;
  }
  return at - PAYLOAD;
}
