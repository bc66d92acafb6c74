/** Two fresh trees side by side, and the operations that are carried out on both. */

import { fileType } from '../../src/vfs/inode.ts';
import { type Difference, isUntoldMode, presence, Sightings } from './compare.ts';
import { type Features, probe } from './features.ts';
import { type HandleInfo, type Hint, Model } from './model.ts';
import { printable } from './names.ts';
import { canRun, closeSlot, describe, type Operation, type Outcome, type Side } from './operation.ts';
import { type Attributes, OPEN_FLAGS, type Syscalls } from './syscalls.ts';
import { compareTrees, type Place } from './tree.ts';
import type { Impersonation } from './users.ts';

/** The two directories in which trees are made, and who works in them. */
export interface Ground {
  readonly reference: { readonly path: string; readonly system: Syscalls };
  readonly target: { readonly path: string; readonly system: Syscalls };
  readonly who: Impersonation;
  readonly features: Features;
  /** See `Features.fineTimes`. */
  readonly targetIsFine: boolean;
}

/** Where the two sides differ. `signature` is the same for failures of one kind. */
export interface Mismatch {
  readonly signature: string;
  readonly text: string;
}

/** Directories between the base and the tree, for symlinks that lead upwards. */
const GUARDS = 'guard/guard/guard/guard/guard/guard/guard';
const ACCESS_MASK = 3;
const PERMISSION_BITS = 0o7777;

/** A path or a handle's slot that an operation named, and how it's called in messages. */
type Named =
  | { readonly name: string; readonly path: string; readonly slot?: never }
  | { readonly name: string; readonly slot: number; readonly path?: never };

/** One side of a trial: its tree, and the handles that are open in it. */
class Half implements Side, Place {
  readonly name: 'reference' | 'target';
  readonly system: Syscalls;
  readonly model: Model;
  readonly handles = new Map<number, number>();
  readonly #root: string;
  #rootHandle = -1;
  #outside = -1;

  constructor(name: 'reference' | 'target', system: Syscalls, model: Model, root: string) {
    this.name = name;
    this.system = system;
    this.model = model;
    this.#root = root;
  }

  make(): void {
    let path = this.#root.slice(0, -`/${GUARDS}/tree`.length);
    this.#must(this.system.mkdir(path, 0o755));
    for (const part of `${GUARDS}/tree`.split('/')) {
      path += `/${part}`;
      this.#must(this.system.mkdir(path, 0o755));
    }
    // Everybody may make things in it.
    this.#must(this.system.chmod(path, 0o1777));
  }

  open(): void {
    this.#rootHandle = this.#must(this.system.open(this.#root, OPEN_FLAGS.O_DIRECTORY, 0));
    this.#outside = this.#must(this.system.open('/', OPEN_FLAGS.O_DIRECTORY, 0));
  }

  close(): void {
    for (const slot of [...this.handles.keys()]) closeSlot(this, slot);
    this.system.close(this.#rootHandle);
    this.system.close(this.#outside);
  }

  within<T>(work: (system: Syscalls) => T): T {
    this.#must(this.system.fchdir(this.#rootHandle));
    try {
      return work(this.system);
    } finally {
      this.system.fchdir(this.#outside);
    }
  }

  look(named: Named, follow: boolean): Attributes | number {
    const { path } = named;
    if (path === undefined) return this.system.stat(this.handles.get(named.slot) ?? -1, true);
    return this.within((system) => system.stat(path, follow));
  }

  hasXattr(named: Named, xattr: string): boolean {
    const { path } = named;
    const into = Buffer.alloc(0);
    if (path === undefined) return this.system.getxattr(this.handles.get(named.slot) ?? -1, xattr, into, true) >= 0;
    return this.within((system) => system.getxattr(path, xattr, into, true)) >= 0;
  }

  change(named: Named, mode: number): void {
    const { path } = named;
    if (path === undefined) this.system.chmod(this.handles.get(named.slot) ?? -1, mode);
    else this.within((system) => system.chmod(path, mode));
  }

  #must(result: number): number {
    if (result < 0) throw new Error(`the ${this.name}'s tree at ${this.#root} is out of reach: errno ${-result}`);
    return result;
  }
}

/** What the file system of a directory can do. */
export function probeAt(system: Syscalls, path: string): Features {
  const half = new Half('reference', system, new Model(), path);
  half.open();
  try {
    return half.within(probe);
  } finally {
    half.close();
  }
}

export class Trial {
  readonly model = new Model();
  readonly #reference: Half;
  readonly #target: Half;
  readonly #sightings: Sightings;
  readonly #who: Impersonation;

  /** Makes both trees, in directories of this name. @throws {Error} when that fails. */
  constructor(ground: Ground, name: string) {
    const rootOf = (path: string) => `${path}/${name}/${GUARDS}/tree`;
    this.#reference = new Half('reference', ground.reference.system, this.model, rootOf(ground.reference.path));
    this.#target = new Half('target', ground.target.system, this.model, rootOf(ground.target.path));
    this.#sightings = new Sightings(ground.features, ground.targetIsFine);
    this.#who = ground.who;
    for (const half of this.#halves) {
      half.make();
      half.open();
    }
  }

  get #halves(): readonly Half[] {
    return [this.#reference, this.#target];
  }

  /** Carries out an operation on both sides, compares the outcomes and what it worked on. One that can't run is left out. */
  step(operation: Operation, log?: (line: string) => void): Mismatch | undefined {
    if (!canRun(operation, this.model)) return undefined;
    const line = log && describe(operation, this.model);
    const hadCapabilities = operation.dropsPrivileges && this.#hasCapabilities(operation);
    const [expected, found] = [this.#run(this.#reference, operation), this.#run(this.#target, operation)];
    if (line !== undefined)
      log?.(`${line} → ${shown(expected)}${isAlike(expected, found) ? '' : ` but ${shown(found)}`}`);
    if (operation.dropsPrivileges) this.#settleMode(operation, hadCapabilities);
    const mismatch = compareOutcomes(operation, expected, found) ?? this.#look(operation);
    if (mismatch !== undefined) return { ...mismatch, text: `${describe(operation, this.model)}\n  ${mismatch.text}` };
    if (expected.errno === 0) operation.settle(this.model);
    this.#follow(operation.args.into);
    return undefined;
  }

  #run(half: Half, operation: Operation): Outcome {
    return half.within(() => {
      this.#who.enter(operation.user, operation.umask);
      try {
        return operation.run(half);
      } finally {
        this.#who.leave();
      }
    });
  }

  /** What the operation named: paths, and handles that are open in it. */
  #named(operation: Operation): Named[] {
    const { at, to, handle, other, into } = operation.args;
    const paths = [at, to].flatMap((ref) => (ref && this.model.resolve(ref)) || []);
    const slots = [handle, other, into].filter((slot) => slot !== undefined);
    return [
      ...paths.map((path): Named => ({ name: printable(path), path })),
      ...slots.map((slot): Named => ({ name: `#${slot}`, slot })),
    ];
  }

  #hasCapabilities(operation: Operation): boolean {
    return this.#named(operation).some((named) => this.#reference.hasXattr(named, 'security.capability'));
  }

  /** Goes on with the reference's mode where the target can't know better (isUntoldMode). */
  #settleMode(operation: Operation, hadCapabilities: boolean): void {
    for (const named of this.#named(operation)) {
      const [one, other] = [this.#reference.look(named, true), this.#target.look(named, true)];
      if (typeof one === 'number' || typeof other === 'number' || !isUntoldMode(one, other, hadCapabilities)) continue;
      for (const half of this.#halves) half.change(named, one.mode & PERMISSION_BITS);
    }
  }

  /** Compares what the operation named, and the directories around it. */
  #look(operation: Operation): Mismatch | undefined {
    for (const named of this.#named(operation)) {
      const around = named.path === undefined ? undefined : parentOf(named.path);
      const mismatch =
        this.#lookAt(named) ??
        (around === undefined ? undefined : this.#lookAt({ name: printable(around), path: around }));
      if (mismatch !== undefined) return mismatch;
    }
    return undefined;
  }

  #lookAt(named: Named): Mismatch | undefined {
    const [one, other] = [this.#reference.look(named, false), this.#target.look(named, false)];
    if (typeof one !== 'number' && typeof other !== 'number')
      return mismatchOf(named.name, this.#sightings.compare(one, other));
    if (one === other) return undefined;
    const text = `${named.name}: ${presence(one)} in the reference, ${presence(other)} in the target`;
    return { signature: 'presence', text };
  }

  /** Sees what is open in a handle's slot now. */
  #follow(slot: number | undefined): void {
    if (slot === undefined) return;
    const handle = this.#reference.handles.get(slot);
    const info = handle === undefined ? undefined : handleInfo(this.#reference.system, handle);
    if (info === undefined) this.model.handles.delete(slot);
    else this.model.handles.set(slot, info);
  }

  /**
   * Compares everything in both trees. `again`: nothing has happened since they were last compared, so every file must
   * have the inode number that it had.
   */
  compare(again = false): Mismatch | undefined {
    if (!again) this.#sightings.forgetIdentities();
    const { differences, paths } = compareTrees(this.#reference, this.#target, this.#sightings);
    const first = differences[0];
    if (first !== undefined) return mismatchOf(printable(first.path), differences);
    this.model.retain((path) => paths.has(path));
    return undefined;
  }

  /** Closes every handle on both sides; nothing of either file system is in use then. */
  detach(): void {
    this.model.handles.clear();
    for (const half of this.#halves) half.close();
  }

  attach(): void {
    for (const half of this.#halves) half.open();
  }
}

function parentOf(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  return slash < 0 ? '.' : trimmed.slice(0, slash) || '/';
}

function mismatchOf(name: string, differences: readonly Difference[]): Mismatch | undefined {
  const first = differences[0];
  if (first === undefined) return undefined;
  return { signature: first.field, text: `${name}: ${differences.map(({ text }) => text).join('; ')}` };
}

function isAlike(one: Outcome, other: Outcome): boolean {
  if (one.errno !== other.errno || one.value !== other.value) return false;
  return one.bytes === undefined || other.bytes === undefined || one.bytes.equals(other.bytes);
}

function shown({ errno, value }: Outcome): string {
  return errno === 0 ? value : `errno ${errno}`;
}

function compareOutcomes(operation: Operation, expected: Outcome, found: Outcome): Mismatch | undefined {
  if (isAlike(expected, found)) return undefined;
  if (expected.errno !== found.errno || expected.value !== found.value) {
    const signature = `${operation.name}: ${expected.errno} and ${found.errno}`;
    return { signature, text: `${shown(expected)} in the reference, ${shown(found)} in the target` };
  }
  const at = expected.bytes?.findIndex((byte, index) => byte !== found.bytes?.[index]);
  return { signature: `${operation.name}: bytes`, text: `the bytes differ from byte ${at} on` };
}

function hintOf(mode: number): Hint {
  switch (mode & fileType.mask) {
    case fileType.regular:
      return 'file';
    case fileType.directory:
      return 'directory';
    case fileType.symlink:
      return 'symlink';
    default:
      return 'special';
  }
}

function handleInfo(system: Syscalls, handle: number): HandleInfo | undefined {
  const found = system.stat(handle, true);
  if (typeof found === 'number') return undefined;
  const flags = system.flags(handle);
  const access = flags & ACCESS_MASK;
  const pathOnly = (flags & OPEN_FLAGS.O_PATH) !== 0;
  return {
    hint: hintOf(found.mode),
    reads: access !== OPEN_FLAGS.O_WRONLY && !pathOnly,
    writes: access !== OPEN_FLAGS.O_RDONLY,
    pathOnly,
    direct: (flags & OPEN_FLAGS.O_DIRECT) !== 0,
  };
}
