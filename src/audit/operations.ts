/** How much is recorded. Each level has everything of the ones before it. */
export const LEVELS = [
  'off',
  /** What changes the tree, and control commands. */
  'basic',
  /** Also open, close with its totals, readdir, fsync. */
  'standard',
  /** Every request; the kernel caches nothing. */
  'full',
] as const;

export type Level = (typeof LEVELS)[number];

export const OFF = 0;
export const BASIC = 1;
export const STANDARD = 2;
export const FULL = 3;

export function levelNumber(level: Level): number {
  return LEVELS.indexOf(level);
}

interface Row {
  /** As it is stored; never used for anything else. */
  readonly code: number;
  /** The least level at which it's recorded. */
  readonly level: number;
}

/** Every operation that an event may tell of. */
export const OPERATIONS = {
  create: { code: 1, level: BASIC },
  mkdir: { code: 2, level: BASIC },
  mknod: { code: 3, level: BASIC },
  symlink: { code: 4, level: BASIC },
  link: { code: 5, level: BASIC },
  unlink: { code: 6, level: BASIC },
  rmdir: { code: 7, level: BASIC },
  rename: { code: 8, level: BASIC },
  chmod: { code: 9, level: BASIC },
  chown: { code: 10, level: BASIC },
  truncate: { code: 11, level: BASIC },
  utimes: { code: 12, level: BASIC },
  setxattr: { code: 13, level: BASIC },
  removexattr: { code: 14, level: BASIC },
  fallocate: { code: 15, level: BASIC },
  copy: { code: 16, level: BASIC },
  tmpfile: { code: 17, level: BASIC },
  /** A write to a control file, or making or removing one. */
  command: { code: 18, level: BASIC },
  /** An open that empties the file. */
  'open-truncate': { code: 19, level: BASIC },
  /** A change that was carried out, and whose commit then failed whoever waited for it. */
  commit: { code: 20, level: BASIC },
  /** Events that were dropped because the queue was full; `bytes` counts them. */
  gap: { code: 21, level: BASIC },
  open: { code: 32, level: STANDARD },
  close: { code: 33, level: STANDARD },
  readdir: { code: 34, level: STANDARD },
  fsync: { code: 35, level: STANDARD },
  lookup: { code: 48, level: FULL },
  getattr: { code: 49, level: FULL },
  readlink: { code: 50, level: FULL },
  read: { code: 51, level: FULL },
  write: { code: 52, level: FULL },
  getxattr: { code: 53, level: FULL },
  listxattr: { code: 54, level: FULL },
  statfs: { code: 55, level: FULL },
  lseek: { code: 56, level: FULL },
  flush: { code: 57, level: FULL },
  opendir: { code: 58, level: FULL },
  closedir: { code: 59, level: FULL },
  /** A further part of a listing. */
  'readdir-next': { code: 60, level: FULL },
} as const satisfies Record<string, Row>;

export type OperationName = keyof typeof OPERATIONS;

const NAMES = new Map<number, string>(Object.entries(OPERATIONS).map(([name, { code }]) => [code, name]));

/** Its name; a number for one of a newer version. */
export function operationName(code: number): string {
  return NAMES.get(code) ?? `operation ${code}`;
}

export function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATIONS, name);
}
