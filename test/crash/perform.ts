import { OPEN_FLAGS, type Syscalls } from '../model/syscalls.ts';
import { bytesOf, type Operation } from './operation.ts';

const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_APPEND, O_SYNC } = OPEN_FLAGS;
const RENAME_EXCHANGE = 2;
const PUNCH_HOLE_KEEP_SIZE = 3;

/** A call failed where none may. */
export class CallError extends Error {
  override readonly name = 'CallError';
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call} failed with errno ${errno}`);
    this.errno = errno;
  }
}

/** The result of a call. @throws {CallError} for a negative one. */
export function done(call: string, result: number): number {
  if (result < 0) throw new CallError(call, -result);
  return result;
}

/** Undoes what a crash has left of an operation that wasn't carried out whole, where doing it again wouldn't. */
export function undoHead(system: Syscalls, root: string, operation: Operation): void {
  if (operation.kind !== 'write' || !operation.appends) return;
  const path = `${root}/${operation.path}`;
  const attributes = system.stat(path, false);
  if (typeof attributes === 'number') throw new CallError('stat', -attributes);
  if (attributes.size > operation.offset) done('truncate', system.truncate(path, operation.offset));
}

/** Carries an operation out in the directory `root`. @throws {CallError} */
export function perform(system: Syscalls, root: string, operation: Operation): void {
  const at = (path: string) => (path === '' ? root : `${root}/${path}`);
  const { kind } = operation;
  switch (kind) {
    case 'create':
      onHandle(system, at(operation.path), O_CREAT | O_EXCL | O_WRONLY, operation.mode, () => {});
      return;
    case 'write':
      write(system, at(operation.path), operation);
      return;
    case 'truncate':
      done(kind, system.truncate(at(operation.path), operation.size));
      return;
    case 'punch':
      onHandle(system, at(operation.path), O_WRONLY, 0, (handle) =>
        done(kind, system.fallocate(handle, PUNCH_HOLE_KEEP_SIZE, operation.offset, operation.length)),
      );
      return;
    case 'copy':
      copy(system, at(operation.from), at(operation.path), operation.length);
      return;
    case 'mkdir':
      done(kind, system.mkdir(at(operation.path), 0o755));
      return;
    case 'symlink':
      done(kind, system.symlink(operation.target, at(operation.path)));
      return;
    case 'link':
      done(kind, system.link(at(operation.from), at(operation.path), 0));
      return;
    case 'unlink':
      done(kind, system.unlink(at(operation.path)));
      return;
    case 'rmdir':
      done(kind, system.rmdir(at(operation.path)));
      return;
    case 'rename':
      done(kind, system.rename(at(operation.from), at(operation.path), 0));
      return;
    case 'exchange':
      done(kind, system.rename(at(operation.from), at(operation.path), RENAME_EXCHANGE));
      return;
    case 'chmod':
      done(kind, system.chmod(at(operation.path), operation.mode));
      return;
    case 'chown':
      done(kind, system.chown(at(operation.path), operation.uid, operation.gid, true));
      return;
    case 'utimes': {
      const sec = Number(operation.mtimeNs / 1_000_000_000n);
      const nsec = Number(operation.mtimeNs % 1_000_000_000n);
      done(kind, system.utimens(at(operation.path), 'omit', { sec, nsec }, true));
      return;
    }
    case 'setxattr':
      done(kind, system.setxattr(at(operation.path), operation.name, Buffer.from(operation.value), 0, true));
      return;
    case 'removexattr':
      done(kind, system.removexattr(at(operation.path), operation.name, true));
      return;
    case 'fsync':
      onHandle(system, at(operation.path), O_RDONLY, 0, (handle) => done(kind, system.fsync(handle)));
      return;
  }
}

function onHandle(system: Syscalls, path: string, flags: number, mode: number, use: (handle: number) => unknown): void {
  const handle = done('open', system.open(path, flags, mode));
  try {
    use(handle);
  } finally {
    done('close', system.close(handle));
  }
}

function write(system: Syscalls, path: string, operation: Extract<Operation, { kind: 'write' }>): void {
  const { offset, appends, length, fill, sync } = operation;
  const flags = O_WRONLY | (appends ? O_APPEND : 0) | (sync ? O_SYNC : 0);
  onHandle(system, path, flags, 0, (handle) => {
    const bytes = bytesOf(fill, length);
    const written = appends ? system.write(handle, bytes) : system.pwrite(handle, bytes, offset);
    if (done('write', written) !== length) throw new Error(`a write of ${length} bytes took ${written}`);
  });
}

function copy(system: Syscalls, from: string, to: string, length: number): void {
  onHandle(system, from, O_RDONLY, 0, (source) =>
    onHandle(system, to, O_WRONLY, 0, (target) => {
      const copied = done('copy', system.copyFileRange(source, 0, target, 0, length));
      if (copied !== length) throw new Error(`a copy of ${length} bytes took ${copied}`);
    }),
  );
}
