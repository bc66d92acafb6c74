/** Constants of the FUSE protocol (linux/fuse.h) and of the system calls that reach it (fcntl.h, sys/stat.h). */

/**
 * INIT flags by bit number: 0 to 31 travel in `flags`, 32 to 63 in `flags2`. A bit number is exact where a 64-bit
 * mask would not be. `INIT_SINCE` says which minor version brought each.
 */
export const INIT = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  FILE_OPS: 2,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  SPLICE_WRITE: 7,
  SPLICE_MOVE: 8,
  SPLICE_READ: 9,
  FLOCK_LOCKS: 10,
  HAS_IOCTL_DIR: 11,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  NO_OPEN_SUPPORT: 17,
  PARALLEL_DIROPS: 18,
  HANDLE_KILLPRIV: 19,
  POSIX_ACL: 20,
  ABORT_ERROR: 21,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  NO_OPENDIR_SUPPORT: 24,
  EXPLICIT_INVAL_DATA: 25,
  MAP_ALIGNMENT: 26,
  SUBMOUNTS: 27,
  HANDLE_KILLPRIV_V2: 28,
  SETXATTR_EXT: 29,
  INIT_EXT: 30,
  SECURITY_CTX: 32,
  HAS_INODE_DAX: 33,
  CREATE_SUPP_GROUP: 34,
  HAS_EXPIRE_ONLY: 35,
  DIRECT_IO_ALLOW_MMAP: 36,
  PASSTHROUGH: 37,
  NO_EXPORT_SUPPORT: 38,
  HAS_RESEND: 39,
  ALLOW_IDMAP: 40,
  OVER_IO_URING: 41,
  REQUEST_TIMEOUT: 42,
} as const;

export type InitFlag = keyof typeof INIT;

/** Minor version that brought a flag, for those newer than 7.31. */
export const INIT_SINCE: { readonly [flag in InitFlag]?: number } = {
  SUBMOUNTS: 32,
  HANDLE_KILLPRIV_V2: 33,
  SETXATTR_EXT: 33,
  INIT_EXT: 36,
  SECURITY_CTX: 36,
  HAS_INODE_DAX: 36,
  CREATE_SUPP_GROUP: 38,
  HAS_EXPIRE_ONLY: 38,
  DIRECT_IO_ALLOW_MMAP: 39,
  PASSTHROUGH: 40,
  NO_EXPORT_SUPPORT: 40,
  HAS_RESEND: 40,
  ALLOW_IDMAP: 41,
  OVER_IO_URING: 42,
  REQUEST_TIMEOUT: 43,
};

/** `openFlags` of an answer to OPEN, OPENDIR, CREATE. */
export const FOPEN = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;

/** `openFlags` of an OPEN or CREATE request. */
export const OPEN_IN = { KILL_SUIDGID: 1 << 0 } as const;

/** `valid` of SETATTR. */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** `getattrFlags`: `fh` is valid. */
export const GETATTR = { FH: 1 << 0 } as const;
/** `flags` of `attr`. */
export const ATTR = { SUBMOUNT: 1 << 0, DAX: 1 << 1 } as const;
/** `readFlags`. */
export const READ = { LOCKOWNER: 1 << 1 } as const;
/** `writeFlags`. CACHE: written back from the page cache, so `fh` and the caller are guesses. */
export const WRITE = { CACHE: 1 << 0, LOCKOWNER: 1 << 1, KILL_SUIDGID: 1 << 2 } as const;
/** `releaseFlags`. */
export const RELEASE = { FLUSH: 1 << 0, FLOCK_UNLOCK: 1 << 1 } as const;
/** `fsyncFlags`. */
export const FSYNC = { FDATASYNC: 1 << 0 } as const;
/** `setxattrFlags`: clear the setgid bit when `system.posix_acl_access` is set. */
export const SETXATTR = { ACL_KILL_SGID: 1 << 0 } as const;
/** `lkFlags`. */
export const LK = { FLOCK: 1 << 0 } as const;
/** `flags` of POLL. */
export const POLL = { SCHEDULE_NOTIFY: 1 << 0 } as const;
/** `flags` of IOCTL. */
export const IOCTL = {
  COMPAT: 1 << 0,
  UNRESTRICTED: 1 << 1,
  RETRY: 1 << 2,
  IS_32BIT: 1 << 3,
  DIR: 1 << 4,
  COMPAT_X32: 1 << 5,
} as const;
/** `flags` of INVAL_ENTRY: let the entry be asked for again instead of dropping it. */
export const INVAL_ENTRY = { EXPIRE_ONLY: 1 << 0 } as const;

/** Codes of notifications. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  /** 7.40 */
  RESEND: 7,
  /** 7.44 */
  INC_EPOCH: 8,
  /** 7.45 */
  PRUNE: 9,
} as const;

/**
 * Bit of `uniqueHi` that marks a request sent again (FUSE_UNIQUE_RESEND, bit 63 of unique). The answer must carry it
 * as it came. `>>> 0` after `&`: it's the sign bit of a 32-bit number.
 */
export const UNIQUE_RESEND_HI = 0x8000_0000;

/** Open flags of asm-generic/fcntl.h, as x86-64 has them; four differ on arm64: `O_OF`. */
const O_COMMON = {
  RDONLY: 0o0,
  WRONLY: 0o1,
  RDWR: 0o2,
  ACCMODE: 0o3,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  /** __O_SYNC | O_DSYNC */
  SYNC: 0o4010000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  /** The kernel's own mark on an open by execve(2) (FMODE_EXEC). */
  EXEC: 0o40,
} as const;

/** Open flags of one architecture. */
export type OpenFlags = { readonly [flag in keyof typeof O_COMMON]: number } & {
  readonly DIRECT: number;
  readonly LARGEFILE: number;
  readonly DIRECTORY: number;
  readonly NOFOLLOW: number;
  /** __O_TMPFILE | O_DIRECTORY */
  readonly TMPFILE: number;
};

/** Open flags by `process.arch`; asm/fcntl.h of arm64 moves four. */
export const O_OF: { readonly [arch in 'x64' | 'arm64']: OpenFlags } = {
  x64: {
    ...O_COMMON,
    DIRECT: 0o40000,
    LARGEFILE: 0o100000,
    DIRECTORY: 0o200000,
    NOFOLLOW: 0o400000,
    TMPFILE: 0o20200000,
  },
  arm64: {
    ...O_COMMON,
    DIRECTORY: 0o40000,
    NOFOLLOW: 0o100000,
    DIRECT: 0o200000,
    LARGEFILE: 0o400000,
    TMPFILE: 0o20040000,
  },
};

/** Open flags of this machine. */
export const O: OpenFlags = O_OF[process.arch === 'arm64' ? 'arm64' : 'x64'];

/** File types and mode bits. */
export const S = {
  IFMT: 0o170000,
  IFSOCK: 0o140000,
  IFLNK: 0o120000,
  IFREG: 0o100000,
  IFBLK: 0o060000,
  IFDIR: 0o040000,
  IFCHR: 0o020000,
  IFIFO: 0o010000,
  ISUID: 0o4000,
  ISGID: 0o2000,
  ISVTX: 0o1000,
  IXGRP: 0o010,
} as const;

/** `type` of a directory entry: the file type's four bits, `mode >> 12`. */
export const DT = { UNKNOWN: 0, FIFO: 1, CHR: 2, DIR: 4, BLK: 6, REG: 8, LNK: 10, SOCK: 12 } as const;

/** Flags of renameat2(2). */
export const RENAME = { NOREPLACE: 1 << 0, EXCHANGE: 1 << 1, WHITEOUT: 1 << 2 } as const;

/** Modes of fallocate(2). */
export const FALLOC = {
  KEEP_SIZE: 0x01,
  PUNCH_HOLE: 0x02,
  COLLAPSE_RANGE: 0x08,
  ZERO_RANGE: 0x10,
  INSERT_RANGE: 0x20,
  UNSHARE_RANGE: 0x40,
} as const;

/** `whence` of lseek(2); the kernel asks only for DATA and HOLE. */
export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;

/** `flags` of setxattr(2). */
export const XATTR = { CREATE: 1, REPLACE: 2 } as const;

/** `mask` of access(2). */
export const ACCESS = { F_OK: 0, X_OK: 1, W_OK: 2, R_OK: 4 } as const;

/** `type` of a lock. */
export const F_LOCK = { RDLCK: 0, WRLCK: 1, UNLCK: 2 } as const;
