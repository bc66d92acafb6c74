import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { embeddedServer, eventually, TestServer, temporaryFolder } from '../support/postgres.ts';
import { childrenOf, isProgram, Tarbox } from '../support/tarbox.ts';
import { Client } from './client.ts';
import { Load } from './load.ts';
import type { PlanOptions } from './plan.ts';
import type { OptionsOf, ProgramName } from './programs/all.ts';
import { Relay } from './relay.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A sidecar and its clients, on a PostgreSQL of its own, with a wire between them that can be held up and cut. */
export class Scene {
  readonly server: TestServer;
  readonly relay: Relay;
  readonly tarbox: Tarbox;
  readonly folder: string;
  readonly #sidecars: Tarbox[] = [];
  readonly #clients: { remove(): Promise<void> }[] = [];
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  readonly #isLent: boolean;

  private constructor(server: TestServer, relay: Relay, env: Environment, isLent: boolean) {
    this.server = server;
    this.relay = relay;
    this.#isLent = isLent;
    this.folder = temporaryFolder('tarbox-scene-');
    this.tarbox = this.sidecar(env);
  }

  /** Starts the database, unless one is lent, which is cleared; the sidecar is the caller's to start. */
  static async open(env: Environment = {}, lent?: TestServer): Promise<Scene> {
    await lent?.clear();
    const server = lent ?? (await TestServer.start(embeddedServer));
    const relay = new Relay(server.options.socketDirectory);
    await relay.start();
    return new Scene(server, relay, env, lent !== undefined);
  }

  /** For `DATABASE_URL`: the database itself, past the wire. */
  get url(): string {
    return `postgres://tarbox@/postgres?host=${this.server.options.socketDirectory}`;
  }

  /** One more sidecar on the same database, not started; the same tenant is meant unless `env` says otherwise. */
  sidecar(env: Environment = {}): Tarbox {
    const tarbox = new Tarbox({ env: { DATABASE_URL: this.relay.url, ...env } });
    this.#sidecars.push(tarbox);
    return tarbox;
  }

  /** A load in a directory of the workspace, not started. */
  load(name: string, plan: PlanOptions): Load {
    const load = new Load(join(this.tarbox.mount, name), join(this.folder, name), plan);
    this.#clients.push(load);
    return load;
  }

  /** A client program, once it's under way. */
  async client<Name extends ProgramName>(name: Name, options: OptionsOf<Name>): Promise<Client<Name>> {
    const client = new Client(name, options);
    this.#clients.push({ remove: () => client.kill() });
    await client.ready();
    return client;
  }

  path(name: string): string {
    return join(this.tarbox.mount, name);
  }

  /** The daemon that the supervisor runs now, whether it serves already or not. */
  get daemon(): number {
    const { supervisor } = this.tarbox.pids;
    return childrenOf(supervisor).findLast((pid) => isProgram(pid, 'daemon.ts')) ?? 0;
  }

  /** kill -9 of the daemon. Resolves when another one is there, which may not serve yet. */
  async killDaemon(): Promise<void> {
    const killed = this.daemon;
    process.kill(killed, 'SIGKILL');
    await eventually('another daemon is there', () => ![0, killed].includes(this.daemon) || undefined);
  }

  /** kill -9 of the daemon. Resolves when another one serves. */
  async replaceDaemon(): Promise<void> {
    const lines = this.tarbox.log.length;
    process.kill(this.daemon, 'SIGKILL');
    await this.tarbox.waitForLog('daemon-restarted', 60_000, lines);
  }

  /** One number from the tenant's row. */
  async tenant(column: 'sequence' | 'lease_epoch'): Promise<number> {
    const [row] = await this.server.query<{ value: string }>(`SELECT ${column} AS value FROM tarbox.tenants`);
    return Number(row?.value);
  }

  /** Has something done at the end, when no process is left. */
  defer(cleanup: () => Promise<unknown>): void {
    this.#cleanups.push(cleanup);
  }

  async remove(): Promise<void> {
    try {
      for (const sidecar of this.#sidecars) if (sidecar.pids.supervisor !== 0) await sidecar.killEverything();
      for (const client of this.#clients) await client.remove();
      for (const sidecar of this.#sidecars) await sidecar.remove();
    } finally {
      await this.relay.remove();
      if (!this.#isLent) await this.server.remove();
      for (const cleanup of this.#cleanups) await cleanup();
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}
