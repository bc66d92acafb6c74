import { existsSync } from 'node:fs';
import { startMirror } from './mirror.ts';
import type { TargetKind } from './target.ts';

/** A mirror that people use, as its package has it. */
export const bindfs: TargetKind = {
  name: 'bindfs',
  subject: false,
  missing: () => (existsSync('/usr/bin/bindfs') ? undefined : 'bindfs (package bindfs)'),
  start: (context) =>
    startMirror(
      {
        name: 'bindfs',
        description: 'Debian package, its default options (the kernel keeps names and attributes for 1 s)',
        command: (source, mount) => ['/usr/bin/bindfs', '-f', source, mount],
      },
      context,
    ),
};
