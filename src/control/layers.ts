import type { LayerId } from '../brand.ts';
import { FsError } from '../errno.ts';
import { parseCommand } from '../layers/command.ts';
import type { Layers } from '../layers/layers.ts';
import type { LayerRecord } from '../layers/port.ts';
import { drawTree } from '../layers/tree.ts';
import { type ControlDirectory, type ControlRow, jsonLines, jsonText, type Outcome } from './files.ts';
import { bytesOf, textOf } from './names.ts';

/** What the files of `layers/` act on. */
export interface LayerFilesParts {
  readonly layers: Layers;
  /** Totals of the tree as it is now. */
  readonly totals: () => { readonly inodes: number; readonly bytes: number };
}

/** The rows of `layers/` and `snapshots/`. */
export function layerFiles({ layers, totals }: LayerFilesParts): readonly ControlRow[] {
  const shown = (layer: LayerRecord) => describe(layer, layers, totals());
  return [
    {
      path: 'layers/current',
      about: 'the layer that the tree shows, and the working layer',
      node: {
        file: {
          read: async () => {
            const working = shown(layers.working);
            const clean = await layers.isClean();
            return jsonText({ ...(clean ? shown(layers.base) : working), modified: !clean, working });
          },
        },
      },
    },
    {
      path: 'layers/list',
      about: 'all layers, oldest first',
      node: { file: { read: () => jsonLines([...layers.all.values()].map(shown)) } },
    },
    {
      path: 'layers/tree',
      about: 'the same as a drawing',
      node: { file: { read: () => drawTree(layers.all, (layer) => treeLine(layer, layers)) } },
    },
    {
      path: 'layers/new',
      about: 'write a name: a checkpoint of the tree as it is',
      node: { file: { command: (text, request) => checkpoint(layers, text, request) } },
    },
    {
      path: 'layers/switch',
      about: 'write a name, id or tag: the tree becomes what it was at that layer',
      node: { file: { command: (text, request) => switchTo(layers, text, request) } },
    },
    {
      path: 'layers/drop',
      about: 'write a name, id or tag: the layer goes',
      node: { file: { command: (text, request) => drop(layers, text, request) } },
    },
    {
      path: 'layers/squash',
      about: 'write {"from","to","name"}: a run of layers becomes one',
      node: { file: { command: (text, request) => squash(layers, text, request) } },
    },
    {
      path: 'layers/tags',
      about: 'a file for each tag: read or write its layer, or remove it',
      node: { directory: tagDirectory(layers) },
    },
    {
      path: 'snapshots',
      about: 'the whole tree as of each layer, read-only',
      node: { directory: snapshotDirectory(layers) },
    },
  ];
}

function describe(layer: LayerRecord, layers: Layers, totals: { inodes: number; bytes: number }): Outcome {
  const isWorking = layer.id === layers.working.id;
  return {
    id: layer.id,
    name: layer.name ?? 'working',
    parent: layer.parent === undefined ? null : (layers.all.get(layer.parent)?.name ?? null),
    ...(layer.description === '' ? {} : { description: layer.description }),
    created_at: layer.createdAt.toISOString(),
    frozen: !isWorking,
    ...(layer.frozenAt === undefined ? {} : { frozen_at: layer.frozenAt.toISOString() }),
    inodes: isWorking ? totals.inodes : layer.usedInodes,
    bytes: isWorking ? totals.bytes : layer.usedBytes,
    tags: tagsOf(layer.id, layers),
  };
}

function tagsOf(id: LayerId, layers: Layers): string[] {
  return [...layers.tags].filter(([, layer]) => layer === id).map(([name]) => name);
}

function treeLine(layer: LayerRecord, layers: Layers): string {
  const tags = tagsOf(layer.id, layers);
  const marks = [
    ...(tags.length > 0 ? [`(${tags.join(', ')})`] : []),
    ...(layer.id === layers.base.id ? ['[current]'] : []),
  ];
  return [layer.name ?? 'working', ...marks].join(' ');
}

const NEW_HINT = 'write a name, or {"name":"…","description":"…","confirm":true} or {…,"branch":true}';

async function checkpoint(layers: Layers, text: string, request: number): Promise<Outcome> {
  const shape = { name: 'string', description: 'string', confirm: 'boolean', branch: 'boolean' } as const;
  const { name, description, confirm, branch } = parseCommand(text, 'name', shape, NEW_HINT);
  if (confirm && branch)
    throw new FsError('EINVAL', '"confirm" discards the newer layers and "branch" keeps them', { hint: NEW_HINT });
  const wanted = {
    name: name === '' ? undefined : name,
    description: description ?? '',
    newer: confirm ? 'discard' : branch ? 'branch' : 'refuse',
  } as const;
  const layer = await layers.checkpoint(wanted, request);
  return { layer: layer.name, id: layer.id };
}

async function switchTo(layers: Layers, text: string, request: number): Promise<Outcome> {
  const hint = 'write the name, id or tag of a layer; layers/list has them all';
  const { layer } = parseCommand(text, 'layer', { layer: 'string' } as const, hint);
  if (layer === undefined || layer === '') throw new FsError('EINVAL', 'no layer was named', { hint });
  const result = await layers.switchTo(layer, request);
  const sealed = result.sealed === undefined ? {} : { sealed: result.sealed };
  return { layer: result.name, id: result.id, ...sealed };
}

async function drop(layers: Layers, text: string, request: number): Promise<Outcome> {
  const hint = 'write the name, id or tag of a layer, or {"layer":"…","force":true}';
  const { layer, force } = parseCommand(text, 'layer', { layer: 'string', force: 'boolean' } as const, hint);
  if (layer === undefined || layer === '') throw new FsError('EINVAL', 'no layer was named', { hint });
  const dropped = await layers.drop(layer, force ?? false, request);
  return { dropped: dropped.name, id: dropped.id };
}

async function squash(layers: Layers, text: string, request: number): Promise<Outcome> {
  const hint = 'write {"from":"…","to":"…","name":"…"}';
  const shape = { from: 'string', to: 'string', name: 'string' } as const;
  const { from, to, name } = parseCommand(text, 'from', shape, hint);
  if (from === undefined || to === undefined || name === undefined)
    throw new FsError('EINVAL', 'a squash needs "from", "to" and "name"', { hint });
  const layer = await layers.squash(from, to, name, request);
  return { layer: layer.name, id: layer.id };
}

function tagDirectory(layers: Layers): ControlDirectory {
  const file = (name: string) => ({
    read: () => {
      const layer = layers.tags.get(name);
      if (layer === undefined) throw new FsError('ENOENT', `there is no tag '${name}'`);
      return `${layers.all.get(layer)?.name ?? layer}\n`;
    },
    command: async (text: string, request: number) => {
      const layer = await layers.tag(name, text.trim(), request);
      return { tag: name, layer: layer.name };
    },
  });
  return {
    list: () => [...layers.tags.keys()].map((name) => ({ name: bytesOf(name), directory: false })),
    find: (name) => (layers.tags.has(textOf(name)) ? { file: file(textOf(name)) } : undefined),
    create: (name) => file(textOf(name)),
    remove: (name, request) => layers.untag(textOf(name), request),
  };
}

function snapshotDirectory(layers: Layers): ControlDirectory {
  return {
    list: () =>
      [...layers.all.values()].flatMap(({ name }) =>
        name === undefined ? [] : [{ name: bytesOf(name), directory: true }],
      ),
    find: (name) => {
      try {
        return { snapshot: layers.find(textOf(name)).id };
      } catch (problem) {
        if (problem instanceof FsError && problem.code === 'ENOENT') return undefined;
        throw problem;
      }
    },
  };
}
