import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { seedOf } from '../crash/rounds.ts';
import { applyChanges, entriesIn } from '../history/apply.ts';
import type { Entries } from '../history/git.ts';
import { changesBetween, missingHistory, projectHistory } from '../history/history.ts';
import type { Commands } from '../layers/commands.ts';
import { packed, usageOf } from '../layers/packed.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { expectClean, storedChunks } from '../layers/stored.ts';
import { Random } from '../model/random.ts';
import { missingForMounts } from '../support/tarbox.ts';

const WANTED = { versions: 105, below: ['src'] };
const SEED = seedOf(900);
/** Hundreds of trees are looked at, file by file. */
const TIMEOUT_MS = 300_000;

const missing = missingForMounts() ?? missingHistory(WANTED);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

describe.skipIf(missing !== undefined)(`a long history, seed ${SEED}${unless}`, () => {
  const scene = useLayersScene(() => openLayersScene());
  const commands = (): Commands => scene().commands;
  const random = new Random(SEED);
  /** What git says of each version, by the name of its layer. */
  const sources = new Map<string, Entries>();
  let folder = '';

  /** Each version is put in place of the one before, and a checkpoint taken. */
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tarbox-history-'));
    const { repository, commits } = await projectHistory({ ...WANTED, folder });
    expect(commits.length).toBeGreaterThanOrEqual(100);
    const source = join(folder, 'source');
    mkdirSync(source);
    let before: Entries = new Map();
    for (const [n, commit] of commits.entries()) {
      const after = await repository.entriesOf(commit);
      await repository.checkOut(commit, source);
      applyChanges(changesBetween(before, after), source, scene().mount, random);
      commands().checkpoint(`v${n}`);
      sources.set(`v${n}`, after);
      before = after;
    }
  }, TIMEOUT_MS);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function expectVersion(layer: string, root: string): void {
    const differing = changesBetween(sources.get(layer) ?? new Map(), entriesIn(root));
    expect(differing, `${layer} in ${root}`).toEqual([]);
  }

  function shuffled(): string[] {
    const rest = [...sources.keys()];
    return Array.from(sources, () => rest.splice(random.below(rest.length), 1)[0] ?? '');
  }

  it('has every version as it was, in a snapshot and switched to, in any order', { timeout: TIMEOUT_MS }, () => {
    for (const layer of shuffled()) {
      expectVersion(layer, commands().snapshot(layer));
      commands().switchTo(layer);
      expectVersion(layer, scene().mount);
    }
  });

  it('keeps the others when some are dropped and squashed, all is packed and garbage is collected', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const layers = [...sources.keys()];
    const last = layers.length - 1;
    commands().switchTo(`v${last}`);
    for (const from of [last >> 2, last >> 1, last - 10]) {
      commands().squash(`v${from}`, `v${from + 5}`, `squashed-${from}`);
      const kept = sources.get(`v${from + 5}`) ?? new Map();
      for (let n = from; n <= from + 5; n++) sources.delete(`v${n}`);
      sources.set(`squashed-${from}`, kept);
    }
    for (const layer of random.some(
      [...sources.keys()].filter((name) => name !== `v${last}`),
      0.2,
    )) {
      commands().drop(layer, true);
      sources.delete(layer);
    }
    await packed(scene().mount);
    commands().run('control/gc', 'run');
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    expect(usageOf(scene().mount).packer.delta_chunks).toBeGreaterThan(sources.size / 2);
    expectClean(commands());
    commands().flush();
    for (const layer of shuffled()) expectVersion(layer, commands().snapshot(layer));
  });

  it('has them after a restart, too', { timeout: TIMEOUT_MS }, async () => {
    await scene().tarbox.restart();
    for (const layer of shuffled()) {
      if (random.chance(0.5)) expectVersion(layer, commands().snapshot(layer));
      else {
        commands().switchTo(layer);
        expectVersion(layer, scene().mount);
      }
    }
    expectClean(commands());
  });
});
