import { mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../program.ts';
import { type Entry, LICENCES, planTree } from './plan.ts';
import { seededRandom } from './random.ts';
import { textMaker } from './text.ts';

/** A tar archive of a tree, and what whoever unpacks and reads it must find. */
export interface Archive {
  readonly path: string;
  readonly archiveBytes: number;
  readonly files: number;
  readonly symlinks: number;
  readonly directories: number;
  /** Sum of the sizes of the regular files. */
  readonly bytes: number;
  /** Lines in the files that contain `NEEDLE`. */
  readonly needles: number;
}

/** A text that grep looks for. */
export const NEEDLE = 'needle-in-the-haystack';
const NEEDLE_EVERY = 50;

/** Makes a tree of so many files and packs it, as `tree-<seed>.tar` in `directory`; only the archive is left. */
export async function makeArchive(
  directory: string,
  files: number,
  seed: number,
  signal: AbortSignal,
): Promise<Archive> {
  const random = seededRandom(seed);
  const { text, word } = textMaker(random);
  const entries = planTree(random, word, files);
  const licences = Array.from({ length: LICENCES }, () => text(1100 + random.integer(10_000)));
  const root = join(directory, `tree-${seed}`);
  const path = `${root}.tar`;
  mkdirSync(root);
  let bytes = 0;
  let needles = 0;
  for (const [index, entry] of entries.entries()) {
    const place = join(root, entry.path);
    if (entry.kind === 'directory') mkdirSync(place);
    else if (entry.kind === 'symlink') symlinkSync(entry.target, place);
    else {
      let content = entry.kind === 'licence' ? (licences[entry.licence] ?? '') : text(entry.bytes);
      if (entry.kind === 'file' && index % NEEDLE_EVERY === 0) {
        content += `\n// ${NEEDLE}\n`;
        needles++;
      }
      writeFileSync(place, content, { mode: entry.kind === 'file' && entry.executable ? 0o755 : 0o644 });
      bytes += content.length;
    }
  }
  await run('tar', ['-cf', path, '-C', root, '.'], { signal });
  rmSync(root, { recursive: true });
  return {
    path,
    archiveBytes: statSync(path).size,
    files,
    symlinks: countOf(entries, 'symlink'),
    directories: countOf(entries, 'directory'),
    bytes,
    needles,
  };
}

function countOf(entries: readonly Entry[], kind: Entry['kind']): number {
  return entries.filter((entry) => entry.kind === kind).length;
}
