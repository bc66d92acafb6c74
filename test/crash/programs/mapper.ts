import { writeFileSync } from 'node:fs';
import koffi from 'koffi';
import { nativeCall, OPEN_FLAGS } from '../../model/syscalls.ts';
import { done } from '../perform.ts';
import type { Program } from './program.ts';

const PAGES = 64;
const PAGE_BYTES = 4096;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** Counts in the pages of a shared mapping, one after the other. Gives the rounds: page p has the last one it was in. */
export const mapper: Program<{ readonly file: string }, number> = {
  async run({ file }, { system, stopping, ready }) {
    writeFileSync(file, Buffer.alloc(PAGES * PAGE_BYTES));
    const handle = done('open', system.open(file, OPEN_FLAGS.O_RDWR, 0));
    const view = new DataView(map(handle, PAGES * PAGE_BYTES));
    ready();
    let rounds = 0;
    while (!(await stopping())) {
      rounds++;
      view.setUint32((rounds % PAGES) * PAGE_BYTES, rounds, true);
      if (rounds % 500 === 0) done('fsync', system.fsync(handle));
    }
    return rounds;
  },
};

/** What page p holds after so many rounds. */
function mappedNumber(page: number, rounds: number): number {
  const last = rounds - ((((rounds - page) % PAGES) + PAGES) % PAGES);
  return Math.max(0, last);
}

/** @throws {Error} where a page of the file doesn't hold what the mapper left there. */
export function checkMapped(bytes: Buffer, rounds: number): void {
  for (let page = 0; page < PAGES; page++) {
    const [found, expected] = [bytes.readUInt32LE(page * PAGE_BYTES), mappedNumber(page, rounds)];
    if (found !== expected) throw new Error(`page ${page} holds ${found} where ${expected} was written`);
  }
}

function map(handle: number, length: number): ArrayBuffer {
  const mmap = nativeCall<
    (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => bigint
  >('void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)');
  const address = mmap(null, length, PROT_READ_WRITE, MAP_SHARED, handle, 0);
  if (address === 0xffff_ffff_ffff_ffffn) throw new Error('mmap failed');
  return koffi.view(address, length);
}
