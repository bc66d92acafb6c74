import { eventually } from '../support/postgres.ts';
import type { LayersScene } from './scene.ts';

/** Resolves when everything that can be packed has been. */
export async function packed(scene: LayersScene): Promise<void> {
  await eventually('history is packed', async () => {
    const rows = await scene.server.query(
      'SELECT 1 FROM tarbox.layers WHERE frozen_at IS NOT NULL AND NOT packed LIMIT 1',
    );
    return rows.length === 0 ? true : undefined;
  });
}
