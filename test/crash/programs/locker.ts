import { readFileSync, writeFileSync } from 'node:fs';
import { OPEN_FLAGS } from '../../model/syscalls.ts';
import { done } from '../perform.ts';
import type { Program } from './program.ts';

const LOCK_EX = 2;
const LOCK_UN = 8;

/** Adds to a number in a file, under a lock that others take too. Gives how often: the number is the sum of all. */
export const locker: Program<{ readonly lock: string; readonly counter: string }, number> = {
  async run({ lock, counter }, { system, stopping, ready }) {
    const handle = done('open', system.open(lock, OPEN_FLAGS.O_CREAT | OPEN_FLAGS.O_RDWR, 0o644));
    ready();
    let rounds = 0;
    while (!(await stopping())) {
      done('flock', system.flock(handle, LOCK_EX));
      writeFileSync(counter, `${Number(readFileSync(counter, 'utf8')) + 1}`);
      done('flock', system.flock(handle, LOCK_UN));
      rounds++;
    }
    return rounds;
  },
};
