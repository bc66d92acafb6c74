import { type Ino, ROOT_INO } from '../brand.ts';
import { FsError } from '../errno.ts';
import { findName } from '../vfs/directory.ts';
import { isDirectory } from '../vfs/inode.ts';
import type { Workspace } from '../vfs/workspace.ts';

/** A name in the live tree that stands for the mount point of a native mount. */
export interface Placeholder {
  /** From 1, the same for every daemon of a supervisor: the kernel knows it by this number. */
  readonly id: number;
  /** Names from the root to its own, byte strings; one at least. */
  readonly path: readonly string[];
  readonly directory: boolean;
}

const NONE: readonly Placeholder[] = [];

/**
 * The mount points of native mounts, which are in no layer. Where the directory that one is to be in exists, it has that
 * name: what the workspace itself holds under it is hidden, as under any mount, and stays what it is. It can't be made,
 * renamed or removed, and neither can the directories that lead to it, so its path always means the same place.
 */
export class Placeholders {
  #all: readonly Placeholder[] = NONE;
  #byName = new Map<string, Placeholder[]>();
  #byId = new Map<number, Placeholder>();
  /** Those that aren't in the root. */
  #deep: readonly Placeholder[] = NONE;

  /** Whether there are any. */
  get any(): boolean {
    return this.#all.length > 0;
  }

  set(all: readonly Placeholder[]): void {
    this.#all = all.toSorted((a, b) => a.id - b.id); // the order of listings
    this.#byId = new Map(all.map((placeholder) => [placeholder.id, placeholder]));
    this.#byName = Map.groupBy(this.#all, ({ path }) => path.at(-1) ?? '');
    this.#deep = this.#all.filter(({ path }) => path.length > 1);
  }

  get(id: number): Placeholder | undefined {
    return this.#byId.get(id);
  }

  /** The one that a directory of the live tree has by this name. @throws {Missing} */
  find(live: Workspace, directory: Ino, name: string): Placeholder | undefined {
    return this.#byName.get(name)?.find((placeholder) => directoryOf(live, placeholder) === directory);
  }

  /** Those that are in a directory of the live tree. @throws {Missing} */
  within(live: Workspace, directory: Ino): readonly Placeholder[] {
    const candidates = directory === ROOT_INO ? this.#all : this.#deep;
    if (candidates.length === 0) return NONE;
    return candidates.filter((placeholder) => directoryOf(live, placeholder) === directory);
  }

  /** @throws {FsError} EEXIST when one has the name that something is to be made with; {Missing} */
  requireFree(live: Workspace, directory: Ino, name: string): void {
    if (this.find(live, directory, name) !== undefined) throw new FsError('EEXIST', `a native mount is at ${name}`);
  }

  /**
   * @throws {FsError} EBUSY when what has this name is to be renamed, removed or replaced, and is one or leads to one;
   *   {Missing}
   */
  requireIdle(live: Workspace, directory: Ino, name: string): void {
    if (this.#all.length === 0) return;
    if (this.find(live, directory, name) !== undefined) throw new FsError('EBUSY', `a native mount is at ${name}`);
    if (this.#deep.length === 0) return;
    const ino = findName(live.directory(directory), name)?.ino;
    if (ino !== undefined && this.#deep.some((placeholder) => leadsThrough(live, placeholder, ino)))
      throw new FsError('EBUSY', `a native mount is below ${name}`);
  }
}

/** A directory on the way to a placeholder, by its name in the one before. */
export interface Step {
  readonly parent: Ino;
  readonly name: string;
  readonly ino: Ino;
}

/** The directories below the root that lead to a placeholder, as far as they exist. @throws {Missing} */
export function wayTo(live: Workspace, { path }: Placeholder): readonly Step[] {
  const way: Step[] = [];
  let parent: Ino = ROOT_INO;
  for (const name of path.slice(0, -1)) {
    const ino = step(live, parent, name);
    if (ino === undefined) break;
    way.push({ parent, name, ino });
    parent = ino;
  }
  return way;
}

/** The directory that a placeholder is in, while it exists. @throws {Missing} */
export function directoryOf(live: Workspace, placeholder: Placeholder): Ino | undefined {
  if (placeholder.path.length === 1) return ROOT_INO;
  const way = wayTo(live, placeholder);
  return way.length === placeholder.path.length - 1 ? way.at(-1)?.ino : undefined;
}

function leadsThrough(live: Workspace, placeholder: Placeholder, ino: Ino): boolean {
  return wayTo(live, placeholder).some((way) => way.ino === ino);
}

function step(live: Workspace, directory: Ino, name: string): Ino | undefined {
  const ino = findName(live.directory(directory), name)?.ino;
  return ino !== undefined && isDirectory(live.inode(ino)) ? ino : undefined;
}
