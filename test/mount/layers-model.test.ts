import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rounds, seedOf } from '../crash/rounds.ts';
import { LayersModel } from '../layers/model.ts';
import { packed, usageOf } from '../layers/packed.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { storedChunks } from '../layers/stored.ts';
import { Random } from '../model/random.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

/** Room for little and commits all the time, so that much is dropped from memory and loaded again. */
const TIGHT = { TARBOX_METADATA_CACHE: '1MiB', TARBOX_CHUNK_CACHE: '1MiB', TARBOX_COMMIT_INTERVAL: '20ms' };
const STEPS = 450;
const SHOWN = 60;

/** What is done how often. */
const ACTIONS: readonly (readonly [weight: number, act: (model: LayersModel) => void | Promise<void>])[] = [
  [50, (model) => model.operate()],
  [8, (model) => model.open()],
  [4, (model) => model.close()],
  [18, (model) => model.use()],
  [6, (model) => model.checkpoint()],
  [5, (model) => model.switchTo()],
  [1.5, (model) => model.drop()],
  [1.5, (model) => model.squash()],
  [2, (model) => model.collect()],
  [0.7, (model) => model.check()],
  [2, (model) => model.compareSnapshot()],
  [1.5, (model) => model.flush()],
  [0.3, (model) => model.kill()],
  [0.3, (model) => model.restart()],
];

describe.skipIf(missing !== undefined)(`layers beside plain directories${unless}`, () => {
  for (const round of rounds(2)) {
    const seed = seedOf(100 + round);
    describe(`seed ${seed}`, () => {
      const scene = useLayersScene(() => openLayersScene({ env: TIGHT }));

      it('are the same after any operations and commands, with whatever is open across them', async () => {
        const folder = mkdtempSync(join(tmpdir(), 'tarbox-layers-model-'));
        const random = new Random(seed);
        const model = new LayersModel(scene(), folder, random);
        try {
          for (let step = 0; step < STEPS; step++) {
            await random.weighted(ACTIONS)(model);
            if (step % 20 === 0) model.compare();
          }
          model.compareLayers();
          for (const layer of model.layers) await model.switchTo(layer);
          await model.restart();
          await packed(scene().mount);
          expect(usageOf(scene().mount).packer.delta_chunks).toBeGreaterThan(0);
          for (const layer of model.layers) await model.switchTo(layer);
          model.collect();
          model.check();
          expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
        } catch (problem) {
          const last = model.log.slice(-SHOWN).join('\n  ');
          throw new Error(`seed ${seed}: ${String(problem)}\nafter\n  ${last}`, { cause: problem });
        } finally {
          await model.end();
          rmSync(folder, { recursive: true, force: true });
        }
      });
    });
  }
});
