import { OPERATIONS } from '../audit/operations.ts';
import * as abi from './wire/abi.ts';
import { OPCODE } from './wire/operations.ts';

/** What a request is about. */
export type Subject =
  /** Its inode. */
  | 'inode'
  /** A name in its inode, which starts so many bytes behind the header. */
  | { readonly name: number }
  /** Two names, the second one in the directory whose nodeid comes first. */
  | { readonly names: number }
  /** Another inode, and a name for it. */
  | 'link'
  | 'copy';

/** What an opcode is recorded as. */
export interface Kind {
  readonly code: number;
  /** The least level at which it's recorded. */
  readonly level: number;
  readonly subject: Subject;
}

function kind(name: keyof typeof OPERATIONS, subject: Subject = 'inode'): Kind {
  return { ...OPERATIONS[name], subject };
}

/** By opcode; what isn't here is never recorded. A few opcodes stand for several operations, the first one here. */
export const KINDS: (Kind | undefined)[] = [];
KINDS[OPCODE.CREATE] = kind('create', { name: abi.createIn.size });
KINDS[OPCODE.MKDIR] = kind('mkdir', { name: abi.mkdirIn.size });
KINDS[OPCODE.MKNOD] = kind('mknod', { name: abi.mknodIn.size });
KINDS[OPCODE.SYMLINK] = kind('symlink', { name: 0 });
KINDS[OPCODE.LINK] = kind('link', 'link');
KINDS[OPCODE.UNLINK] = kind('unlink', { name: 0 });
KINDS[OPCODE.RMDIR] = kind('rmdir', { name: 0 });
KINDS[OPCODE.RENAME] = kind('rename', { names: abi.renameIn.size });
KINDS[OPCODE.RENAME2] = kind('rename', { names: abi.rename2In.size });
KINDS[OPCODE.SETATTR] = kind('utimes');
KINDS[OPCODE.SETXATTR] = kind('setxattr');
KINDS[OPCODE.REMOVEXATTR] = kind('removexattr');
KINDS[OPCODE.FALLOCATE] = kind('fallocate');
KINDS[OPCODE.COPY_FILE_RANGE] = kind('copy', 'copy');
KINDS[OPCODE.COPY_FILE_RANGE_64] = kind('copy', 'copy');
KINDS[OPCODE.TMPFILE] = kind('tmpfile');
KINDS[OPCODE.OPEN] = kind('open-truncate');
KINDS[OPCODE.RELEASE] = kind('close');
KINDS[OPCODE.READDIR] = kind('readdir');
KINDS[OPCODE.READDIRPLUS] = kind('readdir');
KINDS[OPCODE.FSYNC] = kind('fsync');
KINDS[OPCODE.FSYNCDIR] = kind('fsync');
KINDS[OPCODE.SYNCFS] = kind('fsync');
KINDS[OPCODE.LOOKUP] = kind('lookup', { name: 0 });
KINDS[OPCODE.GETATTR] = kind('getattr');
KINDS[OPCODE.STATX] = kind('getattr');
KINDS[OPCODE.READLINK] = kind('readlink');
KINDS[OPCODE.READ] = kind('read');
KINDS[OPCODE.WRITE] = kind('write');
KINDS[OPCODE.GETXATTR] = kind('getxattr');
KINDS[OPCODE.LISTXATTR] = kind('listxattr');
KINDS[OPCODE.STATFS] = kind('statfs');
KINDS[OPCODE.LSEEK] = kind('lseek');
KINDS[OPCODE.FLUSH] = kind('flush');
KINDS[OPCODE.OPENDIR] = kind('opendir');
KINDS[OPCODE.RELEASEDIR] = kind('closedir');

/**
 * Of control files, commands and what opens and lists them; the rest would tell of nothing but those who look, and of
 * whoever reads the log itself.
 */
export const CONTROL_KINDS: (Kind | undefined)[] = [];
CONTROL_KINDS[OPCODE.WRITE] = kind('command');
for (const opcode of [OPCODE.OPEN, OPCODE.READDIR, OPCODE.READDIRPLUS, OPCODE.CREATE, OPCODE.UNLINK])
  CONTROL_KINDS[opcode] = KINDS[opcode];
for (const opcode of [OPCODE.MKDIR, OPCODE.MKNOD, OPCODE.SYMLINK, OPCODE.RMDIR, OPCODE.RENAME, OPCODE.RENAME2])
  CONTROL_KINDS[opcode] = KINDS[opcode];
