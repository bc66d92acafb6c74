import { mkdirSync } from 'node:fs';
import { OPEN_FLAGS } from '../../model/syscalls.ts';
import { bytesOf } from '../operation.ts';
import { done } from '../perform.ts';
import type { Program } from './program.ts';

const { O_CREAT, O_RDWR } = OPEN_FLAGS;
const PIECE_BYTES = 3000;
const MOST_BYTES = 600 * PIECE_BYTES;

/** Goes on writing and reading an open file whose name it has removed. */
export const orphan: Program<{ readonly root: string }, number> = {
  async run({ root }, { system, stopping, ready }) {
    mkdirSync(root);
    const handle = done('open', system.open(`${root}/unlinked`, O_CREAT | O_RDWR, 0o600));
    done('unlink', system.unlink(`${root}/unlinked`));
    ready();
    const found = Buffer.alloc(PIECE_BYTES);
    let rounds = 0;
    while (!(await stopping())) {
      const offset = (rounds * PIECE_BYTES) % MOST_BYTES;
      const piece = bytesOf(++rounds, PIECE_BYTES);
      done('write', system.pwrite(handle, piece, offset));
      const before = Math.max(0, offset - PIECE_BYTES);
      done('read', system.pread(handle, found, before));
      const expected = before === offset ? piece : bytesOf(rounds - 1, PIECE_BYTES);
      if (!found.equals(expected)) throw new Error(`the bytes at ${before} are not those of round ${rounds - 1}`);
    }
    const attributes = system.stat(handle, false);
    if (typeof attributes === 'number') throw new Error(`stat of the handle failed with errno ${-attributes}`);
    if (attributes.nlink !== 0) throw new Error(`the file has ${attributes.nlink} names`);
    done('close', system.close(handle));
    return rounds;
  },
};
