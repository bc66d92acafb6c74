import type { LayerId } from '../brand.ts';
import type { Place } from '../vfs/store.ts';
import type { LayerRecord } from './port.ts';

/** The layers of a tenant by id. */
export type LayerMap = ReadonlyMap<LayerId, LayerRecord>;

/** A layer and those below it, the top one first. @throws {Error} when one of them isn't there. */
export function chainOf(layers: LayerMap, top: LayerId): LayerRecord[] {
  const chain: LayerRecord[] = [];
  for (let at: LayerId | undefined = top; at !== undefined; ) {
    const layer = layers.get(at);
    if (layer === undefined) throw new Error(`layer ${at} is missing`);
    chain.push(layer);
    at = layer.parent;
  }
  return chain;
}

/** Where the tree of a layer has its rows. */
export function placeOf(layers: LayerMap, top: LayerId): Place {
  const chain = chainOf(layers, top).reverse();
  const ranges: [number, number][] = [];
  for (const { id } of chain) {
    const last = ranges[ranges.length - 1];
    if (last !== undefined && last[1] === id - 1) last[1] = id;
    else ranges.push([id, id]);
  }
  const own = layers.get(top);
  return { layer: top, ranges, firstIno: own?.firstIno ?? 0, firstCookie: own?.firstCookie ?? 0 };
}

/** The layers that belong to one of the two trees only. */
export function between(layers: LayerMap, a: LayerId, b: LayerId): LayerId[] {
  const ofA = new Set(chainOf(layers, a).map(({ id }) => id));
  const ofB = new Set(chainOf(layers, b).map(({ id }) => id));
  return [...[...ofA].filter((id) => !ofB.has(id)), ...[...ofB].filter((id) => !ofA.has(id))];
}

export function childrenOf(layers: LayerMap, parent: LayerId): LayerRecord[] {
  return [...layers.values()].filter((layer) => layer.parent === parent);
}

/** A layer and all that builds on it. */
export function subtreeOf(layers: LayerMap, top: LayerId): LayerId[] {
  return [top, ...childrenOf(layers, top).flatMap(({ id }) => subtreeOf(layers, id))];
}

/** What `layers/tree` shows, one line a layer. */
export function drawTree(layers: LayerMap, describe: (layer: LayerRecord) => string): string {
  const lines: string[] = [];
  const walk = (layer: LayerRecord, lead: string, branch: string) => {
    lines.push(`${lead}${branch}${describe(layer)}`);
    const children = childrenOf(layers, layer.id);
    // A history without branches stays on one line of descent.
    const below = branch === '' ? lead : lead + (branch === '├─ ' ? '│  ' : '   ');
    for (const [index, child] of children.entries()) {
      const isLast = index === children.length - 1;
      walk(child, below, children.length === 1 ? '' : isLast ? '└─ ' : '├─ ');
    }
  };
  for (const layer of layers.values()) if (layer.parent === undefined) walk(layer, '', '');
  return `${lines.join('\n')}\n`;
}
