import { asFastAsPassthrough, type Goal, warmReadNearPlain } from '../goals.ts';
import { run } from '../program.ts';
import type { Place, Suite, Temperature } from './workload.ts';

interface Micro {
  readonly name: string;
  /** Operation of micro.c. */
  readonly operation: string;
  readonly count: number;
  readonly goals: readonly Goal[];
  /** Operations of micro.c that come before, outside of the time. */
  readonly before?: readonly string[];
  readonly temperature?: Temperature;
}

const MICROS: readonly Micro[] = [
  { name: 'negative lookup', operation: 'negative-lookup', count: 10_000, goals: [asFastAsPassthrough] },
  { name: 'create+close', operation: 'create', count: 5000, goals: [asFastAsPassthrough] },
  { name: 'create+write 2.7 KiB+close', operation: 'write', count: 5000, goals: [asFastAsPassthrough] },
  {
    name: 'open+read+close, warm',
    operation: 'read',
    count: 5000,
    goals: [asFastAsPassthrough, warmReadNearPlain],
    before: ['make', 'read'],
  },
  {
    name: 'stat, cold',
    operation: 'stat',
    count: 5000,
    goals: [asFastAsPassthrough],
    before: ['make'],
    temperature: 'cold',
  },
  { name: 'rename', operation: 'rename', count: 5000, goals: [asFastAsPassthrough], before: ['make'] },
  { name: 'unlink', operation: 'unlink', count: 5000, goals: [asFastAsPassthrough], before: ['make'] },
  { name: 'append 4 KiB, open handle', operation: 'append', count: 5000, goals: [asFastAsPassthrough] },
  { name: 'create+write 2.7 KiB+fsync', operation: 'fsync', count: 300, goals: [] },
];

/** One operation each, in a directory of its own. */
export const microSuites: readonly Suite[] = MICROS.map((micro) => ({
  name: micro.name,
  opponents: ['passthrough_ll'],
  steps: [
    {
      rows: [{ name: micro.name, unit: 'ops/s', goals: micro.goals }],
      needs: [],
      temperature: micro.temperature ?? 'as it is',
      async prepare(place) {
        for (const operation of micro.before ?? []) await runMicro(place, operation, micro.count);
      },
      measure: async (place) => [micro.count / (await runMicro(place, micro.operation, micro.count))],
    },
  ],
}));

/** Returns the seconds it took. */
async function runMicro(
  { programs, directory, round, signal }: Place,
  operation: string,
  count: number,
): Promise<number> {
  const { stdout } = await run(programs.micro, [operation, directory, `${count}`, `${round + 1}`], { signal });
  return Number(stdout) / 1e9;
}
