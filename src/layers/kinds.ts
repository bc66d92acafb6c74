import { fileType } from '../vfs/inode.ts';

/** What a file is, in the words of `changes` and `history`. */
export type Kind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character device' | 'block device';

const KINDS: ReadonlyMap<number, Kind> = new Map([
  [fileType.regular, 'file'],
  [fileType.directory, 'directory'],
  [fileType.symlink, 'symlink'],
  [fileType.fifo, 'fifo'],
  [fileType.socket, 'socket'],
  [fileType.characterDevice, 'character device'],
  [fileType.blockDevice, 'block device'],
]);

/** @throws {Error} for a mode without a type */
export function kindOf({ mode }: { readonly mode: number }): Kind {
  const kind = KINDS.get(mode & fileType.mask);
  if (kind === undefined) throw new Error(`mode ${mode.toString(8)} has no type`);
  return kind;
}

export function isFile({ mode }: { readonly mode: number }): boolean {
  return (mode & fileType.mask) === fileType.regular;
}

export function isDirectoryMode(mode: number): boolean {
  return (mode & fileType.mask) === fileType.directory;
}

/** Whether it has content that a patch can tell of: a regular file or a symbolic link. */
export function hasText({ mode }: { readonly mode: number }): boolean {
  const type = mode & fileType.mask;
  return type === fileType.regular || type === fileType.symlink;
}
