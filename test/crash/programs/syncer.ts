import { OPEN_FLAGS } from '../../model/syscalls.ts';
import { done } from '../perform.ts';
import type { Program } from './program.ts';

/** Waits in one fsync of a file, and has a use for SIGINT. */
export const syncer: Program<{ readonly path: string }, number> = {
  async run({ path }, { system, stopping, ready }) {
    process.on('SIGINT', () => {});
    const handle = done('open', system.open(path, OPEN_FLAGS.O_RDONLY, 0));
    ready();
    await stopping(); // gives the message time to leave
    return done('fsync', system.fsync(handle));
  },
};
