import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/postgres.ts';
import { missingForMounts, startTarbox, type Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

interface ListedLayer {
  readonly name: string;
  readonly parent: string | null;
  readonly frozen: boolean;
}

describe.skipIf(missing !== undefined)(`checkpoints that are taken by themselves${unless}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tarbox-auto-'));
  const file = join(folder, 'tarbox.toml');
  let tarbox: Tarbox;

  beforeAll(async () => {
    writeFileSync(file, '[layer]\nauto_checkpoint = true\ncheckpoint_interval = "1s"\n');
    tarbox = await startTarbox({ env: { TARBOX_CONFIG: file } });
  });

  afterAll(async () => {
    await tarbox.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const path = (name: string) => join(tarbox.mount, name);
  /** It prints an array of these (see README.md). */
  const layers = () => JSON.parse(readFileSync(path('.tarbox/layers/list'), 'utf8')) as ListedLayer[];
  const autos = () => layers().filter(({ name, frozen }) => frozen && name.startsWith('auto-'));
  const command = (name: string, text: string) => writeFileSync(path(`.tarbox/${name}`), text);

  it('have each change, and none is taken where nothing has changed', async () => {
    writeFileSync(path('file'), 'one');
    const [first] = await eventually('there is one', () => (autos().length > 0 ? autos() : undefined));
    expect(readFileSync(path(`.tarbox/snapshots/${first?.name}/file`), 'utf8')).toBe('one');
    appendFileSync(path('file'), ' and two');
    await eventually('there is another', () => autos().length > 1 || undefined);
    expect(readFileSync(path(`.tarbox/snapshots/${autos()[1]?.name}/file`), 'utf8')).toBe('one and two');
    const since = performance.now();
    await eventually('some intervals go by', () => performance.now() - since > 2500 || undefined);
    expect(autos()).toHaveLength(2);
  });

  it('keep newer layers, as a branch', async () => {
    const base = autos()[0]?.name ?? '';
    const newer = layers().map(({ name }) => name);
    command('layers/switch', base);
    const before = autos().length;
    writeFileSync(path('file'), 'another way');
    await eventually('there is one on the branch', () => autos().length > before || undefined);
    expect(autos().at(-1)?.parent).toBe(base);
    expect(layers().map(({ name }) => name)).toEqual(
      expect.arrayContaining(newer.filter((name) => name !== 'working')),
    );
  });

  it('end, and begin again, with the configuration file', async () => {
    writeFileSync(file, '[layer]\nauto_checkpoint = false\n');
    await tarbox.waitForLog('config-changed', 30_000);
    const before = autos().length;
    writeFileSync(path('file'), 'not kept');
    command('layers/new', '{"name":"kept-by-hand","branch":true}');
    writeFileSync(path('file'), 'kept later');
    expect(autos()).toHaveLength(before);
    writeFileSync(file, '[layer]\nauto_checkpoint = true\ncheckpoint_interval = "1s"\n');
    await eventually('there is one more', () => autos().length > before || undefined);
  });
});
