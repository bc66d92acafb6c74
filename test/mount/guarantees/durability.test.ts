import { afterEach, describe, it } from 'vitest';
import { rounds, seedOf } from '../../crash/rounds.ts';
import { Scene } from '../../crash/scene.ts';
import { Random } from '../../model/random.ts';
import { missingForMounts } from '../../support/tarbox.ts';

const missing = missingForMounts();

/** Guarantee 3: what TARBOX_DURABILITY adds. */
describe.skipIf(missing)(`with TARBOX_DURABILITY${missing ? ` (skipped: this machine lacks ${missing})` : ''}`, () => {
  let scene: Scene;

  afterEach(() => scene.remove());

  const PROMISES = [
    ['close', 'all that happened before a close returned'],
    ['strict', 'all that returned'],
  ] as const;

  it.each(PROMISES)('%s, %s is there after kill -9 of everything', async (durability, _promise) => {
    const random = new Random(seedOf(5));
    scene = await Scene.open({ TARBOX_DURABILITY: durability, TARBOX_COMMIT_INTERVAL: '1h' });
    await scene.tarbox.start();
    const load = scene.load('load', { seed: seedOf(51), barriers: false });
    for (const _ of rounds(2)) {
      await load.start({ durability });
      await load.more(random.between(20, 120));
      await Promise.all([scene.server.kill(), scene.tarbox.killEverything()]);
      await load.crashed();
      await scene.server.start();
      await scene.tarbox.start();
      await load.checkCrashed();
    }
  });
});
