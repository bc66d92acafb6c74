import type { ByteString } from '../vfs/store.ts';
import { Turns } from './turns.ts';

/** A name in a directory: another directory, or a file. */
export interface TreeEntry {
  readonly name: ByteString;
  readonly directory: boolean;
}

/** The directories that some paths are in. */
export class PathTree {
  /** Names by directory, and whether they're directories, which wins where one is both. */
  readonly #directories = new Map<ByteString, Map<ByteString, boolean>>([['', new Map()]]);

  static async of(paths: Iterable<ByteString>): Promise<PathTree> {
    const tree = new PathTree();
    const turns = new Turns();
    for (const path of paths) {
      tree.#add(path);
      await turns.step();
    }
    return tree;
  }

  #add(path: ByteString): void {
    let isDirectory = false;
    for (let below = path; ; isDirectory = true) {
      const slash = below.lastIndexOf('/');
      const above = below.slice(0, Math.max(slash, 0));
      const name = below.slice(slash + 1);
      const known = this.#directories.get(above);
      const names = known ?? new Map<ByteString, boolean>();
      if (known === undefined) this.#directories.set(above, names);
      names.set(name, isDirectory || names.get(name) === true);
      if (above === '' || known !== undefined) return;
      below = above;
    }
  }

  /** What a directory's name is; undefined when there's no such name. */
  find(directory: ByteString, name: ByteString): TreeEntry | undefined {
    const isDirectory = this.#directories.get(directory)?.get(name);
    return isDirectory === undefined ? undefined : { name, directory: isDirectory };
  }

  list(directory: ByteString): TreeEntry[] {
    return [...(this.#directories.get(directory) ?? [])].map(([name, isDirectory]) => ({
      name,
      directory: isDirectory,
    }));
  }
}
