/** What a row of Tarbox should reach. A missed goal is marked, and fails nothing. */
export type Goal =
  /** At least this many times as fast as another target. */
  | { readonly kind: 'ratio'; readonly to: string; readonly least: number; readonly text: string }
  /** At least this much, in the row's unit, where more is better. */
  | { readonly kind: 'floor'; readonly least: number; readonly text: string };

export const asFastAsPassthrough: Goal = ratio('passthrough_ll', 1, '≥ passthrough_ll');
export const fasterThanBindfs: Goal = ratio('bindfs', 1, '> bindfs');
export const warmReadNearPlain: Goal = ratio('plain', 1 / 1.5, 'within 1.5× of plain');
export const treeNearPlain: Goal = ratio('plain', 1 / 4, 'within 4× of plain');

export function atLeast(least: number, unit: string): Goal {
  return { kind: 'floor', least, text: `≥ ${least} ${unit}` };
}

/** Most resident memory of Tarbox's daemon, in MiB. */
export const MOST_RESIDENT_MIB = 400;

function ratio(to: string, least: number, text: string): Goal {
  return { kind: 'ratio', to, least, text };
}
