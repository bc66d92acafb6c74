import { observe } from '../observe.ts';
import type { Program } from './program.ts';

/** An entry of what was seen, as JSON takes it: path, looks, mtime in nanoseconds. */
export type SeenEntry = readonly [path: string, text: string, mtimeNs: string];

/** Looks at a tree once. */
export const look: Program<{ readonly root: string }, SeenEntry[]> = {
  async run({ root }, { system }) {
    return [...observe(system, root)].map(([path, { text, mtimeNs }]) => [path, text, `${mtimeNs}`]);
  },
};
