import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Programs } from './build.ts';
import { dropKernelCaches } from './machine.ts';
import { processorTime, processorUse } from './processor.ts';
import { run } from './program.ts';
import type { ResidentSampler } from './resident.ts';
import type { Sample } from './results.ts';
import type { Target } from './targets/target.ts';
import type { Archive } from './tree/archive.ts';
import type { Place, Row, Step, Suite, Temperature } from './workloads/workload.ts';

export interface RunnerParts {
  readonly programs: Programs;
  readonly sampler: ResidentSampler;
  readonly signal: AbortSignal;
  readonly archive: (round: number) => Promise<Archive>;
  /** A step on a target is over; for whoever watches. */
  readonly onSamples: (samples: readonly Sample[]) => void;
}

/**
 * Runs a suite on its targets, interleaved: each step of each round runs on one target after another, and each round
 * starts with the next target, so that what the machine does meanwhile is shared out.
 *
 * @throws {Error} when the signal aborted it; a step that fails is a sample.
 */
export async function runSuite(
  suite: Suite,
  targets: readonly Target[],
  rounds: number,
  parts: RunnerParts,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 0; round < rounds; round++) {
    const places = await Promise.all(rotate(targets, round).map((target) => makePlace(suite, target, round, parts)));
    const failed = new Set<Place>();
    for (const step of suite.steps)
      for (const place of places) {
        if (failed.has(place)) continue;
        const made = await runStep(step, place, targets, parts);
        if (made.some(({ failure }) => failure !== undefined)) failed.add(place);
        samples.push(...made);
        parts.onSamples(made);
      }
    for (const { directory } of places) {
      // What is in the way of removing it was reported as a failure of the step.
      await run('rm', ['-rf', directory], { signal: parts.signal }).catch(() => parts.signal.throwIfAborted());
    }
  }
  return samples;
}

function rotate<T>(list: readonly T[], by: number): T[] {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}

async function makePlace(suite: Suite, target: Target, round: number, parts: RunnerParts): Promise<Place> {
  const directory = join(target.root, `${suite.name.replace(/[^a-z0-9]+/gi, '-')}-${round}`);
  await mkdir(directory);
  const { programs, signal } = parts;
  return { target, directory, round, programs, signal, archive: () => parts.archive(round) };
}

async function runStep(step: Step, place: Place, targets: readonly Target[], parts: RunnerParts): Promise<Sample[]> {
  const { target, round } = place;
  const sampleOf = ({ name, unit }: Row): Pick<Sample, 'row' | 'unit' | 'target' | 'round'> => ({
    row: name,
    unit,
    target: target.name,
    round,
  });
  try {
    await step.prepare?.(place);
    await settle(targets, parts.signal);
    await cool(step.temperature, target, parts);
    const before = processorTime(target);
    const values = await step.measure(place);
    const processor = processorUse(before, processorTime(target));
    return step.rows.map((row, i) => ({ ...sampleOf(row), value: values[i], processor }));
  } catch (problem) {
    parts.signal.throwIfAborted();
    const failure = problem instanceof Error ? problem.message : String(problem);
    return step.rows.map((row) => ({ ...sampleOf(row), value: undefined, processor: {}, failure }));
  }
}

/** Nothing that was written earlier, on any target, is left to be written while the next step runs. */
async function settle(targets: readonly Target[], signal: AbortSignal): Promise<void> {
  for (const target of targets) await target.barrier(target.root);
  await run('sync', [], { signal });
}

async function cool(temperature: Temperature, target: Target, parts: RunnerParts): Promise<void> {
  if (temperature === 'as it is') return;
  if (temperature === 'restarted') {
    parts.sampler.sample();
    await target.remount();
    await run('sync', [], { signal: parts.signal });
  } else {
    // The kernel first, so that the target may forget inodes, and again for what the target read or wrote doing so.
    await dropKernelCaches();
    await target.dropOwnCaches();
  }
  await dropKernelCaches();
}
