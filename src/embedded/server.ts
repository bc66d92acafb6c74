import { createHash } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import type { Logger } from '../log.ts';
import { installBinaries } from './binaries.ts';
import { closedTo, makeDirectory, reasonOf } from './directory.ts';

export interface EmbeddedOptions {
  /** Directory for the data, the binaries and the log; made when missing. */
  readonly dataDir: string;
  readonly log: Logger;
}

/** A running private PostgreSQL, reached by its socket alone. */
export interface Embedded {
  readonly socketDirectory: string;
  readonly user: string;
  readonly database: string;
  /** The postmaster. */
  readonly pid: number;
  /** Resolves when the server has ended, whoever ended it. */
  readonly exited: Promise<void>;
  /** Stops it cleanly; harder when that takes too long. */
  stop(): Promise<void>;
}

/** PostgreSQL refuses to run as root; it then runs as this user (nobody). */
const SERVER_UID = 65_534;
const USER = 'tarbox';
const START_DEADLINE_MS = 60_000;
const STOP_GRACE_MS = 20_000;
/** Longest path of a socket (unix(7)), less the file's own name. */
const SOCKET_DIRECTORY_MAX = 107 - '/.s.PGSQL.5432'.length;
const LOG_MAX_BYTES = 8 * 1024 * 1024;

/**
 * One user, one local connection, much writing: no replication (wal_level), rare checkpoints. What makes commits
 * durable stays on.
 */
const SETTINGS = {
  listen_addresses: '',
  port: '5432',
  max_connections: '32',
  superuser_reserved_connections: '3',
  shared_buffers: '128MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  wal_buffers: '16MB',
  checkpoint_timeout: '15min',
  checkpoint_completion_target: '0.9',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  jit: 'off',
  huge_pages: 'off',
  dynamic_shared_memory_type: 'posix',
  log_min_messages: 'warning',
  log_checkpoints: 'off',
} as const;

const MIB = 1024 * 1024;
/** The most that the write-ahead log may grow between checkpoints, and its share of the disk. */
const LOG_LIMITS_MIB = { least: 128, most: 2048, share: 1 / 10 };

/** Settings that depend on the disk: room in the log for rare checkpoints, but not the whole of a small disk. */
function diskSettings(data: string): { readonly [name: string]: string } {
  const { blocks, bsize } = statfsSync(data);
  const share = Math.floor(((blocks * bsize) / MIB) * LOG_LIMITS_MIB.share);
  const most = Math.max(LOG_LIMITS_MIB.least, Math.min(LOG_LIMITS_MIB.most, share));
  return { max_wal_size: `${most}MB`, min_wal_size: `${Math.min(256, Math.floor(most / 2))}MB` };
}

/** The files of one server, and how it's run. */
interface Place {
  readonly bin: string;
  readonly data: string;
  /** Held by the server for as long as any of its processes lives, in whatever container. */
  readonly lock: string;
  readonly socketDirectory: string;
  readonly log: string;
  readonly asRoot: boolean;
}

/**
 * Starts the server on its data directory, which is made on first use. The server outlives its last client but not the
 * process that started it.
 *
 * @throws {Error} one line: what is wrong (no space, no permission, data of another version, in use), and where the
 *   server's log is.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const root = resolve(options.dataDir);
  const asRoot = process.getuid?.() === 0;
  await prepareRoot(root, asRoot);
  const { bin, major } = await installBinaries(join(root, 'bin'));
  const place: Place = {
    bin,
    data: join(root, 'pgdata'),
    lock: join(root, 'server.lock'),
    socketDirectory: socketDirectoryFor(root),
    log: join(root, 'postgresql.log'),
    asRoot,
  };
  const logHandle = openLog(place.log);
  try {
    makePrivate(place.socketDirectory, asRoot);
    await claim(place);
    if (isEmpty(place.data)) await initialize(place, options.log);
    checkVersion(place.data, major);
    return await start(place, logHandle);
  } finally {
    closeSync(logHandle);
  }
}

/** Makes the directory of everything. @throws {Error} when it can't be made, or when the server's user can't get there. */
async function prepareRoot(root: string, asRoot: boolean): Promise<void> {
  try {
    makeDirectory(root);
  } catch (problem) {
    throw new Error(`cannot make ${root}: ${reasonOf(problem)}; set TARBOX_DATA to a directory that can be written`, {
      cause: problem,
    });
  }
  const closed = asRoot ? await closedTo(SERVER_UID, root) : undefined;
  if (closed !== undefined)
    throw new Error(
      `${closed} is closed to user ${SERVER_UID}, as whom PostgreSQL runs: chmod o+x ${closed}, or set TARBOX_DATA to a directory elsewhere`,
    );
}

function openLog(file: string): number {
  try {
    const handle = openSync(file, 'a');
    if (fstatSync(handle).size > LOG_MAX_BYTES) ftruncateSync(handle);
    return handle;
  } catch (problem) {
    throw new Error(
      `cannot write ${file}: ${reasonOf(problem)}; run Tarbox as the user that made it, or set TARBOX_DATA`,
      {
        cause: problem,
      },
    );
  }
}

function isEmpty(directory: string): boolean {
  return !existsSync(directory) || readdirSync(directory).length === 0;
}

/** Makes a directory that only the server's user may enter. */
function makePrivate(directory: string, asRoot: boolean): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (asRoot) chownSync(directory, SERVER_UID, SERVER_UID);
}

/** Below the data where the path of a socket has room there, otherwise in a short place that the data's path names. */
function socketDirectoryFor(root: string): string {
  const near = join(root, 'socket');
  if (Buffer.byteLength(near) <= SOCKET_DIRECTORY_MAX) return near;
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16);
  return join(existsSync('/run') && process.getuid?.() === 0 ? '/run' : tmpdir(), `tarbox-${name}`);
}

/** How long the processes of a server that was killed may take to notice. */
const LOCK_WAIT_S = '2';
const LOCK_CONFLICT = 75;

/** The command that runs a program while holding the server's lock, which its children hold on to. */
function locked(lock: string, command: readonly string[]): [file: string, args: string[]] {
  return [
    'flock',
    ['--no-fork', '--timeout', LOCK_WAIT_S, '--conflict-exit-code', String(LOCK_CONFLICT), lock, ...command],
  ];
}

/** Removes what a server that was killed left behind. @throws {Error} when another one runs on the data. */
async function claim({ data, lock }: Place): Promise<void> {
  const file = join(data, 'postmaster.pid');
  const [program, args] = locked(lock, ['rm', '-f', file]);
  const { exitCode, stderr } = await execa(program, args, { reject: false });
  if (exitCode === 0) return;
  if (exitCode !== LOCK_CONFLICT) throw new Error(`cannot take ${lock}: ${lastLine(stderr)}`);
  const pid = existsSync(file) ? ` with pid ${Number.parseInt(readFileSync(file, 'utf8'), 10)}` : '';
  throw new Error(`${data} is in use by the PostgreSQL${pid}: stop the other Tarbox, or set TARBOX_DATA`);
}

/**
 * The command that runs a server program: as another user when we are root. It's told to end when we do, in the way
 * that lets those who are connected finish.
 */
function commandFor(program: string, args: readonly string[], asRoot: boolean): string[] {
  const user = asRoot ? [`--reuid=${SERVER_UID}`, `--regid=${SERVER_UID}`, '--clear-groups'] : [];
  return ['setpriv', '--pdeathsig', 'SIGTERM', ...user, '--', program, ...args];
}

/** Makes the database beside its place, so that what is there is always whole, and on disk. */
async function initialize({ bin, data, lock, asRoot }: Place, log: Logger): Promise<void> {
  log.info('database-created', { directory: data });
  const made = `${data}.new`;
  rmSync(made, { recursive: true, force: true });
  makePrivate(made, asRoot);
  const settings = ['-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-instructions'];
  const args = ['-D', made, ...settings, '--sync-method=syncfs'];
  const [file, fileArgs] = locked(lock, commandFor(join(bin, 'initdb'), args, asRoot));
  const { exitCode, stderr } = await execa(file, fileArgs, { reject: false, cwd: '/' });
  if (exitCode !== 0) {
    rmSync(made, { recursive: true, force: true });
    throw new Error(`cannot create the database in ${data}: ${lastLine(stderr)}`);
  }
  renameSync(made, data);
  const parent = openSync(dirname(data), 'r');
  fsyncSync(parent);
  closeSync(parent);
}

function checkVersion(data: string, major: string): void {
  const file = join(data, 'PG_VERSION');
  if (!existsSync(file)) throw new Error(`${data} is not a PostgreSQL database: move it away, or set TARBOX_DATA`);
  const stored = readFileSync(file, 'utf8').trim();
  if (stored !== major)
    throw new Error(`${data} was made by PostgreSQL ${stored}, this Tarbox brings ${major}: dump and restore it first`);
}

async function start({ bin, data, lock, socketDirectory, log, asRoot }: Place, logHandle: number): Promise<Embedded> {
  const logStart = fstatSync(logHandle).size;
  const settings = Object.entries({ ...SETTINGS, ...diskSettings(data) }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ]);
  const command = commandFor(join(bin, 'postgres'), ['-D', data, '-k', socketDirectory, ...settings], asRoot);
  const [file, args] = locked(lock, command);
  const server = execa(file, args, {
    reject: false,
    detached: true, // its own session: Ctrl-C must reach us first
    cleanup: false,
    cwd: '/',
    // execa's types name the handles 3 to 9 only; it takes any.
    stdio: ['ignore', logHandle as 3, logHandle as 3],
  });
  let ended = false;
  const exited = server.then(() => {
    ended = true;
  });
  try {
    await ready(data, () => ended, log, logStart);
  } catch (problem) {
    server.kill('SIGQUIT');
    await exited;
    throw problem;
  }
  return {
    socketDirectory,
    user: USER,
    database: 'postgres',
    pid: server.pid ?? 0,
    exited,
    async stop() {
      server.kill('SIGINT'); // fast shutdown
      const timers = [
        setTimeout(() => server.kill('SIGQUIT'), STOP_GRACE_MS), // no shutdown checkpoint: the next start recovers
        setTimeout(() => server.kill('SIGKILL'), 2 * STOP_GRACE_MS),
      ];
      await exited;
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Waits until the server says that it's ready, in the last line of its pid file. */
async function ready(data: string, ended: () => boolean, log: string, logStart: number): Promise<void> {
  const file = join(data, 'postmaster.pid');
  const deadline = performance.now() + START_DEADLINE_MS;
  while (performance.now() < deadline) {
    if (ended()) break;
    if (existsSync(file) && readFileSync(file, 'utf8').split('\n')[7]?.startsWith('ready')) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const said = readFileSync(log).subarray(logStart).toString();
  throw new Error(`the embedded PostgreSQL did not start: ${lastLine(said)} (see ${log})`);
}

/** The line that says what is wrong: the last one, save that a full disk makes other things go wrong as well. */
function lastLine(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const full = lines.find((line) => /No space left/.test(line));
  const telling = lines.filter((line) => /FATAL|PANIC|ERROR|error:|could not/.test(line));
  const line = (full ?? telling[telling.length - 1] ?? lines[lines.length - 1] ?? 'it said nothing').trim();
  return line.replace(/^.* UTC \[\d+\] /, ''); // the log's time and process
}
