import { afterAll, afterEach, beforeAll } from 'vitest';
import { startTarbox, type Tarbox, type TarboxOptions } from '../support/tarbox.ts';
import { Commands } from './commands.ts';
import { Holder } from './holder.ts';

/** A workspace that the tests of a block share, and who works in it. */
export class LayersScene {
  readonly tarbox: Tarbox;
  readonly commands: Commands;
  readonly #holders: Holder[] = [];

  constructor(tarbox: Tarbox) {
    this.tarbox = tarbox;
    this.commands = new Commands(tarbox.mount);
  }

  get mount(): string {
    return this.tarbox.mount;
  }

  path(name: string): string {
    return `${this.mount}/${name}`;
  }

  /** A process that keeps things open; it ends with the test. */
  holder(): Holder {
    const holder = new Holder();
    this.#holders.push(holder);
    return holder;
  }

  /** An empty tree, with a layer of this name below it: where a test begins, whatever others have left. */
  begin(name: string): void {
    this.commands.switchTo('base');
    this.commands.checkpoint(name, { branch: true });
  }

  /** kill -9 of the daemon. Resolves when another one serves. */
  async replaceDaemon(): Promise<void> {
    const lines = this.tarbox.log.length;
    process.kill(this.tarbox.pids.daemon, 'SIGKILL');
    await this.tarbox.waitForLog('daemon-restarted', 60_000, lines);
  }

  async endHolders(): Promise<void> {
    for (const holder of this.#holders.splice(0)) await holder.end();
  }
}

/** One workspace for the tests of this block, there from the first to the last of them. */
export function useLayersScene(options: TarboxOptions = {}): () => LayersScene {
  let scene: LayersScene | undefined;
  beforeAll(async () => {
    scene = new LayersScene(await startTarbox(options));
  });
  afterEach(() => scene?.endHolders());
  afterAll(() => scene?.tarbox.remove());
  return () => {
    if (scene === undefined) throw new Error('the workspace has not been started');
    return scene;
  };
}
