import { type LayerId, ROOT_INO } from '../../src/brand.ts';
import { newDirectory } from '../../src/vfs/directory.ts';
import { fileType, type Inode, inodeFromImage } from '../../src/vfs/inode.ts';
import type { Place, TenantState } from '../../src/vfs/store.ts';
import { Workspace } from '../../src/vfs/workspace.ts';

const MIB = 1024 * 1024;

/** The working layer of a new tenant, on top of its base layer. */
export const FIRST_PLACE: Place = { layer: 2 as LayerId, ranges: [[1, 2]], firstIno: 2, firstCookie: 16 }; // a layer's id

/** A workspace over no storage, its root not loaded. */
export function bareWorkspace(
  state: Partial<TenantState> = {},
  caches: { readonly metadataBytes?: number; readonly chunkBytes?: number } = {},
): Workspace {
  return new Workspace(
    { sequence: 0, nextIno: 2, nextCookie: 16, usedBytes: 0, usedInodes: 1, ...state },
    FIRST_PLACE,
    { maxFileBytes: 2 ** 40, maxBytes: 0, maxInodes: 0 },
    { metadataBytes: 64 * MIB, chunkBytes: 64 * MIB, ...caches },
  );
}

/** Gives a workspace an empty root directory, as a change that isn't committed. */
export function addRoot(workspace: Workspace): Inode {
  const times = {
    atimeSec: 0,
    atimeNsec: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    ctimeSec: 0,
    ctimeNsec: 0,
    btimeSec: 0,
    btimeNsec: 0,
  };
  const mode = fileType.directory | 0o755;
  const rest = { uid: 0, gid: 0, nlink: 2, size: 0, allocated: 0, rdev: 0, target: '', xattrs: null };
  const root = inodeFromImage({ ino: ROOT_INO, parent: ROOT_INO, mode, ...times, ...rest }, false);
  root.directory = newDirectory(true);
  workspace.keep(root);
  workspace.touch(root);
  return root;
}
