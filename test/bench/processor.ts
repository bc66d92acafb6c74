import { readFileSync } from 'node:fs';
import type { Target } from './targets/target.ts';

/** Clock ticks a second in /proc (sysconf(_SC_CLK_TCK), 100 on Linux). */
const TICKS_PER_SECOND = 100;

/** Processor time that the processes of each role have used since they started, in seconds. */
export type ProcessorTime = ReadonlyMap<string, number>;

/** Reads it for the processes that serve a target now. */
export function processorTime(target: Target): ProcessorTime {
  const times = new Map<string, number>();
  for (const { role, pid } of target.processes()) times.set(role, (times.get(role) ?? 0) + secondsOf(pid));
  return times;
}

/** What was used between two readings, by role; a process that ended in between isn't counted. */
export function processorUse(before: ProcessorTime, after: ProcessorTime): Readonly<Record<string, number>> {
  const used = [...after].map(([role, seconds]): [string, number] => [role, seconds - (before.get(role) ?? 0)]);
  return Object.fromEntries(used.map(([role, seconds]) => [role, Math.max(0, Math.round(seconds * 100) / 100)]));
}

/** User and system time of all threads (fields 14 and 15 of proc_pid_stat(5)). */
function secondsOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0; // it has ended
  }
}
