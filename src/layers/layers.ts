import type { Ino, LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import { fileType } from '../vfs/inode.ts';
import type { Place, Seal } from '../vfs/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { autoName, checkLayerName, nextCheckpointName } from './names.ts';
import type { ChangedInode, Command, LastSwitch, LayerRecord, LayerStore, MovedFile, NameOf } from './port.ts';
import type { Snapshots } from './snapshots.ts';
import { between, chainOf, childrenOf, type LayerMap, placeOf, subtreeOf } from './tree.ts';

export interface LayersParts {
  readonly store: LayerStore;
  readonly workspace: Workspace;
  readonly snapshots: Snapshots;
  readonly now: () => number;
  /** Hands what programs changed through mappings, and the kernel still holds, to the workspace. */
  readonly takeKernelPages: () => Promise<void>;
  /** Commits everything. @throws {FsError} */
  readonly commit: () => Promise<void>;
  /** Commits everything as the last of its layer; `make` is called at the cut. @throws {FsError} */
  readonly seal: (make: () => Seal) => Promise<void>;
  /** Lets requests on the tree wait until `openGate`. Resolves when nothing is being loaded any more. */
  readonly closeGate: () => Promise<void>;
  readonly openGate: () => void;
  /** Has the kernel forget what isn't so any more. */
  readonly invalidate: (stale: Stale) => Promise<void>;
}

/** What the kernel may have cached and isn't so any more. */
export interface Stale {
  /** Inodes that keep their number and have other attributes. */
  readonly inodes: readonly Ino[];
  /** Names that may stand for something else; asked for only where the kernel can't drop all names at once. */
  readonly names: () => Promise<readonly NameOf[]>;
}

/** What a command was about. */
export interface LayerRef {
  readonly id: LayerId;
  readonly name: string;
}

export interface CheckpointRequest {
  /** Undefined picks one. */
  readonly name: string | undefined;
  readonly description: string;
  /** What to do with layers that are newer than the one that the tree is based on. */
  readonly newer: 'refuse' | 'discard' | 'branch';
}

/**
 * A tenant's layers: which there are, and the commands that change them, one at a time. What a command's promise
 * resolved to is durable.
 */
export class Layers {
  readonly #parts: LayersParts;
  #layers = new Map<LayerId, LayerRecord>();
  #tags = new Map<string, LayerId>();
  #working = 0 as LayerId; // `load` sets it before anything else is called
  #nextLayer = 0;
  #nextView = 1;
  /** For each file that switches changed, its views in order. */
  readonly #moved = new Map<Ino, MovedFile[]>();
  /** Numbers of copies of files, whose layers are gone, for their earlier views. */
  readonly #copies = new Set<LayerId>();
  #last: Promise<unknown> = Promise.resolve();
  #lastSwitch: LastSwitch | undefined;
  /** What an earlier daemon has carried out, and may not have answered. */
  #lastCommand: Command | undefined;
  /** Resolves when the kernel has been told of what an earlier daemon did. */
  #told: Promise<unknown> = Promise.resolve();

  constructor(parts: LayersParts) {
    this.#parts = parts;
  }

  /** Reads what there is. `resumed`: the kernel has numbers from before. */
  async load(resumed: boolean): Promise<void> {
    const { store, workspace } = this.#parts;
    await this.#reload();
    workspace.place = placeOf(this.#layers, this.#working);
    if (!resumed) await store.forgetMounted();
    const { files, nextView, lastSwitch, lastCommand } = await store.mounted();
    this.#nextView = nextView;
    this.#lastSwitch = lastSwitch;
    this.#lastCommand = lastCommand;
    for (const file of files) {
      this.#addMoved(file);
      if (!this.#layers.has(file.layer)) this.#copies.add(file.layer);
    }
  }

  async #reload(): Promise<void> {
    const { layers, working, nextLayer } = await this.#parts.store.layers();
    this.#layers = new Map(layers.map((layer) => [layer.id, layer]));
    this.#tags = new Map(await this.#parts.store.tags());
    this.#working = working;
    this.#nextLayer = nextLayer;
  }

  #addMoved(file: MovedFile): void {
    this.#parts.workspace.views.set(file.ino, file.view);
    const views = this.#moved.get(file.ino);
    if (views === undefined) this.#moved.set(file.ino, [file]);
    else views.push(file);
  }

  get all(): LayerMap {
    return this.#layers;
  }

  get tags(): ReadonlyMap<string, LayerId> {
    return this.#tags;
  }

  /** The layer that takes writes. */
  get working(): LayerRecord {
    return this.#record(this.#working);
  }

  /** The layer that the tree is based on. */
  get base(): LayerRecord {
    const { parent } = this.working;
    if (parent === undefined) throw new Error('the working layer has nothing below it');
    return this.#record(parent);
  }

  #record(id: LayerId): LayerRecord {
    const layer = this.#layers.get(id);
    if (layer === undefined) throw new Error(`layer ${id} is missing`);
    return layer;
  }

  /** The layer, or the number of a copy, that an earlier view of a file shows; undefined when there's no such view. */
  layerOfView(view: number, ino: Ino): LayerId | undefined {
    return this.#moved.get(ino)?.find((file) => file.view > view)?.layer;
  }

  /** Where the rows of a layer's tree are, or those of copies; undefined when there's no such layer. */
  placeOf(layer: LayerId): Place | undefined {
    if (this.#layers.has(layer)) return placeOf(this.#layers, layer);
    return this.#copies.has(layer) ? { layer, ranges: [[layer, layer]], firstIno: 0, firstCookie: 0 } : undefined;
  }

  /**
   * Sees to it that handles which were opened on files as of these layers keep reading when the layers are gone: what
   * they read is copied.
   */
  async #holdOpen(going: readonly LayerId[]): Promise<void> {
    const { store, snapshots } = this.#parts;
    for (const layer of going) {
      const inos = [...this.#moved.keys()].filter((ino) => this.#isRead(ino, layer));
      if (inos.length === 0) continue;
      const copy = this.#nextLayer++ as LayerId; // the next number that was not handed out
      await store.hold(inos, placeOf(this.#layers, layer), copy);
      this.#copies.add(copy);
      for (const ino of inos)
        this.#moved.set(
          ino,
          (this.#moved.get(ino) ?? []).map((file) => (file.layer === layer ? { ...file, layer: copy } : file)),
        );
    }
    // What is being read as of the layers themselves still finds it there.
    await snapshots.settled();
  }

  /** A frozen layer by its name, id or tag. @throws {FsError} ENOENT */
  find(text: string): LayerRecord {
    const id = /^\d+$/.test(text) ? (Number(text) as LayerId) : (this.#named(text) ?? this.#tags.get(text));
    const layer = id === undefined ? undefined : this.#layers.get(id);
    if (layer !== undefined && layer.name !== undefined) return layer;
    throw new FsError('ENOENT', `there is no layer '${text.slice(0, 200)}'`, { hint: 'layers/list has them all' });
  }

  #named(name: string): LayerId | undefined {
    for (const layer of this.#layers.values()) if (layer.name === name) return layer.id;
    return undefined;
  }

  /** Whether a layer or a tag has the name, other than those that are about to go. */
  #isTaken(name: string, going: readonly LayerId[] = []): boolean {
    const holder = this.#named(name) ?? this.#tags.get(name);
    return holder !== undefined && !going.includes(holder);
  }

  /** @throws {FsError} EINVAL, EEXIST */
  #requireNewName(name: string, going: readonly LayerId[] = []): void {
    checkLayerName(name);
    if (this.#isTaken(name, going))
      throw new FsError('EEXIST', `'${name}' is taken by a layer or a tag`, { hint: 'choose another name' });
  }

  /** Whether the tree has changes that are in no checkpoint. */
  async #hasChanges(): Promise<boolean> {
    return this.#parts.workspace.changed.size > 0 || !(await this.#parts.store.isEmpty(this.#working));
  }

  /** Runs something when no command is under way; those that come meanwhile wait. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#alone(work);
  }

  /** Copies for earlier views that no handle reads any more. */
  closedCopies(): { readonly copy: LayerId; readonly inos: readonly Ino[] }[] {
    return [...this.#copies].map((copy) => ({
      copy,
      inos: [...this.#moved.keys()].filter(
        (ino) => this.#moved.get(ino)?.some(({ layer }) => layer === copy) && !this.#isRead(ino, copy),
      ),
    }));
  }

  /** Whether a handle may be open on a view of a file that shows a layer. */
  #isRead(ino: Ino, layer: LayerId): boolean {
    const files = this.#moved.get(ino) ?? [];
    return files.some(
      (file, index) => file.layer === layer && this.#parts.workspace.handles.isOpen(files[index - 1]?.view ?? 0, ino),
    );
  }

  /** One command after the other. */
  #alone<T>(command: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(command);
    this.#last = turn.catch(() => {}); // whoever asked sees it; the next one only waits
    return turn;
  }

  /** The same, unless an earlier daemon has done what this request asks for: then it's answered at once. */
  #once(request: number, command: () => Promise<LayerRef>): Promise<LayerRef> {
    const done = this.#lastCommand;
    if (done?.request !== request) return this.#alone(command);
    return this.#told.then(() => ({ id: done.layer, name: done.name }));
  }

  /**
   * Goes on where an earlier daemon ended: has the kernel forget what that one's last switch has changed, if that hasn't
   * been done for certain. `asked` resolves when all requests that it left have come again. No command begins before
   * that: only one is remembered, so that one is answered before another takes its place, for a daemon after this one.
   */
  async resume(asked: Promise<void>): Promise<void> {
    const told = this.#alone(() => this.#finishSwitch());
    this.#told = told.catch(() => {}); // whoever called sees it
    const answered = this.#alone(async () => {
      await asked;
      await new Promise(setImmediate); // the answer goes out in this turn
    });
    await told;
    await answered;
  }

  async #finishSwitch(): Promise<void> {
    const { store, invalidate } = this.#parts;
    const { from, to } = this.#lastSwitch ?? {};
    // Had one of them gone since, another command had followed, and that one had waited.
    if (from === undefined || to === undefined || !this.#layers.has(from) || !this.#layers.has(to)) return;
    const places = [placeOf(this.#layers, from), placeOf(this.#layers, to)] as const;
    await invalidate(this.#stale(await store.changed(...places, between(this.#layers, from, to)), ...places));
  }

  #stale(changed: readonly ChangedInode[], from: Place, to: Place): Stale {
    const inos = changed.map(({ ino }) => ino);
    return {
      // A regular file has another number now.
      inodes: changed.filter(({ before }) => before !== undefined && !isRegular(before)).map(({ ino }) => ino),
      names: async () => [
        ...(await this.#parts.store.namesOf(from, inos)),
        ...(await this.#parts.store.namesOf(to, inos)),
      ],
    };
  }

  /**
   * Freezes the working layer under a name, with everything done before this call, and opens a new one on top.
   *
   * @throws {FsError} EINVAL, EEXIST, EBUSY when newer layers would be lost; what committing throws
   */
  checkpoint(wanted: CheckpointRequest, request: number): Promise<LayerRef> {
    return this.#once(request, async () => {
      const newer = childrenOf(this.#layers, this.base.id).filter(({ id }) => id !== this.#working);
      const discards = wanted.newer === 'discard' ? newer.flatMap(({ id }) => subtreeOf(this.#layers, id)) : [];
      const isTaken = (text: string) => this.#isTaken(text, discards);
      const name = wanted.name ?? nextCheckpointName(this.#layers.size - 1, isTaken);
      this.#requireNewName(name, discards);
      if (newer.length > 0 && wanted.newer === 'refuse')
        throw new FsError(
          'EBUSY',
          `layers newer than '${this.base.name}' exist: ${newer.map((layer) => layer.name).join(', ')}`,
          {
            hint: `write ${JSON.stringify({ name, branch: true })} to keep them as a branch, or ${JSON.stringify({ name, confirm: true })} to discard them`,
          },
        );
      await this.#parts.takeKernelPages();
      await this.#holdOpen(discards);
      const { id } = await this.#seal(name, wanted.description, discards, request);
      return { id, name };
    });
  }

  /**
   * A checkpoint of changes that are in none, named `auto-<time>`. Resolves to its name; undefined where there are none.
   * Newer layers stay, as a branch beside it, since nobody is there to ask.
   *
   * @throws what committing throws
   */
  keepChanges(): Promise<string | undefined> {
    return this.#alone(async () => {
      await this.#parts.takeKernelPages();
      if (!(await this.#hasChanges())) return undefined;
      const name = autoName(this.#parts.now(), (text) => this.#isTaken(text));
      await this.#seal(name, '', [], undefined);
      return name;
    });
  }

  async #seal(
    name: string,
    description: string,
    discards: readonly LayerId[],
    request: number | undefined,
  ): Promise<LayerRecord> {
    const { workspace, seal, snapshots } = this.#parts;
    const sealed = this.#working;
    const next = this.#nextLayer as LayerId; // the next number that was not handed out
    this.#nextLayer++;
    const { ranges } = placeOf(this.#layers, sealed);
    const last = ranges[ranges.length - 1];
    const above =
      last !== undefined && last[1] === next - 1
        ? [...ranges.slice(0, -1), [last[0], next] as const]
        : [...ranges, [next, next] as const];
    await seal(() => ({
      name,
      description,
      discards,
      request,
      next: { layer: next, ranges: above, firstIno: workspace.nextIno, firstCookie: workspace.nextCookie },
    }));
    await this.#reload();
    if (discards.length > 0) snapshots.clear();
    return this.#record(sealed);
  }

  /**
   * Makes the tree what it was at a layer. Changes that are in no checkpoint are sealed first.
   *
   * @throws {FsError} ENOENT; what committing throws
   */
  switchTo(text: string, request: number): Promise<LayerRef & { readonly sealed: string | undefined }> {
    let sealed: string | undefined;
    const switched = this.#once(request, async () => {
      const target = this.find(text);
      const { workspace, takeKernelPages, closeGate, openGate, invalidate, commit } = this.#parts;
      await takeKernelPages();
      // Most of it while requests are served.
      await commit();
      await closeGate();
      let stale: Stale | undefined;
      try {
        await commit();
        if (await this.#hasChanges()) {
          const auto = autoName(this.#parts.now(), (name) => this.#isTaken(name));
          await this.#seal(auto, '', [], undefined);
          sealed = auto;
        }
        const from = placeOf(this.#layers, this.base.id);
        const changed = this.base.id === target.id ? [] : await this.#move(target, request);
        stale = this.#stale(changed, from, workspace.place);
      } finally {
        openGate();
      }
      await invalidate(stale);
      return { id: target.id, name: target.name ?? '' };
    });
    return switched.then((layer) => ({ ...layer, sealed }));
  }

  /**
   * Has `work` change what is stored under the tree while nothing else happens to it. Nothing is cached of these files
   * afterwards, and the tree has these totals.
   *
   * @throws what committing and `work` throw
   */
  rewrite(
    inos: readonly Ino[],
    totals: { readonly usedBytes: number; readonly usedInodes: number },
    work: () => Promise<void>,
  ): Promise<void> {
    return this.#alone(async () => {
      const { store, workspace, snapshots, closeGate, openGate, invalidate, commit } = this.#parts;
      await commit();
      await closeGate();
      try {
        await commit();
        await work();
        await this.#reload();
        workspace.becomes(placeOf(this.#layers, this.#working), inos, totals);
        snapshots.clear();
      } finally {
        openGate();
      }
      await invalidate({ inodes: inos, names: () => store.namesOf(workspace.place, inos) });
    });
  }

  async #move(target: LayerRecord, request: number): Promise<readonly ChangedInode[]> {
    const { store, workspace } = this.#parts;
    const from = placeOf(this.#layers, this.base.id);
    const view = this.#nextView++;
    const { usedBytes, usedInodes } = target;
    const changed = await store.switchTo({
      command: { request, layer: target.id, name: target.name ?? '' },
      working: this.#working,
      target: target.id,
      from,
      to: placeOf(this.#layers, target.id),
      between: between(this.#layers, from.layer, target.id),
      view,
      usedBytes,
      usedInodes,
    });
    await this.#reload();
    const inos = changed.map(({ ino }) => ino);
    workspace.becomes(placeOf(this.#layers, this.#working), inos, { usedBytes, usedInodes });
    for (const { ino, before } of changed)
      if (before !== undefined && isRegular(before)) this.#addMoved({ ino, view, layer: from.layer });
    return changed;
  }

  /**
   * Removes a layer; the trees of the layers that build on it stay what they are.
   *
   * @throws {FsError} ENOENT, EINVAL for the base layer, EBUSY unless forced
   */
  drop(text: string, force: boolean, request: number): Promise<LayerRef> {
    return this.#once(request, async () => {
      const layer = this.find(text);
      const { parent } = layer;
      if (parent === undefined) throw new FsError('EINVAL', `'${layer.name}' is the base layer, which stays`);
      const children = childrenOf(this.#layers, layer.id);
      const others = children.filter(({ id }) => id !== this.#working);
      if (children.length > 0 && !force)
        throw new FsError('EBUSY', `${others.map(({ name }) => `'${name}'`).join(', ') || 'the tree'} builds on it`, {
          hint: `write ${JSON.stringify({ layer: text, force: true })} to drop it all the same; what builds on it stays what it is`,
        });
      await this.#parts.commit();
      await this.#holdOpen([layer.id]);
      const { id, name = '' } = layer;
      await this.#parts.store.drop(
        { request, layer: id, name },
        parent,
        children.map(({ id }) => id),
      );
      await this.#rowsMoved();
      return { id, name };
    });
  }

  /**
   * Makes a run of frozen layers one, under a new name.
   *
   * @throws {FsError} ENOENT, EINVAL when they aren't a run or the base layer is among them, EBUSY when another layer
   *   branches off inside of it, EEXIST
   */
  squash(fromText: string, toText: string, name: string, request: number): Promise<LayerRef> {
    return this.#once(request, async () => {
      const from = this.find(fromText);
      const to = this.find(toText);
      const chain = chainOf(this.#layers, to.id);
      const end = chain.findIndex(({ id }) => id === from.id);
      if (end < 0) throw new FsError('EINVAL', `'${to.name}' does not build on '${from.name}'`);
      const run = chain.slice(0, end + 1).reverse();
      const parent = from.parent;
      if (parent === undefined)
        throw new FsError('EINVAL', `'${from.name}' is the base layer, which stays`, {
          hint: 'squash from the layer after it',
        });
      if (!run.some((layer) => layer.name === name)) this.#requireNewName(name);
      else checkLayerName(name);
      for (const layer of run.slice(0, -1))
        if (childrenOf(this.#layers, layer.id).length > 1)
          throw new FsError('EBUSY', `another layer builds on '${layer.name}'`, {
            hint: 'squash up to it and after it',
          });
      await this.#holdOpen(run.slice(0, -1).map(({ id }) => id));
      await this.#parts.store.squash(
        { request, layer: to.id, name },
        run.map(({ id }) => id),
        parent,
      );
      await this.#rowsMoved();
      return { id: to.id, name };
    });
  }

  async #rowsMoved(): Promise<void> {
    await this.#reload();
    this.#parts.workspace.place = placeOf(this.#layers, this.#working);
    this.#parts.snapshots.clear();
  }

  /** Points a tag at a layer. @throws {FsError} EINVAL, EEXIST for a layer's name, ENOENT */
  tag(tag: string, text: string, request: number): Promise<LayerRef> {
    return this.#once(request, async () => {
      checkLayerName(tag);
      if (this.#named(tag) !== undefined) throw new FsError('EEXIST', `'${tag}' is a layer`);
      const { id, name = '' } = this.find(text);
      await this.#parts.store.setTag(tag, { request, layer: id, name });
      this.#tags.set(tag, id);
      return { id, name };
    });
  }

  /** @throws {FsError} ENOENT */
  async untag(tag: string, request: number): Promise<void> {
    await this.#once(request, async () => {
      const id = this.#tags.get(tag);
      if (id === undefined) throw new FsError('ENOENT', `there is no tag '${tag}'`);
      const { name = '' } = this.#record(id);
      await this.#parts.store.removeTag(tag, { request, layer: id, name });
      this.#tags.delete(tag);
      return { id, name };
    });
  }

  /** Whether the tree shows exactly the layer that it's based on. */
  async isClean(): Promise<boolean> {
    return !(await this.#hasChanges());
  }
}

function isRegular(mode: number): boolean {
  return (mode & fileType.mask) === fileType.regular;
}
