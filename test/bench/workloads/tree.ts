import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fasterThanBindfs, type Goal, treeNearPlain } from '../goals.ts';
import { run } from '../program.ts';
import { type Archive, NEEDLE } from '../tree/archive.ts';
import type { Place, Row, Step, Suite, Temperature } from './workload.ts';

const UNPACK = 'tar x';
const COPY = 'cp -r';
const ADD = 'git add -A';

/** Programs over a tree like an installed `node_modules`. */
export const treeSuite: Suite = {
  name: 'tree',
  opponents: ['bindfs'],
  steps: [
    change(UNPACK, [], [fasterThanBindfs, treeNearPlain], unpack, (place) => checkTree(place, 'tree')),
    read('find -ls, restarted', 'restarted', find),
    read('find -ls, cold', 'cold', find),
    read('find -ls, warm', 'as it is', find),
    read('grep -r, restarted', 'restarted', grep),
    read('grep -r, cold', 'cold', grep),
    read('grep -r, warm', 'as it is', grep),
    change(COPY, [UNPACK], [fasterThanBindfs], copy, (place) => checkTree(place, 'copy')),
    change('rm -rf', [COPY], [fasterThanBindfs, treeNearPlain], remove, checkRemoved),
    change(ADD, [UNPACK], [fasterThanBindfs], gitAdd, checkAdded),
    {
      rows: [{ name: 'git status', unit: 's', goals: [fasterThanBindfs] }],
      needs: [UNPACK, ADD],
      temperature: 'as it is',
      async measure(place) {
        const { stdout, seconds } = await git(place, ['status', '--porcelain', '--untracked-files=all']);
        const archive = await place.archive();
        expectCount('files in git status', countLines(stdout), archive.files + archive.symlinks);
        return [seconds];
      },
    },
  ],
};

type Action = (place: Place) => Promise<number>;

/** A step that reads the tree; what it reads is checked by the action. */
function read(name: string, temperature: Temperature, action: Action): Step {
  return {
    rows: [{ name, unit: 's', goals: [fasterThanBindfs] }],
    needs: [UNPACK],
    temperature,
    prepare: async (place) => {
      if (temperature === 'as it is') await action(place);
    },
    measure: async (place) => [await action(place)],
  };
}

/** A step that changes the tree, timed until its program ends and until everything is on the disk. */
function change(
  name: string,
  needs: readonly string[],
  goals: readonly Goal[],
  action: Action,
  check: (place: Place) => Promise<void>,
): Step {
  const rows: Row[] = [
    { name, unit: 's', goals },
    { name: `${name}, then sync`, unit: 's', goals },
  ];
  return {
    rows,
    needs,
    temperature: 'as it is',
    async prepare(place) {
      // Whoever reads the archive must not wait for the disk.
      if (name === UNPACK) await run('cat', [(await place.archive()).path], { signal: place.signal, discard: true });
    },
    async measure(place) {
      const seconds = await action(place);
      const started = performance.now();
      await place.target.barrier(place.directory);
      const syncSeconds = (performance.now() - started) / 1000;
      await check(place);
      return [seconds, seconds + syncSeconds];
    },
  };
}

async function unpack(place: Place): Promise<number> {
  const tree = join(place.directory, 'tree');
  await mkdir(tree);
  const { path } = await place.archive();
  return (await run('tar', ['-xf', path, '-C', tree], { signal: place.signal })).seconds;
}

async function find(place: Place): Promise<number> {
  const tree = join(place.directory, 'tree');
  const { stdout, seconds } = await run('find', [tree, '-ls'], { signal: place.signal });
  expectCount('entries found', countLines(stdout), entriesOf(await place.archive()));
  return seconds;
}

async function grep(place: Place): Promise<number> {
  const tree = join(place.directory, 'tree');
  const { stdout, seconds } = await run('grep', ['-rF', NEEDLE, tree], { signal: place.signal });
  expectCount('lines found by grep', countLines(stdout), (await place.archive()).needles);
  return seconds;
}

async function copy({ directory, signal }: Place): Promise<number> {
  return (await run('cp', ['-r', join(directory, 'tree'), join(directory, 'copy')], { signal })).seconds;
}

async function remove({ directory, signal }: Place): Promise<number> {
  return (await run('rm', ['-rf', join(directory, 'copy')], { signal })).seconds;
}

async function gitAdd(place: Place): Promise<number> {
  await git(place, ['init', '--quiet']);
  return (await git(place, ['add', '-A'])).seconds;
}

function git({ directory, signal }: Place, args: readonly string[]): ReturnType<typeof run> {
  const environment = {
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'gc.auto',
    GIT_CONFIG_VALUE_0: '0',
  };
  return run('git', args, { directory: join(directory, 'tree'), environment, signal });
}

/** Every entry is there, and the files' sizes add up. */
async function checkTree(place: Place, name: string): Promise<void> {
  const format = ['-printf', '%y %s\\n'];
  const { stdout } = await run('find', [join(place.directory, name), ...format], { signal: place.signal });
  const archive = await place.archive();
  expectCount(`entries in ${name}`, countLines(stdout), entriesOf(archive));
  const sizes = stdout.split('\n').filter((line) => line.startsWith('f '));
  const bytes = sizes.reduce((sum, line) => sum + Number(line.slice(2)), 0);
  expectCount(`bytes in ${name}`, bytes, archive.bytes);
}

async function checkRemoved({ directory, signal }: Place): Promise<void> {
  const { stdout } = await run('ls', ['-A', directory], { signal });
  if (stdout !== 'tree') throw new Error(`after rm -rf there is ${JSON.stringify(stdout)}`);
}

async function checkAdded(place: Place): Promise<void> {
  const { stdout } = await git(place, ['ls-files']);
  const { files, symlinks } = await place.archive();
  expectCount('files added to git', countLines(stdout), files + symlinks);
}

/** The root counts too. */
function entriesOf({ files, symlinks, directories }: Archive): number {
  return files + symlinks + directories + 1;
}

function countLines(text: string): number {
  return text === '' ? 0 : text.split('\n').length;
}

function expectCount(what: string, found: number, expected: number): void {
  if (found !== expected) throw new Error(`${what}: ${found} instead of ${expected}`);
}
