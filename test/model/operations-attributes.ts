/** Operations on attributes by path: mode, owner, size, times, and what may be done. */
import type { PathRef } from './model.ts';
import { existingPath } from './names.ts';
import { type Outcome, outcome, pathOf, type Row, row, type Side } from './operation.ts';
import { randomSize } from './operations-data.ts';
import { randomMode } from './operations-names.ts';
import type { Random } from './random.ts';
import type { Attributes, NewTime } from './syscalls.ts';
import type { User } from './users.ts';

/** As chown(2) takes it: stays as it is. */
const UNCHANGED = 0xffff_ffff;
const OWNERS = [UNCHANGED, 0, 1000, 1001, 65_534, 2 ** 31, 0xffff_fffe] as const;
const GROUPS = [UNCHANGED, 0, 1000, 1001, 2000, 65_534, 2 ** 31] as const;

interface Owners {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Only root names no owner at all: the kernel refuses that to someone who doesn't own a file with setuid bits (EPERM) by
 * turning it into a chmod, which it doesn't do for FUSE (fuse_setattr).
 */
export function randomOwners(random: Random, user: User): Owners {
  const likely = random.chance(0.7);
  const owners = {
    uid: likely ? random.pick([UNCHANGED, 0, 1000, 1001]) : random.pick(OWNERS),
    gid: likely ? random.pick([UNCHANGED, 0, 1000, 1001, 2000]) : random.pick(GROUPS),
  };
  if (user.uid === 0 || owners.uid !== UNCHANGED || owners.gid !== UNCHANGED) return owners;
  return { ...owners, gid: user.gid };
}

/** ext4 keeps times from 1901 to 2446, and cuts the nanoseconds of the first and the last second (timestamp_truncate). */
const SECONDS = [0, 1, -1, 946_684_800, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 1 - 2 ** 31, 9_000_000_000] as const;
const NANOSECONDS = [0, 1, 999_999_999, 123_456_789] as const;

export function randomTime(random: Random): NewTime {
  return random.weighted<NewTime>([
    [2, 'now'],
    [2, 'omit'],
    [6, { sec: random.pick(SECONDS), nsec: random.pick(NANOSECONDS) }],
    [3, { sec: random.below(2 ** 31), nsec: random.below(1e9) }],
    [1, { sec: 0, nsec: 1e9 }],
  ]);
}

/**
 * The whole of what statx(2) tells except what Linux file systems may do as they like: inode numbers, the size of
 * directories, and times, which are compared by how they move (compare.ts).
 */
export function shownAttributes(found: Attributes): string {
  const { mode, uid, gid, rdev, size } = found;
  const isDirectory = (mode & 0o170000) === 0o040000;
  return `0${mode.toString(8)} ${uid}:${gid} dev ${rdev} ${isDirectory ? '' : `${size} bytes`}`;
}

export function statOutcome(found: Attributes | number): Outcome {
  return typeof found === 'number' ? outcome(found) : outcome(0, shownAttributes(found));
}

const stat = row<{ readonly at: PathRef; readonly follow: boolean }>('stat', {
  weight: 6,
  generate: (random, model) => ({ at: existingPath(random, model), follow: random.chance(0.6) }),
  run: (side, { at, follow }) => statOutcome(side.system.stat(pathOf(side, at), follow)),
});

const access = row<{ readonly at: PathRef; readonly mask: number; readonly follow: boolean }>('access', {
  weight: 5,
  generate: (random, model) => ({
    at: existingPath(random, model),
    mask: random.below(8),
    follow: random.chance(0.9),
  }),
  run: (side, { at, mask, follow }) => outcome(side.system.access(pathOf(side, at), mask, follow)),
});

const chmod = row<{ readonly at: PathRef; readonly mode: number }>('chmod', {
  weight: 7,
  generate: (random, model) => ({ at: existingPath(random, model), mode: randomMode(random) }),
  run: (side, { at, mode }) => outcome(side.system.chmod(pathOf(side, at), mode)),
});

type ChownArguments = { readonly at: PathRef; readonly uid: number; readonly gid: number; readonly follow: boolean };

const chown = row<ChownArguments>('chown', {
  dropsPrivileges: true,
  weight: 6,
  generate: (random, model, user) => ({
    at: existingPath(random, model),
    ...randomOwners(random, user),
    follow: random.chance(0.5),
  }),
  run: (side, { at, uid, gid, follow }) => outcome(side.system.chown(pathOf(side, at), uid, gid, follow)),
});

const truncate = row<{ readonly at: PathRef; readonly size: number }>('truncate', {
  dropsPrivileges: true,
  weight: 4,
  generate: (random, model) => ({ at: existingPath(random, model, 'file'), size: randomSize(random) }),
  run: (side, { at, size }) => outcome(side.system.truncate(pathOf(side, at), size)),
});

type UtimensArguments = {
  readonly at: PathRef;
  readonly atime: NewTime;
  readonly mtime: NewTime;
  readonly follow: boolean;
};

const utimens = row<UtimensArguments>('utimens', {
  weight: 5,
  generate: (random, model) => ({
    at: existingPath(random, model),
    atime: randomTime(random),
    mtime: randomTime(random),
    follow: random.chance(0.7),
  }),
  run: (side, { at, atime, mtime, follow }) => {
    const path = pathOf(side, at);
    const result = side.system.utimens(path, atime, mtime, follow);
    return timesOutcome(side, result, path, atime, follow);
  },
});

/**
 * The result of setting times. The access time is compared here and nowhere else: reading moves it where the
 * reference is mounted with `relatime`, and doesn't have to (mount(8)).
 */
export function timesOutcome(
  side: Side,
  result: number,
  at: string | number,
  atime: NewTime,
  follow: boolean,
): Outcome {
  if (result < 0 || typeof atime === 'string') return outcome(result);
  const found = side.system.stat(at, follow);
  return outcome(result, typeof found === 'number' ? `errno ${-found}` : `atime ${found.atimeNs}`);
}

export const attributeOperations: readonly Row[] = [stat, access, chmod, chown, truncate, utimens];
