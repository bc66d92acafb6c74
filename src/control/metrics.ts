/** One value of a metric. */
export interface Sample {
  /** `_bucket`, `_sum` and `_count` of a histogram; otherwise nothing. */
  readonly suffix?: '_bucket' | '_sum' | '_count';
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly Sample[];
}

/** The text format of Prometheus, version 0.0.4: each metric once, with its help and type before its samples. */
export function prometheusText(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, help, type, samples }) =>
      [
        `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`,
        `# TYPE ${name} ${type}`,
        ...samples.map((sample) => `${name}${sample.suffix ?? ''}${labelText(sample.labels ?? {})} ${sample.value}`),
        '',
      ].join('\n'),
    )
    .join('');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** The samples of a histogram of seconds, from durations in milliseconds. `below` has one count for each bound. */
export function histogramSamples(
  labels: Readonly<Record<string, string>>,
  boundsMs: readonly number[],
  below: readonly number[],
  { count, totalMs }: { readonly count: number; readonly totalMs: number },
): Sample[] {
  return [
    ...boundsMs.map((bound, at) => ({
      suffix: '_bucket' as const,
      labels: { ...labels, le: String(bound / 1000) },
      value: below[at] ?? 0,
    })),
    { suffix: '_bucket', labels: { ...labels, le: '+Inf' }, value: count },
    { suffix: '_sum', labels, value: totalMs / 1000 },
    { suffix: '_count', labels, value: count },
  ];
}
