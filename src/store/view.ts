/**
 * The layers that make up a tree: a layer and its ancestors, as PostgreSQL's int8multirange of their ids.
 * A row counts when its layer is among them and no newer row of the same key is.
 */
export type View = string;

/** The view of a layer without ancestors. */
export function viewOf(layer: number): View {
  return `{[${layer},${layer}]}`;
}
