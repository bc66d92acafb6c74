import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { checkOrder, Load } from '../../crash/load.ts';
import { machineMs } from '../../crash/oplog.ts';
import { rounds, seedOf } from '../../crash/rounds.ts';
import { Random } from '../../model/random.ts';
import { eventually } from '../../support/postgres.ts';
import { missingForMounts, Tarbox } from '../../support/tarbox.ts';

const missing = missingForMounts();

/** Guarantees 1, 2 and 3, when supervisor, daemon and database are killed at one moment. */
describe.skipIf(missing)(
  `after kill -9 of everything${missing ? ` (skipped: this machine lacks ${missing})` : ''}`,
  () => {
    let folder: string;
    let tarbox: Tarbox;
    let loads: Load[];

    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'tarbox-crash-'));
      tarbox = new Tarbox();
      loads = [];
    });

    afterEach(async () => {
      await tarbox.remove();
      for (const load of loads) await load.remove();
      rmSync(folder, { recursive: true, force: true });
    });

    function newLoad(name: string, seed: number, barriers: boolean): Load {
      const load = new Load(join(tarbox.mount, name), join(folder, name), { seed, barriers });
      loads.push(load);
      return load;
    }

    async function killEverything(): Promise<number> {
      const killedMs = machineMs();
      await tarbox.killEverything();
      for (const load of loads) await load.crashed();
      return killedMs;
    }

    it('the tree is the result of a prefix of the operations, with all that an fsync was for', async () => {
      const random = new Random(seedOf(7));
      const one = newLoad('one', seedOf(11), true);
      const other = newLoad('other', seedOf(12), true);
      await tarbox.start();
      for (const round of rounds(6)) {
        await Promise.all([one.start(), other.start()]);
        await Promise.all([one.more(random.between(50, 300)), other.more(50)]);
        await killEverything();
        await tarbox.start({ TARBOX_COMMIT_INTERVAL: ['50ms', '200ms', '1s'][round % 3] });
        const oneMatch = await one.checkCrashed();
        const otherMatch = await other.checkCrashed();
        checkOrder(one, oneMatch, other, otherMatch);
        checkOrder(other, otherMatch, one, oneMatch);
      }
    }, 300_000);

    it('what returned some commit intervals before is there without an fsync', async () => {
      const SLACK_MS = 2500;
      const load = newLoad('load', seedOf(21), false);
      // So much that nothing but the interval starts a commit.
      await tarbox.start({ TARBOX_COMMIT_INTERVAL: '250ms', TARBOX_DIRTY_LIMIT: '1GiB' });
      await load.start({ thinkMs: 2 });
      await load.more(50);
      const since = machineMs();
      await eventually('that is long ago', () => machineMs() > since + SLACK_MS + 500 || undefined);
      const killedMs = await killEverything();
      const { returned } = load;
      const secured = returned.findLast(({ returnedMs }) => returnedMs < killedMs - SLACK_MS)?.length ?? 0;
      await tarbox.start();
      const { most } = await load.checkCrashed();
      if (most < secured) throw new Error(`only ${most} of ${load.length} are there, though ${secured} were due`);
    });
  },
);
