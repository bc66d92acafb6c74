import { constants } from 'node:fs';
import { chown, type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { FsError } from '../errno.ts';

/** Names a place without opening what is there (open(2)); Node doesn't know it. The same on every architecture. */
const O_PATH = 0o10000000;

/** What is made on the way belongs to root; what is made at its end belongs to these. */
export interface MakeMissing {
  readonly uid: number;
  readonly gid: number;
  readonly kind: 'directory' | 'file';
}

/** A place in the tree that stays what it is, whatever becomes of its path. To be closed. */
export type Place = FileHandle;

/** A path by which system calls get to exactly this place. */
export function pathOf(place: Place): string {
  return `/proc/self/fd/${place.fd}`;
}

/** The place of a directory, symbolic links followed: for paths that the operator gives. @throws system errors */
export async function openRoot(path: string): Promise<Place> {
  return await open(path, O_PATH | constants.O_DIRECTORY);
}

/**
 * Goes down from a directory by these names, of which none may be `.`, `..` or a symbolic link, through mounts. So
 * whoever can change what is below can't lead it out. What is missing is made when `make` says so.
 *
 * @throws {FsError} ENOENT, ENOTDIR, ELOOP for a symbolic link at the end, and what else making knows; the path is named.
 */
export async function openBelow(from: Place, names: readonly string[], make?: MakeMissing): Promise<Place> {
  let at = await step(from, '.', constants.O_DIRECTORY, '.');
  try {
    for (const [index, name] of names.entries()) {
      const isLast = index === names.length - 1;
      if (make !== undefined) await makeIfMissing(at, name, isLast ? make : { uid: 0, gid: 0, kind: 'directory' });
      const next = await step(at, name, isLast ? 0 : constants.O_DIRECTORY, names.slice(0, index + 1).join('/'));
      await at.close();
      at = next;
    }
    if ((await at.stat()).isSymbolicLink()) throw new FsError('ELOOP', `${names.join('/')} is a symbolic link`);
    return at;
  } catch (problem) {
    await at.close();
    throw problem;
  }
}

async function step(at: Place, name: string, flags: number, shown: string): Promise<Place> {
  try {
    return await open(`${pathOf(at)}/${name}`, O_PATH | constants.O_NOFOLLOW | flags);
  } catch (problem) {
    throw failure(problem, shown);
  }
}

async function makeIfMissing(at: Place, name: string, { uid, gid, kind }: MakeMissing): Promise<void> {
  const path = `${pathOf(at)}/${name}`;
  try {
    if (kind === 'directory') await mkdir(path, 0o755);
    else await writeFile(path, '', { flag: 'wx' });
  } catch (problem) {
    if (codeOf(problem) === 'EEXIST') return;
    throw failure(problem, name);
  }
  const made = await step(at, name, 0, name);
  try {
    await chown(pathOf(made), uid, gid);
  } finally {
    await made.close();
  }
}

function failure(problem: unknown, shown: string): FsError {
  const code = codeOf(problem);
  if (code === 'ENOENT') return new FsError('ENOENT', `there is no ${shown}`);
  if (code === 'ENOTDIR' || code === 'ELOOP') return new FsError('ENOTDIR', `${shown} is not a directory`);
  return new FsError('EIO', `${shown}: ${code}`, { cause: problem });
}

function codeOf(problem: unknown): string {
  return problem instanceof Error && 'code' in problem ? String(problem.code) : String(problem);
}
