import { FsError } from '../errno.ts';
import { parseCommand } from '../layers/command.ts';
import type { Checked } from '../layers/fsck.ts';
import type { ControlRow, Outcome } from './files.ts';

export interface CheckFilesParts {
  /** @throws {FsError} */
  readonly checkTree: (repair: boolean) => Promise<Checked>;
}

const HINT = 'write run, or {"repair":true} to repair what can be';

/** The row of `control/fsck`. */
export function checkFiles({ checkTree }: CheckFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'control/fsck',
      about: 'write run: the stored tree is checked; {"repair":true} repairs, too',
      node: { file: { command: (text) => check(checkTree, text) } },
    },
  ];
}

async function check(checkTree: CheckFilesParts['checkTree'], text: string): Promise<Outcome> {
  const { mode, repair } = parseCommand(text, 'mode', { mode: 'string', repair: 'boolean' } as const, HINT);
  if ((mode ?? (repair === undefined ? '' : 'run')) !== 'run')
    throw new FsError('EINVAL', `'${(mode ?? '').slice(0, 100)}' is no way to check the tree`, { hint: HINT });
  const started = performance.now();
  const found = await checkTree(repair ?? false);
  return {
    clean: found.problemCount === 0,
    layers: found.layers,
    files: found.files,
    contents: found.references,
    chunks: found.chunks,
    bytes: found.bytes,
    problem_count: found.problemCount,
    repaired_count: found.repairedCount,
    problems: found.problems.map(({ layer, path, problem, repaired }) => ({
      layer: layer ?? null,
      path: path ?? null,
      problem,
      ...(repair === true && { repaired }),
    })),
    seconds: Math.round(performance.now() - started) / 1000,
  };
}
