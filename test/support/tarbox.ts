import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { mountOf, unmount } from '../../src/fuse/device.ts';
import { removeFolder } from './folder.ts';

const run = promisify(execFile);
const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const START_DEADLINE_MS = 90_000;
const STOP_DEADLINE_MS = 60_000;

export interface TarboxOptions {
  /** Added to the environment; a value of undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Made and removed when not given. */
  readonly dataDir?: string;
  readonly mount?: string;
}

/** One line of the log, as JSON. */
export interface LogLine {
  readonly event: string;
  readonly level: string;
  readonly [field: string]: unknown;
}

export interface Pids {
  readonly supervisor: number;
  readonly daemon: number;
  /** Undefined where the database isn't ours. */
  readonly postgres: number | undefined;
}

/** What a mount needs and this machine lacks, for a test to be skipped by name; undefined when nothing is. */
export function missingForMounts(): string | undefined {
  if (process.getuid?.() !== 0) return 'root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return '/dev/fuse';
  }
}

/** A running sidecar, started as a user would start it. */
export class Tarbox {
  readonly dataDir: string;
  readonly mount: string;
  readonly #folder: string;
  readonly #env: Readonly<Record<string, string | undefined>>;
  #process: ChildProcess | undefined;
  #exit: Promise<number | NodeJS.Signals> | undefined;
  #daemon = 0;
  #postgres: number | undefined;
  /** Lines of the log since the last start, oldest first. */
  log: LogLine[] = [];
  #onLine: (() => void)[] = [];

  constructor(options: TarboxOptions = {}) {
    this.#folder = mkdtempSync(join(tmpdir(), 'tarbox-'));
    // The embedded server runs as another user, who must get to its data.
    chmodSync(this.#folder, 0o755);
    this.dataDir = options.dataDir ?? join(this.#folder, 'data');
    this.mount = options.mount ?? join(this.#folder, 'mnt');
    this.#env = options.env ?? {};
  }

  get pids(): Pids {
    return { supervisor: this.#process?.pid ?? 0, daemon: this.#daemon, postgres: this.#postgres };
  }

  /** Starts it; resolves when the workspace is mounted. Rejects with the log when it ends before that. */
  async start(env: Readonly<Record<string, string | undefined>> = {}): Promise<void> {
    this.launch(env);
    const ended = this.exit().then((code) => {
      throw new Error(`tarbox ended (${code}) before it was ready:\n${this.logText()}`);
    });
    ended.catch(() => {}); // it may end long after this start is over
    const ready = await Promise.race([this.waitForLog('ready', START_DEADLINE_MS), ended]);
    this.#daemon = Number(ready['daemonPid']);
    this.#postgres = ready['databasePid'] === undefined ? undefined : Number(ready['databasePid']);
  }

  /** Starts it without waiting for anything. */
  launch(env: Readonly<Record<string, string | undefined>> = {}): void {
    this.log = [];
    const merged: NodeJS.ProcessEnv = {
      ...ownEnvironment(),
      TARBOX_DATA: this.dataDir,
      TARBOX_MOUNT: this.mount,
      ...this.#env,
      ...env,
    };
    const child = spawn(process.execPath, [MAIN], { env: merged, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    this.#process = child;
    const lines = createInterface({ input: child.stderr });
    lines.on('line', (line) => this.#take(line));
    this.#exit = new Promise((done) => child.once('exit', (code, signal) => done(signal ?? code ?? 0)));
  }

  #take(line: string): void {
    let parsed: LogLine;
    try {
      parsed = JSON.parse(line);
    } catch {
      parsed = { event: 'text', level: 'text', text: line };
    }
    this.log.push(parsed);
    if (parsed.event === 'daemon-restarted') this.#daemon = Number(parsed['daemonPid']);
    if (parsed.event === 'database-restarted') this.#postgres = Number(parsed['databasePid']);
    for (const check of this.#onLine) check();
  }

  logText(): string {
    return this.log.map((line) => (line.event === 'text' ? String(line['text']) : JSON.stringify(line))).join('\n');
  }

  /** The first line of an event since the last start, or since `from` lines; waits for it. */
  waitForLog(event: string, deadlineMs: number, from = 0): Promise<LogLine> {
    return new Promise((done, fail) => {
      const check = () => {
        const found = this.log.slice(from).find((line) => line.event === event);
        if (found === undefined) return;
        finish();
        done(found);
      };
      const timer = setTimeout(() => {
        finish();
        fail(new Error(`no '${event}' in the log within ${deadlineMs} ms:\n${this.logText()}`));
      }, deadlineMs);
      const finish = () => {
        clearTimeout(timer);
        this.#onLine = this.#onLine.filter((other) => other !== check);
      };
      this.#onLine.push(check);
      check();
    });
  }

  /** Resolves to the exit code or signal once the supervisor has ended. */
  exit(): Promise<number | NodeJS.Signals> {
    if (this.#exit === undefined) throw new Error('tarbox was not started');
    return this.#exit;
  }

  /** Ends it as Ctrl-C does. Rejects when it doesn't exit with 0. */
  async stop(): Promise<void> {
    if (this.#process === undefined || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGINT');
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, fail) => {
      timer = setTimeout(
        () => fail(new Error(`tarbox has not ended ${STOP_DEADLINE_MS / 1000} s after SIGINT:\n${this.logText()}`)),
        STOP_DEADLINE_MS,
      );
    });
    const code = await Promise.race([this.exit(), late]).finally(() => clearTimeout(timer));
    if (code !== 0) throw new Error(`tarbox ended with ${code}:\n${this.logText()}`);
  }

  async restart(env: Readonly<Record<string, string | undefined>> = {}): Promise<void> {
    await this.stop();
    await this.start(env);
  }

  /** kill -9 of everything at once: supervisor, daemon and database, as when a container is killed. */
  async killEverything(): Promise<void> {
    for (const pid of this.#killAll()) await ended(pid);
    await this.exit();
    if (this.#postgres !== undefined) await collected(this.#postgres);
  }

  /** Gives whom it has killed: supervisor, daemon and database. */
  #killAll(): number[] {
    const supervisor = this.#process?.pid ?? 0;
    const children = this.#postgres === undefined ? [] : childrenOf(this.#postgres);
    // A daemon that doesn't serve yet is known to its supervisor alone.
    const daemons = childrenOf(supervisor).filter((pid) => isProgram(pid, 'daemon.ts'));
    const killed = [supervisor, ...daemons, this.#daemon, this.#postgres ?? 0].filter((pid) => pid !== 0);
    for (const pid of [...killed, ...children]) kill(pid);
    return killed;
  }

  /** Stops it, whatever state it's in, and leaves nothing behind. */
  async remove(): Promise<void> {
    try {
      await this.stop();
    } finally {
      this.#killAll();
      await abort(this.mount);
      if (mountOf(this.mount) !== undefined) await unmount(this.mount, { lazy: true });
      removeFolder(this.#folder);
    }
  }
}

/** What the tests were started with, but for their own variables, which a sidecar doesn't know and so refuses. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TARBOX_TEST_')));
}

/** Starts a sidecar; see `Tarbox`. */
export async function startTarbox(options: TarboxOptions = {}): Promise<Tarbox> {
  const tarbox = new Tarbox(options);
  try {
    await tarbox.start();
  } catch (problem) {
    await tarbox.remove().catch(() => {}); // the failure to start says more
    throw problem;
  }
  return tarbox;
}

/**
 * Ends the connection of a mount whose sidecar has been killed, for those that still wait there: whoever waits in the
 * kernel can't be killed otherwise, if what serves the mount isn't gone (Documentation/filesystems/fuse).
 */
async function abort(mount: string): Promise<void> {
  const connection = mountOf(mount)?.device.split(':')[1];
  if (connection === undefined) return;
  const folder = mkdtempSync(join(tmpdir(), 'tarbox-fusectl-'));
  try {
    await run('mount', ['-t', 'fusectl', 'none', folder]);
    const file = join(folder, connection, 'abort');
    if (existsSync(file)) writeFileSync(file, '1');
  } finally {
    await run('umount', [folder]).catch(() => {}); // it wasn't mounted
    rmdirSync(folder);
  }
}

function kill(pid: number): void {
  if (pid === 0) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch (problem) {
    if ((problem as NodeJS.ErrnoException).code !== 'ESRCH') throw problem; // process.kill throws system errors
  }
}

/** Processes that the main thread of a process has started and that are still there. */
export function childrenOf(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`;
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Resolves when the process is gone, or is a zombie that its parent will collect. */
export async function ended(pid: number, deadlineMs = 10_000): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (isRunning(pid)) {
    if (performance.now() > deadline) throw new Error(`process ${pid} still runs`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** As `ended`, and nobody takes the pid for a process any more: a zombie's would pass for a server that holds its lock. */
async function collected(pid: number): Promise<void> {
  await ended(pid);
  const deadline = performance.now() + 10_000;
  while (existsSync(`/proc/${pid}`) && performance.now() < deadline) await new Promise((done) => setTimeout(done, 10));
}

/** A process whose main thread has ended runs on with those that the kernel doesn't let go. */
function isRunning(pid: number): boolean {
  try {
    const isZombie = /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return !isZombie || readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

/** Whether a process runs this program. */
export function isProgram(pid: number, file: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .some((argument) => argument.endsWith(`/${file}`));
  } catch {
    return false;
  }
}
