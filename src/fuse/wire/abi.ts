/**
 * The structs of the FUSE kernel protocol, 7.31 to 7.45 (include/uapi/linux/fuse.h), by the header's names in
 * camelCase. A struct that the header embeds (`attr` in `entry_out`) is laid flat. Numbers are 64-bit words where the
 * header has them, except identities that use all 64 bits (nodeids, unique numbers, lock owners): they are two
 * `u32`, `…Lo` and `…Hi`. Times are seconds, signed as the kernel treats them.
 */
import { struct } from './struct.ts';

/** Protocol that Tarbox speaks, at most and at least. */
export const PROTOCOL_MAJOR = 7;
export const NEWEST_MINOR = 45;
export const OLDEST_MINOR = 31;
/** nodeid of the mount's root. */
export const ROOT_NODEID = 1;

/* --- every message --- */

/** `totalExtlen` counts the extensions at the end of the request in units of 8 bytes. */
export const inHeader = struct('inHeader', 40, {
  len: 'u32',
  opcode: 'u32',
  uniqueLo: 'u32',
  uniqueHi: 'u32',
  nodeidLo: 'u32',
  nodeidHi: 'u32',
  uid: 'u32',
  gid: 'u32',
  pid: 'u32',
  totalExtlen: 'u16',
  padding: ['bytes', 2],
});

/** `error` is a negative errno, or a notification's code when unique is 0. */
export const outHeader = struct('outHeader', 16, { len: 'u32', error: 'i32', uniqueLo: 'u32', uniqueHi: 'u32' });

/* --- session --- */

/** Kernels without INIT_EXT (before 7.36) send only the first 16 bytes. */
export const initIn = struct('initIn', 64, {
  major: 'u32',
  minor: 'u32',
  maxReadahead: 'u32',
  flags: 'u32',
  flags2: 'u32',
  unused: ['bytes', 44],
});
export const INIT_IN_COMPAT_BYTES = 16;

/** `requestTimeout` in seconds; `timeGran` in nanoseconds. */
export const initOut = struct('initOut', 64, {
  major: 'u32',
  minor: 'u32',
  maxReadahead: 'u32',
  flags: 'u32',
  maxBackground: 'u16',
  congestionThreshold: 'u16',
  maxWrite: 'u32',
  timeGran: 'u32',
  maxPages: 'u16',
  mapAlignment: 'u16',
  flags2: 'u32',
  maxStackDepth: 'u32',
  requestTimeout: 'u16',
  unused: ['bytes', 22],
});
/** What is sent to a kernel with another major version. */
export const INIT_OUT_COMPAT_BYTES = 8;

export const interruptIn = struct('interruptIn', 8, { uniqueLo: 'u32', uniqueHi: 'u32' });
export const syncfsIn = struct('syncfsIn', 8, { padding: ['bytes', 8] });

/* --- attributes --- */

const attrFields = {
  ino: 'u64',
  size: 'u64',
  blocks: 'u64',
  atime: 'i64',
  mtime: 'i64',
  ctime: 'i64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  nlink: 'u32',
  uid: 'u32',
  gid: 'u32',
  rdev: 'u32',
  blksize: 'u32',
  flags: 'u32',
} as const;

/** `ino` is st_ino, which is not the nodeid. `rdev` is the kernel's 32-bit encoding (new_encode_dev). */
export const attr = struct('attr', 88, attrFields);

/** A nodeid of 0 with an `entryValid` caches that the name doesn't exist. */
export const entryOut = struct('entryOut', 128, {
  nodeidLo: 'u32',
  nodeidHi: 'u32',
  generation: 'u64',
  entryValid: 'u64',
  attrValid: 'u64',
  entryValidNsec: 'u32',
  attrValidNsec: 'u32',
  ...attrFields,
});

export const attrOut = struct('attrOut', 104, {
  attrValid: 'u64',
  attrValidNsec: 'u32',
  dummy: ['bytes', 4],
  ...attrFields,
});

export const getattrIn = struct('getattrIn', 16, { getattrFlags: 'u32', dummy: ['bytes', 4], fh: 'u64' });

/** `valid` says which of the others count: FATTR. */
export const setattrIn = struct('setattrIn', 88, {
  valid: 'u32',
  padding: ['bytes', 4],
  fh: 'u64',
  size: 'u64',
  lockOwnerLo: 'u32',
  lockOwnerHi: 'u32',
  atime: 'i64',
  mtime: 'i64',
  ctime: 'i64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  unused4: ['bytes', 4],
  uid: 'u32',
  gid: 'u32',
  unused5: ['bytes', 4],
});

export const statxIn = struct('statxIn', 24, {
  getattrFlags: 'u32',
  reserved: ['bytes', 4],
  fh: 'u64',
  sxFlags: 'u32',
  sxMask: 'u32',
});

const statxFields = {
  mask: 'u32',
  blksize: 'u32',
  attributes: 'u64',
  nlink: 'u32',
  uid: 'u32',
  gid: 'u32',
  mode: 'u16',
  spare0: ['bytes', 2],
  ino: 'u64',
  size: 'u64',
  blocks: 'u64',
  attributesMask: 'u64',
  atime: 'i64',
  atimensec: 'u32',
  atimeReserved: ['bytes', 4],
  btime: 'i64',
  btimensec: 'u32',
  btimeReserved: ['bytes', 4],
  ctime: 'i64',
  ctimensec: 'u32',
  ctimeReserved: ['bytes', 4],
  mtime: 'i64',
  mtimensec: 'u32',
  mtimeReserved: ['bytes', 4],
  rdevMajor: 'u32',
  rdevMinor: 'u32',
  devMajor: 'u32',
  devMinor: 'u32',
  spare2: ['bytes', 112],
} as const;

export const statx = struct('statx', 256, statxFields);
export const statxOut = struct('statxOut', 288, {
  attrValid: 'u64',
  attrValidNsec: 'u32',
  flags: 'u32',
  spare: ['bytes', 16],
  ...statxFields,
});

export const accessIn = struct('accessIn', 8, { mask: 'u32', padding: ['bytes', 4] });

/** `fuse_kstatfs`, alone in `fuse_statfs_out`. */
export const statfsOut = struct('statfsOut', 80, {
  blocks: 'u64',
  bfree: 'u64',
  bavail: 'u64',
  files: 'u64',
  ffree: 'u64',
  bsize: 'u32',
  namelen: 'u32',
  frsize: 'u32',
  padding: ['bytes', 4],
  spare: ['bytes', 24],
});

/* --- forgetting --- */

export const forgetIn = struct('forgetIn', 8, { nlookup: 'u64' });
/** Followed by `count` times `forgetOne`. */
export const batchForgetIn = struct('batchForgetIn', 8, { count: 'u32', dummy: ['bytes', 4] });
export const forgetOne = struct('forgetOne', 16, { nodeidLo: 'u32', nodeidHi: 'u32', nlookup: 'u64' });

/* --- names --- */

export const mknodIn = struct('mknodIn', 16, { mode: 'u32', rdev: 'u32', umask: 'u32', padding: ['bytes', 4] });
export const mkdirIn = struct('mkdirIn', 8, { mode: 'u32', umask: 'u32' });
export const renameIn = struct('renameIn', 8, { newdirLo: 'u32', newdirHi: 'u32' });
/** `flags`: RENAME. */
export const rename2In = struct('rename2In', 16, {
  newdirLo: 'u32',
  newdirHi: 'u32',
  flags: 'u32',
  padding: ['bytes', 4],
});
export const linkIn = struct('linkIn', 8, { oldnodeidLo: 'u32', oldnodeidHi: 'u32' });
/** Also for TMPFILE, whose reply is that of CREATE. `flags`: O; `openFlags`: OPEN_IN. */
export const createIn = struct('createIn', 16, { flags: 'u32', mode: 'u32', umask: 'u32', openFlags: 'u32' });

/* --- handles --- */

/** `flags`: O; `openFlags`: OPEN_IN. */
export const openIn = struct('openIn', 8, { flags: 'u32', openFlags: 'u32' });
/** `openFlags`: FOPEN. */
export const openOut = struct('openOut', 16, { fh: 'u64', openFlags: 'u32', backingId: 'i32' });
export const releaseIn = struct('releaseIn', 24, {
  fh: 'u64',
  flags: 'u32',
  releaseFlags: 'u32',
  lockOwnerLo: 'u32',
  lockOwnerHi: 'u32',
});
export const flushIn = struct('flushIn', 24, {
  fh: 'u64',
  unused: ['bytes', 4],
  padding: ['bytes', 4],
  lockOwnerLo: 'u32',
  lockOwnerHi: 'u32',
});
/** Also for READDIR and READDIRPLUS, where `offset` is the cookie to go on after. */
export const readIn = struct('readIn', 40, {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  readFlags: 'u32',
  lockOwnerLo: 'u32',
  lockOwnerHi: 'u32',
  flags: 'u32',
  padding: ['bytes', 4],
});
/** Followed by `size` bytes. */
export const writeIn = struct('writeIn', 40, {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  writeFlags: 'u32',
  lockOwnerLo: 'u32',
  lockOwnerHi: 'u32',
  flags: 'u32',
  padding: ['bytes', 4],
});
export const writeOut = struct('writeOut', 8, { size: 'u32', padding: ['bytes', 4] });
export const fsyncIn = struct('fsyncIn', 16, { fh: 'u64', fsyncFlags: 'u32', padding: ['bytes', 4] });
export const fallocateIn = struct('fallocateIn', 32, {
  fh: 'u64',
  offset: 'u64',
  length: 'u64',
  mode: 'u32',
  padding: ['bytes', 4],
});
export const lseekIn = struct('lseekIn', 24, { fh: 'u64', offset: 'u64', whence: 'u32', padding: ['bytes', 4] });
export const lseekOut = struct('lseekOut', 8, { offset: 'u64' });
/** The names carry the kernel's view: `In` is the source, `Out` the destination. Also for COPY_FILE_RANGE_64. */
export const copyFileRangeIn = struct('copyFileRangeIn', 56, {
  fhIn: 'u64',
  offIn: 'u64',
  nodeidOutLo: 'u32',
  nodeidOutHi: 'u32',
  fhOut: 'u64',
  offOut: 'u64',
  len: 'u64',
  flags: 'u64',
});
/** The reply to COPY_FILE_RANGE_64; COPY_FILE_RANGE answers with `writeOut`. */
export const copyFileRangeOut = struct('copyFileRangeOut', 8, { bytesCopied: 'u64' });
export const bmapIn = struct('bmapIn', 16, { block: 'u64', blocksize: 'u32', padding: ['bytes', 4] });
export const bmapOut = struct('bmapOut', 8, { block: 'u64' });
export const ioctlIn = struct('ioctlIn', 32, {
  fh: 'u64',
  flags: 'u32',
  cmd: 'u32',
  arg: 'u64',
  inSize: 'u32',
  outSize: 'u32',
});
export const ioctlOut = struct('ioctlOut', 16, { result: 'i32', flags: 'u32', inIovs: 'u32', outIovs: 'u32' });
export const pollIn = struct('pollIn', 24, { fh: 'u64', kh: 'u64', flags: 'u32', events: 'u32' });
export const pollOut = struct('pollOut', 8, { revents: 'u32', padding: ['bytes', 4] });

/* --- extended attributes --- */

/** With SETXATTR_EXT negotiated; without it only the first 8 bytes are sent. The name and `size` bytes follow. */
export const setxattrIn = struct('setxattrIn', 16, {
  size: 'u32',
  flags: 'u32',
  setxattrFlags: 'u32',
  padding: ['bytes', 4],
});
export const setxattrInCompat = struct('setxattrInCompat', 8, { size: 'u32', flags: 'u32' });
/** Also for LISTXATTR. A `size` of 0 asks for the size alone: `getxattrOut`. */
export const getxattrIn = struct('getxattrIn', 8, { size: 'u32', padding: ['bytes', 4] });
export const getxattrOut = struct('getxattrOut', 8, { size: 'u32', padding: ['bytes', 4] });

/* --- locks --- */

/** An `end` of OFFSET_MAX (2^63 - 1) is read as 2^63. */
export const lkIn = struct('lkIn', 48, {
  fh: 'u64',
  ownerLo: 'u32',
  ownerHi: 'u32',
  start: 'u64',
  end: 'u64',
  type: 'u32',
  pid: 'u32',
  lkFlags: 'u32',
  padding: ['bytes', 4],
});
/** `end` in two words, so that OFFSET_MAX can be said. */
export const lkOut = struct('lkOut', 24, { start: 'u64', endLo: 'u32', endHi: 'u32', type: 'u32', pid: 'u32' });

/* --- directory listings --- */

/** Followed by the name, then padded to 8 bytes. `off` is the cookie that continues after this entry. */
export const dirent = struct('dirent', 24, { ino: 'u64', off: 'u64', namelen: 'u32', type: 'u32' });

/* --- notifications: unique 0, the code where an error would be --- */

export const notifyPollWakeupOut = struct('notifyPollWakeupOut', 8, { kh: 'u64' });
/** `ino` is a nodeid. A negative `off` drops attributes alone; a `len` of 0 or less means to the end. */
export const notifyInvalInodeOut = struct('notifyInvalInodeOut', 24, {
  nodeidLo: 'u32',
  nodeidHi: 'u32',
  off: 'i64',
  len: 'i64',
});
/** Followed by the name and a NUL, which `namelen` doesn't count. */
export const notifyInvalEntryOut = struct('notifyInvalEntryOut', 16, {
  parentLo: 'u32',
  parentHi: 'u32',
  namelen: 'u32',
  flags: 'u32',
});
/** Followed by the name and a NUL, which `namelen` doesn't count. */
export const notifyDeleteOut = struct('notifyDeleteOut', 24, {
  parentLo: 'u32',
  parentHi: 'u32',
  childLo: 'u32',
  childHi: 'u32',
  namelen: 'u32',
  padding: ['bytes', 4],
});
/** Followed by `size` bytes. */
export const notifyStoreOut = struct('notifyStoreOut', 24, {
  nodeidLo: 'u32',
  nodeidHi: 'u32',
  offset: 'u64',
  size: 'u32',
  padding: ['bytes', 4],
});
export const notifyRetrieveOut = struct('notifyRetrieveOut', 32, {
  notifyUnique: 'u64',
  nodeidLo: 'u32',
  nodeidHi: 'u32',
  offset: 'u64',
  size: 'u32',
  padding: ['bytes', 4],
});
/** The kernel's answer to RETRIEVE (a NOTIFY_REPLY request); the data follows. */
export const notifyRetrieveIn = struct('notifyRetrieveIn', 40, {
  dummy1: ['bytes', 8],
  offset: 'u64',
  size: 'u32',
  dummy2: ['bytes', 4],
  dummy3: ['bytes', 8],
  dummy4: ['bytes', 8],
});
/** Followed by `count` nodeids of 8 bytes. */
export const notifyPruneOut = struct('notifyPruneOut', 16, {
  count: 'u32',
  padding: ['bytes', 4],
  spare: ['bytes', 8],
});

/* --- extensions at the end of a request, `totalExtlen` long in all --- */

/** `size` in bytes with this header; `type`: EXT, or the number of security contexts when at most 31. */
export const extHeader = struct('extHeader', 8, { size: 'u32', type: 'u32' });
/** Follows an `extHeader` of type EXT.GROUPS; `nrGroups` gids of 4 bytes follow. */
export const suppGroups = struct('suppGroups', 4, { nrGroups: 'u32' });
/** The form an `extHeader` has when it carries security contexts. */
export const secctxHeader = struct('secctxHeader', 8, { size: 'u32', nrSecctx: 'u32' });
/** Followed by the attribute's name, a NUL, and `size` bytes of context. */
export const secctx = struct('secctx', 8, { size: 'u32', padding: ['bytes', 4] });
