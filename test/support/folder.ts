import { rmSync } from 'node:fs';
import { execaSync } from 'execa';

/** Removes a folder that may hold a mount point, which a sidecar leaves immutable. */
export function removeFolder(folder: string): void {
  // Not every file system has the flag; what then stands in the way is told by the removal.
  execaSync('chattr', ['-R', '-f', '-i', folder], { reject: false });
  rmSync(folder, { recursive: true, force: true });
}
