import { join } from 'node:path';
import { atLeast, warmReadNearPlain } from '../goals.ts';
import { run } from '../program.ts';
import type { Place, Suite } from './workload.ts';

const MEGABYTE = 1e6;
const MIB = 2 ** 20;
const WRITE = 'sequential write+fsync';

/** One large file that doesn't compress. */
export function sequentialSuite(mibs: number): Suite {
  const stream = async (place: Place, action: 'write' | 'read'): Promise<readonly number[]> => {
    const file = join(place.directory, 'large');
    const args = [action, file, `${mibs}`, `${place.round + 1}`];
    const { stdout } = await run(place.programs.stream, args, { signal: place.signal });
    return [(mibs * MIB) / MEGABYTE / (Number(stdout) / 1e9)];
  };
  const read = (place: Place): Promise<readonly number[]> => stream(place, 'read');
  return {
    name: 'sequential',
    opponents: ['passthrough_ll'],
    steps: [
      {
        rows: [{ name: WRITE, unit: 'MB/s', goals: [atLeast(150, 'MB/s')] }],
        needs: [],
        temperature: 'as it is',
        measure: (place) => stream(place, 'write'),
      },
      {
        rows: [{ name: 'sequential read, restarted', unit: 'MB/s', goals: [atLeast(300, 'MB/s')] }],
        needs: [WRITE],
        temperature: 'restarted',
        measure: read,
      },
      {
        rows: [{ name: 'sequential read, cold', unit: 'MB/s', goals: [atLeast(300, 'MB/s')] }],
        needs: [WRITE],
        temperature: 'cold',
        measure: read,
      },
      {
        rows: [{ name: 'sequential read, warm', unit: 'MB/s', goals: [warmReadNearPlain] }],
        needs: [WRITE],
        temperature: 'as it is',
        async prepare(place) {
          await read(place);
        },
        measure: read,
      },
    ],
  };
}
