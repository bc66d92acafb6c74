import { afterAll, afterEach, beforeAll } from 'vitest';
import { embeddedServer, TestServer } from '../support/postgres.ts';
import { startTarbox, type Tarbox, type TarboxOptions } from '../support/tarbox.ts';
import { Commands } from './commands.ts';
import { Holder } from './holder.ts';

/** A workspace that the tests of a block share, and who works in it. */
export class LayersScene {
  readonly tarbox: Tarbox;
  readonly commands: Commands;
  readonly #server: TestServer | undefined;
  readonly #holders: Holder[] = [];

  constructor(tarbox: Tarbox, server: TestServer | undefined) {
    this.tarbox = tarbox;
    this.#server = server;
    this.commands = new Commands(tarbox.mount);
  }

  get mount(): string {
    return this.tarbox.mount;
  }

  /** The database, where the scene has one of its own. */
  get server(): TestServer {
    if (this.#server === undefined) throw new Error('the scene was made without a server');
    return this.#server;
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

  async remove(): Promise<void> {
    await this.endHolders();
    await this.tarbox.remove();
    await this.#server?.remove();
  }
}

/** A workspace on a database of its own, which tests can look into. */
export async function openLayersScene(options: TarboxOptions = {}): Promise<LayersScene> {
  const server = await TestServer.start(embeddedServer);
  try {
    const url = `postgres://tarbox@/postgres?host=${server.options.socketDirectory}`;
    const tarbox = await startTarbox({ ...options, env: { DATABASE_URL: url, ...options.env } });
    return new LayersScene(tarbox, server);
  } catch (problem) {
    await server.remove();
    throw problem;
  }
}

/** One workspace for the tests of this block, there from the first to the last of them. */
export function useLayersScene(
  open: () => Promise<LayersScene> = async () => new LayersScene(await startTarbox(), undefined),
): () => LayersScene {
  let scene: LayersScene | undefined;
  beforeAll(async () => {
    scene = await open();
  });
  afterEach(() => scene?.endHolders());
  afterAll(() => scene?.remove());
  return () => {
    if (scene === undefined) throw new Error('the workspace has not been started');
    return scene;
  };
}
