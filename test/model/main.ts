/**
 * The model test by hand:
 *
 *   node test/model/main.ts --ops 100000                      starts a workspace of its own
 *   node test/model/main.ts --target DIR --reference DIR      two directories that are there
 *
 * `--seed N` repeats a run; `--calm` leaves out restarts and crashes. Ends with 1 and the fewest steps that fail when
 * the two differ.
 */
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isReference } from './features.ts';
import { explain, type Interruption, runModel } from './run.ts';
import { interruptionsOf, startTarget } from './workspace.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    reference: { type: 'string' },
    seed: { type: 'string' },
    ops: { type: 'string', default: '100000' },
    episode: { type: 'string', default: '2500' },
    'compare-every': { type: 'string', default: '250' },
    'interrupt-every': { type: 'string', default: '500' },
    calm: { type: 'boolean', default: false },
    'shrink-seconds': { type: 'string', default: '300' },
  },
});

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);

if (values.reference !== undefined && !isReference(values.reference))
  console.log(`${values.reference} isn't on ext4: expect differences that are no faults`);

async function test(target: string, reference: string, interruptions: readonly Interruption[]): Promise<void> {
  console.log(`seed ${seed}, ${values.ops} operations, ${target} against ${reference}`);
  const failure = await runModel({
    target,
    reference,
    seed,
    operations: Number(values.ops),
    episode: Number(values.episode),
    compareEvery: Number(values['compare-every']),
    interruptEvery: Number(values['interrupt-every']),
    interruptions,
    shrinking: { tries: 2000, milliseconds: Number(values['shrink-seconds']) * 1000 },
    report: (line) => console.log(line),
  });
  if (failure === undefined) return console.log('no difference');
  console.log(explain(failure));
  process.exitCode = 1;
}

const reference = values.reference ?? mkdtempSync(join(tmpdir(), 'tarbox-model-'));
try {
  if (values.target !== undefined) await test(values.target, reference, []);
  else await testWorkspace();
} finally {
  if (values.reference === undefined) rmdirSync(reference);
}

async function testWorkspace(): Promise<void> {
  const tarbox = await startTarget();
  try {
    await test(tarbox.mount, reference, values.calm ? [] : interruptionsOf(tarbox));
  } finally {
    await tarbox.remove();
  }
}
