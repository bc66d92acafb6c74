import { mkdirSync, writeFileSync } from 'node:fs';
import { direntsOf, OPEN_FLAGS, type Syscalls } from '../../model/syscalls.ts';
import { done } from '../perform.ts';
import type { Program } from './program.ts';

const NAMES = 1500;
/** A listing takes many calls. */
const CALL_BYTES = 1024;

/** Lists a directory in small steps, while other names come and go in it: those that stay are there exactly once. */
export const lister: Program<{ readonly root: string }, number> = {
  async run({ root }, { system, stopping, ready }) {
    mkdirSync(root);
    for (let index = 0; index < NAMES; index++) writeFileSync(`${root}/stays-${index}`, '');
    ready();
    let rounds = 0;
    while (!(await stopping())) {
      rounds++;
      const names = await list(system, root, rounds);
      const stayed = names.filter((name) => name.startsWith('stays-'));
      if (stayed.length !== NAMES || new Set(stayed).size !== NAMES)
        throw new Error(
          `a listing has ${stayed.length} names, ${new Set(stayed).size} of them different, not ${NAMES}`,
        );
    }
    return rounds;
  },
};

async function list(system: Syscalls, root: string, round: number): Promise<string[]> {
  const handle = done('open', system.open(root, OPEN_FLAGS.O_RDONLY | OPEN_FLAGS.O_DIRECTORY, 0));
  const buffer = Buffer.alloc(CALL_BYTES);
  const names: string[] = [];
  for (let call = 0; ; call++) {
    const length = done('getdents', system.getdents(handle, buffer));
    if (length === 0) break;
    names.push(...direntsOf(buffer, length).map(({ name }) => name));
    const passing = `${root}/passes-${round}-${call}`;
    if (call % 8 === 0) done('mkdir', system.mkdir(passing, 0o755));
    if (call % 8 === 0) done('rmdir', system.rmdir(passing));
  }
  done('close', system.close(handle));
  return names;
}
