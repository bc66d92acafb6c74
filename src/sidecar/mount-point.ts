import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import type { Config } from '../config/config.ts';
import { makeDirectory, reasonOf } from '../embedded/directory.ts';
import { mountOf, mountThatHolds, unmount } from '../fuse/device.ts';
import { setImmutable } from '../fuse/libc.ts';
import type { Logger } from '../log.ts';
import { StartError } from './start-error.ts';

/** As many as the kernel follows (path_resolution(7)). */
const MAX_LINKS = 40;

/**
 * Sees to it that the mount point is an empty directory that nothing is mounted on; a mount that nobody serves any more
 * is cleared. Resolves to its path without symbolic links, which is what the kernel calls the mount.
 *
 * @throws {StartError}
 */
export async function prepareMountPoint(config: Config, log: Logger): Promise<string> {
  const path = config.mount;
  const directory = withoutLinks(path);
  const found = mountOf(directory);
  if (found?.type === 'fuse.tarbox') {
    if (await answers(directory))
      throw new StartError(`${directory} is in use: a Tarbox serves it already; stop that one, or set TARBOX_MOUNT`);
    log.warn('stale-mount-cleared', { mount: directory });
    await unmount(directory, { lazy: true });
  } else if (found !== undefined)
    throw new StartError(`${directory} is in use: ${found.type} is mounted there; unmount it, or set TARBOX_MOUNT`);
  attempt(path, () => makeDirectory(directory));
  if (attempt(path, () => readdirSync(directory)).length > 0)
    throw new StartError(`${directory} is not empty: what is in it would be hidden; move it away, or set TARBOX_MOUNT`);
  if (config.requirePropagation) refuseIsolated(directory);
  // Whoever works there while nothing is mounted would believe that their files are kept, and hide them later.
  const problem = setImmutable(directory, config.protectMountPoint);
  if (problem !== undefined && config.protectMountPoint)
    log.info('mount-point-writable', { mount: directory, reason: problem });
  return directory;
}

/** @throws {StartError} where a mount would be seen in this container alone */
function refuseIsolated(directory: string): void {
  const holder = mountThatHolds(directory);
  if (holder === undefined || holder.shared) return;
  const where =
    holder.mountPoint === '/'
      ? `${directory} is inside this container`
      : `${holder.mountPoint} does not propagate mounts, as no named volume does`;
  throw new StartError(
    `${where}, so no other container would see the workspace; share a directory of the host as ${dirname(directory)}: \`-v /srv/tarbox:${dirname(directory)}:rshared\` (compose: the same in \`volumes\`; Kubernetes: \`mountPropagation: Bidirectional\` on a hostPath or emptyDir)`,
  );
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (problem) {
    throw new StartError(`cannot make the mount point ${path}: ${reasonOf(problem)}; set TARBOX_MOUNT`);
  }
}

/** Doesn't look into what the path leads to: that may be a mount whose server is gone. Makes the directory it is in. */
function withoutLinks(path: string): string {
  let at = resolve(path);
  for (let links = 0; links < MAX_LINKS; links++) {
    const parent = attempt(path, () => {
      makeDirectory(dirname(at));
      return realpathSync(dirname(at));
    });
    const place = join(parent, basename(at));
    const target = targetOf(place);
    if (target === undefined) return place;
    at = resolve(parent, target);
  }
  throw new StartError(`the mount point ${path} has too many symbolic links; set TARBOX_MOUNT`);
}

function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // it is no symbolic link, or isn't there
  }
}

/**
 * Whether someone serves the mount: asked by another process, which may be left waiting. Of attributes the kernel may
 * know enough by itself, of the space that is left it doesn't (fuse_statfs).
 */
async function answers(directory: string): Promise<boolean> {
  const { exitCode, stderr, timedOut } = await execa('stat', ['-f', directory], {
    reject: false,
    timeout: 2000,
    killSignal: 'SIGKILL',
  });
  // Whoever served it has just been killed, and the kernel is about to find that out (fuse_abort_conn).
  if (stderr.includes('connection abort')) return answers(directory);
  return exitCode === 0 || timedOut || !stderr.includes('not connected');
}
