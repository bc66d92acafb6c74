import { type Ino, type LayerId, ROOT_INO } from '../brand.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import type { Moment, NameVersion } from './port.ts';

/** What a path stands for from a layer on, until the next step. */
export interface Step {
  readonly since: LayerId;
  /** Undefined where there's nothing. */
  readonly ino: Ino | undefined;
  readonly isDirectory: boolean;
}

const FIRST_LAYER = 0 as LayerId; // below every layer
const ROOT_STEPS: readonly Step[] = [{ since: FIRST_LAYER, ino: ROOT_INO, isDirectory: true }];

/**
 * What a path has stood for in a layer and those below it, oldest first. A directory on the way may have been another
 * one at another time.
 */
export async function stepsOf(moment: Moment, place: Place, path: readonly ByteString[]): Promise<readonly Step[]> {
  let steps = ROOT_STEPS;
  for (const name of path) {
    const parents = directoriesIn(steps);
    const versions = parents.length === 0 ? [] : await moment.nameVersions(place, parents, name);
    steps = stepsBelow(steps, versions);
  }
  return steps;
}

/** The directories that these steps lead to. */
export function directoriesIn(steps: readonly Step[]): Ino[] {
  return [...new Set(steps.flatMap(({ ino, isDirectory }) => (isDirectory && ino !== undefined ? [ino] : [])))];
}

/** Steps of a name in the directory that `above` leads to. */
export function stepsBelow(above: readonly Step[], versions: readonly NameVersion[]): Step[] {
  const steps: Step[] = [];
  const add = (step: Step) => {
    if (steps[steps.length - 1]?.ino !== step.ino || steps.length === 0) steps.push(step);
  };
  for (const [index, { since, ino, isDirectory }] of above.entries()) {
    const until = above[index + 1]?.since ?? Number.POSITIVE_INFINITY;
    const own = versions.filter(({ parent, layer }) => isDirectory && parent === ino && layer < until);
    const first = own.findLast(({ layer }) => layer <= since);
    add({ since, ino: first?.ino, isDirectory: first?.isDirectory ?? false });
    for (const version of own)
      if (version.layer > since) add({ since: version.layer, ino: version.ino, isDirectory: version.isDirectory });
  }
  return steps;
}
