import { FsError } from '../errno.ts';
import { closeHandle, openDirectory, syncFileSystem } from '../fuse/libc.ts';

/** Linux, asm-generic/errno.h. */
const ESTALE = 116;

/**
 * Hands what programs changed through mappings of files in the mount, and the kernel still holds, to whoever serves it.
 * Where a mapping is of a file that a switch has changed, the kernel is refused, and that is as it should be.
 *
 * @throws {FsError} EIO when the kernel can't write them back
 */
export async function takeKernelPages(mount: string): Promise<void> {
  const handle = await openDirectory(mount);
  const code = await syncFileSystem(handle);
  closeHandle(handle);
  if (code !== 0 && code !== ESTALE)
    throw new FsError('EIO', `the kernel could not write back its dirty pages (errno ${code})`);
}
