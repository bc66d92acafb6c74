import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { Commands } from '../../layers/commands.ts';
import { packed } from '../../layers/packed.ts';
import { startTarbox, type Tarbox } from '../../support/tarbox.ts';
import type { Cleanup } from '../cleanup.ts';
import { dropKernelCaches } from '../machine.ts';
import { run } from '../program.ts';
import { median } from '../results.ts';
import { seededRandom } from '../tree/random.ts';

/** What is measured of layers, in milliseconds or as a ratio, and the most that it should be. */
export const LAYER_ROWS = [
  { key: 'checkpoint', name: 'checkpoint, nothing changed', unit: 'ms', most: 20 },
  { key: 'switchFew', name: 'switch, 10 files differ', unit: 'ms', most: 50 },
  { key: 'switchMany', name: 'switch, 10,000 files differ', unit: 'ms', most: 1000 },
  { key: 'changesFew', name: 'diff/…/changes, 10 files differ', unit: 'ms', most: undefined },
  { key: 'changesMany', name: 'diff/…/changes, 10,000 files differ', unit: 'ms', most: undefined },
  { key: 'lines', name: 'diff of 1,000,000 lines, 100 changed', unit: 'ms', most: 1000 },
  { key: 'listLive', name: 'ls -lR, cold', unit: 'ms', most: undefined },
  { key: 'listSnapshot', name: 'ls -lR of a snapshot, first', unit: '× the tree', most: 2 },
  { key: 'lookupDeep', name: 'stat, cold, 1,000 layers deep', unit: '× 1 layer', most: 1.2 },
  { key: 'readDeep', name: 'read, cold, 1,000 layers deep', unit: '× 1 layer', most: 1.2 },
  { key: 'createDeep', name: 'create, cold, 1,000 layers deep', unit: '× 1 layer', most: 1.2 },
] as const;

export type LayerKey = (typeof LAYER_ROWS)[number]['key'];

/** The figures of a workspace of so many files. */
export interface LayerResults {
  readonly files: number;
  readonly figures: Readonly<Record<LayerKey, number>>;
}

export interface LayerParts {
  /** Where the workspace is put; see `openDisk`. */
  readonly disk: string;
  readonly signal: AbortSignal;
  readonly cleanup: Cleanup;
}

const FILES_A_DIRECTORY = 100;
const FEW = 10;
const MANY = 10_000;
const LINES = 1_000_000;
const CHANGED_LINES = 100;
const DEPTH = 1000;
const TOUCHED = 1000;
/** How often what can be repeated is. */
const TIMES = 7;

/** Measures what layers cost in a workspace of so many files. */
export async function measureLayers(files: number, { disk, signal, cleanup }: LayerParts): Promise<LayerResults> {
  const [dataDir, mount] = [join(disk, `layers-${files}`), join(disk, `layers-${files}-mnt`)];
  mkdirSync(mount);
  const tarbox = await startTarbox({ dataDir, mount });
  cleanup.add(`the workspace of ${files} files`, () => tarbox.remove());
  const bench = new LayersBench(tarbox, files, signal);
  const figures = await bench.measure();
  await tarbox.remove();
  return { files, figures };
}

class LayersBench {
  readonly #mount: string;
  readonly #commands: Commands;
  readonly #files: number;
  readonly #signal: AbortSignal;

  constructor({ mount }: Tarbox, files: number, signal: AbortSignal) {
    this.#mount = mount;
    this.#commands = new Commands(mount);
    this.#files = files;
    this.#signal = signal;
  }

  async measure(): Promise<Record<LayerKey, number>> {
    await this.#makeTree();
    this.#commands.checkpoint('full');
    const listLive = await this.#timeCold(() => this.#list(this.#mount));
    const listSnapshot = await this.#timeCold(() => this.#list(this.#commands.snapshot('full')));
    const shallow = await this.#touch('shallow');
    const checkpoint = this.#medianOf((n) => this.#commands.checkpoint(`empty-${n}`));
    await this.#write(FEW, 'few');
    await this.#write(Math.min(MANY, this.#files), 'many');
    await packed(this.#mount);
    const switchFew = this.#medianOf((n) => this.#commands.switchTo(n % 2 === 0 ? `empty-0` : 'few'));
    const switchMany = this.#medianOf((n) => this.#commands.switchTo(n % 2 === 0 ? 'many' : 'few'));
    this.#commands.switchTo('many');
    const changesFew = this.#time(() => this.#commands.read('diff/empty-0..few/changes'));
    const changesMany = this.#time(() => this.#commands.read('diff/few..many/changes'));
    const lines = await this.#diffLines();
    await this.#deepen();
    const deep = await this.#touch('deep');
    return {
      checkpoint,
      switchFew,
      switchMany,
      changesFew,
      changesMany,
      lines,
      listLive,
      listSnapshot: listSnapshot / listLive,
      lookupDeep: deep.lookup / shallow.lookup,
      readDeep: deep.read / shallow.read,
      createDeep: deep.create / shallow.create,
    };
  }

  /** The path of a file of the tree. */
  #path(n: number): string {
    return join(this.#mount, this.#directory(n), `file-${n}`);
  }

  #directory(n: number): string {
    const directory = Math.floor(n / FILES_A_DIRECTORY);
    return join(`top-${Math.floor(directory / FILES_A_DIRECTORY)}`, `dir-${directory}`);
  }

  async #makeTree(): Promise<void> {
    for (let n = 0; n < this.#files; n++) {
      if (n % FILES_A_DIRECTORY === 0) {
        mkdirSync(join(this.#mount, this.#directory(n)), { recursive: true });
        await this.#yield();
      }
      writeFileSync(this.#path(n), `file ${n}\n`);
    }
  }

  /** Lets an interruption through. */
  async #yield(): Promise<void> {
    await turn();
    this.#signal.throwIfAborted();
  }

  /** Writes so many files over, evenly spaced, and takes a checkpoint. */
  async #write(count: number, name: string): Promise<void> {
    const step = this.#files / count;
    for (let n = 0; n < count; n++) writeFileSync(this.#path(Math.floor(n * step)), `${name} ${n}\n`);
    await this.#yield();
    this.#commands.checkpoint(name);
  }

  /** Layers that each change a file. */
  async #deepen(): Promise<void> {
    for (let n = 0; n < DEPTH; n++) {
      writeFileSync(this.#path((n * 7919) % this.#files), `deep ${n}\n`);
      this.#commands.checkpoint(`deep-${n}`);
      await this.#yield();
    }
    await packed(this.#mount);
  }

  async #diffLines(): Promise<number> {
    const file = join(this.#mount, 'lines');
    const lines = Array.from({ length: LINES }, (_, n) => `line ${n} of a long text`);
    writeFileSync(file, lines.join('\n'));
    this.#commands.checkpoint('lines-1');
    for (let n = 0; n < CHANGED_LINES; n++) lines[Math.floor((n * LINES) / CHANGED_LINES)] = `changed ${n}`;
    writeFileSync(file, lines.join('\n'));
    this.#commands.checkpoint('lines-2');
    await packed(this.#mount);
    let patch = '';
    const milliseconds = this.#time(() => {
      patch = this.#commands.read('diff/lines-1..lines-2/files/lines');
    });
    const added = patch.split('\n').filter((line) => line.startsWith('+changed')).length;
    if (added !== CHANGED_LINES) throw new Error(`the diff has ${added} changed lines instead of ${CHANGED_LINES}`);
    return milliseconds;
  }

  /** Each operation on files of its own, chosen at random, with cold caches. */
  async #touch(name: string): Promise<{ lookup: number; read: number; create: number }> {
    const random = seededRandom(1);
    const chosen = Array.from({ length: TOUCHED }, () => random.integer(this.#files));
    const each = (action: (n: number) => unknown) => async () => {
      for (const n of chosen) action(n);
    };
    const lookup = await this.#timeCold(each((n) => statSync(this.#path(n))));
    const read = await this.#timeCold(each((n) => readFileSync(this.#path(n))));
    const create = await this.#timeCold(each((n) => writeFileSync(`${this.#path(n)}-${name}`, '')));
    return { lookup, read, create };
  }

  async #timeCold(action: () => Promise<unknown>): Promise<number> {
    await run('sync', [this.#mount], { signal: this.#signal });
    await dropKernelCaches();
    this.#commands.flush();
    await dropKernelCaches();
    const started = performance.now();
    await action();
    return performance.now() - started;
  }

  #time(action: () => unknown): number {
    const started = performance.now();
    action();
    return performance.now() - started;
  }

  #medianOf(action: (n: number) => unknown): number {
    return median(Array.from({ length: TIMES }, (_, n) => this.#time(() => action(n)))) ?? Number.NaN;
  }

  async #list(directory: string): Promise<void> {
    await run('ls', ['-lR', directory], { signal: this.#signal, discard: true });
  }
}
