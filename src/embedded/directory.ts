import { chmodSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { execa } from 'execa';

/**
 * Makes a directory that anyone may enter, whatever the umask, and those above it that are missing. One that is there
 * stays as it is. (Node's own `recursive` never returns in /proc, and reports ENOENT for a read-only disk.)
 *
 * @throws what mkdir(2) reports; `reasonOf` puts it into words.
 */
export function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory);
  } catch (problem) {
    const code = codeOf(problem);
    if (code === 'EEXIST' && statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
    if (code !== 'ENOENT' || dirname(directory) === directory) throw problem;
    makeDirectory(dirname(directory));
    mkdirSync(directory);
  }
  chmodSync(directory, 0o755);
}

const REASONS: { readonly [code: string]: string } = {
  EEXIST: 'it is not a directory',
  ENOTDIR: 'a part of the path is not a directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the disk is read-only',
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'the disk quota is used up',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
};

/** Why a system call on a directory failed, for a person. */
export function reasonOf(problem: unknown): string {
  const code = codeOf(problem);
  return REASONS[code] ?? code;
}

function codeOf(problem: unknown): string {
  return problem instanceof Error && 'code' in problem ? String(problem.code) : String(problem);
}

/**
 * The outermost directory on the way to `directory`, itself included, that a user may not enter; undefined when there's
 * none. For root to ask: another process tries it as that user, so ACLs and security modules have their say.
 */
export async function closedTo(uid: number, directory: string): Promise<string | undefined> {
  const path: string[] = [];
  for (let at = directory; ; at = dirname(at)) {
    path.unshift(at);
    if (dirname(at) === at) break;
  }
  const script = 'for at; do test -x "$at" || { printf %s "$at"; exit; }; done';
  const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const { stdout } = await execa('setpriv', [...user, '--', 'sh', '-c', script, 'sh', ...path], { cwd: '/' });
  return stdout === '' ? undefined : stdout;
}
