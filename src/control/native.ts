import type { NativeRule, NativeStatus } from '../native/rule.ts';
import { type ControlRow, jsonLines } from './files.ts';

export interface NativeFilesParts {
  readonly nativeMounts: () => readonly NativeStatus[];
  readonly nativeRules: () => readonly NativeRule[];
}

/** The rows of `mounts/`. */
export function nativeFiles({ nativeMounts, nativeRules }: NativeFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'mounts/list',
      about: 'how each native mount fares: mounted, waiting, failed, overridden or leaving, and why',
      node: { file: { read: () => jsonLines(nativeMounts()) } },
    },
    {
      path: 'mounts/rules',
      about: 'the rules of native mounts, as they are configured',
      node: { file: { read: () => jsonLines(nativeRules()) } },
    },
  ];
}
