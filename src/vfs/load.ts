import type { Ino } from '../brand.ts';
import { FsError } from '../errno.ts';
import { addStoredSegments, contentOf } from './content.ts';
import { addStoredName, addStoredPage, directoryOf, indexAfter, orderedNames } from './directory.ts';
import { CHUNK_BYTES } from './geometry.ts';
import { type Inode, inodeFromImage, isRegular } from './inode.ts';
import type { Miss } from './miss.ts';
import type { ByteString, InodeImage, Loads } from './store.ts';
import type { Workspace } from './workspace.ts';

/** Names a page. */
const PAGE_NAMES = 2000;
/** Files whose content comes along when one small file of their directory is read. */
const NEIGHBOURS = 64;
const NEIGHBOUR_BYTES = 1024 * 1024;

/**
 * Brings what operations missed into the workspace. Loads run side by side; one that is already on its way isn't
 * started again. What a load brings never replaces something that is in the workspace.
 */
export class Loader {
  readonly #workspace: Workspace;
  readonly #loads: Loads;
  readonly #running = new Map<string, Promise<void>>();

  constructor(workspace: Workspace, loads: Loads) {
    this.#workspace = workspace;
    this.#loads = loads;
    workspace.readAhead = (hashes) => this.#readAhead(hashes);
  }

  /**
   * Resolves when the operation that missed this can be tried again.
   *
   * @throws {FsError} ESTALE for an inode that doesn't exist, EIO for damaged content; {StoreError}
   */
  load(miss: Miss): Promise<void> {
    const key = keyOf(miss);
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const load = this.#load(miss).finally(() => this.#running.delete(key));
    this.#running.set(key, load);
    return load;
  }

  /** Resolves when every load that runs now has ended, whichever way. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#running.values()]);
  }

  #load(miss: Miss): Promise<void> {
    switch (miss.kind) {
      case 'inodes':
        return this.#loadInodes(miss.inos);
      case 'name':
        return this.#loadName(miss.parent, miss.name);
      case 'directory':
        return this.#loadPage(miss.parent, miss.after);
      case 'segments':
        return this.#loadSegments(miss.ino, miss.from, miss.to);
      case 'chunks':
        return this.#loadChunks(miss.hashes);
    }
  }

  #keepAll(images: readonly InodeImage[]): void {
    for (const image of images)
      if (this.#workspace.cached(image.ino) === undefined) this.#workspace.keep(inodeFromImage(image, true));
  }

  async #loadInodes(inos: readonly Ino[]): Promise<void> {
    this.#keepAll(await this.#loads.inodes(inos));
    const gone = inos.find((ino) => this.#workspace.cached(ino) === undefined);
    if (gone !== undefined && inos.length === 1) throw new FsError('ESTALE', `inode ${gone} is gone`);
    if (gone !== undefined) throw new FsError('EIO', `a directory names inode ${gone}, which is not stored`);
  }

  /** A first page holds most directories whole; in a larger one the name is asked for by itself. */
  async #loadName(parent: Ino, name: ByteString): Promise<void> {
    const known = () => {
      const directory = this.#workspace.cached(parent)?.directory;
      return directory === undefined || directory.complete || directory.names.has(name);
    };
    if (this.#workspace.cached(parent)?.directory?.loadedTo === 0) await this.#loadPage(parent, 0);
    if (known()) return;
    const found = await this.#loads.name(parent, name);
    const inode = this.#workspace.cached(parent);
    if (inode?.directory === undefined || known()) return;
    if (found === undefined) inode.directory.names.set(name, null);
    else {
      this.#keepAll([found.inode]);
      addStoredName(inode.directory, found.dentry);
    }
    this.#workspace.keep(inode);
  }

  async #loadPage(parent: Ino, after: number): Promise<void> {
    const page = await this.#loads.directory(parent, after, PAGE_NAMES);
    this.#keepAll(page.inodes);
    const inode = this.#workspace.cached(parent);
    if (inode === undefined) return;
    addStoredPage(directoryOf(inode), after, page.dentries, page.complete);
    this.#workspace.keep(inode);
  }

  async #loadSegments(ino: Ino, from: number, to: number): Promise<void> {
    const neighbours = from === 0 && to === 1 ? this.#neighbours(ino) : [];
    if (neighbours.length > 1) {
      const inos = neighbours.map((inode) => inode.ino);
      const images = await this.#loads.firstSegments(inos, NEIGHBOUR_BYTES);
      const hashes: ByteString[] = [];
      for (const image of images) {
        this.#addSegments(image.ino, 0, 1, [image]);
        for (const chunk of image.chunks) if (chunk.length > 0 && hashes.length < NEIGHBOURS) hashes.push(chunk.hash);
      }
      if (hashes.length > 1) await this.#loadChunks(hashes);
      const inode = this.#workspace.cached(ino);
      if (inode === undefined || contentOf(inode).segments.has(0)) return;
    }
    this.#addSegments(ino, from, to, await this.#loads.segments(ino, from, to));
  }

  #addSegments(ino: Ino, from: number, to: number, images: Parameters<typeof addStoredSegments>[3]): void {
    const inode = this.#workspace.cached(ino);
    if (inode === undefined) return;
    addStoredSegments(contentOf(inode), from, to, images);
    this.#workspace.keep(inode);
  }

  /** The file itself and the small files listed behind it in its directory, which are likely to be read next. */
  #neighbours(ino: Ino): Inode[] {
    const inode = this.#workspace.cached(ino);
    if (inode === undefined || inode.size > CHUNK_BYTES) return [];
    const directory = this.#workspace.cached(inode.parent)?.directory;
    if (directory === undefined) return [];
    const order = orderedNames(directory);
    const here = order.findIndex((dentry) => dentry.ino === ino);
    if (here < 0) return [];
    const found: Inode[] = [];
    const start = order[here];
    for (let at = start === undefined ? 0 : indexAfter(order, start.cookie - 1); at < order.length; at++) {
      const ino = order[at]?.ino;
      const next = ino === undefined ? undefined : this.#workspace.cached(ino);
      if (next === undefined || !isRegular(next) || next.size === 0 || next.size > CHUNK_BYTES) continue;
      if (next.content !== undefined && next.ino !== inode.ino) continue;
      found.push(next);
      if (found.length >= NEIGHBOURS) break;
    }
    return found;
  }

  async #loadChunks(hashes: readonly ByteString[]): Promise<void> {
    const absent = hashes.filter((hash) => !this.#workspace.chunks.has(hash));
    if (absent.length === 0) return;
    const chunks = await this.#loads.chunks(absent);
    for (const [hash, data] of chunks) this.#workspace.chunks.set(hash, data, { size: data.length });
  }

  #readAhead(hashes: readonly ByteString[]): void {
    // A failed read-ahead is no failure: the read that needs the chunk asks again and gets the error.
    this.load({ kind: 'chunks', hashes }).catch(() => {});
  }
}

function keyOf(miss: Miss): string {
  switch (miss.kind) {
    case 'inodes':
      return `i${miss.inos.join()}`;
    case 'name':
      return `n${miss.parent}/${miss.name}`;
    case 'directory':
      return `d${miss.parent}:${miss.after}`;
    case 'segments':
      return `s${miss.ino}:${miss.from}:${miss.to}`;
    case 'chunks':
      return `c${miss.hashes.join('')}`;
  }
}
