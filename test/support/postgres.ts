import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { type Embedded, startEmbedded } from '../../src/embedded/server.ts';
import type { Logger } from '../../src/log.ts';
import { Connection, type DatabaseOptions } from '../../src/store/connection.ts';

/** Private PostgreSQL servers for tests: started in a temporary directory, reached by a socket, removed at the end. */

/** A PostgreSQL that tests can run against. */
export interface ServerKind {
  readonly name: string;
  /** What this machine lacks for it, to be named where tests are skipped. */
  readonly missing: string | undefined;
  readonly launch: (folder: string) => Promise<Embedded>;
}

export const silentLog: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

const DEBIAN_BIN = '/usr/lib/postgresql/15/bin';
/** Whom servers run as when the tests run as root (nobody). */
const SERVER_UID = 65_534;

export const embeddedServer: ServerKind = {
  name: 'the embedded PostgreSQL',
  missing: undefined,
  launch: (folder) => startEmbedded({ dataDir: folder, log: silentLog }),
};

export const debianServer: ServerKind = {
  name: 'PostgreSQL 15 of Debian',
  missing: existsSync(join(DEBIAN_BIN, 'postgres')) ? undefined : 'the package postgresql-15',
  launch: launchDebian,
};

/** Runs the same tests against each server; names what is missing where one is skipped. */
export function describeOnEach(tests: (kind: ServerKind) => void): void {
  for (const kind of [embeddedServer, debianServer]) {
    const { name, missing } = kind;
    describe.skipIf(missing !== undefined)(missing === undefined ? name : `${name} (skipped: no ${missing})`, () =>
      tests(kind),
    );
  }
}

/** One server for the tests of this block, there from the first to the last of them. */
export function useServer(kind: ServerKind): () => TestServer {
  let server: TestServer | undefined;
  beforeAll(async () => {
    server = await TestServer.start(kind);
  });
  afterAll(() => server?.remove());
  return () => {
    if (server === undefined) throw new Error('the server has not been started');
    return server;
  };
}

/** A server that can be stopped, killed, held up and started again on the same data. */
export class TestServer {
  readonly kind: ServerKind;
  /** Where its data and its socket are. */
  readonly folder: string;
  #running: Embedded | undefined;
  /** Its process is gone, and its number may be another's. */
  #ended = true;

  private constructor(kind: ServerKind) {
    this.kind = kind;
    this.folder = temporaryFolder('tarbox-store-');
  }

  static async start(kind: ServerKind): Promise<TestServer> {
    const server = new TestServer(kind);
    process.once('exit', server.#removeNow);
    try {
      await server.start();
    } catch (problem) {
      server.#removeNow();
      throw problem;
    }
    return server;
  }

  get running(): Embedded {
    if (this.#running === undefined) throw new Error('the server is not running');
    return this.#running;
  }

  /** How to reach it; the socket stays where it is when the server is started again. */
  get options(): Extract<DatabaseOptions, { socketDirectory: string }> {
    const { socketDirectory, user, database } = this.running;
    return { socketDirectory, user, database, connectTimeoutMs: 5000, statementTimeoutMs: 20_000 };
  }

  /** Starts it after it was stopped or killed. */
  async start(): Promise<void> {
    const running = await this.kind.launch(this.folder);
    this.#running = running;
    this.#ended = false;
    void running.exited.then(() => {
      if (this.#running === running) this.#ended = true;
    });
  }

  /** As if it were new: it runs, and there's nothing of Tarbox in it. */
  async clear(): Promise<void> {
    if (this.#ended) await this.start();
    await this.query('DROP SCHEMA IF EXISTS tarbox CASCADE');
  }

  /** Ends it in good order. */
  async stop(): Promise<void> {
    await this.running.stop();
  }

  /** Ends all of its processes at once, as a power loss would. */
  async kill(): Promise<void> {
    this.#signal('SIGKILL');
    await this.running.exited;
  }

  /** Holds all of its processes up. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  resume(): void {
    this.#signal('SIGCONT');
  }

  #signal(signal: NodeJS.Signals): void {
    if (!this.#ended) signalAll(this.running.pid, signal);
  }

  /** Runs one statement on a connection of its own. */
  async query<Row extends object>(sql: string): Promise<Row[]> {
    const connection = new Connection(this.options, 'test');
    try {
      return await connection.run<Row[]>(async (client) => [...(await client.unsafe<Row[]>(sql))]);
    } finally {
      await connection.close();
    }
  }

  /** Processes of the server that serve connections which call themselves `tarbox <name>`. */
  async backends(name: string): Promise<number[]> {
    const rows = await this.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'tarbox ${name}'`,
    );
    return rows.map(({ pid }) => pid);
  }

  /** Stops it whatever state it's in, and removes what it left. */
  async remove(): Promise<void> {
    const running = this.#running;
    this.#removeNow();
    await running?.exited;
  }

  readonly #removeNow = (): void => {
    process.removeListener('exit', this.#removeNow);
    if (this.#running !== undefined) this.#signal('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  };
}

/** A new directory that a server's user may enter. Whoever makes it removes it. */
export function temporaryFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix));
  chmodSync(folder, 0o755);
  return folder;
}

/** Signals a postmaster and its children; it can't start another while it's being done. */
function signalAll(postmaster: number, signal: NodeJS.Signals): void {
  if (!signalOne(postmaster, 'SIGSTOP')) return;
  for (const child of childrenOf(postmaster)) signalOne(child, signal);
  signalOne(postmaster, signal);
}

function childrenOf(pid: number): number[] {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return all.map(Number).filter((child) => parentOf(child) === pid);
}

/** The parent of a process (proc(5), /proc/pid/stat); undefined when it has ended. */
function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}

function signalOne(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false; // it has ended
  }
}

/** What holds sooner or later, or the test fails. */
export async function eventually<T>(what: string, probe: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function launchDebian(folder: string): Promise<Embedded> {
  const data = join(folder, 'data');
  const socketDirectory = join(folder, 'socket');
  if (!existsSync(data)) {
    for (const directory of [data, socketDirectory]) makePrivate(directory);
    const args = ['-D', data, '-U', 'tarbox', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
    const [file, fileArgs] = asServerUser('initdb', args);
    const { status, stderr } = spawnSync(file, fileArgs, { cwd: '/', encoding: 'utf8' });
    if (status !== 0) throw new Error(`initdb failed: ${stderr}`);
  }
  rmSync(join(data, 'postmaster.pid'), { force: true });
  const [file, args] = asServerUser('postgres', ['-D', data, '-k', socketDirectory, '-c', 'listen_addresses=']);
  const server = spawn(file, args, { cwd: '/', detached: true, stdio: 'ignore' });
  const exited = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  await becomesReady(data, server);
  return {
    socketDirectory,
    user: 'tarbox',
    database: 'postgres',
    pid: server.pid ?? 0,
    exited,
    async stop() {
      server.kill('SIGINT');
      await exited;
    },
  };
}

function makePrivate(directory: string): void {
  mkdirSync(directory, { mode: 0o700 });
  if (process.getuid?.() === 0) chownSync(directory, SERVER_UID, SERVER_UID);
}

/** PostgreSQL refuses to run as root. It also ends when the tests do. */
function asServerUser(program: string, args: readonly string[]): [file: string, args: string[]] {
  const user = process.getuid?.() === 0 ? [`--reuid=${SERVER_UID}`, `--regid=${SERVER_UID}`, '--clear-groups'] : [];
  return ['setpriv', ['--pdeathsig', 'SIGQUIT', ...user, '--', join(DEBIAN_BIN, program), ...args]];
}

async function becomesReady(data: string, server: ChildProcess): Promise<void> {
  const file = join(data, 'postmaster.pid');
  await eventually('the server is ready', () => {
    if (server.exitCode !== null) throw new Error(`the server ended with ${server.exitCode}`);
    return (existsSync(file) && readFileSync(file, 'utf8').split('\n')[7]?.startsWith('ready')) || undefined;
  });
}
