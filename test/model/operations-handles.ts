/** Operations that open and close handles, or work on the file that a handle has open. */
import type { PathRef } from './model.ts';
import { existingPath, handleSlot, newPath, openHandle } from './names.ts';
import { closeSlot, handleOf, openInto, outcome, pathOf, type Row, row } from './operation.ts';
import { randomOwners, randomTime, statOutcome, timesOutcome } from './operations-attributes.ts';
import { randomSize } from './operations-data.ts';
import { randomMode } from './operations-names.ts';
import type { Random } from './random.ts';
import { AT, type NewTime, OPEN_FLAGS, type OpenFlag } from './syscalls.ts';

type Flags = readonly OpenFlag[];

/** A FIFO that nobody has open would block. */
const NEVER_BLOCK = OPEN_FLAGS.O_NONBLOCK;

function bits(flags: Flags): number {
  return flags.reduce((all, flag) => all | OPEN_FLAGS[flag], NEVER_BLOCK);
}

function randomFlags(random: Random): Flags {
  const access = random.weighted<OpenFlag>([
    [3, 'O_RDONLY'],
    [2, 'O_WRONLY'],
    [6, 'O_RDWR'],
  ]);
  return [
    access,
    ...random.some<OpenFlag>(['O_APPEND', 'O_TRUNC', 'O_NOFOLLOW'], 0.12),
    ...random.some<OpenFlag>(['O_DIRECTORY', 'O_SYNC', 'O_DSYNC', 'O_NOATIME', 'O_PATH'], 0.03),
  ];
}

type OpenArguments = { readonly at: PathRef; readonly into: number; readonly flags: Flags };

const open = row<OpenArguments>('open', {
  dropsPrivileges: true,
  weight: 12,
  generate: (random, model) => {
    const at = random.chance(0.9) ? existingPath(random, model, 'file') : existingPath(random, model);
    return { at, into: handleSlot(random, model), flags: randomFlags(random) };
  },
  run: (side, { at, into, flags }) => openInto(side, into, () => side.system.open(pathOf(side, at), bits(flags), 0)),
});

type CreateArguments = {
  readonly to: PathRef;
  readonly slot: number;
  readonly into: number;
  readonly flags: Flags;
  readonly mode: number;
};

const openNew = row<CreateArguments>('open new', {
  dropsPrivileges: true,
  weight: 8,
  generate: (random, model) => ({
    to: random.chance(0.7) ? newPath(random, model) : existingPath(random, model, 'file', 'symlink'),
    slot: model.reserve(),
    into: handleSlot(random, model),
    flags: ['O_CREAT', ...random.some<OpenFlag>(['O_EXCL'], 0.4), ...randomFlags(random)],
    mode: randomMode(random),
  }),
  run: (side, { to, into, flags, mode }) =>
    openInto(side, into, () => side.system.open(pathOf(side, to), bits(flags), mode)),
  settle: (model, { to, slot }) => model.add(slot, to, 'file'),
});

const openDirect = row<OpenArguments>('open direct', {
  weight: 1,
  needs: ['directIo'],
  generate: (random, model) => ({
    at: existingPath(random, model, 'file'),
    into: handleSlot(random, model),
    flags: ['O_RDWR', 'O_DIRECT'],
  }),
  run: (side, { at, into, flags }) => openInto(side, into, () => side.system.open(pathOf(side, at), bits(flags), 0)),
});

type TemporaryArguments = { readonly at: PathRef; readonly into: number; readonly flags: Flags; readonly mode: number };

const openTemporary = row<TemporaryArguments>('open unnamed', {
  weight: 2,
  needs: ['tmpfile'],
  generate: (random, model) => ({
    at: existingPath(random, model, 'directory'),
    into: handleSlot(random, model),
    flags: [
      'O_TMPFILE',
      random.pick<OpenFlag>(['O_RDWR', 'O_WRONLY', 'O_RDWR']),
      ...random.some<OpenFlag>(['O_EXCL'], 0.2),
    ],
    mode: randomMode(random),
  }),
  run: (side, { at, into, flags, mode }) =>
    openInto(side, into, () => side.system.open(pathOf(side, at), bits(flags), mode)),
});

/** Opens what a handle has open once more, by the name that procfs gives it. */
const reopen = row<{ readonly handle: number; readonly into: number; readonly flags: Flags }>('open again', {
  dropsPrivileges: true,
  weight: 2,
  generate: (random, model) => {
    const handle = openHandle(random, model, () => true);
    if (handle === undefined) return undefined;
    return { handle, into: handleSlot(random, model), flags: randomFlags(random) };
  },
  run: (side, { handle, into, flags }) => {
    const from = handleOf(side, handle);
    const opened = side.system.open(`/proc/self/fd/${from}`, bits(flags), 0);
    return openInto(side, into, () => opened);
  },
});

const close = row<{ readonly into: number }>('close', {
  weight: 6,
  generate: (random, model) => {
    const into = openHandle(random, model, () => true);
    return into === undefined ? undefined : { into };
  },
  run: (side, { into }) => {
    closeSlot(side, into);
    return outcome(0);
  },
});

type LinkArguments = {
  readonly handle: number;
  readonly to: PathRef;
  readonly slot: number;
  readonly by: 'procfs' | 'empty path';
};

const linkHandle = row<LinkArguments>('link handle', {
  weight: 3,
  generate: (random, model) => {
    const handle = openHandle(random, model, () => true);
    if (handle === undefined) return undefined;
    return { handle, to: newPath(random, model), slot: model.reserve(), by: random.pick(['procfs', 'empty path']) };
  },
  run: (side, { handle, to, by }) => {
    const from = handleOf(side, handle);
    const path = pathOf(side, to);
    if (by === 'empty path') return outcome(side.system.link(from, path, AT.EMPTY_PATH));
    return outcome(side.system.link(`/proc/self/fd/${from}`, path, AT.SYMLINK_FOLLOW));
  },
  settle: (model, { handle, to, slot }) => model.add(slot, to, model.handles.get(handle)?.hint ?? 'file'),
});

const fstat = row<{ readonly handle: number }>('fstat', {
  weight: 3,
  generate: (random, model) => onHandle(openHandle(random, model, () => true)),
  run: (side, { handle }) => statOutcome(side.system.stat(handleOf(side, handle), true)),
});

const fchmod = row<{ readonly handle: number; readonly mode: number }>('fchmod', {
  weight: 4,
  generate: (random, model) => {
    const found = onHandle(openHandle(random, model, () => true));
    return found && { ...found, mode: randomMode(random) };
  },
  run: (side, { handle, mode }) => outcome(side.system.chmod(handleOf(side, handle), mode)),
});

const fchown = row<{ readonly handle: number; readonly uid: number; readonly gid: number }>('fchown', {
  dropsPrivileges: true,
  weight: 3,
  generate: (random, model, user) => {
    const found = onHandle(openHandle(random, model, () => true));
    return found && { ...found, ...randomOwners(random, user) };
  },
  run: (side, { handle, uid, gid }) => outcome(side.system.chown(handleOf(side, handle), uid, gid, true)),
});

const futimens = row<{ readonly handle: number; readonly atime: NewTime; readonly mtime: NewTime }>('futimens', {
  weight: 2,
  generate: (random, model) => {
    const found = onHandle(openHandle(random, model, () => true));
    return found && { ...found, atime: randomTime(random), mtime: randomTime(random) };
  },
  run: (side, { handle, atime, mtime }) => {
    const at = handleOf(side, handle);
    return timesOutcome(side, side.system.utimens(at, atime, mtime, true), at, atime, true);
  },
});

const ftruncate = row<{ readonly handle: number; readonly size: number }>('ftruncate', {
  dropsPrivileges: true,
  weight: 5,
  generate: (random, model) => {
    const found = onHandle(openHandle(random, model, ({ writes }) => writes || random.chance(0.1)));
    return found && { ...found, size: randomSize(random) };
  },
  run: (side, { handle, size }) => outcome(side.system.truncate(handleOf(side, handle), size)),
});

function onHandle(handle: number | undefined): { readonly handle: number } | undefined {
  return handle === undefined ? undefined : { handle };
}

export const handleOperations: readonly Row[] = [
  open,
  openNew,
  openDirect,
  openTemporary,
  reopen,
  close,
  linkHandle,
  fstat,
  fchmod,
  fchown,
  futimens,
  ftruncate,
];
