import { inspect } from 'node:util';
import { systemCalls } from '../model/syscalls.ts';
import type { FromClient } from './client.ts';
import { PROGRAMS } from './programs/all.ts';
import type { Program, Run } from './programs/program.ts';

/**
 * A client of a mount, in a process of its own: it may be left waiting, or be killed. Started by `Client`:
 * `main.ts <program> <options as JSON>`.
 */
const [name = '', options = ''] = process.argv.slice(2);
process.umask(0);

let stopping = false;
process.on('message', () => {
  stopping = true;
});
// Whoever started it is gone.
process.on('disconnect', () => process.exit(1));

function tell(message: FromClient): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

const run: Run = {
  system: systemCalls(),
  stopping: async () => {
    await new Promise(setImmediate);
    return stopping;
  },
  ready: () => void tell({ type: 'ready' }),
};

// The starter's types say that the program exists and takes these options.
const program = (PROGRAMS as Record<string, Program<unknown, unknown> | undefined>)[name];
try {
  if (program === undefined) throw new Error(`there is no program '${name}'`);
  const value = await program.run(JSON.parse(options), run);
  await tell({ type: 'result', value });
} catch (problem) {
  await tell({ type: 'failed', problem: inspect(problem, { depth: 4 }) });
}
process.exit(0);
