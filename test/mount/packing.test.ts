import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rounds, seedOf } from '../crash/rounds.ts';
import type { Commands } from '../layers/commands.ts';
import { difference, type Look, lookAtTree } from '../layers/look.ts';
import { packed, usageOf } from '../layers/packed.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { expectClean, storedChunks } from '../layers/stored.ts';
import { Random } from '../model/random.ts';
import { eventually } from '../support/postgres.ts';
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
    await packed(scene().mount);
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
    await packed(scene().mount);
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
    await packed(scene().mount);
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
    await packed(scene().mount);
    commands().flush();
    expect(readFileSync(path('file'), 'latin1')).toBe(`${versions[2]?.toString('latin1')}x`);
    commands().run('control/gc', 'run');
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });

  it('keeps chains short however many versions there are, and reads the oldest', async () => {
    scene().begin('many');
    const before = await stored();
    const versions = [text(20_000)];
    for (let n = 1; n < 60; n++) versions.push(edited(versions[n - 1] ?? Buffer.alloc(0), n * 300, `line ${n}\n`));
    for (const [n, version] of versions.entries()) {
      writeFileSync(path('file'), version);
      commands().checkpoint(`many-${n}`);
    }
    await packed(scene().mount);
    const [row] = await scene().server.query<{ deepest: number; count: number }>(
      `WITH RECURSIVE chain AS (
         SELECT base_hash, 1 AS depth FROM tarbox.chunks WHERE base_hash IS NOT NULL
         UNION ALL SELECT c.base_hash, depth + 1 FROM chain, tarbox.chunks c WHERE c.hash = chain.base_hash AND c.base_hash IS NOT NULL)
       SELECT max(depth)::integer AS deepest, (SELECT count(*)::integer FROM tarbox.chunks WHERE codec = 2) AS count FROM chain`,
    );
    expect(row?.deepest).toBe(17);
    // The newest, and the end of the first run, which is the anchor of the others.
    expect((await stored()).wholes - before.wholes).toBe(2);
    expect(row?.count).toBeGreaterThan(50);
    commands().flush();
    for (const [n, version] of versions.entries())
      expect(readFileSync(`${commands().snapshot(`many-${n}`)}/file`).equals(version), `version ${n}`).toBe(true);
    expectClean(commands());
  });

  it('stores what is there again whole, and makes the other from it', async () => {
    scene().begin('again');
    const one = text(CHUNK_BYTES);
    const other = edited(one, 500, 'changed').subarray(0, CHUNK_BYTES);
    const codecOf = async (content: Buffer): Promise<number | undefined> => {
      const hash = createHash('sha256').update(content).digest('hex');
      const [row] = await scene().server.query<{ codec: number }>(
        `SELECT codec FROM tarbox.chunks WHERE hash = '\\x${hash}'`,
      );
      return row?.codec;
    };
    for (const [n, content] of [one, other, one, other, one].entries()) {
      writeFileSync(path('file'), content);
      commands().checkpoint(`again-${n}`);
      await packed(scene().mount);
      const before = content === one ? other : one;
      expect(await codecOf(content)).not.toBe(2);
      if (n > 0) expect(await codecOf(before)).toBe(2);
    }
    // Another file has what was replaced, too, before and after it's packed.
    writeFileSync(path('second'), other);
    commands().flush();
    expect(readFileSync(path('second')).equals(other)).toBe(true);
    expect(readFileSync(path('file')).equals(one)).toBe(true);
    expectClean(commands());
  });

  it('keeps what is needed of layers that are dropped or squashed, and no more', async () => {
    scene().begin('going');
    const versions = [text(2 * CHUNK_BYTES)];
    for (let n = 1; n < 10; n++) versions.push(edited(versions[n - 1] ?? Buffer.alloc(0), n * 1000, `line ${n}\n`));
    for (const [n, version] of versions.entries()) {
      writeFileSync(path('file'), version);
      writeFileSync(path('small'), version.subarray(0, 4000));
      commands().checkpoint(`going-${n}`);
    }
    await packed(scene().mount);
    commands().drop('going-3', true);
    commands().squash('going-5', 'going-7', 'going-squashed');
    commands().run('control/gc', 'run');
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    commands().flush();
    const left = new Map([0, 1, 2, 4, 8, 9].map((n) => [`going-${n}`, n])).set('going-squashed', 7);
    for (const [layer, n] of left) {
      const snapshot = commands().snapshot(layer);
      expect(readFileSync(`${snapshot}/file`).equals(versions[n] ?? Buffer.alloc(0)), layer).toBe(true);
      expect(readFileSync(`${snapshot}/small`).equals((versions[n] ?? Buffer.alloc(0)).subarray(0, 4000)), layer).toBe(
        true,
      );
    }
    expectClean(commands());
    const before = await stored();
    commands().switchTo('base');
    for (const layer of left.keys()) commands().drop(layer, true);
    commands().run('control/gc', 'run');
    const after = await stored();
    expect(before.deltas - after.deltas).toBeGreaterThan(20);
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });

  it('goes on after a kill -9 of the daemon or the database at any time', async () => {
    scene().begin('killed');
    const random = new Random(seedOf(7));
    const files = Array.from({ length: 25 }, (_, n) => text(n % 2 === 0 ? 3000 + n : 90_000 + n));
    const looks = new Map<string, Look>();
    for (let round = 0; round < 8 * rounds(1).length; round++) {
      const looksAtMost = looks.size < 16;
      for (let layer = 0; layer < 4 && looksAtMost; layer++) {
        for (const [n, file] of files.entries()) {
          files[n] = edited(file, random.below(file.length), `round ${round} `);
          writeFileSync(path(`new-${n}`), files[n] ?? Buffer.alloc(0));
          if (random.chance(0.5)) renameSync(path(`new-${n}`), path(`f${n}`));
        }
        const name = `killed-${round}-${layer}`;
        commands().checkpoint(name);
        looks.set(name, lookAtTree(scene().mount));
      }
      const moment = performance.now() + random.below(150);
      while (performance.now() < moment) await new Promise(setImmediate);
      if (round % 2 === 0) await scene().replaceDaemon();
      else {
        await scene().server.kill();
        await scene().server.start();
      }
      expect((await storedChunks(scene().server)).dangling).toBe(0);
    }
    await packed(scene().mount);
    const { packer } = usageOf(scene().mount);
    expect(packer.delta_chunks).toBeGreaterThan(100);
    commands().flush();
    for (const [layer, look] of looks)
      expect(difference(look, lookAtTree(commands().snapshot(layer))), layer).toBeUndefined();
    commands().run('control/gc', 'run');
    expect(await storedChunks(scene().server)).toMatchObject({ garbage: 0, dangling: 0 });
    expectClean(commands());
  });

  it('is told of in stats/usage', async () => {
    scene().begin('told');
    const before = usageOf(scene().mount);
    const version = text(CHUNK_BYTES);
    writeFileSync(path('one'), version);
    writeFileSync(path('two'), version);
    writeFileSync(path('tiny'), 'tiny');
    commands().checkpoint('told-1');
    writeFileSync(path('one'), edited(version, 9, 'x').subarray(0, CHUNK_BYTES));
    commands().checkpoint('told-2');
    await packed(scene().mount);
    const after = await eventually('the figures are new', () => {
      const usage = usageOf(scene().mount);
      return usage.packer.delta_chunks > before.packer.delta_chunks ? usage : undefined;
    });
    expect(after.tree).toMatchObject({ files: 4, bytes: 2 * CHUNK_BYTES + 4 });
    expect(after.layers.count - before.layers.count).toBe(2);
    const grown = (key: string): number => (after.content[key] ?? 0) - (before.content[key] ?? 0);
    expect(grown('version_bytes')).toBe(3 * CHUNK_BYTES + 4);
    expect(grown('distinct_bytes')).toBe(2 * CHUNK_BYTES + 4);
    expect(grown('inline_bytes')).toBe(4);
    expect(grown('chunks')).toBe(2);
    expect(after.packer.delta_chunks - before.packer.delta_chunks).toBe(1);
    expect((after.packer['raw_bytes'] ?? 0) - (before.packer['raw_bytes'] ?? 0)).toBe(CHUNK_BYTES);
    expect((after.packer['stored_bytes'] ?? 0) - (before.packer['stored_bytes'] ?? 0)).toBeLessThan(100);
  });

  /** Damage to chains, and what is said about it. */
  const DAMAGES: readonly [sql: string, problem: RegExp][] = [
    ['UPDATE tarbox.chunks SET base_hash = sha256(base_hash) WHERE hash = $hash', /its base is missing/],
    ['UPDATE tarbox.chunks SET base_hash = hash WHERE hash = $hash', /a circle/],
    ['UPDATE tarbox.chunks SET height = 18 WHERE hash = $hash', /18 deltas/],
    ['UPDATE tarbox.chunks SET base_hash = NULL WHERE hash = $hash', /a delta without a base/],
    ['UPDATE tarbox.chunks SET codec = 1 WHERE hash = $hash', /is no delta/],
  ];

  it.each(DAMAGES)('has control/fsck tell of chains that are wrong: %s', async (sql, problem) => {
    scene().begin('wrong');
    const version = text(50_000);
    writeFileSync(path('file'), version);
    commands().checkpoint('wrong-1');
    writeFileSync(path('file'), edited(version, 9, 'x'));
    commands().checkpoint('wrong-2');
    await packed(scene().mount);
    const hash = `'\\x${createHash('sha256').update(version).digest('hex')}'`;
    await scene().server.query(`CREATE TABLE public.kept AS SELECT * FROM tarbox.chunks WHERE hash = ${hash}`);
    await scene().server.query(sql.replace('$hash', hash));
    const outcome = commands().run('control/fsck', 'run');
    expect(outcome).toMatchObject({ clean: false });
    expect(JSON.stringify(outcome['problems'])).toMatch(problem);
    await scene().server.query(`DELETE FROM tarbox.chunks WHERE hash = ${hash}`);
    await scene().server.query('INSERT INTO tarbox.chunks SELECT * FROM public.kept');
    await scene().server.query('DROP TABLE public.kept');
    expectClean(commands());
    commands().switchTo('base');
    for (const layer of ['wrong-2', 'wrong-1', 'wrong']) commands().drop(layer, true);
  });
});
