import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Owner of every lease in an embedded database: only one sidecar can run it, so its next run is let in at once. */
export const EMBEDDED_OWNER = 'embedded';

/**
 * Who holds a lease, for people and for `isGone`: host, process, and what makes the process number mean something
 * (the boot of the machine and the pid namespace of the container).
 */
export function ownerName(): string {
  return `${hostname()} pid ${process.pid} (${realm()})`;
}

function realm(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  const namespace = readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
  return `boot ${boot}, pid namespace ${namespace}`;
}

/** Whether the owner was a process that this one could see and that has ended: its lease needn't run out first. */
export function isGone(owner: string): boolean {
  const [, pid, where] = owner.match(/ pid (\d+) \((.*)\)$/) ?? [];
  return pid !== undefined && where === realm() && !existsSync(`/proc/${pid}`);
}
