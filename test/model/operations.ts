/** Every operation of the model test. */

import type { Features } from './features.ts';
import type { Model } from './model.ts';
import type { Operation, Row } from './operation.ts';
import { attributeOperations } from './operations-attributes.ts';
import { dataOperations } from './operations-data.ts';
import { handleOperations } from './operations-handles.ts';
import { nameOperations } from './operations-names.ts';
import { xattrOperations } from './operations-xattrs.ts';
import type { Random } from './random.ts';
import { ROOT, USERS } from './users.ts';

const ALL: readonly Row[] = [
  ...nameOperations,
  ...attributeOperations,
  ...xattrOperations,
  ...handleOperations,
  ...dataOperations,
];

const UMASKS = [0o022, 0o022, 0, 0o002, 0o027, 0o077, 0o777] as const;

/** Makes operations that the reference can carry out. */
export function generator(features: Features): (random: Random, model: Model) => Operation {
  const usable = ALL.filter((row) => row.needs.every((need) => features[need]));
  const choices = usable.map((row): readonly [number, Row] => [row.weight, row]);
  return (random, model) => {
    for (;;) {
      const row = random.weighted(choices);
      const user = random.chance(0.4) ? ROOT : random.pick(USERS);
      const made = row.make(random, model, user, random.pick(UMASKS));
      if (made !== undefined) return made;
    }
  };
}
