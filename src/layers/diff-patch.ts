import { fileType } from '../vfs/inode.ts';
import type { ByteString, InodeImage } from '../vfs/store.ts';
import type { Entry } from './diff-entries.ts';
import type { Examined } from './diff-examine.ts';
import { blobName, NO_BLOB } from './diff-jobs.ts';
import { quotePath } from './diff-quote.ts';
import { hasText } from './kinds.ts';

const OWNER_EXECUTE = 0o100;
const SYMLINK = '120000';
const NO_FILE = '/dev/null';

/** Whether a patch has anything to say of an entry: it knows files and symbolic links, and whether a file is executable. */
export function isInPatch({ before, after, sameContent, change }: Entry): boolean {
  const one = after ?? before;
  if (one === undefined || !hasText(one)) return false;
  if (before === undefined || after === undefined || change === 'renamed' || !sameContent) return true;
  return gitMode(before) !== gitMode(after);
}

/** An entry's part of a patch, in git's format (git, Documentation/diff-format, "Generating patch text with -p"). */
export function patchOf(entry: Entry, examined: Examined | undefined): Buffer {
  const { path, from, before, after, change } = entry;
  const oldMode = before && gitMode(before);
  const newMode = after && gitMode(after);
  const result = examined === 'too large' ? undefined : examined;
  const same = entry.sameContent || result?.same === true;
  const [oldName, newName] = [quotePath(`a/${from}`), quotePath(`b/${path}`)];
  const lines = [`diff --git ${oldName} ${newName}`];
  if (oldMode === undefined) lines.push(`new file mode ${newMode}`);
  else if (newMode === undefined) lines.push(`deleted file mode ${oldMode}`);
  else if (oldMode !== newMode) lines.push(`old mode ${oldMode}`, `new mode ${newMode}`);
  if (change === 'renamed') {
    lines.push(`similarity index ${same ? 100 : (result?.similarity ?? 0)}%`);
    lines.push(`rename from ${quotePath(from)}`, `rename to ${quotePath(path)}`);
  } else if (same && lines.length === 1) return Buffer.alloc(0);
  // Without a mode GNU patch takes it for a regular file.
  if (same && after !== undefined && newMode === SYMLINK) lines.push(sameIndex(after));
  if (same) return textOf(lines);
  const oldLabel = before === undefined ? NO_FILE : oldName;
  const newLabel = after === undefined ? NO_FILE : newName;
  if (result === undefined) return textOf([...lines, `Binary files ${oldLabel} and ${newLabel} differ`]);
  const mode = oldMode === newMode ? ` ${newMode}` : '';
  lines.push(`index ${result.blobBefore || NO_BLOB}..${result.blobAfter || NO_BLOB}${mode}`);
  if (result.body.length === 0) return textOf(lines);
  if (!result.binary) lines.push(`--- ${oldLabel}`, `+++ ${newLabel}`);
  return Buffer.concat([textOf(lines), result.body]);
}

/** The lines, which are byte strings. */
function textOf(lines: readonly ByteString[]): Buffer {
  return Buffer.from(`${lines.join('\n')}\n`, 'latin1');
}

function sameIndex({ target }: InodeImage): string {
  const blob = blobName(Buffer.from(target, 'latin1'));
  return `index ${blob}..${blob} ${SYMLINK}`;
}

function gitMode({ mode }: InodeImage): string {
  if ((mode & fileType.mask) === fileType.symlink) return SYMLINK;
  return (mode & OWNER_EXECUTE) === 0 ? '100644' : '100755';
}
