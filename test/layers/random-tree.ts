import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { fileType } from '../../src/vfs/inode.ts';
import type { Random } from '../model/random.ts';
import { systemCalls } from '../model/syscalls.ts';

/** Names that patches must quote are among them. Byte strings. */
const NAMES = [
  ...['a', 'b', 'c', 'd', 'e', 'f', 'README', 'Makefile', 'x.ts', 'y.ts'],
  ...['with space', ' leading', 'trailing ', 'b/c'.replace('/', ' b '), '-dash', 'tab\there', 'new\nline', 'cr\r'],
  ...[
    'quote"d',
    'back\\slash',
    "apostrophe's",
    'bell\x07',
    '\x7f',
    Buffer.from('ümläut').toString('latin1'),
    '\xff\xfe',
  ],
];
const MODES = [0o644, 0o755, 0o600, 0o640, 0o700];

export interface TreeOptions {
  /** Content that isn't text. */
  readonly binary: boolean;
  /** FIFOs. */
  readonly special: boolean;
  /** A name may come to stand for something of another type. */
  readonly turning: boolean;
}

interface Found {
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'other';
}

/** A directory with random files in it, which change at random. Paths are byte strings below it. */
export class RandomTree {
  readonly #root: string;
  readonly #random: Random;
  readonly #options: TreeOptions;

  constructor(root: string, random: Random, options: TreeOptions) {
    this.#root = root;
    this.#random = random;
    this.#options = options;
  }

  change(times: number): void {
    for (let n = 0; n < times; n++) this.#changeOnce();
  }

  #full(path: string): Buffer {
    return Buffer.from(`${this.#root}/${path}`, 'latin1');
  }

  #all(below = ''): Found[] {
    const names = readdirSync(this.#full(below), { encoding: 'latin1' }).sort();
    return names.flatMap((name) => {
      const path = below === '' ? name : `${below}/${name}`;
      const stats = lstatSync(this.#full(path));
      if (stats.isDirectory()) return [{ path, kind: 'directory' } as const, ...this.#all(path)];
      return [{ path, kind: stats.isFile() ? 'file' : 'other' } as const];
    });
  }

  #pick(kinds: readonly Found['kind'][]): string | undefined {
    const found = this.#all().filter(({ kind }) => kinds.includes(kind));
    return found.length === 0 ? undefined : this.#random.pick(found).path;
  }

  /** A path that isn't there, in a directory that is. */
  #newPath(): string {
    const random = this.#random;
    for (;;) {
      const directory = random.chance(0.4) ? '' : (this.#pick(['directory']) ?? '');
      const path = `${directory === '' ? '' : `${directory}/`}${random.pick(NAMES)}${random.chance(0.5) ? random.below(50) : ''}`;
      if (lstatSync(this.#full(path), { throwIfNoEntry: false }) === undefined) return path;
    }
  }

  #lines(count: number): string[] {
    const words = this.#random.pick([5, 1000]);
    return Array.from({ length: count }, () => `line ${this.#random.below(words)}`);
  }

  #content(): Buffer {
    const random = this.#random;
    if (random.chance(0.1)) return Buffer.alloc(0);
    if (this.#options.binary && random.chance(0.3))
      return Buffer.from(Array.from({ length: random.pick([1, 52, 53, 300, 5000]) }, () => random.below(256)));
    const lines = this.#lines(
      random.weighted([
        [8, random.below(40)],
        [2, 2000],
        [1, 30_000],
      ]),
    );
    return Buffer.from(lines.join('\n') + (random.chance(0.7) ? '\n' : ''));
  }

  #edit(path: string): void {
    const random = this.#random;
    const lines = readFileSync(this.#full(path), 'latin1').split('\n');
    for (let n = random.between(1, 4); n > 0; n--)
      lines.splice(random.below(lines.length + 1), random.below(4), ...this.#lines(random.below(4)));
    writeFileSync(this.#full(path), Buffer.from(lines.join('\n'), 'latin1'));
  }

  #changeOnce(): void {
    const random = this.#random;
    const file = this.#pick(['file']);
    const any = this.#pick(['file', 'other', 'directory']);
    const leaf = this.#pick(['file', 'other']);
    const other = this.#pick(this.#options.turning ? ['file', 'other'] : ['file']);
    const moving = this.#options.turning ? leaf : file;
    const changes: (readonly [number, () => void])[] = [
      [12, () => writeFileSync(this.#full(this.#newPath()), this.#content(), { mode: random.pick(MODES) })],
      [4, () => mkdirSync(this.#full(this.#newPath()))],
      [2, () => symlinkSync(random.pick(['a', 'nowhere/at all', '/', '\xff'.repeat(3)]), this.#full(this.#newPath()))],
      [8, () => file !== undefined && this.#edit(file)],
      [2, () => file !== undefined && appendFileSync(this.#full(file), this.#content())],
      [3, () => file !== undefined && writeFileSync(this.#full(file), this.#content())],
      [3, () => file !== undefined && chmodSync(this.#full(file), random.pick(MODES))],
      [2, () => file !== undefined && copyFileSync(this.#full(file), this.#full(this.#newPath()))],
      [2, () => file !== undefined && linkSync(this.#full(file), this.#full(this.#newPath()))],
      [4, () => any !== undefined && this.#move(any, this.#newPath())],
      [4, () => leaf !== undefined && unlinkSync(this.#full(leaf))],
      [1, () => any !== undefined && rmSync(this.#full(any), { recursive: true })],
      // An editor's way of writing, and one file in another's place.
      [3, () => file !== undefined && this.#replace(file)],
      [2, () => moving !== undefined && other !== undefined && renameSync(this.#full(moving), this.#full(other))],
      [2, () => moving !== undefined && other !== undefined && this.#swap(moving, other)],
    ];
    if (this.#options.special) changes.push([2, () => this.#makeFifo(this.#newPath())]);
    if (this.#options.turning && any !== undefined) changes.push([3, () => this.#turn(any)]);
    random.weighted(changes)();
  }

  #makeFifo(path: string): void {
    const result = systemCalls().mknod(`${this.#root}/${path}`, fileType.fifo | 0o644, 0, 0);
    if (result < 0) throw new Error(`mknod of '${path}' failed with errno ${-result}`);
  }

  #move(path: string, to: string): void {
    if (!`${to}/`.startsWith(`${path}/`)) renameSync(this.#full(path), this.#full(to));
  }

  #replace(path: string): void {
    const temporary = this.#newPath();
    writeFileSync(this.#full(temporary), this.#random.chance(0.3) ? readFileSync(this.#full(path)) : this.#content());
    renameSync(this.#full(temporary), this.#full(path));
  }

  #swap(one: string, other: string): void {
    if (one === other) return;
    const temporary = this.#newPath();
    renameSync(this.#full(one), this.#full(temporary));
    renameSync(this.#full(other), this.#full(one));
    renameSync(this.#full(temporary), this.#full(other));
  }

  /** Puts something of another type at a path; now and then what was there goes below it. */
  #turn(path: string): void {
    const random = this.#random;
    const was = lstatSync(this.#full(path));
    const aside = this.#newPath();
    if (`${aside}/`.startsWith(`${path}/`)) return;
    renameSync(this.#full(path), this.#full(aside));
    if (was.isDirectory()) {
      if (random.chance(0.5)) symlinkSync('target', this.#full(path));
      else writeFileSync(this.#full(path), this.#content());
    } else {
      mkdirSync(this.#full(path));
      if (random.chance(0.5)) {
        renameSync(this.#full(aside), this.#full(`${path}/below`));
        return;
      }
      writeFileSync(this.#full(`${path}/inside`), this.#content());
    }
    if (random.chance(0.5)) rmSync(this.#full(aside), { recursive: true });
  }
}
