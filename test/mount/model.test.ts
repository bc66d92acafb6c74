import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isReference } from '../model/features.ts';
import { explain, type ModelOptions, runModel } from '../model/run.ts';
import { type Syscalls, systemCalls } from '../model/syscalls.ts';
import { interruptionsOf, startTarget } from '../model/workspace.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missingReference = isReference(tmpdir()) ? undefined : 'a local directory on ext4 (TMPDIR names where to look)';
const missing = missingForMounts() ?? missingReference;
const RUN_DEADLINE_MS = 900_000;

let reference: string;
let other: string;

beforeEach(() => {
  reference = mkdtempSync(join(tmpdir(), 'tarbox-model-'));
  other = mkdtempSync(join(tmpdir(), 'tarbox-model-'));
});

afterEach(() => {
  rmdirSync(reference);
  rmdirSync(other);
});

/** A run of the size that every test run can afford; `node test/model/main.ts` makes longer ones, with other seeds. */
function options(target: string, overrides: Partial<ModelOptions> = {}): ModelOptions {
  return {
    reference,
    target,
    seed: 1,
    operations: 20_000,
    episode: 2500,
    compareEvery: 1250,
    interruptEvery: 1250,
    interruptions: [],
    shrinking: { tries: 1000, milliseconds: 120_000 },
    report: (line) => console.log(line),
    ...overrides,
  };
}

/** The real calls, save that the target forgets setgid when a handle's mode is changed. */
function forgetful(): Syscalls {
  const real = systemCalls();
  return { ...real, chmod: (at, mode) => real.chmod(at, typeof at === 'number' ? mode & ~0o2000 : mode) };
}

describe.skipIf(missing !== undefined)(
  `random operations${missing === undefined ? '' : ` (skipped: no ${missing})`}`,
  () => {
    it('give in a workspace what they give in a local directory', { timeout: RUN_DEADLINE_MS }, async () => {
      const tarbox = await startTarget();
      try {
        const failure = await runModel(options(tarbox.mount, { interruptions: interruptionsOf(tarbox) }));
        expect(failure && explain(failure)).toBeUndefined();
      } finally {
        await tarbox.remove();
      }
    });
  },
);

describe.skipIf(missing !== undefined)('the model test', () => {
  it('finds no difference between two local directories', { timeout: RUN_DEADLINE_MS }, async () => {
    const failure = await runModel(options(other, { operations: 5000 }));
    expect(failure && explain(failure)).toBeUndefined();
  });

  it('finds a fault and the few steps that lead to it', { timeout: RUN_DEADLINE_MS }, async () => {
    const lines: string[] = [];
    const failure = await runModel(options(other, { targetSystem: forgetful(), report: (line) => lines.push(line) }));
    expect(failure?.mismatch.signature).toBe('type and mode');
    expect(failure?.script.at(-1)).toMatch(/fchmod/);
    expect(failure?.script.length).toBeLessThanOrEqual(4);
  });
});
