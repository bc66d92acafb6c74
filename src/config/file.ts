import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { watch } from 'chokidar';
import { parse, TomlError } from 'smol-toml';
import { ConfigError, nearest, quoted } from './problem.ts';
import { ALL_SETTINGS } from './settings.ts';

/** Values by `section.key`, or by the name of a list of tables, as TOML has them; every key is one of ours. */
export type FileValues = ReadonlyMap<string, unknown>;

/** How long a file must have been left alone before it's read. */
const SETTLE_MS = 100;

/** @throws {ConfigError} when the file can't be read, is no TOML, or names a section or key that isn't ours. */
export function readConfigFile(file: string): FileValues {
  const values = new Map<string, unknown>();
  for (const [section, content] of Object.entries(parseFile(file))) {
    if (ALL_SETTINGS.some(({ toml }) => toml === section)) {
      values.set(section, content);
      continue;
    }
    refuseUnknownSection(file, section);
    if (!isTable(content))
      throw new ConfigError(`${file}: ${section} is a section: write [${section}] on a line of its own`);
    for (const [key, value] of Object.entries(content)) {
      refuseUnknownKey(file, section, key);
      values.set(`${section}.${key}`, value);
    }
  }
  return values;
}

function parseFile(file: string): object {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (problem) {
    const code = problem instanceof Error && 'code' in problem ? String(problem.code) : String(problem);
    throw new ConfigError(`TARBOX_CONFIG: cannot read ${quoted(file)} (${code})`);
  }
  try {
    return parse(text);
  } catch (problem) {
    if (!(problem instanceof TomlError)) throw problem;
    // What follows the first line quotes the file, secrets included; the error itself does too, so it's no cause.
    const [what = ''] = problem.message.replace(/^Invalid TOML document: /, '').split('\n');
    throw new ConfigError(`${file}: line ${problem.line}, column ${problem.column}: ${what}`);
  }
}

function isTable(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

const tomlNames = (): string[][] => ALL_SETTINGS.flatMap(({ toml }) => (toml === undefined ? [] : [toml.split('.')]));

function refuseUnknownSection(file: string, section: string): void {
  const known = [...new Set(tomlNames().flatMap(([name]) => name ?? []))];
  if (known.includes(section)) return;
  throw new ConfigError(`${file}: ${quoted(section)} is not a section; did you mean [${nearest(section, known)}]?`);
}

function refuseUnknownKey(file: string, section: string, key: string): void {
  const known = tomlNames().flatMap(([of, name]) => (of === section && name !== undefined ? [name] : []));
  if (known.includes(key)) return;
  throw new ConfigError(`${file}: [${section}] has no setting ${quoted(key)}; did you mean ${nearest(key, known)}?`);
}

/**
 * Calls `onChange` some time after the file was changed, replaced, or pointed elsewhere (Kubernetes replaces the link
 * `..data` beside it), and after it came back. What changed is for the caller to find out: it may be nothing.
 */
export function watchConfigFile(file: string, onChange: () => void): { close(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  const directory = dirname(file);
  const watched = new Set([file, realPath(file), directory]);
  const watcher = watch([...watched], {
    ignoreInitial: true,
    followSymlinks: false,
    depth: 0,
    ignored: (path) => !watched.has(path) && basename(path) !== '..data',
  });
  watcher.on('all', () => {
    clearTimeout(timer);
    timer = setTimeout(onChange, SETTLE_MS);
  });
  watcher.on('error', () => {}); // the file stays as it was read
  return {
    async close() {
      clearTimeout(timer);
      await watcher.close();
      clearTimeout(timer);
    },
  };
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}
