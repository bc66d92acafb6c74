import { type Ino, ROOT_INO } from '../brand.ts';
import { FsError } from '../errno.ts';
import { addStoredSegments, contentOf } from './content.ts';
import { addStoredName, addStoredPage, type Dentry, directoryOf, orderedNames } from './directory.ts';
import { CHUNK_BYTES } from './geometry.ts';
import { type Inode, inodeFromImage, isDirectory, isRegular, noteName } from './inode.ts';
import type { LoadMiss } from './miss.ts';
import type { ByteString, InodeImage, Loads } from './store.ts';
import type { Workspace } from './workspace.ts';

/** Names a page. */
const PAGE_NAMES = 2000;
/** Names that are asked for by themselves before their directory is loaded page by page, and how far that goes. */
const LOOKED_UP = 16;
const PAGED_NAMES = 100_000;
/** Files whose content comes along when one small file of their directory is read. */
const NEIGHBOURS = 64;
const NEIGHBOUR_BYTES = 1024 * 1024;
/** Inodes that come along when they are asked for one after the other. */
const FOLLOWERS = 64;
/** PATH_MAX, of names of one byte. */
const PATH_NAMES = 2048;
/** Inodes that don't exist and are kept in mind. */
const MOST_NAMELESS = 1000;
/** Directories whose names are fetched ahead of someone who walks the tree, and names looked at to find them. */
const AHEAD_DIRECTORIES = 8;
const AHEAD_NAMES = 256;

/**
 * Brings what operations missed into the workspace. Loads run side by side; one that is already on its way isn't
 * started again. What a load brings never replaces something that is in the workspace.
 */
export class Loader {
  readonly #workspace: Workspace;
  readonly #loads: Loads;
  readonly #running = new Map<string, Promise<void>>();
  /** The directory that was listed last, and how many reads there had been by then. */
  #listed: Ino | undefined;
  #readsBefore = 0;
  /** The inode that was asked for last by itself. */
  #asked = 0;

  constructor(workspace: Workspace, loads: Loads) {
    this.#workspace = workspace;
    this.#loads = loads;
    workspace.readAhead = (hashes) => this.#readAhead(hashes);
    workspace.listing = (directory) => this.#walkAhead(directory);
  }

  /**
   * Resolves when the operation that missed this can be tried again.
   *
   * @throws {FsError} ESTALE for an inode that doesn't exist, EIO for damaged content; {StoreError}
   */
  load(miss: LoadMiss): Promise<void> {
    return this.#once(keyOf(miss), () => this.#load(miss));
  }

  #once(key: string, start: () => Promise<void>): Promise<void> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const load = start().finally(() => this.#running.delete(key));
    this.#running.set(key, load);
    return load;
  }

  /** Resolves when every load that runs now has ended, whichever way. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#running.values()]);
  }

  #load(miss: LoadMiss): Promise<void> {
    switch (miss.kind) {
      case 'inodes':
        return this.#loadInodes(miss.inos);
      case 'named':
        return this.#loadNamed(miss.ino);
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

  /**
   * Resolves to what a load brings; undefined when the workspace has become another tree meanwhile. Whoever missed
   * something asks again then.
   */
  async #ofThisTree<T>(load: Promise<T>): Promise<{ readonly found: T } | undefined> {
    const { tree } = this.#workspace;
    const found = await load;
    return this.#workspace.tree === tree ? { found } : undefined;
  }

  async #loadInodes(inos: readonly Ino[]): Promise<void> {
    const ahead = this.#followers(inos);
    const loaded = await this.#ofThisTree(this.#loads.inodes([...inos, ...ahead]));
    if (loaded === undefined) return;
    this.#keepAll(loaded.found);
    const gone = inos.find((ino) => this.#workspace.cached(ino) === undefined);
    if (gone !== undefined && inos.length === 1) throw new FsError('ESTALE', `inode ${gone} is gone`);
    if (gone !== undefined) throw new FsError('EIO', `a directory names inode ${gone}, which is not stored`);
  }

  /** What was made right behind an inode is likely to be asked for next by whoever goes by the order of making. */
  #followers(inos: readonly Ino[]): Ino[] {
    const [ino] = inos;
    if (ino === undefined || inos.length > 1) return [];
    const last = this.#asked;
    this.#asked = ino;
    if (ino <= last || ino - last > FOLLOWERS) return [];
    const found: Ino[] = [];
    const end = Math.min(ino + FOLLOWERS, this.#workspace.nextIno);
    // Any number may be asked for; those without an inode are not found.
    for (let next = ino + 1; next < end; next++)
      if (this.#workspace.cached(next as Ino) === undefined) found.push(next as Ino);
    return found;
  }

  /** Takes in names of inodes of which none is known yet, unless something newer is known of the names. */
  #noteNames(names: readonly { readonly parent: Ino; readonly name: ByteString; readonly ino: Ino }[]): void {
    for (const { parent, name, ino } of names) {
      const inode = this.#workspace.cached(ino);
      if (inode === undefined || (inode.namedIn !== undefined && inode.namedIn !== 0)) continue;
      const directory = this.#workspace.cached(parent)?.directory;
      const dentry = directory?.names.get(name);
      const isGone = directory !== undefined && (dentry === null || (dentry === undefined && directory.complete));
      if (!isGone && (dentry == null || dentry.ino === ino)) noteName(inode, parent, name);
    }
  }

  /** Names of the inode and of everything above it, as far as they aren't known. */
  async #loadNamed(ino: Ino): Promise<void> {
    const workspace = this.#workspace;
    let at: Ino | 0 = ino;
    // More than a path can have are a circle, which only damage makes.
    for (let names = 0; at !== 0 && at !== ROOT_INO && names < PATH_NAMES; names++) {
      const known = workspace.cached(at);
      if (known === undefined || (known.namedIn === undefined && known.nlink > 0)) await this.#loadNamesOf(at);
      at = workspace.cached(at)?.namedIn ?? 0;
    }
  }

  async #loadNamesOf(ino: Ino): Promise<void> {
    const workspace = this.#workspace;
    const loaded = await this.#ofThisTree(
      Promise.all([workspace.cached(ino) === undefined ? this.#loads.inodes([ino]) : [], this.#loads.namesOf(ino)]),
    );
    if (loaded === undefined) return;
    const [images, names] = loaded.found;
    this.#keepAll(images);
    this.#noteNames(names.map((name) => ({ ...name, ino })));
    const inode = workspace.cached(ino);
    if (inode === undefined) {
      if (workspace.nameless.size >= MOST_NAMELESS) workspace.nameless.clear();
      workspace.nameless.add(ino);
    } else inode.namedIn ??= 0;
  }

  /** A first page holds most directories whole; in a larger one the name is asked for by itself. */
  async #loadName(parent: Ino, name: ByteString): Promise<void> {
    const known = () => {
      const directory = this.#workspace.cached(parent)?.directory;
      return directory === undefined || directory.complete || directory.names.has(name);
    };
    if (this.#workspace.cached(parent)?.directory?.loadedTo === 0) await this.#loadPage(parent, 0);
    if (known()) return;
    const directory = this.#workspace.cached(parent)?.directory;
    // Someone goes through it name by name.
    if (directory !== undefined && ++directory.lookedUp > LOOKED_UP && directory.names.size < PAGED_NAMES) {
      await this.#loadPage(parent, directory.loadedTo);
      if (known()) return;
    }
    const loaded = await this.#ofThisTree(this.#loads.name(parent, name));
    const inode = this.#workspace.cached(parent);
    if (loaded === undefined || inode?.directory === undefined || known()) return;
    const { found } = loaded;
    if (found === undefined) inode.directory.names.set(name, null);
    else {
      this.#keepAll([found.inode]);
      addStoredName(inode.directory, found.dentry);
      this.#noteNames([found.dentry]);
    }
    this.#workspace.keep(inode);
  }

  async #loadPage(parent: Ino, after: number): Promise<void> {
    const loaded = await this.#ofThisTree(this.#loads.directory(parent, after, PAGE_NAMES));
    if (loaded === undefined) return;
    const page = loaded.found;
    const inode = this.#workspace.cached(parent);
    if (inode === undefined) return;
    addStoredPage(directoryOf(inode), after, page.dentries, page.complete);
    this.#keepAll(page.inodes.slice(0, this.#workspace.inodesAhead));
    this.#noteNames(page.dentries);
    // Last, so that what it names never pushes it out: whoever waits for the page would miss it for ever.
    this.#workspace.keep(inode);
  }

  async #loadSegments(ino: Ino, from: number, to: number): Promise<void> {
    const inode = this.#workspace.cached(ino);
    const neighbours = inode !== undefined && from === 0 && to === 1 ? this.#neighbours(inode) : [];
    if (neighbours.length > 1) {
      await this.#loadFirstSegments(neighbours);
      const loaded = this.#workspace.cached(ino);
      if (loaded === undefined || contentOf(loaded).segments.has(0)) return;
    }
    const loaded = await this.#ofThisTree(this.#loads.segments(ino, from, to));
    if (loaded !== undefined) this.#addSegments(ino, from, to, loaded.found);
  }

  /** The first segments of small files, and their chunks. */
  async #loadFirstSegments(files: readonly Inode[]): Promise<void> {
    const inos = files.map((inode) => inode.ino);
    const hashes: ByteString[] = [];
    const bytes = Math.min(NEIGHBOUR_BYTES, this.#workspace.contentAhead);
    const loaded = await this.#ofThisTree(this.#loads.firstSegments(inos, bytes));
    for (const image of loaded?.found ?? []) {
      this.#addSegments(image.ino, 0, 1, [image]);
      for (const chunk of image.chunks) if (chunk.length > 0 && hashes.length < NEIGHBOURS) hashes.push(chunk.hash);
    }
    if (hashes.length > 1) await this.#loadChunks(hashes);
  }

  /**
   * Goes ahead of someone who walks the tree, one directory after the other, and of one who reads the files on the way.
   * Whoever then misses what is on its way waits for that.
   */
  #walkAhead(directory: Inode): void {
    const workspace = this.#workspace;
    const last = this.#listed;
    const reads = workspace.reads > this.#readsBefore;
    this.#listed = directory.ino;
    this.#readsBefore = workspace.reads;
    const lastParent = last === undefined ? undefined : workspace.cached(last)?.parent;
    const walks = directory.parent === last || directory.parent === lastParent;
    if (!walks && !reads) return;
    const names = orderedNames(directoryOf(directory)).slice(0, AHEAD_NAMES);
    if (reads) this.#startFiles(this.#smallFiles(names, 0));
    if (walks) for (const below of this.#unlisted(names)) this.#startPage(below);
  }

  /** Directories among these names of which nothing is loaded or being loaded. */
  #unlisted(names: readonly Dentry[]): Ino[] {
    const found: Ino[] = [];
    for (const { live, ino } of names) {
      const inode = live ? this.#workspace.cached(ino) : undefined;
      if (inode === undefined || !isDirectory(inode) || inode.directory !== undefined) continue;
      found.push(ino);
      if (found.length >= AHEAD_DIRECTORIES) break;
    }
    return found;
  }

  // A failure to go ahead is none: who needs what was to come asks for it again, and gets the error.

  #startPage(parent: Ino): void {
    this.#once(keyOf({ kind: 'directory', parent, after: 0 }), () => this.#loadPage(parent, 0)).catch(() => {});
  }

  /** Each of the files counts as being loaded. */
  #startFiles(files: readonly Inode[]): void {
    if (files.length === 0) return;
    const load = this.#loadFirstSegments(files);
    for (const { ino } of files)
      this.#once(keyOf({ kind: 'segments', ino, from: 0, to: 1 }), () => load).catch(() => {});
  }

  #addSegments(ino: Ino, from: number, to: number, images: Parameters<typeof addStoredSegments>[3]): void {
    const inode = this.#workspace.cached(ino);
    if (inode === undefined) return;
    addStoredSegments(inode, from, to, images);
    this.#workspace.keepContent(inode);
  }

  /** The file itself and the small files listed behind it in its directory, which are likely to be read next. */
  #neighbours(inode: Inode): Inode[] {
    if (inode.size > CHUNK_BYTES) return [];
    const directory = this.#workspace.cached(inode.parent)?.directory;
    if (directory === undefined) return [];
    const order = orderedNames(directory);
    const here = order.findIndex((dentry) => dentry.ino === inode.ino);
    return here < 0 ? [] : [inode, ...this.#smallFiles(order, here + 1)];
  }

  /** Small files among these names, from an index on, of whose content nothing is loaded or being loaded. */
  #smallFiles(names: readonly Dentry[], from: number): Inode[] {
    const found: Inode[] = [];
    for (let at = from; at < names.length && found.length < NEIGHBOURS; at++) {
      const dentry = names[at];
      const inode = dentry?.live ? this.#workspace.cached(dentry.ino) : undefined;
      if (inode === undefined || !isRegular(inode) || inode.size === 0 || inode.size > CHUNK_BYTES) continue;
      if (inode.content !== undefined) continue;
      if (this.#running.has(keyOf({ kind: 'segments', ino: inode.ino, from: 0, to: 1 }))) continue;
      found.push(inode);
    }
    return found;
  }

  /**
   * Whoever waits for chunks needs all of them at once, however little room the cache has: until the event loop comes
   * round, by when he has tried again, they are held beside it.
   */
  async #loadChunks(hashes: readonly ByteString[]): Promise<void> {
    const workspace = this.#workspace;
    const held = new Map<ByteString, Buffer>();
    const absent: ByteString[] = [];
    for (const hash of hashes) {
      const data = workspace.chunks.get(hash);
      if (data === undefined) absent.push(hash);
      else held.set(hash, data);
    }
    if (absent.length === 0) return;
    for (const [hash, data] of await this.#loads.chunks(absent, (hash) => workspace.chunks.peek(hash))) {
      workspace.chunks.set(hash, data, { size: data.length });
      held.set(hash, data);
    }
    for (const [hash, data] of held) workspace.arrived.set(hash, data);
    setImmediate(() => {
      for (const [hash, data] of held) if (workspace.arrived.get(hash) === data) workspace.arrived.delete(hash);
    });
  }

  #readAhead(hashes: readonly ByteString[]): void {
    // A failed read-ahead is no failure: the read that needs the chunk asks again and gets the error.
    this.load({ kind: 'chunks', hashes }).catch(() => {});
  }
}

function keyOf(miss: LoadMiss): string {
  switch (miss.kind) {
    case 'inodes':
      return `i${miss.inos.join()}`;
    case 'named':
      return `p${miss.ino}`;
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
