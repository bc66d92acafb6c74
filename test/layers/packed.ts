import { readFileSync } from 'node:fs';
import { eventually } from '../support/postgres.ts';

/** `stats/usage`, as far as tests look at it. */
export interface Usage {
  readonly tree: { readonly files: number; readonly bytes: number };
  readonly layers: { readonly count: number; readonly tags: number };
  readonly content: Readonly<Record<string, number>>;
  readonly packer: { readonly pending: number; readonly delta_chunks: number } & Readonly<Record<string, number>>;
}

export function usageOf(mount: string): Usage {
  return JSON.parse(readFileSync(`${mount}/.tarbox/stats/usage`, 'utf8'));
}

/** Resolves when everything that can be packed has been. */
export async function packed(mount: string): Promise<void> {
  await eventually('history is packed', () => usageOf(mount).packer.pending === 0);
}
