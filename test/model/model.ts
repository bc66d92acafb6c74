/**
 * What the generator knows of the tree: paths and handles, each in a numbered slot. Operations name slots, so that
 * one keeps its meaning when others before it are left out. What the tree really holds is for the file systems to say.
 */

/** What a path was made as. `gone`: it was removed or replaced. */
export type Hint = 'file' | 'directory' | 'symlink' | 'special' | 'gone';

export interface Slot {
  /** Relative to the tree's root, whose own path is empty. */
  path: string;
  hint: Hint;
}

/** A path as an operation names it. */
export interface PathRef {
  readonly slot: number;
  /** A name below the slot. */
  readonly below?: string;
  /** Put before and behind, as they are. */
  readonly before?: string;
  readonly behind?: string;
  /** Fill with `./` from the left to this many bytes. */
  readonly padTo?: number;
  /** No path at all, which every call refuses. */
  readonly empty?: true;
}

/** What was opened in a handle's slot. */
export interface HandleInfo {
  readonly hint: Hint;
  readonly reads: boolean;
  readonly writes: boolean;
  /** O_PATH: it names a file and can do nothing with it. */
  readonly pathOnly: boolean;
  readonly direct: boolean;
}

export const ROOT_SLOT = 0;
export const HANDLE_SLOTS = 24;
/** Paths that were removed lately and are still good for an ENOENT. */
const GONE_KEPT = 16;

/** What can be put behind a path without its leading elsewhere. */
const SAME_PLACE = /^(\/\.?)*$/;

export class Model {
  readonly #slots = new Map<number, Slot>([[ROOT_SLOT, { path: '', hint: 'directory' }]]);
  readonly #live = new Set<number>([ROOT_SLOT]);
  readonly #gone: number[] = [];
  readonly #crowded = new Set<number>();
  readonly handles = new Map<number, HandleInfo>();
  #nextSlot = ROOT_SLOT + 1;

  /** A slot number for what an operation will make. */
  reserve(): number {
    return this.#nextSlot++;
  }

  slot(number: number): Slot | undefined {
    return this.#slots.get(number);
  }

  /** Slots of these kinds, in the order in which they were made. */
  live(...hints: readonly Hint[]): number[] {
    return [...this.#live].filter(
      (number) => hints.length === 0 || hints.includes(this.#slots.get(number)?.hint ?? 'gone'),
    );
  }

  get liveCount(): number {
    return this.#live.size;
  }

  get gone(): readonly number[] {
    return this.#gone;
  }

  /** Directories that were given many names at once, until they are emptied. */
  get crowded(): readonly number[] {
    return [...this.#crowded];
  }

  markCrowded(number: number): void {
    this.#crowded.add(number);
  }

  clearCrowded(number: number): void {
    this.#crowded.delete(number);
  }

  /** The path to use, or undefined when the slot was never filled. */
  resolve(ref: PathRef): string | undefined {
    const slot = this.#slots.get(ref.slot);
    if (slot === undefined) return undefined;
    if (ref.empty) return '';
    const base = ref.below === undefined ? slot.path || '.' : join(slot.path, ref.below);
    const path = `${ref.before ?? ''}${base}${ref.behind ?? ''}`;
    return ref.padTo === undefined ? path : padded(path, ref.padTo);
  }

  /** The path that a new name gets in the model, or undefined where it leads through something else than a directory. */
  plain(ref: PathRef): string | undefined {
    const slot = this.#slots.get(ref.slot);
    if (slot === undefined || ref.empty || !SAME_PLACE.test(ref.behind ?? '')) return undefined;
    if (ref.below === undefined) return slot.path;
    return slot.hint === 'directory' ? join(slot.path, ref.below) : undefined;
  }

  /** Records what an operation made, unless the name was known. */
  add(number: number, ref: PathRef, hint: Hint): void {
    const path = this.plain(ref);
    if (path === undefined || path === '' || this.#find(path) !== undefined) return;
    this.#slots.set(number, { path, hint });
    this.#live.add(number);
  }

  remove(ref: PathRef): void {
    const path = this.plain(ref);
    if (path !== undefined && path !== '') this.#removeAt(path);
  }

  rename(from: PathRef, to: PathRef): void {
    const [source, target] = [this.plain(from), this.plain(to)];
    if (source === undefined || source === target) return;
    if (target === undefined) {
      this.#removeAt(source);
      return;
    }
    this.#removeAt(target);
    this.#move(source, target);
  }

  exchange(one: PathRef, other: PathRef): void {
    const [first, second] = [this.plain(one), this.plain(other)];
    if (first === undefined || second === undefined || first === second) return;
    const between = `${first}\0`;
    this.#move(first, between);
    this.#move(second, first);
    this.#move(between, second);
  }

  /** Forgets what isn't there any more. */
  retain(exists: (path: string) => boolean): void {
    for (const number of [...this.#live]) {
      const path = this.#slots.get(number)?.path ?? '';
      if (path !== '' && !exists(path)) this.#removeAt(path);
    }
  }

  #find(path: string): number | undefined {
    for (const number of this.#live) if (this.#slots.get(number)?.path === path) return number;
    return undefined;
  }

  #removeAt(path: string): void {
    for (const number of this.#live) {
      const slot = this.#slots.get(number);
      if (slot === undefined || !isAtOrBelow(slot.path, path)) continue;
      slot.hint = 'gone';
      this.#live.delete(number);
      this.#gone.push(number);
    }
    while (this.#gone.length > GONE_KEPT) this.#gone.shift();
  }

  #move(from: string, to: string): void {
    for (const number of this.#live) {
      const slot = this.#slots.get(number);
      if (slot !== undefined && isAtOrBelow(slot.path, from)) slot.path = to + slot.path.slice(from.length);
    }
  }
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}/${name}`;
}

function isAtOrBelow(path: string, ancestor: string): boolean {
  return path === ancestor || path.startsWith(`${ancestor}/`);
}

function padded(path: string, length: number): string {
  const missing = length - path.length;
  if (missing < 2) return path;
  return missing % 2 === 0 ? './'.repeat(missing / 2) + path : `.//${'./'.repeat((missing - 3) / 2)}${path}`;
}
