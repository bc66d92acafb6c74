import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { directoryHistory, projectHistory, type Wanted } from '../../history/history.ts';
import { packed } from '../../layers/packed.ts';
import { type LayersScene, openLayersScene } from '../../layers/scene.ts';
import type { Cleanup } from '../cleanup.ts';
import { seededRandom } from '../tree/random.ts';
import { textMaker } from '../tree/text.ts';
import { type Copies, copiesOf, gitPackBytes, type Stored, storedSizes, totalBytes } from './sizes.ts';

/** What a history needs, in bytes. */
export interface StorageResults {
  readonly history: string;
  readonly versions: number;
  readonly copies: Copies;
  readonly gitPackBytes: number;
  readonly stored: Stored;
  /** What one more version of a file of 1 MB of text costs that differs by one line, on average. */
  readonly editBytes: number;
}

export interface StorageParts {
  /** A directory of versions; undefined for the project's own commits. */
  readonly versions: string | undefined;
  /** Where the history is put meanwhile. */
  readonly work: string;
  readonly signal: AbortSignal;
  readonly cleanup: Cleanup;
}

const VERSIONS = 110;
const EDITS = 256;
const EDITED_BYTES = 1_000_000;

/** Puts every version of a history in a workspace, each with a checkpoint, and measures once everything is packed. */
export async function measureStorage({ versions, work, signal, cleanup }: StorageParts): Promise<StorageResults> {
  const wanted: Wanted = { folder: mkdtempSync(join(work, 'history-')), versions: VERSIONS, signal };
  const history = versions === undefined ? await projectHistory(wanted) : await directoryHistory(versions, wanted);
  const scene = await openLayersScene();
  cleanup.add('the workspace of the history', () => scene.remove());
  const tree = scene.path('tree');
  mkdirSync(tree);
  for (const [n, commit] of history.commits.entries()) {
    await history.repository.checkOut(commit, tree);
    scene.commands.checkpoint(`v${n}`);
  }
  const stored = await sizesWhenPacked(scene);
  return {
    history: history.name,
    versions: history.commits.length,
    copies: await copiesOf(history),
    gitPackBytes: await gitPackBytes(history),
    stored,
    editBytes: await measureEdits(scene, signal),
  };
}

async function sizesWhenPacked(scene: LayersScene): Promise<Stored> {
  await packed(scene.mount);
  scene.commands.run('control/gc', 'run');
  return await storedSizes(scene.server);
}

/** Lines are put in at random places, so what comes after them is at another place than before. */
async function measureEdits(scene: LayersScene, signal: AbortSignal): Promise<number> {
  const random = seededRandom(1);
  const lines = textMaker(random).text(EDITED_BYTES).split('\n');
  const file = scene.path('edited');
  writeFileSync(file, lines.join('\n'));
  scene.commands.checkpoint('unedited');
  const before = totalBytes((await sizesWhenPacked(scene)).tables);
  for (let edit = 0; edit < EDITS; edit++) {
    signal.throwIfAborted();
    lines.splice(random.integer(lines.length), 1, `a line that is put in as number ${edit}`);
    writeFileSync(file, lines.join('\n'));
    scene.commands.checkpoint(`edit-${edit}`);
  }
  return (totalBytes((await sizesWhenPacked(scene)).tables) - before) / EDITS;
}
