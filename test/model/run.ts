/** The model test as a whole: episodes of random operations, comparisons, remounts; and what is told of a failure. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Features, lacking } from './features.ts';
import type { Operation } from './operation.ts';
import { generator } from './operations.ts';
import { Random, seedOf } from './random.ts';
import { type ShrinkLimits, shrink } from './shrink.ts';
import { type Syscalls, systemCalls } from './syscalls.ts';
import { type Ground, type Mismatch, probeAt, Trial } from './trial.ts';
import { Impersonation } from './users.ts';

const run = promisify(execFile);

export interface ModelOptions {
  /** Directories to work in: on a local file system, and on the one that is tested. */
  readonly reference: string;
  readonly target: string;
  readonly seed: number;
  readonly operations: number;
  /** Operations on one pair of trees; then two fresh ones take their place. */
  readonly episode: number;
  /** Operations between two comparisons of the whole trees. */
  readonly compareEvery: number;
  /** Operations between two interruptions; they take turns. */
  readonly interruptEvery: number;
  readonly interruptions: readonly Interruption[];
  readonly shrinking: ShrinkLimits;
  readonly report: (line: string) => void;
  /** The target's system calls, for a fault to be planted in them. */
  readonly targetSystem?: Syscalls;
}

/** Something that happens to the target while nobody is in a call, and that must leave no trace. */
export interface Interruption {
  readonly name: string;
  /** Whether handles stay open through it. */
  readonly keepsHandles: boolean;
  readonly run: () => Promise<void>;
}

type Step = Operation | Interruption;

export interface Failure {
  readonly seed: number;
  readonly mismatch: Mismatch;
  /** The fewest steps that were found to fail, one line each. */
  readonly script: readonly string[];
}

/**
 * Runs until the operations are used up or something differs. Leaves both directories as they were.
 *
 * @throws {Error} when a directory can't be worked in, without root.
 */
export async function runModel(options: ModelOptions): Promise<Failure | undefined> {
  const reference = mkdtempSync(join(options.reference, 'model-'));
  const target = mkdtempSync(join(options.target, 'model-'));
  try {
    return await new Run(options, groundOf(options, reference, target)).all();
  } finally {
    rmdirSync(reference);
    rmdirSync(target);
  }
}

function groundOf(options: ModelOptions, reference: string, target: string): Ground {
  const system = systemCalls();
  const who = new Impersonation();
  const features = probeAt(system, reference);
  const missing = lacking(features);
  if (missing.length > 0) options.report(`the reference lacks ${missing.join(', ')}: left out`);
  const targetIsFine = probeAt(system, target).fineTimes;
  return {
    reference: { path: reference, system },
    target: { path: target, system: options.targetSystem ?? system },
    who,
    features,
    targetIsFine,
  };
}

class Run {
  readonly #options: ModelOptions;
  readonly #ground: Ground;
  readonly #generate: ReturnType<typeof generator>;
  #trials = 0;
  #interrupted = 0;

  constructor(options: ModelOptions, ground: Ground) {
    this.#options = options;
    this.#ground = ground;
    this.#generate = generator(ground.features satisfies Features);
  }

  async all(): Promise<Failure | undefined> {
    const { operations, episode } = this.#options;
    for (let done = 0, part = 0; done < operations; done += episode, part++) {
      const failure = await this.#episode(part, Math.min(episode, operations - done));
      if (failure !== undefined) return failure;
      this.#options.report(`${Math.min(operations, done + episode)} operations`);
    }
    return undefined;
  }

  /** A pair of fresh trees, gone when `work` has ended. */
  async #trial<T>(work: (trial: Trial) => Promise<T>): Promise<T> {
    const name = `trial-${this.#trials++}`;
    const trial = new Trial(this.#ground, name);
    try {
      return await work(trial);
    } finally {
      trial.detach();
      for (const side of [this.#ground.reference, this.#ground.target])
        await run('rm', ['-rf', `${side.path}/${name}`]);
    }
  }

  async #episode(part: number, operations: number): Promise<Failure | undefined> {
    const { seed, compareEvery } = this.#options;
    const random = new Random(seedOf(seed, part));
    const steps: Step[] = [];
    const mismatch = await this.#trial(async (trial) => {
      for (let count = 1; count <= operations; count++) {
        const operation = this.#generate(random, trial.model);
        steps.push(operation);
        const differs = trial.step(operation) ?? (count % compareEvery === 0 ? trial.compare() : undefined);
        if (differs !== undefined) return differs;
        const interruption = this.#due(count);
        if (interruption === undefined) continue;
        steps.push(interruption);
        const changed = await interrupted(trial, interruption);
        if (changed !== undefined) return changed;
      }
      return trial.compare();
    });
    return mismatch && this.#failed(mismatch, steps);
  }

  #due(count: number): Interruption | undefined {
    const { interruptEvery, interruptions } = this.#options;
    if (count % interruptEvery !== 0 || interruptions.length === 0) return undefined;
    return interruptions[this.#interrupted++ % interruptions.length];
  }

  async #failed(mismatch: Mismatch, steps: readonly Step[]): Promise<Failure> {
    const { seed, report, shrinking } = this.#options;
    report(`seed ${seed}: after ${steps.length} steps, ${mismatch.text}`);
    report('looking for the fewest steps that fail');
    const isSame = async (few: readonly Step[]) => (await this.#replay(few))?.signature === mismatch.signature;
    const shrunk = await shrink(steps, isSame, shrinking);
    report(
      `${shrunk.steps.length} steps after ${shrunk.tries} tries${shrunk.minimal ? '' : ', perhaps not the fewest'}`,
    );
    const script: string[] = [];
    const last = await this.#replay(shrunk.steps, (line) => script.push(line));
    return { seed, mismatch: last ?? mismatch, script };
  }

  #replay(steps: readonly Step[], log?: (line: string) => void): Promise<Mismatch | undefined> {
    return this.#trial(async (trial) => {
      for (const step of steps) {
        const isOperation = 'args' in step;
        if (!isOperation) log?.(step.name);
        const mismatch = isOperation ? trial.step(step, log) : await interrupted(trial, step);
        if (mismatch !== undefined) return mismatch;
      }
      return trial.compare();
    });
  }
}

async function interrupted(trial: Trial, interruption: Interruption): Promise<Mismatch | undefined> {
  const before = trial.compare();
  if (before !== undefined) return before;
  if (!interruption.keepsHandles) trial.detach();
  await interruption.run();
  if (!interruption.keepsHandles) trial.attach();
  const mismatch = trial.compare(true);
  return mismatch && { ...mismatch, text: `after ${interruption.name}: ${mismatch.text}` };
}

/** A failure as people read it. */
export function explain({ seed, mismatch, script }: Failure): string {
  return [`seed ${seed}: ${mismatch.text}`, '', ...script.map((line) => `  ${line}`)].join('\n');
}
