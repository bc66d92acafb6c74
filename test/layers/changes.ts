import type { PlainFile, PlainTree } from './plain-tree.ts';

/** A line of `diff/…/changes`. */
export interface ChangeLine {
  readonly path: string;
  readonly path_base64?: string;
  readonly change: 'added' | 'modified' | 'deleted' | 'renamed' | 'metadata';
  readonly type: string;
  readonly from?: string;
  readonly from_base64?: string;
  readonly old_size?: number;
  readonly size?: number;
  readonly lines_added?: number;
  readonly lines_deleted?: number;
  readonly binary?: boolean;
  readonly mode?: string;
  readonly owner?: string;
}

/** Inode numbers of snapshots differ by multiples of this. */
const INO_SPACE = 2 ** 40;

export function parseChanges(text: string): ChangeLine[] {
  return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
}

function bytesOf(text: string, base64: string | undefined): string {
  return (base64 === undefined ? Buffer.from(text) : Buffer.from(base64, 'base64')).toString('latin1');
}

export function pathOf({ path, path_base64 }: ChangeLine): string {
  return bytesOf(path, path_base64);
}

function fromOf({ from = '', from_base64 }: ChangeLine): string {
  return bytesOf(from, from_base64);
}

/** Everything that two trees, compared file by file, say against a list of changes. Empty when nothing does. */
export function disagreements(before: PlainTree, after: PlainTree, lines: readonly ChangeLine[]): string[] {
  const wrong: string[] = [];
  const check = (what: string, expected: Iterable<string>, found: Iterable<string>) => {
    const [one, other] = [[...expected].sort(), [...found].sort()];
    if (JSON.stringify(one) !== JSON.stringify(other))
      wrong.push(`${what}: expected ${JSON.stringify(one)}, found ${JSON.stringify(other)}`);
  };
  const of = (...kinds: ChangeLine['change'][]) => lines.filter(({ change }) => kinds.includes(change));
  const stays = [...before].filter(([path, { type }]) => after.get(path)?.type === type).map(([path]) => path);
  const differs = (path: string, key: (file: PlainFile) => unknown) => {
    const [old, now] = [before.get(path), after.get(path)];
    return old !== undefined && now !== undefined && key(old) !== key(now);
  };
  const isModified = (path: string) => differs(path, ({ content }) => content);
  const isChanged = (path: string) => differs(path, ({ mode, owner }) => `${mode} ${owner}`);
  check('gone', missingFrom(before, stays), [...of('deleted').map(pathOf), ...of('renamed').map(fromOf)]);
  check('new', missingFrom(after, stays), of('added', 'renamed').map(pathOf));
  check('modified', stays.filter(isModified), of('modified').map(pathOf));
  check(
    'metadata',
    stays.filter((path) => !isModified(path) && isChanged(path)),
    of('metadata').map(pathOf),
  );
  for (const line of lines) {
    const old = before.get(line.change === 'renamed' ? fromOf(line) : pathOf(line));
    const problem = lineProblem(
      line,
      line.change === 'added' ? undefined : old,
      line.change === 'deleted' ? undefined : after.get(pathOf(line)),
    );
    if (problem !== undefined) wrong.push(`${JSON.stringify(line)}: ${problem}`);
  }
  return wrong;
}

function missingFrom(tree: PlainTree, paths: readonly string[]): string[] {
  const known = new Set(paths);
  return [...tree.keys()].filter((path) => !known.has(path));
}

function lineProblem(line: ChangeLine, old: PlainFile | undefined, now: PlainFile | undefined): string | undefined {
  const one = now ?? old;
  if (one === undefined) return 'there is no such file';
  const isOne = old !== undefined && now !== undefined;
  if (line.change === 'renamed') {
    if (!isOne || old.type !== now.type) return 'it is not the same kind of file';
    if (old.ino % INO_SPACE !== now.ino % INO_SPACE && (old.content !== now.content || old.size === 0))
      return 'it is neither the same file nor the same content';
  }
  if (isOne && (line.mode !== undefined) !== (old.mode !== now.mode)) return 'its mode is told wrongly';
  if (one.type !== 'file') return undefined;
  if (line.old_size !== old?.size || line.size !== now?.size) return 'its size is another one';
  if (line.binary === true) return line.lines_added === undefined ? undefined : 'it has lines though it is binary';
  const { lines_added: added = -1, lines_deleted: deleted = -1 } = line;
  if (added < 0 || deleted < 0) return 'it has no lines';
  return added - deleted === (now?.lines ?? 0) - (old?.lines ?? 0) ? undefined : 'its lines do not add up';
}

/** Deleted and added files, of the same content, that could have been told of as renamed. */
export function missedRenames(before: PlainTree, after: PlainTree, lines: readonly ChangeLine[]): string[] {
  const turned = [...before].flatMap(([path, { type }]) => {
    const now = after.get(path);
    return now !== undefined && (now.type === 'directory') !== (type === 'directory') ? [path] : [];
  });
  const isTurned = (path: string) => turned.some((above) => `${path}/`.startsWith(`${above}/`));
  const left = (change: string, tree: PlainTree) =>
    lines
      .filter((line) => line.change === change && line.type === 'file' && !isTurned(pathOf(line)))
      .map((line) => ({ path: pathOf(line), file: tree.get(pathOf(line)) }))
      .filter(({ file }) => (file?.size ?? 0) > 0);
  const gone = left('deleted', before);
  return left('added', after).flatMap(({ path, file }) => {
    const source = gone.find((one) => one.file?.content === file?.content);
    return source === undefined ? [] : [`${JSON.stringify(source.path)} has become ${JSON.stringify(path)}`];
  });
}
