/**
 * Notifications: messages to the kernel that answer no request. Each function writes one whole message from the
 * start of the buffer and returns its length, to be given to `Device.write`.
 *
 * Writing one makes the kernel take locks of the inode that it names, on the writer's own thread. While a request on
 * that inode is unanswered its caller may hold them, so write it only after the answer, or the process that serves
 * the mount waits for itself. ENOENT from the write means that the kernel had nothing to drop.
 */
import { notifyDeleteOut, notifyInvalEntryOut, notifyInvalInodeOut, notifyStoreOut, outHeader } from './wire/abi.ts';
import { INVAL_ENTRY, NOTIFY } from './wire/flags.ts';

/** Holds a notification with a name of any length. */
export const NAMED_MESSAGE_BYTES = 512;

const BODY = outHeader.size;
const writeHeader = outHeader.writer();
const header = outHeader.blank();

function seal(buffer: Buffer, code: number, length: number): number {
  header.len = length;
  header.error = code;
  writeHeader(buffer, 0, header);
  return length;
}

const writeInvalInode = notifyInvalInodeOut.writer();
const invalInode = notifyInvalInodeOut.blank();

/**
 * Drops an inode's attributes and the pages of a byte range. A negative `offset` keeps the pages; a `length` of 0
 * means to the end.
 */
export function packInvalInode(
  buffer: Buffer,
  nodeidLo: number,
  nodeidHi: number,
  offset: number,
  length: number,
): number {
  invalInode.nodeidLo = nodeidLo;
  invalInode.nodeidHi = nodeidHi;
  invalInode.off = offset;
  invalInode.len = length;
  writeInvalInode(buffer, BODY, invalInode);
  return seal(buffer, NOTIFY.INVAL_INODE, BODY + notifyInvalInodeOut.size);
}

const writeInvalEntry = notifyInvalEntryOut.writer();
const invalEntry = notifyInvalEntryOut.blank();

/**
 * Drops what is cached of a name in a directory, negative entries included. `name` is one byte a character.
 * `expireOnly` (HAS_EXPIRE_ONLY) lets it be asked for again on its next use instead.
 */
export function packInvalEntry(
  buffer: Buffer,
  parentLo: number,
  parentHi: number,
  name: string,
  expireOnly = false,
): number {
  invalEntry.parentLo = parentLo;
  invalEntry.parentHi = parentHi;
  invalEntry.namelen = name.length;
  invalEntry.flags = expireOnly ? INVAL_ENTRY.EXPIRE_ONLY : 0;
  writeInvalEntry(buffer, BODY, invalEntry);
  return seal(buffer, NOTIFY.INVAL_ENTRY, putName(buffer, BODY + notifyInvalEntryOut.size, name));
}

const writeDelete = notifyDeleteOut.writer();
const deleted = notifyDeleteOut.blank();

/** Drops a name that was removed, and tells those who watch it (inotify); only if it still is that child. */
export function packDelete(
  buffer: Buffer,
  parentLo: number,
  parentHi: number,
  childLo: number,
  childHi: number,
  name: string,
): number {
  deleted.parentLo = parentLo;
  deleted.parentHi = parentHi;
  deleted.childLo = childLo;
  deleted.childHi = childHi;
  deleted.namelen = name.length;
  writeDelete(buffer, BODY, deleted);
  return seal(buffer, NOTIFY.DELETE, putName(buffer, BODY + notifyDeleteOut.size, name));
}

/** The name and its NUL, which the kernel wants although `namelen` doesn't count it. Returns the position after. */
function putName(buffer: Buffer, at: number, name: string): number {
  buffer.write(name, at, 'latin1');
  buffer[at + name.length] = 0;
  return at + name.length + 1;
}

const writeStore = notifyStoreOut.writer();
const stored = notifyStoreOut.blank();

/** Puts bytes into an inode's page cache, growing its cached size if they pass it. */
export function packStore(
  buffer: Buffer,
  nodeidLo: number,
  nodeidHi: number,
  offset: number,
  data: Uint8Array,
): number {
  stored.nodeidLo = nodeidLo;
  stored.nodeidHi = nodeidHi;
  stored.offset = offset;
  stored.size = data.length;
  writeStore(buffer, BODY, stored);
  buffer.set(data, BODY + notifyStoreOut.size);
  return seal(buffer, NOTIFY.STORE, BODY + notifyStoreOut.size + data.length);
}

/** Asks for every request again that was read and not answered (HAS_RESEND): for a new process on an old handle. */
export function packResend(buffer: Buffer): number {
  return seal(buffer, NOTIFY.RESEND, BODY);
}

/** Drops every cached name at once (7.44). EINVAL from the write: the kernel is older. */
export function packIncEpoch(buffer: Buffer): number {
  return seal(buffer, NOTIFY.INC_EPOCH, BODY);
}
