import { bindfs } from './bindfs.ts';
import { passthrough } from './passthrough.ts';
import { plain } from './plain.ts';
import { tarbox } from './tarbox.ts';
import type { TargetKind } from './target.ts';

/** Every target, in the order of the table's columns. Another configuration of Tarbox is another line. */
export const TARGETS: readonly TargetKind[] = [
  plain,
  passthrough,
  bindfs,
  tarbox({ name: 'tarbox', description: 'default settings', env: {} }),
];
