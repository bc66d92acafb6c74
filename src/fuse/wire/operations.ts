/** Every operation of the protocol, one row each: what the kernel sends and what it takes as an answer. */
import * as abi from './abi.ts';
import type { AnyStruct } from './struct.ts';

/**
 * What follows the header of a request, in this order: the argument struct, NUL-terminated names, data.
 * Extensions (`totalExtlen`) come last.
 */
export interface Operation {
  readonly opcode: number;
  readonly name: string;
  readonly argument: AnyStruct | undefined;
  /** Bytes of the argument in its oldest form (7.31); less than the struct where newer minors extended it. */
  readonly argumentBytes: number;
  /** NUL-terminated names that follow the argument. */
  readonly names: 0 | 1 | 2;
  /** Bytes without a terminator follow the names. */
  readonly data: boolean;
  /** The struct of the answer; `data` for bare bytes, `none` for an answer without a body, `no reply` where none is expected. */
  readonly reply: AnyStruct | 'data' | 'none' | 'no reply';
  /** Minor version that brought it. */
  readonly since: number;
}

interface Row {
  readonly argument?: AnyStruct;
  readonly argumentBytes?: number;
  readonly names?: 0 | 1 | 2;
  readonly data?: boolean;
  readonly reply?: Operation['reply'];
  readonly since?: number;
}

function row(opcode: number, name: string, sends: Row): Operation {
  return {
    opcode,
    name,
    argument: sends.argument,
    argumentBytes: sends.argumentBytes ?? sends.argument?.size ?? 0,
    names: sends.names ?? 0,
    data: sends.data ?? false,
    reply: sends.reply ?? 'none',
    since: sends.since ?? abi.OLDEST_MINOR,
  };
}

/** Opcode by name. */
export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

export type OperationName = keyof typeof OPCODE;

/**
 * CREATE and TMPFILE answer with `entryOut` directly followed by `openOut`. GETXATTR and LISTXATTR answer with bare
 * data, or with `getxattrOut` when asked for a size of 0. IOCTL's data follows `ioctlOut`.
 */
const ROWS: { readonly [name in OperationName]: Row } = {
  LOOKUP: { names: 1, reply: abi.entryOut },
  FORGET: { argument: abi.forgetIn, reply: 'no reply' },
  GETATTR: { argument: abi.getattrIn, reply: abi.attrOut },
  SETATTR: { argument: abi.setattrIn, reply: abi.attrOut },
  READLINK: { reply: 'data' },
  // The name, then the target.
  SYMLINK: { names: 2, reply: abi.entryOut },
  MKNOD: { argument: abi.mknodIn, names: 1, reply: abi.entryOut },
  MKDIR: { argument: abi.mkdirIn, names: 1, reply: abi.entryOut },
  UNLINK: { names: 1 },
  RMDIR: { names: 1 },
  // The old name in the header's node, then the new one in `newdir`.
  RENAME: { argument: abi.renameIn, names: 2 },
  // The header's node is the directory that gets the name.
  LINK: { argument: abi.linkIn, names: 1, reply: abi.entryOut },
  OPEN: { argument: abi.openIn, reply: abi.openOut },
  READ: { argument: abi.readIn, reply: 'data' },
  WRITE: { argument: abi.writeIn, data: true, reply: abi.writeOut },
  STATFS: { reply: abi.statfsOut },
  RELEASE: { argument: abi.releaseIn },
  FSYNC: { argument: abi.fsyncIn },
  SETXATTR: { argument: abi.setxattrIn, argumentBytes: abi.setxattrInCompat.size, names: 1, data: true },
  GETXATTR: { argument: abi.getxattrIn, names: 1, reply: 'data' },
  LISTXATTR: { argument: abi.getxattrIn, reply: 'data' },
  REMOVEXATTR: { names: 1 },
  FLUSH: { argument: abi.flushIn },
  INIT: { argument: abi.initIn, argumentBytes: abi.INIT_IN_COMPAT_BYTES, reply: abi.initOut },
  OPENDIR: { argument: abi.openIn, reply: abi.openOut },
  READDIR: { argument: abi.readIn, reply: 'data' },
  RELEASEDIR: { argument: abi.releaseIn },
  FSYNCDIR: { argument: abi.fsyncIn },
  GETLK: { argument: abi.lkIn, reply: abi.lkOut },
  SETLK: { argument: abi.lkIn },
  SETLKW: { argument: abi.lkIn },
  ACCESS: { argument: abi.accessIn },
  CREATE: { argument: abi.createIn, names: 1, reply: abi.entryOut },
  INTERRUPT: { argument: abi.interruptIn, reply: 'no reply' },
  BMAP: { argument: abi.bmapIn, reply: abi.bmapOut },
  DESTROY: {},
  IOCTL: { argument: abi.ioctlIn, data: true, reply: abi.ioctlOut },
  POLL: { argument: abi.pollIn, reply: abi.pollOut },
  NOTIFY_REPLY: { argument: abi.notifyRetrieveIn, data: true, reply: 'no reply' },
  BATCH_FORGET: { argument: abi.batchForgetIn, data: true, reply: 'no reply' },
  FALLOCATE: { argument: abi.fallocateIn },
  READDIRPLUS: { argument: abi.readIn, reply: 'data' },
  RENAME2: { argument: abi.rename2In, names: 2 },
  LSEEK: { argument: abi.lseekIn, reply: abi.lseekOut },
  COPY_FILE_RANGE: { argument: abi.copyFileRangeIn, reply: abi.writeOut },
  SETUPMAPPING: { data: true },
  REMOVEMAPPING: { data: true },
  SYNCFS: { argument: abi.syncfsIn, since: 34 },
  // The kernel sends an empty name or "/" here, which says nothing.
  TMPFILE: { argument: abi.createIn, names: 1, reply: abi.entryOut, since: 37 },
  STATX: { argument: abi.statxIn, reply: abi.statxOut, since: 39 },
  COPY_FILE_RANGE_64: { argument: abi.copyFileRangeIn, reply: abi.copyFileRangeOut, since: 45 },
};

/** Every operation, in order of opcode. */
export const operations: readonly Operation[] = (Object.keys(OPCODE) as OperationName[]) // its keys are the names
  .map((name) => row(OPCODE[name], name, ROWS[name]));

const byOpcode: (Operation | undefined)[] = Array.from({ length: 64 }, (_, opcode) =>
  operations.find((operation) => operation.opcode === opcode),
);

/** The operation, or undefined for an opcode that the protocol up to 7.45 doesn't have. */
export function operationOf(opcode: number): Operation | undefined {
  return byOpcode[opcode];
}
