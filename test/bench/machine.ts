import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';

/** What the figures were measured on. */
export interface Machine {
  readonly kernel: string;
  readonly arch: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryMib: number;
  /** What all targets store in. */
  readonly filesystem: string;
  readonly node: string;
  /** One-minute load average when the bench started: others who used the machine. */
  readonly load: number;
}

export function describeMachine(filesystem: string): Machine {
  return {
    kernel: release(),
    arch: arch(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryMib: Math.round(totalmem() / 2 ** 20),
    filesystem,
    node: process.version,
    load: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
  };
}

/** Drops the kernel's clean pages, dentries and inodes, of all filesystems (proc_sys_vm(5)). What is dirty stays. */
export async function dropKernelCaches(): Promise<void> {
  await writeFile('/proc/sys/vm/drop_caches', '3');
}
