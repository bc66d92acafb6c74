import type { Histories, Names } from '../layers/history.ts';
import type { ControlDirectory, ControlRow } from './files.ts';

/** What the files of `history/` tell of. */
export interface HistoryFilesParts {
  readonly histories: Histories;
}

/** The row of `history/`. */
export function historyFiles({ histories }: HistoryFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'history',
      about: '<path>: each version of that file, newest first',
      node: { directory: historyDirectory(histories, []) },
    },
  ];
}

/** What there is, and what there has been, in a directory of the workspace. */
function historyDirectory(histories: Histories, path: Names): ControlDirectory {
  return {
    list: () => histories.list(path),
    find: async (name) => {
      const below = [...path, name];
      const found = await histories.find(below);
      if (found === undefined) return undefined;
      if (found.directory) return { directory: historyDirectory(histories, below) };
      return { file: { stream: (signal) => histories.versions(below, signal) } };
    },
  };
}
