import { type ControlRow, jsonText } from './files.ts';

export interface UsageFilesParts {
  /** @throws {FsError} */
  readonly usage: () => Promise<object>;
}

/** The row of `stats/usage`. */
export function usageFiles({ usage }: UsageFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'stats/usage',
      about: 'space, files, layers; how often content is shared, how small it is stored, what is still to be packed',
      node: { file: { read: async () => jsonText(await usage()) } },
    },
  ];
}
