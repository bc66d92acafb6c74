import type { Ino, LayerId } from '../brand.ts';
import type { ByteString, InodeImage, Place } from '../vfs/store.ts';
import { inPortions, TreeNames } from './diff-names.ts';
import { isDirectoryMode } from './kinds.ts';
import type { ChangedInode, Moment } from './port.ts';
import { Turns } from './turns.ts';

/** What may differ between two trees, by path in each: of everything else, paths and rows are the same in both. */
export interface TwoTrees {
  readonly before: ReadonlyMap<ByteString, InodeImage>;
  readonly after: ReadonlyMap<ByteString, InodeImage>;
  /** Whether an inode has rows of its own in both trees: otherwise it's the same in both, wherever it is. */
  readonly isChanged: (ino: Ino) => boolean;
}

const PAGE_NAMES = 1000;

/**
 * Loads what differs between two trees. Whatever changes, the inode changes with it: a name, too, changes those that it
 * stands for. Only a directory that moves takes along what's in it.
 */
export async function loadTrees(
  moment: Moment,
  from: Place,
  to: Place,
  between: readonly LayerId[],
): Promise<TwoTrees> {
  const changed = new Map<Ino, ChangedInode>();
  for (const one of await moment.changed(from, to, between)) changed.set(one.ino, one);
  const before = new Side(moment, from);
  const after = new Side(moment, to);
  const inos = [...changed.values()];
  await before.load(inos.filter((one) => one.before !== undefined).map(({ ino }) => ino));
  await after.load(inos.filter((one) => one.after !== undefined).map(({ ino }) => ino));
  await addMoved(moment, to, changed, before, after);
  return {
    before: await before.byPath(),
    after: await after.byPath(),
    isChanged: (ino) => changed.has(ino),
  };
}

/** One of the two trees. */
class Side {
  readonly names: TreeNames;
  readonly images = new Map<Ino, InodeImage>();
  readonly #moment: Moment;
  readonly #place: Place;

  constructor(moment: Moment, place: Place) {
    this.#moment = moment;
    this.#place = place;
    this.names = new TreeNames(moment, place);
  }

  async load(inos: readonly Ino[]): Promise<void> {
    await this.names.load(inos);
    const tree = this.#moment.tree(this.#place);
    await inPortions(inos, async (some) => {
      for (const image of await tree.inodes(some)) this.images.set(image.ino, image);
    });
    const directories = new Set<Ino>();
    for (const ino of inos) {
      if (isDirectoryMode(this.images.get(ino)?.mode ?? 0)) directories.add(ino);
      for (const { parent } of this.names.of(ino)) directories.add(parent);
    }
    await this.names.loadPaths(directories);
  }

  async byPath(): Promise<Map<ByteString, InodeImage>> {
    const turns = new Turns();
    const paths = new Map<ByteString, InodeImage>();
    for (const [ino, image] of this.images) {
      for (const name of this.names.of(ino)) {
        const path = this.names.pathOfName(name);
        if (path !== undefined) paths.set(path, image);
      }
      if (image.ino === image.parent) paths.set('', image); // the root
      await turns.step();
    }
    return paths;
  }
}

/** Adds what is the same in both trees but below a directory that has moved. */
async function addMoved(
  moment: Moment,
  to: Place,
  changed: ReadonlyMap<Ino, ChangedInode>,
  before: Side,
  after: Side,
): Promise<void> {
  const tree = moment.tree(to);
  const moved: Ino[] = [];
  for (const [ino, image] of after.images)
    if (isDirectoryMode(image.mode) && before.images.has(ino) && before.names.pathOf(ino) !== after.names.pathOf(ino))
      moved.push(ino);
  for (let directory = moved.pop(); directory !== undefined; directory = moved.pop()) {
    for (let at = 0, complete = false; !complete; ) {
      const page = await tree.directory(directory, at, PAGE_NAMES);
      for (const [index, { name, ino, parent, cookie }] of page.dentries.entries()) {
        at = cookie;
        const image = page.inodes[index];
        if (image === undefined || changed.has(ino)) continue;
        for (const side of [before, after]) {
          side.images.set(ino, image);
          side.names.add(ino, { parent, name });
        }
        if (isDirectoryMode(image.mode)) moved.push(ino);
      }
      ({ complete } = page);
    }
  }
}
