/** What the reference can do. What it can't is left out of the run, and said so. */
import { statfsSync } from 'node:fs';
import { fileType } from '../../src/vfs/inode.ts';
import { packAcl } from './acl.ts';
import { OPEN_FLAGS, SEEK, type Syscalls } from './syscalls.ts';

export interface Features {
  readonly userXattrs: boolean;
  readonly trustedXattrs: boolean;
  readonly securityXattrs: boolean;
  readonly acls: boolean;
  readonly exchange: boolean;
  readonly tmpfile: boolean;
  readonly fallocate: boolean;
  readonly punchHole: boolean;
  readonly zeroRange: boolean;
  readonly seekHole: boolean;
  readonly copyFileRange: boolean;
  readonly directIo: boolean;
  /** A directory's link count is two and its subdirectories. */
  readonly directoryLinks: boolean;
  /** Two changes that someone looked at in between never carry the same time (multigrain timestamps, Linux 6.13). */
  readonly fineTimes: boolean;
}

export const RENAME_EXCHANGE = 2;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;
const PROBES = 20;
const PAGE_BYTES = 4096;

/** Tries everything out in an empty directory, which is the working directory, and leaves it empty. */
export function probe(system: Syscalls): Features {
  const handle = system.open('probe', OPEN_FLAGS.O_RDWR | OPEN_FLAGS.O_CREAT, 0o600);
  if (handle < 0) throw new Error(`cannot make files there: errno ${-handle}`);
  system.mkdir('directory', 0o755);
  const value = Buffer.from('v');
  const works = (result: number) => result >= 0;
  try {
    system.pwrite(handle, Buffer.alloc(PAGE_BYTES, 1), 0);
    return {
      userXattrs: works(system.setxattr(handle, 'user.probe', value, 0, true)),
      trustedXattrs: works(system.setxattr(handle, 'trusted.probe', value, 0, true)),
      securityXattrs: works(system.setxattr(handle, 'security.probe', value, 0, true)),
      acls: works(system.setxattr(handle, 'system.posix_acl_access', packAcl(PROBE_ACL), 0, true)),
      exchange:
        works(system.rename('probe', 'directory', RENAME_EXCHANGE)) &&
        works(system.rename('probe', 'directory', RENAME_EXCHANGE)),
      tmpfile: opens(system, OPEN_FLAGS.O_TMPFILE | OPEN_FLAGS.O_RDWR),
      directIo: opens(system, OPEN_FLAGS.O_TMPFILE | OPEN_FLAGS.O_RDWR | OPEN_FLAGS.O_DIRECT),
      fallocate: works(system.fallocate(handle, 0, 0, PAGE_BYTES)),
      punchHole: works(system.fallocate(handle, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 0, PAGE_BYTES)),
      zeroRange: works(system.fallocate(handle, FALLOC_ZERO_RANGE, 0, PAGE_BYTES)),
      seekHole: works(system.lseek(handle, 0, SEEK.HOLE)),
      copyFileRange: works(system.copyFileRange(handle, 0, handle, PAGE_BYTES, 1)),
      directoryLinks: countsDirectories(system),
      fineTimes: hasFineTimes(system, handle),
    };
  } finally {
    system.close(handle);
    system.unlink('probe');
    system.rmdir('directory');
  }
}

const PROBE_ACL = [
  { tag: 'owner', permissions: 6 },
  { tag: 'user', id: 1000, permissions: 4 },
  { tag: 'owning group', permissions: 4 },
  { tag: 'mask', permissions: 4 },
  { tag: 'other', permissions: 0 },
] as const;

function opens(system: Syscalls, flags: number): boolean {
  const handle = system.open('.', flags, 0o600);
  if (handle >= 0) system.close(handle);
  return handle >= 0;
}

function countsDirectories(system: Syscalls): boolean {
  system.mkdir('directory/below', 0o755);
  const found = system.stat('directory', true);
  system.rmdir('directory/below');
  return typeof found !== 'number' && found.nlink === 3 && (found.mode & fileType.mask) === fileType.directory;
}

function hasFineTimes(system: Syscalls, handle: number): boolean {
  const seen = new Set<bigint>();
  for (let round = 0; round < PROBES; round++) {
    system.pwrite(handle, Buffer.from('x'), 0);
    const found = system.stat(handle, true);
    if (typeof found !== 'number') seen.add(found.mtimeNs);
  }
  return seen.size === PROBES;
}

/** `f_type` of statfs(2): ext4, and overlayfs, which containers have over it. */
const REFERENCES = [0xef53, 0x794c7630];

/**
 * Whether a directory can serve as reference. Other file systems answer in other ways where POSIX lets them (xfs has
 * shorter symlinks and lazier times), which would have to be told from faults of the target.
 */
export function isReference(path: string): boolean {
  return REFERENCES.includes(statfsSync(path).type);
}

/** The names of what is left out, for people. */
export function lacking(features: Features): string[] {
  return Object.entries(features).flatMap(([name, has]) => (has ? [] : [name]));
}
