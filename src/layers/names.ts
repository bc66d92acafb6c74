import { FsError } from '../errno.ts';

const NAME_MAX_BYTES = 200;
const RESERVED = new Set(['working', 'current']);

/**
 * Checks the name of a layer or a tag.
 *
 * @throws {FsError} EINVAL that says which rule it breaks
 */
export function checkLayerName(name: string): void {
  const broken = brokenRule(name);
  if (broken === undefined) return;
  throw new FsError('EINVAL', `'${name.slice(0, NAME_MAX_BYTES)}' cannot be a name: ${broken}`, {
    hint: 'a name has 1 to 200 bytes without "/", ".." or control characters, does not start with "." or "-", and is not a number',
  });
}

function brokenRule(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (Buffer.byteLength(name) > NAME_MAX_BYTES) return `it has more than ${NAME_MAX_BYTES} bytes`;
  if (name.includes('/')) return 'it has a "/" in it';
  if (name.includes('..')) return 'it has ".." in it';
  if (/\p{Cc}/u.test(name)) return 'it has a control character in it';
  if (/^[.-]/.test(name)) return 'it starts with "." or "-"';
  if (/^\d+$/.test(name)) return 'numbers are ids';
  if (RESERVED.has(name)) return 'that name is reserved';
  return undefined;
}

/** A name for changes that a switch found without a checkpoint. `isTaken` tells of those in use. */
export function autoName(nowMs: number, isTaken: (name: string) => boolean): string {
  const name = `auto-${new Date(nowMs).toISOString()}`;
  if (!isTaken(name)) return name;
  for (let n = 2; ; n++) if (!isTaken(`${name}-${n}`)) return `${name}-${n}`;
}

/** The first of `checkpoint-1`, `checkpoint-2`, … that isn't taken. */
export function nextCheckpointName(count: number, isTaken: (name: string) => boolean): string {
  for (let n = Math.max(1, count); ; n++) if (!isTaken(`checkpoint-${n}`)) return `checkpoint-${n}`;
}
