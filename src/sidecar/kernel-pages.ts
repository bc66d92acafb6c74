import { execFile } from 'node:child_process';
import { FsError } from '../errno.ts';

/** What sync(1) says of ESTALE, in the C locale. */
const STALE = 'Stale file handle';

/**
 * Hands what programs changed through mappings of files in the mount, and the kernel still holds, to whoever serves it.
 * Where a mapping is of a file that a switch has changed, the kernel is refused, and that is as it should be.
 *
 * A program of its own does it (sync(1), syncfs(2)), and waits. The kernel lets go of nobody, not even of who is
 * killed, before a request that has been read is answered (fs/fuse/dev.c, request_wait_answer). A daemon or supervisor
 * that waited there would outlive its end, and keep the device open that it waits for: no other daemon would take its
 * place, and nobody who uses the mount could be ended any more.
 *
 * @throws {FsError} EIO when the kernel can't write them back
 */
export function takeKernelPages(mount: string): Promise<void> {
  const environment = { PATH: process.env['PATH'], LC_ALL: 'C' };
  return new Promise((resolve, reject) => {
    execFile('sync', ['-f', mount], { cwd: '/', env: environment }, (problem, _said, complaint) => {
      if (problem === null || complaint.includes(STALE)) resolve();
      else
        reject(
          new FsError('EIO', `the kernel could not write back its dirty pages: ${complaint.trim()}`, {
            cause: problem,
          }),
        );
    });
  });
}
