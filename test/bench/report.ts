import { type Goal, MOST_RESIDENT_MIB } from './goals.ts';
import { layerLines } from './layers/report.ts';
import { medianOf, type Results, speedRatio } from './results.ts';
import { storageLines } from './storage/report.ts';
import type { Row, Unit } from './workloads/workload.ts';

/** Columns of the table of storage up to its goals. */
const STORAGE_COLUMNS = 4;

/** The results as text for people. Pure. */
export function report(results: Results): string {
  const { rows, resident, layers, storage } = results;
  return [
    facts(results),
    ...(rows.length > 0 ? [medians(results)] : []),
    ...(resident.length > 0 ? [memory(results)] : []),
    ...(layers.length > 0 ? [table(layerLines(layers), 2 + layers.length)] : []),
    ...(storage === undefined ? [] : [table(storageLines(storage), STORAGE_COLUMNS)]),
    footnotes(results),
  ].join('\n\n');
}

function facts({ machine, options, targets, missing }: Results): string {
  const memoryGib = (machine.memoryMib / 1024).toFixed(0);
  return [
    `Linux ${machine.kernel} ${machine.arch}, ${machine.cores} × ${machine.processor}, ${memoryGib} GiB`,
    `stored on ${machine.filesystem}; Node ${machine.node}, load when started ${machine.load}, ${options.rounds} rounds`,
    ...targets.map(({ name, description }) => `${name}: ${description}`),
    ...missing.map(({ name, reason }) => `${name}: left out, ${reason} is missing`),
  ].join('\n');
}

/** Medians, how they compare, and what was to be reached. */
function medians({ rows, targets, samples }: Results): string {
  const subjects = targets.filter(({ subject }) => subject);
  const others = targets.filter(({ subject }) => !subject);
  const comparisons = subjects.flatMap((subject) => others.map((other) => ({ subject, other })));
  const several = subjects.length > 1;
  const head = [
    'workload',
    'unit',
    ...targets.map(({ name }) => name),
    ...comparisons.map(({ subject, other }) => (several ? `${subject.name}/${other.name}` : `/${other.name}`)),
    ...subjects.map(({ name }) => (several ? `goals of ${name}` : 'goals')),
  ];
  const lines = rows.map((row) => [
    row.name,
    row.unit,
    ...targets.map(({ name }) => cell(samples, row, name)),
    ...comparisons.map(({ subject, other }) => {
      const ratio = compare(samples, row, subject.name, other.name);
      return ratio === undefined ? '' : `${formatNumber(ratio)}×`;
    }),
    ...subjects.map(({ name }) => row.goals.map((goal) => mark(samples, row, name, goal)).join('  ')),
  ]);
  return table([head, ...lines], 2 + targets.length + comparisons.length);
}

function cell(samples: Results['samples'], row: Row, target: string): string {
  const value = medianOf(samples, row.name, target);
  if (value !== undefined) return formatValue(row.unit, value);
  const failed = samples.some((sample) => sample.row === row.name && sample.target === target);
  return failed ? 'failed' : '';
}

function compare(samples: Results['samples'], row: Row, target: string, other: string): number | undefined {
  const value = medianOf(samples, row.name, target);
  const reference = medianOf(samples, row.name, other);
  return value === undefined || reference === undefined ? undefined : speedRatio(row.unit, value, reference);
}

function mark(samples: Results['samples'], row: Row, target: string, goal: Goal): string {
  const reached = goal.kind === 'floor' ? medianOf(samples, row.name, target) : compare(samples, row, target, goal.to);
  if (reached === undefined) return `? ${goal.text}`;
  return `${reached >= goal.least ? 'met' : 'MISSED'}: ${goal.text}`;
}

function memory({ resident, targets }: Results): string {
  const lines = resident.map(({ target, role, peakMib, sumMib, anonymousMib }) => {
    const isDaemon = role === 'daemon' && targets.some(({ name, subject }) => subject && name === target);
    const met = peakMib < MOST_RESIDENT_MIB ? 'met' : 'MISSED';
    const goal = isDaemon ? `${met}: < ${MOST_RESIDENT_MIB} MiB` : '';
    return [`${target} ${role}`, `${peakMib}`, `${anonymousMib}`, `${sumMib}`, goal];
  });
  const head = ['peak memory, MiB', 'largest process', 'of it its own', 'all processes', 'goal'];
  return table([head, ...lines], 4);
}

function footnotes({ samples }: Results): string {
  const failures = samples.filter(({ failure }) => failure !== undefined);
  return [
    'Figures are medians. A ratio says how many times as fast Tarbox is as the other: above 1× is faster.',
    "cold: everything is on the disk, the kernel's caches are dropped, and Tarbox has dropped its own",
    '  (control/flush); the database keeps what its shared buffers hold.',
    'restarted: the filesystem was stopped and started (for Tarbox supervisor, daemon and database), caches dropped.',
    'warm: the same was read just before.',
    'then sync: until sync -f and an fsync of the directory have returned as well; for passthrough_ll and bindfs with',
    '  a sync -f of their source, as Linux does not pass it on.',
    'Storage: bytes in PostgreSQL after packing, control/gc and VACUUM FULL; each: per distinct file version.',
    "Memory: VmHWM of the role's largest process; its RssAnon; and the sum of Pss (or VmRSS of one process).",
    ...new Set(failures.map(({ row, target, failure }) => `failed: ${row} on ${target}: ${failure?.split('\n')[0]}`)),
  ].join('\n');
}

function formatValue(unit: Unit, value: number): string {
  if (unit === 'ops/s') return Math.round(value).toLocaleString('en-US');
  return unit === 'MB/s' ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1);
}

function formatNumber(ratio: number): string {
  return ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2);
}

/** Columns from the third up to `numeric` are aligned to the right. */
function table(lines: readonly (readonly string[])[], numeric: number): string {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const format = (line: readonly string[]): string =>
    line
      .map((text, i) => (i > 0 && i < numeric ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  const [head = [], ...rest] = lines;
  return [format(head), '─'.repeat(widths.reduce((sum, width) => sum + width + 2, -2)), ...rest.map(format)].join('\n');
}
