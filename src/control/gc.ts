import { FsError } from '../errno.ts';
import { parseCommand } from '../layers/command.ts';
import type { Collected } from '../layers/gc.ts';
import type { ControlRow, Outcome } from './files.ts';

export interface GarbageFilesParts {
  /** `dry`: only looks. @throws {FsError} */
  readonly collectGarbage: (dry: boolean) => Promise<Collected>;
}

const HINT = 'write run, or dry-run to see what it would do';

/** The row of `control/gc`. */
export function garbageFiles({ collectGarbage }: GarbageFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'control/gc',
      about: 'write run or dry-run: what nothing refers to any more is removed, or told of',
      node: { file: { command: (text) => collect(collectGarbage, text) } },
    },
  ];
}

async function collect(collectGarbage: GarbageFilesParts['collectGarbage'], text: string): Promise<Outcome> {
  const { mode } = parseCommand(text, 'mode', { mode: 'string' } as const, HINT);
  if (mode !== 'run' && mode !== 'dry-run')
    throw new FsError('EINVAL', `'${(mode ?? '').slice(0, 100)}' is no way to collect garbage`, { hint: HINT });
  const started = performance.now();
  const found = await collectGarbage(mode === 'dry-run');
  return {
    mode,
    chunks: found.chunks,
    bytes: found.bytes,
    garbage_chunks: found.garbageChunks,
    garbage_bytes: found.garbageBytes,
    ...(mode === 'run' && {
      reclaimed_chunks: found.removedChunks,
      reclaimed_bytes: found.removedBytes,
      reclaimed_rows: found.removedRows,
    }),
    seconds: Math.round(performance.now() - started) / 1000,
  };
}
