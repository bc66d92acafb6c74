import { LAYER_ROWS, type LayerResults } from './measure.ts';

/** What layers cost, as lines of a table: what, its unit, a figure for each size of workspace, and the goal. */
export function layerLines(results: readonly LayerResults[]): string[][] {
  const sizes = results.map(({ files }) => `${files.toLocaleString('en-US')} files`);
  return [
    ['layers', 'unit', ...sizes, 'goals'],
    ...LAYER_ROWS.map(({ key, name, unit, most }) => {
      const figures = results.map(({ figures }) => figures[key]);
      const goal =
        most === undefined ? '' : `${figures.every((figure) => figure <= most) ? 'met' : 'MISSED'}: ≤ ${most}`;
      return [name, unit, ...figures.map((figure) => figure.toFixed(unit === 'ms' && figure >= 10 ? 0 : 2)), goal];
    }),
  ];
}
