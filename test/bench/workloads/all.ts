import type { Options } from '../options.ts';
import { microSuites } from './micro.ts';
import { sequentialSuite } from './sequential.ts';
import { treeSuite } from './tree.ts';
import type { Step, Suite } from './workload.ts';

/** The suites that the options ask for, reduced to the steps that are wanted and those they build on. */
export function chooseSuites({ only, streamMib }: Pick<Options, 'only' | 'streamMib'>): Suite[] {
  return [...microSuites, sequentialSuite(streamMib), treeSuite]
    .map((suite) => ({ ...suite, steps: neededSteps(suite.steps, only) }))
    .filter(({ steps }) => steps.length > 0);
}

function neededSteps(steps: readonly Step[], only: RegExp): Step[] {
  const needed = new Set<string>();
  const kept: Step[] = [];
  // What a step builds on comes before it, so the last one is looked at first.
  for (const step of steps.toReversed()) {
    const names = step.rows.map(({ name }) => name);
    if (!names.some((name) => only.test(name) || needed.has(name))) continue;
    for (const name of step.needs) needed.add(name);
    kept.unshift(step);
  }
  return kept;
}
