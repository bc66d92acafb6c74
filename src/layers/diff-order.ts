import type { ByteString, InodeImage } from '../vfs/store.ts';
import { isDirectoryMode } from './kinds.ts';

type Paths = ReadonlyMap<ByteString, InodeImage>;

interface Trees {
  readonly before: Paths;
  readonly after: Paths;
}

/** Paths that are a directory in one of two trees and something else in the other. */
function turnedPaths({ before, after }: Trees): Set<ByteString> {
  const turned = new Set<ByteString>();
  for (const [path, { mode }] of before) {
    const other = after.get(path);
    if (other !== undefined && isDirectoryMode(mode) !== isDirectoryMode(other.mode)) turned.add(path);
  }
  return turned;
}

/** Of these paths, the first one on the way to a path, itself included. */
function firstOnTheWay(paths: ReadonlySet<ByteString>, path: ByteString): ByteString | undefined {
  if (paths.size === 0) return undefined;
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    const above = path.slice(0, slash);
    if (paths.has(above)) return above;
  }
  return paths.has(path) ? path : undefined;
}

/**
 * Whether a path is one, or below one, that has turned from a directory into something else or back. Programs that
 * apply patches can't move such paths.
 */
export function turnedTest(trees: Trees): (path: ByteString) => boolean {
  const turned = turnedPaths(trees);
  return (path) => firstOnTheWay(turned, path) !== undefined;
}

/**
 * What to sort changes by, so that whoever carries them out in this order finds room for each: by path, but what goes
 * from a path that has turned, before what comes to it.
 */
export function sortKeys(trees: Trees): (entry: { readonly path: ByteString; readonly change: string }) => string {
  const turned = turnedPaths(trees);
  return ({ path, change }) => {
    const first = firstOnTheWay(turned, path) ?? path;
    return `${first}\0${change === 'deleted' ? '\0' : '\x01'}${path}`;
  };
}
