import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Commands } from '../layers/commands.ts';
import { difference, lookAtTree } from '../layers/look.ts';
import { packed } from '../layers/packed.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { expectClean, storedChunks } from '../layers/stored.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const CHUNK_BYTES = 128 * 1024;

/** Text that no compression makes small, in lines. */
function text(bytes: number): Buffer {
  const lines: string[] = [];
  for (let length = 0; length < bytes; length += 65) lines.push(randomBytes(32).toString('hex'));
  return Buffer.from(lines.join('\n')).subarray(0, bytes);
}

function edited(before: Buffer, at: number, inserted: string): Buffer {
  return Buffer.concat([before.subarray(0, at), Buffer.from(inserted), before.subarray(at)]);
}

suite(`packing${unless}`, () => {
  const scene = useLayersScene(() => openLayersScene({ env: { TARBOX_COMMIT_INTERVAL: '20ms' } }));
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);

  /** How chunks of a tenant's are stored. */
  async function stored(): Promise<{ deltas: number; wholes: number; bytes: number }> {
    const [row] = await scene().server.query<{ deltas: number; wholes: number; bytes: number }>(
      `SELECT count(*) FILTER (WHERE codec = 2)::integer AS deltas, count(*) FILTER (WHERE codec <> 2)::integer AS wholes,
         COALESCE(sum(length(data)), 0)::integer AS bytes FROM tarbox.chunks`,
    );
    if (row === undefined) throw new Error('nothing was counted');
    return row;
  }

  it('stores the version that was written over as what differs, and reads it back', async () => {
    scene().begin('over');
    const versions = [text(3 * CHUNK_BYTES + 5000)];
    for (let n = 1; n < 8; n++) versions.push(edited(versions[n - 1] ?? Buffer.alloc(0), n * 1000, `line ${n}\n`));
    for (const [n, version] of versions.entries()) {
      writeFileSync(path('file'), version);
      commands().checkpoint(`over-${n}`);
    }
    await packed(scene());
    const { deltas, wholes } = await stored();
    // The newest, of four chunks.
    expect(wholes).toBe(4);
    expect(deltas).toBe(7 * 4);
    commands().flush();
    for (const [n, version] of versions.entries())
      expect(readFileSync(`${commands().snapshot(`over-${n}`)}/file`).equals(version)).toBe(true);
    expectClean(commands());
  });

  it('finds the successor of a file that was replaced by another under its name, or in another directory', async () => {
    scene().begin('renamed');
    const before = await stored();
    mkdirSync(path('dir/sub'), { recursive: true });
    const versions = [text(50_000)];
    for (let n = 1; n < 4; n++) versions.push(edited(versions[n - 1] ?? Buffer.alloc(0), n * 1000, `line ${n}\n`));
    for (const [n, version] of versions.entries()) {
      writeFileSync(path('new'), version);
      renameSync(path('new'), path('saved'));
      rmSync(path('dir'), { recursive: true });
      mkdirSync(path('dir/sub'), { recursive: true });
      writeFileSync(path('dir/sub/unpacked'), edited(version, 30, 'another'));
      commands().checkpoint(`renamed-${n}`);
    }
    await packed(scene());
    const after = await stored();
    expect({ wholes: after.wholes - before.wholes, deltas: after.deltas - before.deltas }).toEqual({
      wholes: 2,
      deltas: 6,
    });
    commands().flush();
    for (const [n, version] of versions.entries()) {
      const snapshot = commands().snapshot(`renamed-${n}`);
      expect(readFileSync(`${snapshot}/saved`).equals(version)).toBe(true);
      expect(readFileSync(`${snapshot}/dir/sub/unpacked`).equals(edited(version, 30, 'another'))).toBe(true);
    }
    expectClean(commands());
  });

  it('packs small files, whose bytes are in their rows', async () => {
    scene().begin('small');
    const versions = [text(3000)];
    for (let n = 1; n < 6; n++) versions.push(edited(versions[n - 1] ?? Buffer.alloc(0), n * 100, `line ${n}\n`));
    for (const [n, version] of versions.entries()) {
      writeFileSync(path('file'), version);
      commands().checkpoint(`small-${n}`);
    }
    const looks = versions.map((_, n) => lookAtTree(commands().snapshot(`small-${n}`)));
    await packed(scene());
    const [row] = await scene().server.query<{ inline: number }>(
      'SELECT count(inline)::integer AS inline FROM tarbox.contents WHERE length(inline) > 2900',
    );
    expect(row?.inline).toBe(1);
    commands().flush();
    for (const [n, look] of looks.entries())
      expect(difference(look, lookAtTree(commands().snapshot(`small-${n}`)))).toBeUndefined();
    commands().switchTo('small-2');
    expect(readFileSync(path('file')).equals(versions[2] ?? Buffer.alloc(0))).toBe(true);
    writeFileSync(path('file'), 'x', { flag: 'a' });
    commands().checkpoint('small-branch', { branch: true });
    await packed(scene());
    commands().flush();
    expect(readFileSync(path('file'), 'latin1')).toBe(`${versions[2]?.toString('latin1')}x`);
    commands().run('control/gc', 'run');
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });
});
