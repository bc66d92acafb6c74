/** What an operation is: made by a generator, carried out on both sides, described to people. */
import type { Features } from './features.ts';
import type { Model, PathRef } from './model.ts';
import { printable } from './names.ts';
import type { Random } from './random.ts';
import type { Syscalls } from './syscalls.ts';
import type { User } from './users.ts';

/** What a call gave. Both sides must give the same. */
export interface Outcome {
  /** 0 for success. */
  readonly errno: number;
  /** The result and everything else worth comparing, for people to read. */
  readonly value: string;
  readonly bytes?: Buffer;
}

/** One of the two trees, as operations reach it: the working directory is its root. */
export interface Side {
  readonly name: 'reference' | 'target';
  readonly system: Syscalls;
  readonly model: Model;
  /** The open handle of each slot. */
  readonly handles: Map<number, number>;
}

/** Paths and handles that an operation names, in the fields that they always have. */
export interface Arguments {
  readonly at?: PathRef;
  readonly to?: PathRef;
  readonly handle?: number;
  readonly other?: number;
  /** Slot for a handle that it opens. */
  readonly into?: number;
}

/** One kind of operation. */
export interface Kind<A extends Arguments> {
  /** How often it's chosen, against the others. */
  readonly weight: number;
  /** What the reference must be able to do. */
  readonly needs?: readonly (keyof Features)[];
  /** It takes setuid and setgid away from the file that it works on; see `isUntoldMode`. */
  readonly dropsPrivileges?: boolean;
  /** Undefined when the model has nothing that it could work on. */
  readonly generate: (random: Random, model: Model, user: User) => A | undefined;
  readonly run: (side: Side, args: A) => Outcome;
  /** What it changes in the model when it succeeds. */
  readonly settle?: (model: Model, args: A) => void;
}

/** A kind with its arguments filled in. */
export interface Operation {
  readonly name: string;
  readonly user: User;
  readonly umask: number;
  readonly args: Arguments;
  readonly dropsPrivileges: boolean;
  readonly run: (side: Side) => Outcome;
  readonly settle: (model: Model) => void;
}

/** A row of the table of operations. */
export interface Row {
  readonly name: string;
  readonly weight: number;
  readonly needs: readonly (keyof Features)[];
  readonly make: (random: Random, model: Model, user: User, umask: number) => Operation | undefined;
}

export function row<A extends Arguments>(name: string, kind: Kind<A>): Row {
  return {
    name,
    weight: kind.weight,
    needs: kind.needs ?? [],
    make: (random, model, user, umask) => {
      const args = kind.generate(random, model, user);
      if (args === undefined) return undefined;
      return {
        name,
        user,
        umask,
        args,
        dropsPrivileges: kind.dropsPrivileges ?? false,
        run: (side) => kind.run(side, args),
        settle: (model) => kind.settle?.(model, args),
      };
    },
  };
}

/** An outcome of a call's result; `value` is given where there's more to compare than that number. */
export function outcome(result: number, value?: string, bytes?: Buffer): Outcome {
  if (result < 0) return { errno: -result, value: '' };
  return bytes === undefined
    ? { errno: 0, value: value ?? String(result) }
    : { errno: 0, value: value ?? String(result), bytes };
}

/**
 * The path that a side's call is given, relative to its tree.
 *
 * @throws {Error} for an empty slot: such an operation isn't run; and for a path that would lead out of the trees, to what
 *   isn't ours.
 */
export function pathOf(side: Side, ref: PathRef): string {
  const path = side.model.resolve(ref);
  if (path === undefined) throw new Error(`slot ${ref.slot} is empty`);
  return confined(path);
}

/** The path of a name in a directory. @throws as `pathOf` */
export function pathIn(directory: string, name: string): string {
  return confined(directory === '' ? '' : `${directory}/${name}`);
}

function confined(path: string): string {
  if (path.startsWith('/')) throw new Error(`${printable(path)} is outside the trees`);
  return path;
}

/** The handle in a slot. @throws {Error} when none is open: such an operation isn't run. */
export function handleOf(side: Side, slot: number): number {
  const handle = side.handles.get(slot);
  if (handle === undefined) throw new Error(`no handle is open in slot ${slot}`);
  return handle;
}

/** Puts what `open` gives into a slot, in place of what was open there. */
export function openInto(side: Side, slot: number, open: () => number): Outcome {
  closeSlot(side, slot);
  const handle = open();
  if (handle >= 0) side.handles.set(slot, handle);
  return outcome(handle, 'a handle');
}

export function closeSlot(side: Side, slot: number): void {
  const handle = side.handles.get(slot);
  if (handle === undefined) return;
  side.handles.delete(slot);
  side.system.close(handle);
}

/** Whether everything that it names is there. */
export function canRun(operation: Operation, model: Model): boolean {
  const { at, to, handle, other } = operation.args;
  const paths = [at, to].every((ref) => ref === undefined || model.resolve(ref) !== undefined);
  return paths && [handle, other].every((slot) => slot === undefined || model.handles.has(slot));
}

/** One line: who does what to what. Paths are shown as they are at this moment. */
export function describe(operation: Operation, model: Model): string {
  const shown = Object.entries(operation.args).map(([key, value]) => `${key}=${show(key, value, model)}`);
  const umask = operation.umask.toString(8).padStart(3, '0');
  return `${operation.user.name} (umask ${umask}): ${operation.name} ${shown.join(' ')}`;
}

function show(key: string, value: unknown, model: Model): string {
  if (key === 'handle' || key === 'other' || key === 'into') return `#${value}`;
  if (key === 'mode' && typeof value === 'number') return `0${value.toString(8)}`;
  if (typeof value === 'string') return printable(value);
  if (Array.isArray(value)) return value.join('|') || '0';
  if (isPathRef(value)) return printable(model.resolve(value) ?? `<slot ${value.slot}>`);
  if (value instanceof Buffer) return value.length > 40 ? `<${value.length} bytes>` : `0x${value.toString('hex')}`;
  return JSON.stringify(value) ?? 'undefined';
}

function isPathRef(value: unknown): value is PathRef {
  return typeof value === 'object' && value !== null && 'slot' in value;
}
