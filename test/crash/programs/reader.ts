import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { bytesOf } from '../operation.ts';
import type { Program } from './program.ts';

const FILES = 40;
const MOST_BYTES = 300_000;

/** Reads files over and over that don't change, and finds in them what it wrote at first. */
export const reader: Program<{ readonly root: string }, number> = {
  async run({ root }, { stopping, ready }) {
    mkdirSync(root);
    const contents = Array.from({ length: FILES }, (_, index) => bytesOf(index + 1, (index * 7919) % MOST_BYTES));
    for (const [index, bytes] of contents.entries()) writeFileSync(`${root}/${index}`, bytes);
    ready();
    let rounds = 0;
    while (!(await stopping())) {
      const index = rounds++ % FILES;
      const bytes = contents[index];
      if (bytes === undefined || !readFileSync(`${root}/${index}`).equals(bytes))
        throw new Error(`file ${index} has other bytes than were written`);
    }
    return rounds;
  },
};
