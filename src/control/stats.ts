import { type ControlRow, jsonText } from './files.ts';
import { type Metric, prometheusText } from './metrics.ts';

export interface StatsFilesParts {
  readonly performance: () => object;
  readonly cache: () => object;
  readonly metrics: () => readonly Metric[];
}

/** The rows of `stats/performance`, `stats/cache` and `metrics`. */
export function statsFiles({ performance, cache, metrics }: StatsFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'stats/performance',
      about: 'operations: how many, how many a second, how long they take',
      node: { file: { read: () => jsonText(performance()) } },
    },
    {
      path: 'stats/cache',
      about: 'how much is cached, and how often that was enough',
      node: { file: { read: () => jsonText(cache()) } },
    },
    {
      path: 'metrics',
      about: 'all figures in the text format of Prometheus',
      node: { file: { read: () => prometheusText(metrics()) } },
    },
  ];
}
