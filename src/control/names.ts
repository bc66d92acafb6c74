import { FsError } from '../errno.ts';

/** Text of a name that came as bytes. @throws {FsError} EINVAL when it isn't UTF-8 */
export function textOf(name: string): string {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString('utf8');
  if (!Buffer.from(text).equals(bytes)) throw new FsError('EINVAL', 'the name is not UTF-8');
  return text;
}

/** The bytes of a name, one character each. */
export function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}
