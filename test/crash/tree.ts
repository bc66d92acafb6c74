import { createHash } from 'node:crypto';
import { bytesOf, type Operation } from './operation.ts';

/** A file, directory or symbolic link of the model. */
interface Node {
  readonly kind: 'file' | 'directory' | 'symlink';
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  bytes: Buffer;
  /** Of `bytes`, once it was asked for. */
  hash: string | undefined;
  readonly target: string;
  readonly xattrs: Map<string, string>;
  /** Known only where it was set and nothing has changed it since. */
  mtimeNs: bigint | undefined;
}

/** What can be seen of one path. */
export interface Description {
  /** Everything but the time, in one line. */
  readonly text: string;
  /** Undefined in the model where it doesn't know. */
  readonly mtimeNs: bigint | undefined;
}

export interface Visible {
  readonly kind: Node['kind'];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly hash: string;
  readonly target: string;
  readonly xattrs: ReadonlyMap<string, string>;
  /** The first, in the order of strings, of the paths that name the same file. */
  readonly firstPath: string;
}

const NO_BYTES = Buffer.alloc(0);

/** The line that both sides make of what they see. */
export function describeVisible(visible: Visible): string {
  const { kind, mode, uid, gid, nlink, size, hash, target, firstPath } = visible;
  const xattrs = [...visible.xattrs].sort(([one], [other]) => (one < other ? -1 : 1));
  const common = `${kind} ${(mode & 0o7777).toString(8)} ${uid}:${gid} nlink=${nlink}`;
  const attributes = xattrs.map(([name, value]) => ` ${name}=${value}`).join('');
  if (kind === 'directory') return common + attributes;
  if (kind === 'symlink') return `${common} -> ${target}`;
  return `${common} size=${size} ${hash.slice(0, 16)} is ${firstPath}${attributes}`;
}

export function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Which paths an operation may have changed the looks of. */
export type Touched = readonly string[] | 'all';

/** The tree as it should be, in memory: what the operations so far have made of an empty directory. */
export class Tree {
  readonly #nodes = new Map<string, Node>([['', newNode('directory', 0o755)]]);

  /** @throws {Error} when the operation doesn't fit the tree: a plan never has such a one. */
  apply(operation: Operation): Touched {
    switch (operation.kind) {
      case 'create':
        return this.#add(operation.path, newNode('file', operation.mode));
      case 'mkdir':
        return this.#add(operation.path, newNode('directory', 0o755));
      case 'symlink':
        return this.#add(operation.path, newNode('symlink', 0o777, operation.target));
      case 'link':
        return this.#link(operation.from, operation.path);
      case 'unlink':
      case 'rmdir':
        return this.#remove(operation.path);
      case 'rename':
        return this.#rename(operation.from, operation.path);
      case 'exchange':
        return this.#exchange(operation.from, operation.path);
      case 'write': {
        const { path, offset, length, fill, keep } = operation;
        return this.#write(path, offset, bytesOf(fill, length).subarray(0, keep));
      }
      case 'truncate':
        return this.#truncate(operation.path, operation.size);
      case 'punch':
        return this.#punch(operation.path, operation.offset, operation.length);
      case 'copy':
        return this.#write(operation.path, 0, this.#node(operation.from).bytes.subarray(0, operation.length));
      case 'chmod':
        return this.#change(operation.path, (node) => {
          node.mode = operation.mode;
        });
      case 'chown':
        return this.#change(operation.path, (node) => {
          node.uid = operation.uid;
          node.gid = operation.gid;
        });
      case 'utimes':
        return this.#change(operation.path, (node) => {
          node.mtimeNs = operation.mtimeNs;
        });
      case 'setxattr':
        return this.#change(operation.path, (node) => node.xattrs.set(operation.name, operation.value));
      case 'removexattr':
        return this.#change(operation.path, (node) => node.xattrs.delete(operation.name));
      case 'fsync':
        return [];
    }
  }

  /** Undefined where there's nothing of that name. */
  describe(path: string): Description | undefined {
    const node = this.#nodes.get(path);
    if (node === undefined) return undefined;
    if (node.kind === 'file') node.hash ??= hashOf(node.bytes);
    const firstPath = this.#namesOf(node, path).sort()[0] ?? path;
    const visible = { ...node, size: node.bytes.length, hash: node.hash ?? '', firstPath };
    return { text: describeVisible(visible), mtimeNs: node.mtimeNs };
  }

  paths(kind?: Node['kind']): string[] {
    const all = [...this.#nodes];
    return all.filter(([, node]) => kind === undefined || node.kind === kind).map(([path]) => path);
  }

  size(path: string): number {
    return this.#node(path).bytes.length;
  }

  xattrNames(path: string): string[] {
    return [...this.#node(path).xattrs.keys()];
  }

  isEmpty(directory: string): boolean {
    return ![...this.#nodes.keys()].some((path) => path !== '' && parentOf(path) === directory);
  }

  isSameFile(one: string, other: string): boolean {
    return this.#node(one) === this.#node(other);
  }

  #node(path: string): Node {
    const node = this.#nodes.get(path);
    if (node === undefined) throw new Error(`the model has no '${path}'`);
    return node;
  }

  #namesOf(node: Node, path: string): string[] {
    if (node.kind === 'directory' || node.nlink === 1) return [path];
    return [...this.#nodes].filter(([, other]) => other === node).map(([name]) => name);
  }

  #add(path: string, node: Node): Touched {
    if (this.#nodes.has(path)) throw new Error(`the model has '${path}' already`);
    this.#nodes.set(path, node);
    if (node.kind === 'directory') this.#node(parentOf(path)).nlink++;
    return [path, parentOf(path)];
  }

  #link(from: string, path: string): Touched {
    const node = this.#node(from);
    node.nlink++;
    this.#nodes.set(path, node);
    return this.#namesOf(node, path);
  }

  #remove(path: string): Touched {
    const node = this.#node(path);
    const names = this.#namesOf(node, path);
    this.#nodes.delete(path);
    node.nlink--;
    if (node.kind === 'directory') this.#node(parentOf(path)).nlink--;
    return [...names, parentOf(path)];
  }

  #rename(from: string, path: string): Touched {
    const node = this.#node(from);
    const replaced = this.#nodes.get(path);
    if (replaced === node) return [];
    const touched = replaced === undefined ? [] : this.#remove(path);
    if (node.kind === 'directory') {
      this.#node(parentOf(from)).nlink--;
      this.#node(parentOf(path)).nlink++;
      this.#moveAll(new Map([[from, path]]));
      return 'all';
    }
    const before = this.#namesOf(node, from);
    this.#nodes.delete(from);
    this.#nodes.set(path, node);
    return [...touched, ...before, ...this.#namesOf(node, path)];
  }

  #exchange(one: string, other: string): Touched {
    const [first, second] = [this.#node(one), this.#node(other)];
    for (const [node, from, to] of [
      [first, one, other],
      [second, other, one],
    ] as const) {
      if (node.kind !== 'directory') continue;
      this.#node(parentOf(from)).nlink--;
      this.#node(parentOf(to)).nlink++;
    }
    this.#moveAll(
      new Map([
        [one, other],
        [other, one],
      ]),
    );
    return 'all';
  }

  /** Renames paths and what is below them. */
  #moveAll(renamed: ReadonlyMap<string, string>): void {
    const moved: [string, Node][] = [];
    for (const [path, node] of [...this.#nodes])
      for (const [from, to] of renamed) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        this.#nodes.delete(path);
        moved.push([to + path.slice(from.length), node]);
      }
    for (const [path, node] of moved) this.#nodes.set(path, node);
  }

  #write(path: string, offset: number, data: Buffer): Touched {
    return this.#changeBytes(path, (old) => {
      const bytes = Buffer.alloc(Math.max(old.length, offset + data.length));
      old.copy(bytes);
      data.copy(bytes, offset);
      return bytes;
    });
  }

  #truncate(path: string, size: number): Touched {
    return this.#changeBytes(path, (old) => {
      const bytes = Buffer.alloc(size);
      old.copy(bytes);
      return bytes;
    });
  }

  #punch(path: string, offset: number, length: number): Touched {
    return this.#changeBytes(path, (old) => Buffer.from(old).fill(0, offset, Math.min(old.length, offset + length)));
  }

  #changeBytes(path: string, change: (old: Buffer) => Buffer): Touched {
    return this.#change(path, (node) => {
      node.bytes = change(node.bytes);
      node.hash = undefined;
      node.mtimeNs = undefined;
    });
  }

  #change(path: string, change: (node: Node) => void): Touched {
    const node = this.#node(path);
    change(node);
    return this.#namesOf(node, path);
  }
}

function newNode(kind: Node['kind'], mode: number, target = ''): Node {
  return {
    kind,
    mode,
    uid: 0,
    gid: 0,
    nlink: kind === 'directory' ? 2 : 1,
    bytes: NO_BYTES,
    hash: undefined,
    target,
    xattrs: new Map(),
    mtimeNs: undefined,
  };
}

/** The path of the directory that a path is in. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
