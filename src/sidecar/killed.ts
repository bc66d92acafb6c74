import { readFileSync } from 'node:fs';

const SIGKILL_MASK = 0x100n;

/**
 * Whether a process is being killed: SIGKILL is pending for it or its thread, which is what every fatal signal
 * becomes (proc(5), status). A process that is gone was. Processes that this one can't see (pid 0) aren't known to be.
 */
export function isKilled(pid: number): boolean {
  if (pid === 0) return false;
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return true;
  }
  const masks = status.matchAll(/^S(?:ig|hd)Pnd:\t([0-9a-f]+)$/gm);
  for (const mask of masks) if ((BigInt(`0x${mask[1]}`) & SIGKILL_MASK) !== 0n) return true;
  return false;
}
