import { errno } from '../../errno.ts';
import type { Context } from '../context.ts';
import { OPCODE, operationOf } from '../wire/operations.ts';
import {
  handleGetattr,
  handleGetxattr,
  handleListxattr,
  handleReadlink,
  handleRemovexattr,
  handleSetattr,
  handleStatfs,
  handleStatx,
  setxattrHandler,
} from './attributes.ts';
import {
  forgetsOrphan,
  handleBatchForget,
  handleForget,
  handleOpendir,
  handleReaddir,
  handleReaddirplus,
} from './directories.ts';
import {
  handleCopyFileRange,
  handleCopyFileRange64,
  handleFallocate,
  handleFlush,
  handleFsync,
  handleLseek,
  handleOpen,
  handleRead,
  handleRelease,
  handleWrite,
  opensWithTruncation,
} from './files.ts';
import {
  handleCreate,
  handleLink,
  handleLookup,
  handleMkdir,
  handleMknod,
  handleRename,
  handleRename2,
  handleRmdir,
  handleSymlink,
  handleTmpfile,
  handleUnlink,
} from './names.ts';

/** Serves a decoded request: bytes written at PAYLOAD of the reply, a negative errno, NO_REPLY, or PARKED with `after` set. */
export type Handle = (context: Context) => number;

export interface HandlerRow {
  readonly handle: Handle;
  /** Bytes of argument that must be there. */
  readonly argumentBytes: number;
  /** Whether this request may change the tree, and so may have to wait for room. */
  readonly changes: (context: Context) => boolean;
  /** It takes references back and is never answered. */
  readonly forgets: boolean;
}

const reads: readonly (readonly [number, Handle])[] = [
  [OPCODE.LOOKUP, handleLookup],
  [OPCODE.GETATTR, handleGetattr],
  [OPCODE.STATX, handleStatx],
  [OPCODE.READLINK, handleReadlink],
  [OPCODE.READ, handleRead],
  [OPCODE.STATFS, handleStatfs],
  [OPCODE.RELEASE, handleRelease],
  [OPCODE.RELEASEDIR, () => 0],
  [OPCODE.FLUSH, handleFlush],
  [OPCODE.FSYNC, handleFsync],
  [OPCODE.FSYNCDIR, handleFsync],
  [OPCODE.SYNCFS, handleFsync],
  [OPCODE.GETXATTR, handleGetxattr],
  [OPCODE.LISTXATTR, handleListxattr],
  [OPCODE.READDIR, handleReaddir],
  [OPCODE.READDIRPLUS, handleReaddirplus],
  [OPCODE.LSEEK, handleLseek],
  [OPCODE.OPENDIR, handleOpendir],
  // The kernel checks permissions by itself (default_permissions).
  [OPCODE.ACCESS, () => -errno.ENOSYS],
  [OPCODE.DESTROY, () => 0],
];

const changes: readonly (readonly [number, Handle])[] = [
  [OPCODE.SETATTR, handleSetattr],
  [OPCODE.SYMLINK, handleSymlink],
  [OPCODE.MKNOD, handleMknod],
  [OPCODE.MKDIR, handleMkdir],
  [OPCODE.UNLINK, handleUnlink],
  [OPCODE.RMDIR, handleRmdir],
  [OPCODE.RENAME, handleRename],
  [OPCODE.RENAME2, handleRename2],
  [OPCODE.LINK, handleLink],
  [OPCODE.CREATE, handleCreate],
  [OPCODE.TMPFILE, handleTmpfile],
  [OPCODE.WRITE, handleWrite],
  [OPCODE.REMOVEXATTR, handleRemovexattr],
  [OPCODE.FALLOCATE, handleFallocate],
  [OPCODE.COPY_FILE_RANGE, handleCopyFileRange],
  [OPCODE.COPY_FILE_RANGE_64, handleCopyFileRange64],
];

const forgets: readonly (readonly [number, Handle])[] = [
  [OPCODE.FORGET, handleForget],
  [OPCODE.BATCH_FORGET, handleBatchForget],
];

/**
 * One row for each operation that is served, by opcode. The others are answered ENOSYS: then the kernel does without
 * (locks, poll, bmap) or reports it (ioctl as ENOTTY).
 */
export function handlerTable(setxattrExtended: boolean): readonly (HandlerRow | undefined)[] {
  const table: (HandlerRow | undefined)[] = [];
  const add = (rows: readonly (readonly [number, Handle])[], kind: Pick<HandlerRow, 'changes' | 'forgets'>) => {
    for (const [opcode, handle] of rows)
      table[opcode] = { handle, argumentBytes: operationOf(opcode)?.argumentBytes ?? 0, ...kind };
  };
  add(reads, { changes: () => false, forgets: false });
  add([...changes, [OPCODE.SETXATTR, setxattrHandler(setxattrExtended)]], { changes: () => true, forgets: false });
  add([[OPCODE.OPEN, handleOpen]], { changes: opensWithTruncation, forgets: false });
  add(forgets, { changes: forgetsOrphan, forgets: true });
  return table;
}
