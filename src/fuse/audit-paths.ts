import type { Text } from '../audit/record.ts';
import { type Ino, ROOT_INO } from '../brand.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { CONTROL_VIEW, type Context, inoOf, VIEW_SHIFT_HI } from './context.ts';

const CONTROL_PATH = '.tarbox';

/**
 * Thrown as `Missing` is, for names that only an event needs: those of an inode and of what is above it in a tree, which
 * isn't always the request's.
 */
export class PathMissing {
  readonly tree: Workspace;
  readonly ino: Ino;

  constructor(tree: Workspace, ino: Ino) {
    this.tree = tree;
    this.ino = ino;
  }
}

/**
 * Puts paths of inodes together from the names that are known in their trees. Where the tree or a name is gone, or the
 * path is too long, the text stays unknown.
 */
export class Paths {
  /** Whether what isn't known is missed, rather than left unknown. */
  mayMiss = true;

  /**
   * Puts the path of an inode in front. That of a file without a name is the last one that it had, if everything above
   * is still there.
   *
   * @throws {PathMissing}
   */
  put(text: Text, tree: Workspace | undefined, ino: Ino): void {
    if (tree === undefined) return;
    let at = ino;
    while (at !== ROOT_INO) {
      const inode = tree.cached(at);
      const isLoaded = inode === undefined ? tree.nameless.has(at) : inode.namedIn !== undefined || inode.nlink === 0;
      if (!isLoaded && this.mayMiss) throw new PathMissing(tree, at);
      if (inode === undefined || inode.namedIn === undefined || inode.namedIn === 0) return;
      if (!text.prepend(inode.name)) return;
      at = inode.namedIn;
    }
    // The root's own is a slash.
    text.known = text.start < text.bytes.length || text.prepend('');
  }

  /** The path of a name in a directory. @throws {PathMissing} */
  putName(text: Text, tree: Workspace | undefined, directory: Ino, name: string): void {
    if (text.prepend(name)) this.put(text, tree, directory);
  }

  /** The path of another nodeid in the request, or of a name in it. @throws {PathMissing} */
  putOther(text: Text, context: Context, nodeidLo: number, nodeidHi: number, name?: string): void {
    if (name !== undefined && !text.prepend(name)) return;
    if (nodeidHi >>> VIEW_SHIFT_HI === CONTROL_VIEW) this.putControl(text, context, nodeidLo);
    else this.put(text, context.treeOf(nodeidLo, nodeidHi), inoOf(nodeidLo, nodeidHi));
  }

  /** Puts the path of a control file in front. */
  putControl(text: Text, context: Context, id: number): void {
    for (const part of context.services.control.names(id).reverse()) text.prepend(part);
    text.known = text.prepend(CONTROL_PATH);
  }
}

/** The inode of a name, as far as it's loaded; 0 where it isn't. */
export function childOf(tree: Workspace | undefined, parent: Ino, name: string): number {
  return tree?.cached(parent)?.directory?.names.get(name)?.ino ?? 0;
}
