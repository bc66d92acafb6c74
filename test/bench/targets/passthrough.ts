import { buildPassthrough, passthroughMissing } from '../build.ts';
import { startMirror } from './mirror.ts';
import type { TargetKind } from './target.ts';

/** libfuse's example of the least overhead in C. It has a descriptor open for each inode: no place for large trees. */
export const passthrough: TargetKind = {
  name: 'passthrough_ll',
  subject: false,
  missing: passthroughMissing,
  async start(context) {
    const program = await buildPassthrough(context.directory, context.signal);
    const options = {
      name: 'passthrough_ll',
      description:
        'libfuse example in C, -o cache=always (the kernel keeps names, attributes and pages, as for Tarbox)',
      command: (source: string, mount: string) => [program, '-f', '-o', `source=${source},cache=always`, mount],
    };
    return startMirror(options, context);
  },
};
