import { run } from '../program.ts';
import type { TargetKind } from './target.ts';

/** A directory of the local filesystem: what the machine can do. */
export const plain: TargetKind = {
  name: 'plain',
  subject: false,
  missing: () => undefined,
  async start({ directory, signal }) {
    return {
      name: 'plain',
      description: 'a directory of the local filesystem',
      root: directory,
      processes: () => [],
      barrier: async (place) => {
        await run('sync', ['-f', place], { signal });
        await run('sync', [place], { signal });
      },
      dropOwnCaches: async () => {},
      remount: async () => {},
      stop: async () => {},
    };
  },
};
