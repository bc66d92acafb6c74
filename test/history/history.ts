import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execa, execaSync } from 'execa';
import { type Entries, type Entry, Repository, type Signals } from './git.ts';

/** Versions of a tree that people made, each a commit of a repository that holds nothing else. */
export interface History {
  readonly name: string;
  readonly repository: Repository;
  /** Oldest first. */
  readonly commits: readonly string[];
}

export interface Wanted extends Signals {
  /** An empty directory for the repository, which whoever calls removes. */
  readonly folder: string;
  /** So many are taken, evenly spaced, where there are more. */
  readonly versions: number;
  /** Folders of the tree that are taken; all when not given. */
  readonly below?: readonly string[];
}

const PROJECT = resolve(import.meta.dirname, '../..');

/** At most `count` of them, evenly spaced, the first and the last included. */
function evenly<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all];
  const places = Array.from({ length: count }, (_, n) => Math.round((n * (all.length - 1)) / (count - 1)));
  return all.filter((_, index) => places.includes(index));
}

/**
 * The project's own commits. Where there are fewer than wanted, what a commit changed comes file by file, or in groups
 * of files, so that there are enough; fewer than wanted only when there aren't as many changes.
 */
export async function projectHistory(wanted: Wanted): Promise<History> {
  const repository = await Repository.create(wanted.folder, wanted);
  await repository.git(['fetch', '--quiet', '--update-shallow', PROJECT, 'HEAD']);
  const log = await repository.git(['log', '--first-parent', '--reverse', '--format=%H', 'FETCH_HEAD']);
  rmSync(join(repository.folder, 'FETCH_HEAD'));
  const trees: Entries[] = [];
  for (const commit of evenly(log.split('\n').filter(Boolean), wanted.versions))
    trees.push(only(await repository.entriesOf(commit), wanted.below));
  const commits: string[] = [];
  for (const step of stepsBetween(trees, wanted.versions)) {
    await repository.git(['update-index', '-z', '--index-info'], { input: step.map(indexLine).join('') });
    commits.push(await repository.commit(commits.at(-1)));
  }
  return await kept({ name: 'the project’s own commits', repository, commits });
}

/** Why there can't be so many versions of the project, for a test to be skipped by name; undefined when there can. */
export function missingHistory({ versions, below = [] }: Pick<Wanted, 'versions' | 'below'>): string | undefined {
  const filter = ['--first-parent', '--raw', '--diff-filter=M', '--format=', 'HEAD', '--', ...below];
  const { stdout, failed } = execaSync('git', ['-C', PROJECT, 'log', ...filter], { reject: false });
  if (failed) return 'git, or a clone of the project';
  const changes = stdout.split('\n').filter(Boolean).length;
  return changes < versions
    ? `history: this clone has ${changes} changes of files, and ${versions} are wanted`
    : undefined;
}

/** What is in a directory: each directory in it is a version, and each tar archive; in the order of their names. */
export async function directoryHistory(path: string, wanted: Wanted): Promise<History> {
  const repository = await Repository.create(wanted.folder, wanted);
  const names = readdirSync(path).filter(
    (name) => statSync(join(path, name)).isDirectory() || /\.(tar|tgz)/.test(name),
  );
  names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const commits: string[] = [];
  for (const name of evenly(names, wanted.versions)) {
    const source = join(path, name);
    const unpacked = statSync(source).isDirectory() ? undefined : join(wanted.folder, 'unpacked');
    if (unpacked !== undefined) {
      mkdirSync(unpacked);
      await execa('tar', ['-xf', source, '--no-same-owner', '-C', unpacked]);
    }
    await repository.git(['add', '--all', '--force', '.'], { tree: unpacked ?? source });
    commits.push(await repository.commit(commits.at(-1)));
    if (unpacked !== undefined) rmSync(unpacked, { recursive: true });
  }
  return await kept({ name: path, repository, commits });
}

/** Has a branch hold the newest, so that the others are kept with it. */
async function kept(history: History): Promise<History> {
  await history.repository.git(['update-ref', 'refs/heads/history', history.commits.at(-1) ?? '']);
  return history;
}

function only(entries: Entries, below: readonly string[] | undefined): Entries {
  if (below === undefined) return entries;
  return new Map([...entries].filter(([path]) => below.some((folder) => path.startsWith(`${folder}/`))));
}

/** A path and what it is afterwards; undefined for nothing. */
export type Change = readonly [path: string, entry: Entry | undefined];

/** What makes one version of another: first what goes, then what comes. */
export function changesBetween(before: Entries, after: Entries): Change[] {
  const gone = [...before.keys()].filter((path) => !after.has(path));
  const changed = [...after].filter(([path, { mode, id }]) => {
    const old = before.get(path);
    return old?.mode !== mode || old.id !== id;
  });
  return [...gone.map((path): Change => [path, undefined]), ...changed];
}

/** What each version changes: whole trees where they are enough, and otherwise in parts as large as may be. */
function stepsBetween(trees: readonly Entries[], least: number): Change[][] {
  const empty: Entries = new Map();
  const whole = trees.map((tree, n) => changesBetween(trees[n - 1] ?? empty, tree)).filter(({ length }) => length > 0);
  const [first = [], ...rest] = whole;
  const inParts = (size: number): Change[][] => [
    first,
    ...rest.flatMap((changes) =>
      Array.from({ length: Math.ceil(changes.length / size) }, (_, part) =>
        changes.slice(part * size, (part + 1) * size),
      ),
    ),
  ];
  let size = Math.max(1, ...rest.map(({ length }) => length));
  while (size > 1 && inParts(size).length < least) size--;
  return inParts(size);
}

/** A line for `git update-index --index-info`. */
function indexLine([path, entry]: Change): string {
  return entry === undefined ? `0 ${'0'.repeat(40)}\t${path}\0` : `${entry.mode} ${entry.id}\t${path}\0`;
}
