import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describeOperation } from '../crash/operation.ts';
import { CallError, perform } from '../crash/perform.ts';
import type { Random } from '../model/random.ts';
import { systemCalls } from '../model/syscalls.ts';
import type { Written } from './commands.ts';
import { Holder, HolderError } from './holder.ts';
import { difference, type Look, lookAtTree } from './look.ts';
import { listed, nextOperation } from './model-operations.ts';
import type { LayersScene } from './scene.ts';

const ESTALE = 116;
const MAPPED_BYTES = 8192;
const MOST_HANDLES = 12;
const MOST_LAYERS = 14;

/** A layer as it was when it was frozen: a plain copy of the tree, and everything that could be seen of it. */
interface ModelLayer {
  readonly name: string;
  parent: string | undefined;
  readonly copy: string;
  readonly look: Look;
  /** Of each file, by number: when it changed last, and a path of it. */
  readonly files: ReadonlyMap<number, { readonly ctimeNs: string; readonly path: string | undefined }>;
}

/** A file that is open in the workspace, and beside it in the plain directory. */
interface ModelHandle {
  readonly holder: number;
  plain: number;
  readonly mapping: number | undefined;
  /** A switch has changed the file. */
  stale: boolean;
}

/** Something that isn't as the model has it. */
export class ModelMismatch extends Error {
  override readonly name = 'ModelMismatch';
}

/**
 * A workspace and its layers beside plain directories: one for the tree, and a copy of it for each layer. Random
 * operations are carried out on both.
 */
export class LayersModel {
  readonly #scene: LayersScene;
  readonly #folder: string;
  readonly #random: Random;
  readonly #layers = new Map<string, ModelLayer>();
  readonly #handles: ModelHandle[] = [];
  #holder = new Holder();
  #base = 'base';
  #changed = false;
  #copies = 0;
  #names = 0;
  /** What was done, newest last. */
  readonly log: string[] = [];

  constructor(scene: LayersScene, folder: string, random: Random) {
    this.#scene = scene;
    this.#folder = folder;
    this.#random = random;
    mkdirSync(this.#live);
    this.#layers.set('base', this.#capture('base', undefined, []));
  }

  get #live(): string {
    return join(this.#folder, 'live');
  }

  get layers(): readonly string[] {
    return [...this.#layers.keys()];
  }

  /** Ends what it has started. */
  async end(): Promise<void> {
    for (const { plain } of this.#handles) closeSync(plain);
    await this.#holder.end();
  }

  #note(line: string): void {
    this.log.push(line);
  }

  #require(isSo: boolean, what: string): void {
    if (!isSo) throw new ModelMismatch(what);
  }

  /** Copies the tree, and looks at it, as a layer that is about to be frozen; `unnamed`: open files without a name. */
  #capture(name: string, parent: string | undefined, unnamed: readonly { ino: number; ctimeNs: string }[]): ModelLayer {
    const copy = join(this.#folder, `layer-${this.#copies++}`);
    execFileSync('cp', ['-a', '--sparse=always', this.#live, copy]);
    const look = lookAtTree(this.#scene.mount, { ctime: true });
    const files = new Map<number, { ctimeNs: string; path: string | undefined }>();
    for (const { ino, ctimeNs } of unnamed) files.set(ino, { ctimeNs, path: undefined });
    const system = systemCalls();
    for (const path of look.keys()) {
      const found = system.stat(`${this.#scene.mount}/${path}`, false);
      if (typeof found !== 'number') files.set(found.ino, { ctimeNs: String(found.ctimeNs), path });
    }
    return { name, parent, copy, look, files };
  }

  async #captureNow(name: string): Promise<ModelLayer> {
    const unnamed: { ino: number; ctimeNs: string }[] = [];
    for (const { holder, stale } of this.#handles) {
      if (stale) continue;
      const { ino, ctimeNs, nlink } = await this.#holder.stat(holder);
      if (nlink === 0) unnamed.push({ ino, ctimeNs });
    }
    return this.#capture(name, this.#base, unnamed);
  }

  /** Carries an operation out on both; it does the same or fails alike. */
  operate(): void {
    const operation = nextOperation(this.#random, this.#live);
    this.#note(describeOperation(operation));
    const [plain, found] = [this.#live, this.#scene.mount].map((root) =>
      outcomeOf(() => perform(systemCalls(), root, operation)),
    );
    this.#require(plain === found, `the operation gave ${found} where a plain directory gave ${plain}`);
    this.#changed = true;
  }

  /** Compares the tree with the plain directory. */
  compare(): void {
    const options = { likeness: true } as const;
    const found = difference(lookAtTree(this.#live, options), lookAtTree(this.#scene.mount, options));
    this.#require(found === undefined, `the tree differs from the plain directory: ${found}`);
  }

  /** Compares a layer's snapshot with everything that was seen when it was frozen. */
  compareSnapshot(): void {
    const layer = this.#layers.get(this.#random.pick(this.layers));
    if (layer === undefined) return;
    this.#note(`snapshot of ${layer.name}`);
    const root = this.#scene.commands.snapshot(layer.name);
    const found = difference(layer.look, lookAtTree(root, { ctime: true }));
    this.#require(found === undefined, `the snapshot of ${layer.name} differs: ${found}`);
    const copy = difference(lookAtTree(layer.copy, { likeness: true }), lookAtTree(root, { likeness: true }));
    this.#require(copy === undefined, `the snapshot of ${layer.name} differs from the copy: ${copy}`);
  }

  async open(): Promise<void> {
    if (this.#handles.length >= MOST_HANDLES) return this.close();
    const { files } = listed(this.#live);
    if (files.length === 0) return;
    const maps = this.#random.chance(0.3);
    const path = maps ? `mapped-${this.#names++}` : this.#random.pick(files);
    this.#note(`${maps ? 'map' : 'open'} '${path}'`);
    // Nobody cuts it: what is behind the end of a mapped file can't be touched.
    const flags = constants.O_RDWR | (maps ? constants.O_CREAT : 0);
    const plain = openSync(Buffer.from(`${this.#live}/${path}`, 'latin1'), flags, 0o400);
    if (maps) ftruncateSync(plain, MAPPED_BYTES);
    if (maps) {
      const made = openSync(this.#scene.path(path), flags, 0o400);
      ftruncateSync(made, MAPPED_BYTES);
      closeSync(made);
      this.#changed = true;
    }
    const holder = await this.#holder.open(this.#scene.path(path));
    const mapping = maps ? await this.#holder.map(holder, MAPPED_BYTES) : undefined;
    // Its name goes, so that no operation comes upon it.
    if (maps) for (const root of [this.#live, this.#scene.mount]) if (this.#random.chance(1)) rmSync(join(root, path));
    this.#handles.push({ holder, plain, mapping, stale: false });
  }

  async close(): Promise<void> {
    if (this.#handles.length === 0) return;
    const [handle] = this.#handles.splice(this.#random.below(this.#handles.length), 1);
    if (handle === undefined) return;
    this.#note(`close handle ${handle.holder}`);
    await this.#holder.close(handle.holder);
    closeSync(handle.plain);
  }

  /** Reads or writes by a handle or a mapping. */
  async use(): Promise<void> {
    if (this.#handles.length === 0) return this.open();
    const handle = this.#random.pick(this.#handles);
    const { holder, plain, mapping, stale } = handle;
    const expected = readAll(plain);
    this.#note(`use ${stale ? 'stale ' : ''}handle ${holder}`);
    const found = await this.#holder.read(holder);
    this.#require(found === expected, `handle ${holder} reads ${textOf(found)} where ${textOf(expected)} was due`);
    if (mapping !== undefined) {
      const mapped = await this.#holder.peek(mapping, MAPPED_BYTES);
      this.#require(mapped === expected, `mapping ${mapping} has ${textOf(mapped)} where ${textOf(expected)} was due`);
    }
    if (this.#random.chance(0.4)) return;
    const offset = this.#random.below(mapping === undefined ? 150_000 : MAPPED_BYTES - 100);
    const text = `written at ${offset}`;
    if (stale) {
      const problem = await this.#holder.write(holder, text, offset).catch((thrown: unknown) => thrown);
      this.#require(
        problem instanceof HolderError && problem.errno === ESTALE,
        `a write by stale handle ${holder} gave ${String(problem)}`,
      );
      return;
    }
    if (mapping === undefined) await this.#holder.write(holder, text, offset);
    else await this.#holder.poke(mapping, text, offset);
    writeSync(plain, text, offset);
    this.#changed = true;
  }

  #command(file: string, command: string | object): Written {
    this.#note(`${file}: ${JSON.stringify(command)}`);
    return this.#scene.commands.write(file, command);
  }

  async checkpoint(): Promise<void> {
    const name = `layer-${this.#names++}`;
    const newer = this.#childrenOf(this.#base);
    const confirm = this.#random.chance(0.15) || this.#layers.size >= MOST_LAYERS;
    const captured = await this.#captureNow(name);
    const { outcome } = this.#command('layers/new', { name, ...(confirm ? { confirm } : { branch: true }) });
    this.#require(outcome.ok, `a checkpoint gave ${JSON.stringify(outcome)}`);
    if (confirm) for (const layer of newer) this.#discard(layer);
    this.#layers.set(name, captured);
    this.#base = name;
    this.#changed = false;
  }

  #childrenOf(name: string): string[] {
    return [...this.#layers.values()].filter(({ parent }) => parent === name).map((layer) => layer.name);
  }

  #discard(name: string): void {
    for (const child of this.#childrenOf(name)) this.#discard(child);
    this.#forget(name);
  }

  #forget(name: string): void {
    const layer = this.#layers.get(name);
    if (layer !== undefined) rmSync(layer.copy, { recursive: true });
    this.#layers.delete(name);
  }

  async switchTo(name = this.#random.pick(this.layers)): Promise<void> {
    const target = this.#layers.get(name);
    if (target === undefined) throw new Error(`the model has no layer ${name}`);
    const before = await this.#captureNow('?');
    const open = new Map<ModelHandle, { ino: number; ctimeNs: string }>();
    for (const handle of this.#handles) if (!handle.stale) open.set(handle, await this.#holder.stat(handle.holder));
    const { outcome } = this.#command('layers/switch', name);
    this.#require(outcome.ok && outcome.layer === name, `a switch gave ${JSON.stringify(outcome)}`);
    if (outcome.sealed === undefined) rmSync(before.copy, { recursive: true });
    else {
      this.#require(this.#changed, `${outcome.sealed} was sealed, and nothing has changed`);
      this.#layers.set(outcome.sealed, { ...before, name: outcome.sealed });
    }
    rmSync(this.#live, { recursive: true });
    execFileSync('cp', ['-a', '--sparse=always', target.copy, this.#live]);
    for (const [handle, { ino, ctimeNs }] of open) this.#carryOver(handle, ino, ctimeNs, target);
    this.#base = name;
    this.#changed = false;
    this.compare();
  }

  /** A handle goes on where its file is the same in the new tree. */
  #carryOver(handle: ModelHandle, ino: number, ctimeNs: string, target: ModelLayer): void {
    const same = target.files.get(ino);
    if (same === undefined || same.ctimeNs !== ctimeNs) {
      handle.stale = true;
      this.#note(`handle ${handle.holder} is stale`);
    } else if (same.path !== undefined) {
      closeSync(handle.plain);
      handle.plain = openSync(Buffer.from(`${this.#live}/${same.path}`, 'latin1'), constants.O_RDWR);
    }
  }

  drop(): void {
    const layer = this.#layers.get(this.#random.pick(this.layers));
    if (layer === undefined) return;
    const { outcome } = this.#command('layers/drop', { layer: layer.name, force: true });
    if (layer.name === 'base') {
      this.#require(outcome.error === 'EINVAL', `dropping the base layer gave ${JSON.stringify(outcome)}`);
      return;
    }
    this.#require(outcome.ok, `a drop gave ${JSON.stringify(outcome)}`);
    for (const other of this.#layers.values()) if (other.parent === layer.name) other.parent = layer.parent;
    // The tree has what the layer had, and that is in no layer any more.
    if (this.#base === layer.name) {
      this.#base = layer.parent ?? 'base';
      this.#changed = true;
    }
    this.#forget(layer.name);
  }

  squash(): void {
    const to = this.#layers.get(this.#random.pick(this.layers));
    if (to === undefined || to.name === 'base') return;
    const run = [to];
    for (;;) {
      const next = this.#layers.get(run[0]?.parent ?? 'base');
      if (next === undefined || next.name === 'base' || this.#random.chance(0.3)) break;
      run.unshift(next);
    }
    const name = `squashed-${this.#names++}`;
    const branches = run
      .slice(0, -1)
      .some((layer) => this.#childrenOf(layer.name).length + (this.#base === layer.name ? 1 : 0) > 1);
    const { outcome } = this.#command('layers/squash', { from: run[0]?.name, to: to.name, name });
    if (branches) {
      this.#require(outcome.error === 'EBUSY', `a squash across branches gave ${JSON.stringify(outcome)}`);
      return;
    }
    this.#require(outcome.ok, `a squash gave ${JSON.stringify(outcome)}`);
    const parent = run[0]?.parent;
    for (const layer of run.slice(0, -1)) this.#forget(layer.name);
    this.#layers.delete(to.name);
    this.#layers.set(name, { ...to, name, parent });
    for (const other of this.#layers.values()) if (other.parent === to.name) other.parent = name;
    if (this.#base === to.name) this.#base = name;
  }

  collect(): void {
    const { outcome } = this.#command('control/gc', 'run');
    this.#require(outcome.ok, `collecting garbage gave ${JSON.stringify(outcome)}`);
  }

  check(): void {
    const { outcome } = this.#command('control/fsck', 'run');
    this.#require(outcome['clean'] === true, `the check gave ${JSON.stringify(outcome)}`);
  }

  flush(): void {
    this.#command('control/flush', 'all');
    writeSync(openedFor('/proc/sys/vm/drop_caches'), '3');
  }

  async kill(): Promise<void> {
    this.#note('kill -9 of the daemon');
    await this.#scene.replaceDaemon();
  }

  async restart(): Promise<void> {
    while (this.#handles.length > 0) await this.close();
    await this.#holder.end();
    this.#holder = new Holder();
    this.#note('restart');
    await this.#scene.tarbox.restart();
  }

  /** What the layers list says is what the model has. */
  compareLayers(): void {
    const found = this.#scene.commands.list().filter(({ frozen }) => frozen);
    const parents = new Map(found.map(({ name, parent }) => [name, parent ?? undefined]));
    const expected = new Map([...this.#layers.values()].map(({ name, parent }) => [name, parent]));
    const text = (map: ReadonlyMap<string, string | undefined>) => JSON.stringify([...map].sort());
    this.#require(text(parents) === text(expected), `the layers are ${text(parents)} for ${text(expected)}`);
    const { name } = this.#scene.commands.layer(this.#base);
    const { working } = this.#scene.commands.current();
    this.#require(working.parent === name, `the tree is based on ${working.parent} for ${name}`);
  }
}

let dropCaches: number | undefined;

function openedFor(path: string): number {
  dropCaches ??= openSync(path, 'w');
  return dropCaches;
}

function outcomeOf(work: () => void): string {
  try {
    work();
    return 'success';
  } catch (problem) {
    if (problem instanceof CallError) return `${problem.message}`;
    throw problem;
  }
}

function readAll(handle: number): string {
  const bytes = Buffer.alloc(fstatSync(handle).size);
  const length = readSync(handle, bytes, 0, bytes.length, 0);
  return bytes.toString('latin1', 0, length);
}

function textOf(content: string): string {
  return `${content.length} bytes (${JSON.stringify(content.slice(0, 40))}…)`;
}
