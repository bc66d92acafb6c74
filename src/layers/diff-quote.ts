import type { ByteString } from '../vfs/store.ts';

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['\x07', '\\a'],
  ['\b', '\\b'],
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\v', '\\v'],
  ['\f', '\\f'],
  ['\r', '\\r'],
  ['"', '\\"'],
  ['\\', '\\\\'],
]);

/**
 * A path as patches have it: itself, or in double quotes with C's escapes where it has control characters, quotes,
 * backslashes or bytes that aren't ASCII (git, core.quotePath). With a space in it, too: git would do without, but GNU
 * patch takes a space for the end of a name.
 */
export function quotePath(path: ByteString): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they're what is looked for
  const quoted = path.replace(/[\x00-\x1f"\\\x7f-\xff]/g, (character) => {
    const octal = () => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`;
    return ESCAPES.get(character) ?? octal();
  });
  return quoted === path && !path.includes(' ') ? path : `"${quoted}"`;
}
