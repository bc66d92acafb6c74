import type { Place } from '../vfs/store.ts';

/**
 * The layers that make up a tree, as PostgreSQL's int8multirange of their ids.
 * A row counts when its layer is among them and no newer row of the same key is.
 */
export type View = string;

export function viewOf({ ranges }: Pick<Place, 'ranges'>): View {
  return `{${ranges.map(([from, to]) => `[${from},${to}]`).join()}}`;
}

/** The layers below the place's own. */
export function viewBelow({ ranges, layer }: Place): View {
  const below = ranges.map(([from, to]) => [from, to === layer ? to - 1 : to] as const);
  return viewOf({ ranges: below.filter(([from, to]) => from <= to) });
}
