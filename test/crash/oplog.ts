import { openSync, readFileSync, writeSync } from 'node:fs';

/** A call of a client that returned, with the times of its start and return: milliseconds of the machine's own clock. */
export interface Returned {
  /** How many operations of the plan this one makes. */
  readonly length: number;
  readonly startedMs: number;
  readonly returnedMs: number;
  /** Everything up to it is committed, says its return. */
  readonly barrier: boolean;
}

/** The clock of the log's times: one for all processes of the machine (CLOCK_MONOTONIC). */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Appends to a log of what returned; each record is in the file when the call does. */
export function oplogWriter(path: string): (returned: Returned) => void {
  const handle = openSync(path, 'a');
  return ({ length, startedMs, returnedMs, barrier }) =>
    writeSync(handle, `${length} ${startedMs} ${returnedMs} ${Number(barrier)}\n`);
}

/** What has returned, oldest first. */
export function readOplog(path: string): Returned[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // what follows the last line's end
  return lines.map((line) => {
    const [length = 0, startedMs = 0, returnedMs = 0, barrier] = line.split(' ').map(Number);
    return { length, startedMs, returnedMs, barrier: barrier === 1 };
  });
}
