import type { ByteString, InodeImage } from '../vfs/store.ts';
import { type Entry, sameXattrs } from './diff-entries.ts';
import type { Examined } from './diff-examine.ts';
import { isFile, kindOf } from './kinds.ts';

const PERMISSIONS = 0o7777;

/** The line of `changes` for an entry; undefined when it turned out that nothing differs. */
export function changeLine(entry: Entry, examined: Examined | undefined): string | undefined {
  const { path, from, before, after } = entry;
  const one = after ?? before;
  if (one === undefined) return undefined;
  const same = entry.sameContent || (examined !== undefined && examined !== 'too large' && examined.same);
  const attributes = attributeFields(before, after);
  const change = entry.change === 'modified' && same ? 'metadata' : entry.change;
  if (change === 'metadata' && Object.keys(attributes).length === 0) return undefined;
  return JSON.stringify({
    ...pathFields('path', path),
    change,
    type: kindOf(one),
    ...(change === 'renamed' ? pathFields('from', from) : {}),
    ...sizeFields(before, after),
    ...(isFile(one) ? countFields(same, examined) : {}),
    ...attributes,
  });
}

/** A path as text, and its bytes where that isn't what they say. */
function pathFields(key: string, path: ByteString): object {
  const bytes = Buffer.from(path, 'latin1');
  const text = bytes.toString('utf8');
  return { [key]: text, ...(Buffer.from(text).equals(bytes) ? {} : { [`${key}_base64`]: bytes.toString('base64') }) };
}

function sizeFields(before: InodeImage | undefined, after: InodeImage | undefined): object {
  const hasSize = (image: InodeImage | undefined) => image !== undefined && (isFile(image) || image.target !== '');
  return {
    ...(hasSize(before) ? { old_size: before?.size } : {}),
    ...(hasSize(after) ? { size: after?.size } : {}),
  };
}

function countFields(same: boolean, examined: Examined | undefined): object {
  if (examined === 'too large') return { too_large: true };
  if (same) return { lines_added: 0, lines_deleted: 0 };
  if (examined === undefined) return {};
  return examined.binary ? { binary: true } : { lines_added: examined.added, lines_deleted: examined.deleted };
}

function attributeFields(before: InodeImage | undefined, after: InodeImage | undefined): object {
  if (before === undefined || after === undefined) return {};
  const fields: Record<string, unknown> = {};
  const differ = (key: string, textOf: (image: InodeImage) => string) => {
    if (textOf(before) === textOf(after)) return;
    fields[`old_${key}`] = textOf(before);
    fields[key] = textOf(after);
  };
  differ('mode', ({ mode }) => (mode & PERMISSIONS).toString(8).padStart(4, '0'));
  differ('owner', ({ uid, gid }) => `${uid}:${gid}`);
  if (!sameXattrs(before, after)) fields['xattrs'] = 'changed';
  return fields;
}
