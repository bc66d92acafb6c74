import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';

/** A file or symbolic link of a version: its mode in octal, and the id of its bytes. */
export interface Entry {
  readonly mode: string;
  readonly id: string;
}

/** Entries by their paths. */
export type Entries = ReadonlyMap<string, Entry>;

export interface Signals {
  readonly signal?: AbortSignal | undefined;
}

const CONFIGURATION = `[user]
  name = history
  email = history@localhost
[safe]
  directory = *
[core]
  excludesFile =
[gc]
  auto = 0
`;

/** A bare repository of its own, where no settings of the machine or the user count. */
export class Repository {
  readonly folder: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #signals: Signals;

  private constructor(folder: string, environment: Readonly<Record<string, string>>, signals: Signals) {
    this.folder = folder;
    this.#environment = environment;
    this.#signals = signals;
  }

  /** Makes an empty one below a directory. */
  static async create(directory: string, signals: Signals = {}): Promise<Repository> {
    const folder = join(directory, 'history.git');
    const configuration = join(directory, 'gitconfig');
    writeFileSync(configuration, CONFIGURATION);
    const environment = { GIT_CONFIG_GLOBAL: configuration, GIT_CONFIG_NOSYSTEM: '1', GIT_DIR: folder, LC_ALL: 'C' };
    const repository = new Repository(folder, environment, signals);
    await repository.git(['init', '--quiet', '--bare', folder]);
    return repository;
  }

  /** What git prints. @throws {Error} with what it says when it fails. */
  async git(args: readonly string[], more: { input?: string; tree?: string } = {}): Promise<string> {
    const { input = '', tree } = more;
    const { stdout } = await execa('git', args, {
      cwd: tree ?? '/',
      env: { ...this.#environment, ...(tree === undefined ? {} : { GIT_WORK_TREE: tree }) },
      input,
      ...(this.#signals.signal && { cancelSignal: this.#signals.signal }),
      maxBuffer: 1 << 28,
    });
    return stdout;
  }

  /** The files and symbolic links of a commit. */
  async entriesOf(commit: string): Promise<Entries> {
    const listed = await this.git(['ls-tree', '-r', '-z', commit]);
    const found = [...listed.matchAll(/(\d+) blob (\w+)\t([^\0]+)\0?/g)];
    return new Map(found.map(([, mode = '', id = '', path = '']) => [path, { mode, id }]));
  }

  /** Makes a directory what a commit holds, by changing what the last one that was put there has differently. */
  async checkOut(commit: string, tree: string): Promise<void> {
    await this.git(['read-tree', '-u', '--reset', commit], { tree });
  }

  /** Commits what the index holds. */
  async commit(parent: string | undefined): Promise<string> {
    const tree = await this.git(['write-tree']);
    return await this.git(['commit-tree', ...(parent === undefined ? [] : ['-p', parent]), '-m', 'version', tree]);
  }
}
