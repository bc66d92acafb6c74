import { CHUNK_BYTES } from '../../src/vfs/geometry.ts';
import { Random } from '../model/random.ts';
import type { Operation } from './operation.ts';
import { type Touched, Tree } from './tree.ts';

const KIB = 1024;
const MOST_FILES = 60;
const MOST_DIRECTORIES = 20;
const MOST_FILE_BYTES = 700 * KIB;
/** Several chunks, and below what one request takes at any offset. */
const LARGE_BYTES = 300 * KIB;

export interface PlanOptions {
  readonly seed: number;
  /** Whether it has fsync and synchronous writes in it. */
  readonly barriers: boolean;
}

type Make = () => Operation | undefined;

/**
 * A numbered sequence of operations that depends on its options alone: whoever knows them knows what the tree must
 * be after each. It makes the next operation from the tree that those before it give.
 */
export class Plan {
  readonly tree = new Tree();
  /** How many operations have been given. */
  length = 0;
  readonly #random: Random;
  readonly #kinds: readonly (readonly [weight: number, make: Make])[];
  /** Appends that are still to follow: a file is often written in several calls. */
  #appends: { path: string; left: number } = { path: '', left: 0 };

  constructor({ seed, barriers }: PlanOptions) {
    this.#random = new Random(seed);
    this.#kinds = [...this.#changes(), ...(barriers ? this.#barriers() : [])];
  }

  /** The next operation. It must be applied before another is chosen. */
  choose(): Operation {
    if (this.#appends.left > 0) {
      this.#appends.left--;
      return this.#append(this.#appends.path, this.#random.between(1, 60 * KIB));
    }
    for (;;) {
      const operation = this.#random.weighted(this.#kinds)();
      if (operation !== undefined) return operation;
    }
  }

  apply(operation: Operation): Touched {
    this.length++;
    return this.tree.apply(operation);
  }

  /** Goes on until `length` operations have been applied; returns the last one. */
  skipTo(length: number): Operation | undefined {
    let last: Operation | undefined;
    while (this.length < length) {
      last = this.choose();
      this.apply(last);
    }
    return last;
  }

  #changes(): readonly (readonly [number, Make])[] {
    const random = this.#random;
    return [
      [14, () => this.#create()],
      [16, () => this.#onFile((path, size) => this.#write(path, random.below(size + 8 * KIB), this.#length()))],
      [10, () => this.#onFile((path) => this.#append(path, this.#length()))],
      [2, () => this.#onFile((path) => this.#write(path, random.below(300 * KIB), LARGE_BYTES))],
      [5, () => this.#onFile((path, size) => ({ kind: 'truncate', path, size: random.below(size + 10 * KIB) }))],
      [2, () => this.#onFile((path, size) => this.#punch(path, size))],
      [2, () => this.#copy()],
      [4, () => this.#mkdir()],
      [2, () => this.#rmdir()],
      [8, () => this.#onName((path) => ({ kind: 'unlink', path }))],
      [6, () => this.#onName((from) => ({ kind: 'rename', from, path: this.#newPath() }))],
      [5, () => this.#replace()],
      [2, () => this.#moveDirectory()],
      [2, () => this.#exchange()],
      [4, () => this.#onFile((from) => ({ kind: 'link', from, path: this.#newPath() }))],
      [2, () => ({ kind: 'symlink', path: this.#newPath(), target: `../to/${random.below(1000)}` })],
      [3, () => this.#onAny((path) => ({ kind: 'chmod', path, mode: random.pick([0o600, 0o644, 0o755, 0o700]) }))],
      [2, () => this.#onAny((path) => ({ kind: 'chown', path, uid: random.below(9), gid: random.below(9) }))],
      [4, () => this.#onFile((path) => ({ kind: 'utimes', path, mtimeNs: BigInt(random.next()) * 1_000_003n }))],
      [4, () => this.#onAny((path) => ({ kind: 'setxattr', path, name: this.#xattr(), value: `v${this.length}` }))],
      [2, () => this.#removeXattr()],
    ];
  }

  #barriers(): readonly (readonly [number, Make])[] {
    return [
      [1, () => this.#onFile((path) => ({ kind: 'fsync', path }))],
      [0.5, () => ({ kind: 'fsync', path: this.#random.pick(this.tree.paths('directory')) })],
      [0.5, () => this.#onFile((path) => this.#writeSync(path, this.#length()))],
    ];
  }

  /** Mostly small; around a page and the size kept inside a row; some of a chunk or more. */
  #length(): number {
    const random = this.#random;
    return random.weighted<() => number>([
      [8, () => random.between(1, 200)],
      [6, () => random.between(4000, 4200)],
      [3, () => random.between(1, 40 * KIB)],
      [1, () => random.between(120 * KIB, 140 * KIB)],
    ])();
  }

  #newPath(): string {
    const directory = this.#random.pick(this.tree.paths('directory'));
    const name = `${this.length}`;
    return directory === '' ? name : `${directory}/${name}`;
  }

  #xattr(): string {
    return `user.${this.#random.pick(['a', 'b', 'c'])}`;
  }

  #create(): Operation | undefined {
    if (this.tree.paths('file').length >= MOST_FILES) return undefined;
    const path = this.#newPath();
    if (this.#random.chance(0.3)) this.#appends = { path, left: this.#random.between(2, 6) };
    return { kind: 'create', path, mode: this.#random.pick([0o644, 0o600, 0o755]) };
  }

  #write(path: string, offset: number, length: number): Operation {
    if (offset + length > MOST_FILE_BYTES) return { kind: 'truncate', path, size: 1000 };
    return { kind: 'write', path, offset, appends: false, length, fill: this.length + 1, sync: false };
  }

  #append(path: string, length: number): Operation {
    const operation = this.#write(path, this.tree.size(path), length);
    return operation.kind === 'write' ? { ...operation, appends: true } : operation;
  }

  #writeSync(path: string, length: number): Operation {
    const operation = this.#append(path, length);
    return operation.kind === 'write' ? { ...operation, sync: true } : operation;
  }

  #punch(path: string, size: number): Operation | undefined {
    if (size === 0) return undefined;
    return { kind: 'punch', path, offset: this.#random.below(size), length: this.#random.between(1, 200 * KIB) };
  }

  #copy(): Operation | undefined {
    return this.#onFile((from, size) => {
      const path = this.#random.pick(this.tree.paths('file'));
      if (size === 0 || this.tree.isSameFile(from, path)) return undefined;
      // Whole chunks, or less than one: what is between is copied in two calls.
      return { kind: 'copy', from, path, length: size - (size < CHUNK_BYTES ? 0 : size % CHUNK_BYTES) };
    });
  }

  #mkdir(): Operation | undefined {
    if (this.tree.paths('directory').length >= MOST_DIRECTORIES) return undefined;
    return { kind: 'mkdir', path: this.#newPath() };
  }

  #rmdir(): Operation | undefined {
    const empty = this.tree.paths('directory').filter((path) => path !== '' && this.tree.isEmpty(path));
    return empty.length === 0 ? undefined : { kind: 'rmdir', path: this.#random.pick(empty) };
  }

  #replace(): Operation | undefined {
    return this.#onName((from) => {
      const path = this.#random.pick(this.#names());
      return this.tree.isSameFile(from, path) ? undefined : { kind: 'rename', from, path };
    });
  }

  #moveDirectory(): Operation | undefined {
    const from = this.#random.pick(this.tree.paths('directory'));
    const path = this.#newPath();
    if (from === '' || path.startsWith(`${from}/`)) return undefined;
    return { kind: 'rename', from, path };
  }

  /** A file with a file, or with a directory that it isn't in. */
  #exchange(): Operation | undefined {
    return this.#onName((from) => {
      const path = this.#random.pick(this.tree.paths());
      if (path === '' || from.startsWith(`${path}/`) || this.tree.isSameFile(from, path)) return undefined;
      return { kind: 'exchange', from, path };
    });
  }

  #removeXattr(): Operation | undefined {
    return this.#onAny((path) => {
      const names = this.tree.xattrNames(path);
      return names.length === 0 ? undefined : { kind: 'removexattr', path, name: this.#random.pick(names) };
    });
  }

  /** Paths of what isn't a directory. */
  #names(): string[] {
    return [...this.tree.paths('file'), ...this.tree.paths('symlink')];
  }

  #onFile(make: (path: string, size: number) => Operation | undefined): Operation | undefined {
    const files = this.tree.paths('file');
    if (files.length === 0) return undefined;
    const path = this.#random.pick(files);
    return make(path, this.tree.size(path));
  }

  #onName(make: (path: string) => Operation | undefined): Operation | undefined {
    const names = this.#names();
    return names.length === 0 ? undefined : make(this.#random.pick(names));
  }

  /** A file or a directory, but not the client's own. */
  #onAny(make: (path: string) => Operation | undefined): Operation | undefined {
    const paths = [...this.tree.paths('file'), ...this.tree.paths('directory')].filter((path) => path !== '');
    return paths.length === 0 ? undefined : make(this.#random.pick(paths));
  }
}
