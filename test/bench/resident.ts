import { readFileSync } from 'node:fs';
import type { ServingProcess, Target } from './targets/target.ts';

/** Rare enough not to cost what is measured anything: a sum over shared pages walks all of them. */
const INTERVAL_MS = 1000;

/** The most memory that one role of a target's processes had, in MiB. */
export interface Resident {
  readonly target: string;
  readonly role: string;
  /** The kernel's own high-water mark (VmHWM), of the largest process of the role. */
  readonly peakMib: number;
  /** The most that a sample saw of all of the role's processes, pages that they share counted once (Pss). */
  readonly sumMib: number;
  /** The most of one process's own memory (RssAnon) that a sample saw: without mapped files and shared memory. */
  readonly anonymousMib: number;
}

interface Peak {
  peakKib: number;
  sumKib: number;
  anonymousKib: number;
}

/** Watches the memory of the processes that serve the targets. */
export class ResidentSampler {
  readonly #targets: readonly Target[];
  readonly #peaks = new Map<string, Peak>();
  readonly #timer: NodeJS.Timeout;

  constructor(targets: readonly Target[]) {
    this.#targets = targets;
    this.#timer = setInterval(() => this.sample(), INTERVAL_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Looks now, too: before processes end, their high-water mark is still to be had. */
  sample(): void {
    for (const target of this.#targets)
      for (const [role, processes] of byRole(target.processes())) {
        const key = `${target.name} ${role}`;
        const peak = this.#peaks.get(key) ?? { peakKib: 0, sumKib: 0, anonymousKib: 0 };
        this.#peaks.set(key, peak);
        let sumKib = 0;
        for (const { pid } of processes) {
          const status = readFields(`/proc/${pid}/status`);
          peak.peakKib = Math.max(peak.peakKib, status.get('VmHWM') ?? 0);
          peak.anonymousKib = Math.max(peak.anonymousKib, status.get('RssAnon') ?? 0);
          sumKib += (processes.length === 1 ? status.get('VmRSS') : proportionalKib(pid)) ?? 0;
        }
        peak.sumKib = Math.max(peak.sumKib, sumKib);
      }
  }

  results(): Resident[] {
    return [...this.#peaks].map(([key, { peakKib, sumKib, anonymousKib }]) => {
      const [target = '', role = ''] = key.split(' ');
      const mib = (kib: number): number => Math.round(kib / 1024);
      return { target, role, peakMib: mib(peakKib), sumMib: mib(sumKib), anonymousMib: mib(anonymousKib) };
    });
  }
}

function byRole(processes: readonly ServingProcess[]): Map<string, readonly ServingProcess[]> {
  const roles = new Map<string, ServingProcess[]>();
  for (const serving of processes) roles.set(serving.role, [...(roles.get(serving.role) ?? []), serving]);
  return roles;
}

function proportionalKib(pid: number): number | undefined {
  return readFields(`/proc/${pid}/smaps_rollup`).get('Pss');
}

/** The lines `Name: number kB` of a file in /proc; none when the process is gone. */
function readFields(file: string): Map<string, number> {
  try {
    const lines = readFileSync(file, 'utf8').matchAll(/^(\w+):\s+(\d+) kB$/gm);
    return new Map(Array.from(lines, ([, name = '', kib]) => [name, Number(kib)]));
  } catch {
    return new Map();
  }
}
