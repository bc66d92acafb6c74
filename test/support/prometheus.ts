/** A sample as a scraper reads it. */
export interface Scraped {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const METRIC = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

/**
 * Reads the text format of Prometheus (exposition formats, version 0.0.4) as strictly as a scraper: each metric in one
 * group, its type before its samples, no sample twice, histograms that grow and end in +Inf.
 *
 * @throws {Error} that names the line
 */
export function parsePrometheus(text: string): readonly Scraped[] {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const types = new Map<string, string>();
  const samples: Scraped[] = [];
  const seen = new Set<string>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    const [, kind, metric = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (kind !== undefined) {
      if (!METRIC.test(metric)) fail('no name of a metric');
      if (metric !== current && types.has(metric)) fail('a metric in two groups');
      current = metric;
      if (kind === 'TYPE' && !['counter', 'gauge', 'histogram'].includes(rest)) fail('no type');
      if (kind === 'TYPE') types.set(metric, rest);
      continue;
    }
    const [, name = '', labelText = '', valueText = ''] = SAMPLE.exec(line) ?? fail('no sample');
    const base = types.get(current) === 'histogram' ? name.replace(/_(?:bucket|sum|count)$/, '') : name;
    if (base !== current || !types.has(base)) fail('a sample outside of its group');
    const labels = parseLabels(labelText) ?? fail('wrong labels');
    const key = `${name}${JSON.stringify(Object.entries(labels).sort())}`;
    if (seen.has(key)) fail('a sample twice');
    seen.add(key);
    const value = Number(valueText);
    if (Number.isNaN(value)) fail('no number');
    samples.push({ name, labels, value });
  }
  for (const [name, type] of types) if (type === 'histogram') checkHistogram(name, samples);
  return samples;
}

function parseLabels(text: string): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  for (let at = 0; at < text.length; at = LABEL.lastIndex) {
    const [, name, value] = LABEL.exec(text) ?? [];
    if (name === undefined || value === undefined || name in labels) return undefined;
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
  }
  return labels;
}

function checkHistogram(name: string, samples: readonly Scraped[]): void {
  const series = Map.groupBy(
    samples.filter((sample) => sample.name === `${name}_bucket`),
    ({ labels: { le: _, ...others } }) => JSON.stringify(others),
  );
  for (const [others, buckets] of series) {
    const bounds = buckets.map(({ labels }) =>
      labels['le'] === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels['le']),
    );
    const values = buckets.map(({ value }) => value);
    if (bounds.some((bound, at) => at > 0 && bound <= (bounds[at - 1] ?? 0)))
      throw new Error(`${name}: bounds don't rise`);
    if (values.some((value, at) => at > 0 && value < (values[at - 1] ?? 0))) throw new Error(`${name}: counts fall`);
    const count = samples.find((sample) => sample.name === `${name}_count` && JSON.stringify(sample.labels) === others);
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY || count?.value !== values.at(-1))
      throw new Error(`${name}${others}: +Inf isn't the count`);
  }
}
