import { createHash } from 'node:crypto';
import {
  chownSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import type { Logger } from '../log.ts';
import { installBinaries } from './binaries.ts';

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
 * One user, one local connection, much writing: no replication (wal_level), rare checkpoints, room in the log for
 * them. What makes commits durable stays on.
 */
const SETTINGS = {
  listen_addresses: '',
  max_connections: '32',
  superuser_reserved_connections: '3',
  shared_buffers: '128MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  wal_buffers: '16MB',
  min_wal_size: '256MB',
  max_wal_size: '2GB',
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

/**
 * Starts the server on its data directory, which is made on first use.
 *
 * @throws {Error} one line: what is wrong (no space, no permission, data of another version, in use), and where the
 *   server's log is.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const root = resolve(options.dataDir);
  const asRoot = process.getuid?.() === 0;
  makeDirectory(root);
  const { bin, major } = installBinaries(join(root, 'bin'));
  const data = join(root, 'pgdata');
  const socketDirectory = socketDirectoryFor(root);
  makePrivate(socketDirectory, asRoot);
  refuseSecond(data);
  const log = join(root, 'postgresql.log');
  const logHandle = openSync(log, 'a');
  if (statSync(log).size > LOG_MAX_BYTES) ftruncateSync(logHandle);
  try {
    if (!existsSync(join(data, 'PG_VERSION'))) await initialize(bin, data, asRoot, options.log);
    checkVersion(data, major);
    return await start(bin, data, socketDirectory, asRoot, log, logHandle);
  } finally {
    closeSync(logHandle);
  }
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  } catch (problem) {
    throw new Error(
      `cannot make ${directory} (${codeOf(problem)}): set TARBOX_DATA to a directory that can be written`,
      {
        cause: problem,
      },
    );
  }
}

function codeOf(problem: unknown): string {
  return problem instanceof Error && 'code' in problem ? String(problem.code) : String(problem);
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

/** @throws {Error} when another server runs on the data. */
function refuseSecond(data: string): void {
  const file = join(data, 'postmaster.pid');
  if (!existsSync(file)) return;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  const isPostgres =
    existsSync(`/proc/${pid}/comm`) && readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('postgres');
  if (isPostgres && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(data))
    throw new Error(`${data} is in use by the PostgreSQL with pid ${pid}: stop the other Tarbox, or set TARBOX_DATA`);
  rmSync(file);
}

/** The command that runs a server program: as another user when we are root, in a session of its own. */
function commandFor(program: string, args: readonly string[], asRoot: boolean): [string, string[]] {
  if (!asRoot) return [program, [...args]];
  const user = [`--reuid=${SERVER_UID}`, `--regid=${SERVER_UID}`, '--clear-groups'];
  return ['setpriv', [...user, '--', program, ...args]];
}

async function initialize(bin: string, data: string, asRoot: boolean, log: Logger): Promise<void> {
  log.info('database-created', { directory: data });
  rmSync(data, { recursive: true, force: true });
  makePrivate(data, asRoot);
  const args = ['-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-instructions', '--no-sync'];
  const [command, commandArgs] = commandFor(join(bin, 'initdb'), args, asRoot);
  const { exitCode, stderr } = await execa(command, commandArgs, { reject: false, cwd: '/' });
  if (exitCode === 0) return;
  rmSync(data, { recursive: true, force: true });
  throw new Error(`cannot create the database in ${data}: ${lastLine(stderr)}`);
}

function checkVersion(data: string, major: string): void {
  const stored = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
  if (stored !== major)
    throw new Error(`${data} was made by PostgreSQL ${stored}, this Tarbox brings ${major}: dump and restore it first`);
}

async function start(
  bin: string,
  data: string,
  socketDirectory: string,
  asRoot: boolean,
  log: string,
  logHandle: number,
): Promise<Embedded> {
  const logStart = statSync(log).size;
  const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const args = ['-D', data, '-k', socketDirectory, ...settings];
  const [command, commandArgs] = commandFor(join(bin, 'postgres'), args, asRoot);
  const server = execa(command, commandArgs, {
    reject: false,
    detached: true, // its own session: Ctrl-C must reach us first
    cleanup: false,
    cwd: '/',
    // execa's types name the handles 3 to 9 only; it takes any.
    stdio: ['ignore', logHandle as 3, logHandle as 3],
  });
  const exited = server.then(() => {});
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  await ready(data, () => ended, log, logStart);
  const pid = server.pid ?? 0;
  return {
    socketDirectory,
    user: USER,
    database: 'postgres',
    pid,
    exited,
    async stop() {
      server.kill('SIGINT'); // fast shutdown
      const timer = setTimeout(() => server.kill('SIGQUIT'), STOP_GRACE_MS);
      await exited;
      clearTimeout(timer);
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

/** The last line that says what is wrong. */
function lastLine(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const telling = lines.filter((line) => /FATAL|PANIC|ERROR|error:|could not|No space/.test(line));
  return (telling[telling.length - 1] ?? lines[lines.length - 1] ?? 'it said nothing').trim();
}
