import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errnoName, errno as errnos, FsError } from '../errno.ts';
import { lastErrno, libc } from '../fuse/libc.ts';
import { openBelow, type Place, pathOf } from './walk.ts';

/** Flags of mount(2) and umount2(2). */
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * Makes bind mounts that are what they shall be from their first moment: each is made and restricted out of sight, and
 * only then put in its place. One at a time. All calls are on other threads: a place may be in a tree whose server has
 * yet to be started by this process.
 */
export class Stage {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tarbox-native-'));

  /**
   * Mounts `source` on `target`, both directories or both files, without setuid programs and device nodes. What is
   * mounted within the source isn't seen. Resolves to the mount's number (mountinfo).
   *
   * @throws {FsError}
   */
  async bind(source: Place, parent: Place, name: string, target: Place, readOnly: boolean): Promise<number> {
    const isDirectory = (await source.stat()).isDirectory();
    const stage = join(this.#folder, isDirectory ? 'directory' : 'file');
    if (isDirectory) await mkdir(stage, { recursive: true });
    else await writeFile(stage, '');
    await mount(pathOf(source), stage, MS_BIND);
    try {
      await mount('none', stage, MS_PRIVATE);
      await mount('none', stage, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (readOnly ? MS_RDONLY : 0));
      await mount(stage, pathOf(target), MS_BIND);
    } finally {
      await unmountPath(stage, MNT_DETACH);
    }
    const mounted = await openBelow(parent, [name]);
    try {
      return await mountIdOf(mounted);
    } finally {
      await mounted.close();
    }
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Takes the mount away that a directory has by this name. @throws {FsError} EBUSY while it's used and not `lazy` */
export async function unbind(parent: Place, name: string, lazy: boolean): Promise<void> {
  await unmountPath(`${pathOf(parent)}/${name}`, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0));
}

/** The number of the mount that a place is in (proc(5), fdinfo). */
export async function mountIdOf(place: Place): Promise<number> {
  const info = await readFile(`/proc/self/fdinfo/${place.fd}`, 'utf8');
  return Number(/^mnt_id:\s*(\d+)/m.exec(info)?.[1]);
}

function mount(source: string, target: string, flags: number): Promise<void> {
  return new Promise((done, fail) => {
    libc().mount.async(source, target, null, flags, null, (error, result) => {
      if (error) fail(error);
      else if (result < 0) fail(failure('mount', lastErrno()));
      else done();
    });
  });
}

function unmountPath(path: string, flags: number): Promise<void> {
  return new Promise((done, fail) => {
    libc().umount2.async(path, flags, (error, result) => {
      if (error) fail(error);
      else if (result < 0) fail(failure('unmount', lastErrno()));
      else done();
    });
  });
}

function failure(what: string, code: number): FsError {
  const known = code === errnos.EBUSY ? 'EBUSY' : code === errnos.EPERM ? 'EPERM' : 'EIO';
  return new FsError(known, `cannot ${what} it: ${errnoName(code)}`);
}
