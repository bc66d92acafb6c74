import { type Ino, ROOT_INO } from '../brand.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import type { Moment, NameOf } from './port.ts';
import { Turns } from './turns.ts';

/** Inodes asked for in one statement. */
const INOS_AT_ONCE = 5000;

/** Calls `ask` for some of the inodes after the other. */
export async function inPortions(inos: readonly Ino[], ask: (some: readonly Ino[]) => Promise<void>): Promise<void> {
  for (let at = 0; at < inos.length; at += INOS_AT_ONCE) await ask(inos.slice(at, at + INOS_AT_ONCE));
}

/** The names of what differs in one of two trees, and the paths that they make. */
export class TreeNames {
  readonly #moment: Moment;
  readonly #place: Place;
  readonly #names = new Map<Ino, NameOf[]>();
  /** Paths of directories; undefined for one that can't be reached from the root. */
  readonly #paths = new Map<Ino, ByteString | undefined>([[ROOT_INO, '']]);

  constructor(moment: Moment, place: Place) {
    this.#moment = moment;
    this.#place = place;
  }

  /** Loads all names of these. */
  async load(inos: readonly Ino[]): Promise<void> {
    await inPortions(inos, async (some) => {
      for (const { ino, parent, name } of await this.#moment.namesOf(this.#place, some))
        this.add(ino, { parent, name });
    });
  }

  add(ino: Ino, name: NameOf): void {
    const names = this.#names.get(ino);
    if (names === undefined) this.#names.set(ino, [name]);
    else names.push(name);
  }

  of(ino: Ino): readonly NameOf[] {
    return this.#names.get(ino) ?? [];
  }

  /** Loads what the paths of these directories need: the names of all directories above. */
  async loadPaths(directories: Iterable<Ino>): Promise<void> {
    const turns = new Turns();
    let wanted = new Set(directories);
    while (wanted.size > 0) {
      const unknown: Ino[] = [];
      for (const ino of wanted) {
        if (!this.#names.has(ino) && !this.#paths.has(ino)) unknown.push(ino);
        await turns.step();
      }
      await this.load(unknown);
      const above = new Set<Ino>();
      for (const ino of wanted) {
        const parent = this.#paths.has(ino) ? undefined : this.of(ino)[0]?.parent;
        if (parent !== undefined && !this.#paths.has(parent) && !wanted.has(parent)) above.add(parent);
        await turns.step();
      }
      wanted = above;
    }
  }

  /** The path of a directory whose way to the root is loaded. */
  pathOf(directory: Ino): ByteString | undefined {
    const way: Ino[] = [];
    let at = directory;
    while (!this.#paths.has(at)) {
      way.push(at);
      const parent = this.of(at)[0]?.parent;
      if (parent === undefined || way.includes(parent)) return undefined;
      at = parent;
    }
    let path = this.#paths.get(at);
    for (const ino of way.reverse()) {
      const name = this.of(ino)[0]?.name;
      path = path === undefined || name === undefined ? undefined : join(path, name);
      this.#paths.set(ino, path);
    }
    return path;
  }

  /** The path that a name makes. */
  pathOfName({ parent, name }: NameOf): ByteString | undefined {
    const path = this.pathOf(parent);
    return path === undefined ? undefined : join(path, name);
  }
}

function join(path: ByteString, name: ByteString): ByteString {
  return path === '' ? name : `${path}/${name}`;
}
