import { FsError } from '../errno.ts';

/** Kinds of values in a command's JSON object. */
interface Kinds {
  string: string;
  boolean: boolean;
}

type Shape = { readonly [key: string]: keyof Kinds };

export type CommandOf<S extends Shape> = { readonly [K in keyof S]?: Kinds[S[K]] };

/**
 * Reads a command: a line of plain text, which is the value of `plain`, or a JSON object of this shape.
 *
 * @throws {FsError} EINVAL for JSON that isn't an object of known keys with values of the right kind
 */
export function parseCommand<S extends Shape>(
  text: string,
  plain: keyof S & string,
  shape: S,
  hint: string,
): CommandOf<S> {
  const trimmed = text.trim();
  // The key is one of the shape's, and a plain command is a string.
  if (!trimmed.startsWith('{')) return { [plain]: trimmed } as CommandOf<S>;
  let value: unknown;
  try {
    value = JSON.parse(trimmed);
  } catch (problem) {
    const reason = problem instanceof Error ? problem.message : String(problem);
    throw new FsError('EINVAL', `that is not JSON: ${reason}`, { hint });
  }
  for (const [key, field] of Object.entries(value as object)) {
    const kind = Object.hasOwn(shape, key) ? shape[key] : undefined;
    if (kind === undefined)
      throw new FsError('EINVAL', `'${key}' is not a key here; there are: ${Object.keys(shape).join(', ')}`, { hint });
    // Ids may be given as numbers.
    if (typeof field !== kind && !(kind === 'string' && Number.isSafeInteger(field)))
      throw new FsError('EINVAL', `'${key}' must be a ${kind}`, { hint });
  }
  // Checked above, key by key.
  const checked = value as Record<string, string | number | boolean>;
  return Object.fromEntries(
    Object.entries(checked).map(([key, field]) => [key, typeof field === 'number' ? String(field) : field]),
  ) as CommandOf<S>;
}
