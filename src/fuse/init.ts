/** The first exchange on a connection: what version both sides speak, and which features are on. Pure. */
import { FsError } from '../errno.ts';
import { INIT_OUT_COMPAT_BYTES, type initIn, initOut, NEWEST_MINOR, OLDEST_MINOR, PROTOCOL_MAJOR } from './wire/abi.ts';
import { INIT, INIT_SINCE, type InitFlag } from './wire/flags.ts';
import type { ValueOf } from './wire/struct.ts';

/** What this side would like. */
export interface InitWishes {
  /** Writes stay in the kernel's page cache until flushed. Default false. */
  readonly writebackCache?: boolean;
  /** Speak no newer than 7.`capMinor`, with the flags of then. 31 to 45; default 45. */
  readonly capMinor?: number;
  /**
   * Upper bound of what the kernel reads ahead. Default none: the mount's own setting decides, which is 128 KiB until
   * `setReadAhead` changes it, before or after this exchange.
   */
  readonly maxReadaheadBytes?: number;
  /** Requests without a waiting caller (read-ahead, write-back, asynchronous I/O) that may be under way. Default 128. */
  readonly maxBackground?: number;
}

/** What holds for the life of the connection, a new daemon included: INIT isn't sent again. Plain JSON. */
export interface Negotiated {
  readonly major: number;
  readonly minor: number;
  readonly flags: { readonly [flag in InitFlag]: boolean };
  /** Most bytes in one WRITE, and in one READ. */
  readonly maxWriteBytes: number;
  readonly maxReadaheadBytes: number;
  readonly maxBackground: number;
}

/** `reply` is to be written by `initOut.writer()`, and its first `replyBytes` sent. */
export type Negotiation = {
  readonly reply: ValueOf<typeof initOut>;
  readonly replyBytes: number;
  /** Undefined when the kernel speaks a newer major version: it will send another INIT. */
  readonly negotiated: Negotiated | undefined;
};

/** Pages of 4 KiB: 1 MiB, the most that an unconfigured kernel allows. */
const MAX_PAGES = 256;
const PAGE_BYTES = 4096;
const DEFAULT_MAX_BACKGROUND = 128;
/** More than any read-ahead; the kernel takes the smaller of this and the mount's setting (process_init_reply). */
const UNBOUNDED_BYTES = 0xffff_f000;

/**
 * Taken when the kernel offers them. Left out on purpose:
 * - AUTO_INVAL_DATA: drops pages when a time stamp moves; nobody else changes the data (EXPLICIT_INVAL_DATA).
 * - POSIX_LOCKS, FLOCK_LOCKS: there is one mount, so the kernel can keep the locks.
 * - CREATE_SUPP_GROUP: the kernel itself checks group membership (default_permissions) and strips setgid.
 * - SECURITY_CTX, ALLOW_IDMAP, PASSTHROUGH, OVER_IO_URING, HAS_INODE_DAX, SUBMOUNTS, SPLICE: not implemented.
 * - REQUEST_TIMEOUT: would abort the connection while a database is away.
 */
const WANTED: readonly InitFlag[] = [
  'ASYNC_READ',
  'ATOMIC_O_TRUNC',
  // LOOKUP of "." and ".." by nodeid, for NFS and open_by_handle_at(2); a nodeid means one inode forever.
  'EXPORT_SUPPORT',
  'BIG_WRITES',
  // A default ACL replaces the umask, so the umask must come to whoever knows the ACL.
  'DONT_MASK',
  'DO_READDIRPLUS',
  'READDIRPLUS_AUTO',
  'ASYNC_DIO',
  'PARALLEL_DIROPS',
  'POSIX_ACL',
  'MAX_PAGES',
  'CACHE_SYMLINKS',
  'NO_OPENDIR_SUPPORT',
  'EXPLICIT_INVAL_DATA',
  'HANDLE_KILLPRIV_V2',
  'SETXATTR_EXT',
  'INIT_EXT',
  'HAS_EXPIRE_ONLY',
  'DIRECT_IO_ALLOW_MMAP',
  'HAS_RESEND',
];

/**
 * Answers an INIT request.
 *
 * @throws {FsError} EOPNOTSUPP when the kernel speaks less than 7.31 (Linux 5.4).
 */
export function negotiate(asked: Readonly<ValueOf<typeof initIn>>, wishes: InitWishes = {}): Negotiation {
  const reply = initOut.blank();
  reply.major = PROTOCOL_MAJOR;
  if (asked.major > PROTOCOL_MAJOR) {
    reply.minor = NEWEST_MINOR;
    return { reply, replyBytes: INIT_OUT_COMPAT_BYTES, negotiated: undefined };
  }
  if (asked.major < PROTOCOL_MAJOR || asked.minor < OLDEST_MINOR) {
    throw new FsError(
      'EOPNOTSUPP',
      `the kernel speaks FUSE ${asked.major}.${asked.minor}; ${PROTOCOL_MAJOR}.${OLDEST_MINOR} is needed: run Linux 5.4 or newer`,
    );
  }
  const minor = Math.min(asked.minor, wishes.capMinor ?? NEWEST_MINOR, NEWEST_MINOR);
  if (minor < OLDEST_MINOR) throw new Error(`capMinor ${wishes.capMinor} is below ${OLDEST_MINOR}`);

  const flags = agree(asked, minor, wishes);
  const maxPages = flags.MAX_PAGES ? MAX_PAGES : 32; // FUSE_DEFAULT_MAX_PAGES_PER_REQ
  const negotiated: Negotiated = {
    major: PROTOCOL_MAJOR,
    minor,
    flags,
    maxWriteBytes: maxPages * PAGE_BYTES,
    maxReadaheadBytes: wishes.maxReadaheadBytes ?? UNBOUNDED_BYTES,
    maxBackground: wishes.maxBackground ?? DEFAULT_MAX_BACKGROUND,
  };
  reply.minor = minor;
  reply.maxReadahead = negotiated.maxReadaheadBytes;
  [reply.flags, reply.flags2] = words(flags);
  reply.maxBackground = negotiated.maxBackground;
  reply.congestionThreshold = Math.floor((negotiated.maxBackground * 3) / 4);
  reply.maxWrite = negotiated.maxWriteBytes;
  reply.timeGran = 1;
  reply.maxPages = flags.MAX_PAGES ? maxPages : 0;
  return { reply, replyBytes: initOut.size, negotiated };
}

const flagNames = Object.keys(INIT) as InitFlag[]; // INIT's keys are what InitFlag is made of

/** The flags that are wanted, offered, and no newer than the minor version. */
function agree(
  asked: Readonly<ValueOf<typeof initIn>>,
  minor: number,
  wishes: InitWishes,
): { readonly [flag in InitFlag]: boolean } {
  const wanted = new Set<InitFlag>(wishes.writebackCache ? [...WANTED, 'WRITEBACK_CACHE'] : WANTED);
  const has = (bit: number): boolean =>
    bit < 32 ? (asked.flags & (1 << bit)) !== 0 : hasSecondWord && (asked.flags2 & (1 << (bit - 32))) !== 0;
  // Without INIT_EXT a request ends before flags2, and an answer may not use it.
  const hasSecondWord = minor >= (INIT_SINCE.INIT_EXT ?? 0) && (asked.flags & (1 << INIT.INIT_EXT)) !== 0;
  const isOn = (flag: InitFlag): boolean => wanted.has(flag) && minor >= (INIT_SINCE[flag] ?? 0) && has(INIT[flag]);
  // One entry for every key of INIT.
  return Object.fromEntries(flagNames.map((flag) => [flag, isOn(flag)])) as { [flag in InitFlag]: boolean };
}

/** The two words in which flags travel. */
function words(flags: { readonly [flag in InitFlag]: boolean }): [flags: number, flags2: number] {
  let low = 0;
  let high = 0;
  for (const flag of flagNames) {
    if (!flags[flag]) continue;
    if (INIT[flag] < 32) low |= 1 << INIT[flag];
    else high |= 1 << (INIT[flag] - 32);
  }
  return [low >>> 0, high >>> 0];
}
