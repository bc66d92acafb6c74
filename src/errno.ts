/** Linux error numbers (asm-generic/errno-base.h, errno.h) that Tarbox answers with. */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ESTALE: 116,
  EDQUOT: 122,
} as const;

export type ErrnoName = keyof typeof errno;

const nameOf = new Map<number, string>(Object.entries(errno).map(([name, code]) => [code, name]));

/** `ENOENT` for 2; `errno 999` for a number that isn't in the table. */
export function errnoName(code: number): string {
  return nameOf.get(code) ?? `errno ${code}`;
}

/**
 * A failure with an errno, to be answered to whoever asked.
 * `what` names the object and, where there is one, the way out. It carries no stack: it is an
 * outcome, not a defect, and is made on paths that programs take often (`EEXIST`, `ENOTEMPTY`).
 */
export class FsError extends Error {
  override readonly name = 'FsError';
  readonly code: ErrnoName;
  readonly errno: number;
  /** For a refused command: what to write instead. */
  readonly hint: string | undefined;

  constructor(code: ErrnoName, what: string, options?: { readonly cause?: unknown; readonly hint?: string }) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(what, options);
    Error.stackTraceLimit = limit;
    this.code = code;
    this.errno = errno[code];
    this.hint = options?.hint;
  }
}
