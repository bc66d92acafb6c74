import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Cleanup } from './cleanup.ts';
import { run } from './program.ts';

/** Where all targets store: in the local filesystem as it is, in one of their own, or whichever measures better. */
export type DiskChoice = 'auto' | 'local' | 'image';

export interface Disk {
  readonly directory: string;
  /** What it is, in words. */
  readonly description: string;
}

/** The image is sparse: it takes what is written. */
const IMAGE_BYTES = 32 * 2 ** 30;
const BYTES_PER_INODE = 32_768;

/**
 * The place for the targets, below `work`. ext4 without a journal doesn't use an inode again for some time, and looks
 * at all that were freed lately to find another (recently_deleted in fs/ext4/ialloc.c): creating files after others
 * were removed gets slower and slower, for whatever stores files there. `auto` then takes an image.
 */
export async function openDisk(choice: DiskChoice, work: string, signal: AbortSignal, cleanup: Cleanup): Promise<Disk> {
  const { type, source } = await filesystemOf(work, signal);
  const lacksJournal = type === 'ext4' && !hasJournal(source);
  const local = `${type}${lacksJournal ? ' without a journal' : ''}`;
  if (choice === 'local' || (choice === 'auto' && !lacksJournal)) {
    const directory = join(work, 'disk');
    mkdirSync(directory);
    return { directory, description: local };
  }
  return { directory: await mountImage(work, signal, cleanup), description: `ext4 in an image on ${local}` };
}

async function filesystemOf(directory: string, signal: AbortSignal): Promise<{ type: string; source: string }> {
  const { stdout } = await run('df', ['--output=fstype,source', directory], { signal });
  const [type = 'unknown', source = ''] = stdout.trim().split('\n').at(-1)?.split(/\s+/) ?? [];
  return { type, source };
}

function hasJournal(device: string): boolean {
  const journals = '/proc/fs/jbd2';
  return existsSync(journals) && readdirSync(journals).some((name) => name.startsWith(`${basename(device)}-`));
}

/** Makes a filesystem in a file and mounts it. */
async function mountImage(work: string, signal: AbortSignal, cleanup: Cleanup): Promise<string> {
  const image = join(work, 'disk.img');
  const directory = join(work, 'disk');
  mkdirSync(directory);
  await run('truncate', ['-s', `${IMAGE_BYTES}`, image], { signal });
  // Nothing is left to be initialized in the background while something is measured.
  const eager = ['-E', 'lazy_itable_init=0,lazy_journal_init=0', '-i', `${BYTES_PER_INODE}`];
  await run('mkfs.ext4', ['-q', ...eager, image], { signal });
  // Direct: pages aren't cached a second time, for the image.
  const { stdout: device } = await run('losetup', ['--find', '--show', '--direct-io=on', image], { signal });
  const always = new AbortController().signal; // cleaning up goes on after an interruption
  cleanup.add(device, async () => {
    await run('losetup', ['--detach', device], { signal: always });
  });
  await run('mount', [device, directory], { signal });
  cleanup.add(directory, async () => {
    await run('umount', [directory], { signal: always });
  });
  return directory;
}
