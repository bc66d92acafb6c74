import type { Diffs, LayerPair } from '../layers/diff.ts';
import type { Layers } from '../layers/layers.ts';
import type { ByteString } from '../vfs/store.ts';
import type { ControlChild, ControlDirectory, ControlRow } from './files.ts';
import { bytesOf, textOf } from './names.ts';

/** What the files of `diff/` tell of. */
export interface DiffFilesParts {
  readonly layers: Layers;
  readonly diffs: Diffs;
}

/** The row of `diff/`. */
export function diffFiles(parts: DiffFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'diff',
      about: '<a>..<b>/changes, patch, files/<path>: what differs between two layers, "working" and "current" too',
      node: { directory: pairDirectory(parts) },
    },
  ];
}

const BETWEEN = '..';

/** A name may end in a dot and doesn't begin with one. */
function pairOf(name: string): LayerPair | undefined {
  const text = textOf(name);
  const at = text.lastIndexOf(BETWEEN);
  return at < 0 ? undefined : { from: text.slice(0, at), to: text.slice(at + BETWEEN.length) };
}

/** Any two layers can be asked for; each with the one before it is listed. */
function pairDirectory({ layers, diffs }: DiffFilesParts): ControlDirectory {
  return {
    list: () =>
      [...layers.all.values()].flatMap(({ id, name, parent }) => {
        const from = parent === undefined ? undefined : layers.all.get(parent)?.name;
        const to = id === layers.working.id ? 'working' : name;
        return from === undefined || to === undefined
          ? []
          : [{ name: bytesOf(`${to === 'working' ? 'current' : from}${BETWEEN}${to}`), directory: true }];
      }),
    find: (name) => {
      const pair = pairOf(name);
      return pair !== undefined && diffs.has(pair) ? { directory: diffDirectory(diffs, pair) } : undefined;
    },
  };
}

function diffDirectory(diffs: Diffs, pair: LayerPair): ControlDirectory {
  const children = new Map<string, ControlChild>([
    ['changes', { file: { stream: (signal) => diffs.changes(pair, signal) } }],
    ['patch', { file: { stream: (signal) => diffs.patch(pair, signal) } }],
    ['files', { directory: filesDirectory(diffs, pair, '') }],
  ]);
  return {
    list: () => [...children].map(([name, child]) => ({ name, directory: 'directory' in child })),
    find: (name) => children.get(name),
  };
}

/** The directories that files which differ are in; `path` is this one's. */
function filesDirectory(diffs: Diffs, pair: LayerPair, path: ByteString): ControlDirectory {
  return {
    list: async () => (await diffs.files(pair)).list(path),
    find: async (name) => {
      const found = (await diffs.files(pair)).find(path, name);
      if (found === undefined) return undefined;
      const below = path === '' ? name : `${path}/${name}`;
      if (found.directory) return { directory: filesDirectory(diffs, pair, below) };
      return { file: { stream: (signal) => diffs.filePatch(pair, below, signal) } };
    },
  };
}
