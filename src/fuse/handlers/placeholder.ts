import { ROOT_INO } from '../../brand.ts';
import { errno } from '../../errno.ts';
import type { Context } from '../context.ts';
import type { Placeholder } from '../placeholders.ts';
import { placeholderIno, putPlaceholderAttributes, putPlaceholderStatx, putUnreferenced } from '../reply.ts';
import { NO_REPLY, PAYLOAD } from '../session.ts';
import { readIn } from '../wire/abi.ts';
import { appendDirent, appendDirentPlus, direntPlusBytes } from '../wire/dirent.ts';
import { DT } from '../wire/flags.ts';
import { OPCODE } from '../wire/operations.ts';
import { handleStatfs } from './attributes.ts';

const ARGUMENT = 40;
const readList = readIn.reader();

/** Serves a request on a placeholder that nothing is mounted on: empty, and not to be changed. */
export function servePlaceholder(context: Context): number {
  const placeholder = context.services.placeholders.get(context.header.nodeidLo);
  switch (context.header.opcode) {
    case OPCODE.FORGET:
      return NO_REPLY;
    case OPCODE.GETATTR:
      if (placeholder === undefined) return -errno.ESTALE;
      return putPlaceholderAttributes(context, PAYLOAD, placeholder, context.live.inode(ROOT_INO));
    case OPCODE.STATX:
      if (placeholder === undefined) return -errno.ESTALE;
      return putPlaceholderStatx(context, PAYLOAD, placeholder, context.live.inode(ROOT_INO));
    case OPCODE.LOOKUP:
      return -errno.ENOENT;
    case OPCODE.OPENDIR:
      return -errno.ENOSYS;
    case OPCODE.READDIR:
    case OPCODE.READDIRPLUS:
      return placeholder === undefined ? -errno.ESTALE : listNothing(context, placeholder);
    case OPCODE.STATFS:
      return handleStatfs(context);
    case OPCODE.GETXATTR:
      return -errno.ENODATA;
    case OPCODE.LISTXATTR:
      return -errno.EOPNOTSUPP;
    case OPCODE.FLUSH:
    case OPCODE.RELEASE:
    case OPCODE.FSYNC:
    case OPCODE.FSYNCDIR:
      return 0;
    default:
      return -errno.EROFS;
  }
}

/** Its `.` and `..`. */
function listNothing(context: Context, { id }: Placeholder): number {
  const { offset, size } = readList(context.request, ARGUMENT);
  const plus = context.header.opcode === OPCODE.READDIRPLUS;
  const append = plus ? appendDirentPlus : appendDirent;
  let at = PAYLOAD;
  for (const [index, name] of ['.', '..'].entries()) {
    if (index < offset) continue;
    const next = append(context.reply, at, PAYLOAD + size, placeholderIno(id), index + 1, DT.DIR, name);
    if (next < 0) break;
    if (plus) putUnreferenced(context.reply, next);
    at = plus ? next + direntPlusBytes(name.length) : next;
  }
  return at - PAYLOAD;
}
