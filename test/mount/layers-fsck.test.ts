import { randomBytes } from 'node:crypto';
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Commands, Outcome } from '../layers/commands.ts';
import { difference, type Look, lookAtTree } from '../layers/look.ts';
import { openLayersScene, useLayersScene } from '../layers/scene.ts';
import { expectClean } from '../layers/stored.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const CHUNK_BYTES = 128 * 1024;
const ROOT_INO = 1;

suite(`checking the stored tree${unless}`, () => {
  const scene = useLayersScene(() => openLayersScene());
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const fsck = (command: string | object = 'run'): Outcome => commands().run('control/fsck', command);
  const query = <Row extends object = object>(sql: string) => scene().server.query<Row>(sql);
  const inoOf = (name: string): number => lstatSync(path(name)).ino;
  const idOf = (layer: string): number =>
    layer === 'working' ? commands().current().working.id : commands().layer(layer).id;
  const looks = new Map<string, Look>();

  beforeAll(() => {
    mkdirSync(path('dir/below'), { recursive: true });
    writeFileSync(path('dir/file'), 'some text');
    writeFileSync(path('dir/below/large'), randomBytes(3 * CHUNK_BYTES));
    linkSync(path('dir/file'), path('linked'));
    symlinkSync('dir', path('symlink'));
    commands().checkpoint('one');
    writeFileSync(path('dir/new'), randomBytes(5000));
    mkdirSync(path('other'));
    commands().checkpoint('two');
    writeFileSync(path('other/last'), 'last');
    commands().run('control/flush', 'all');
    for (const layer of ['one', 'two']) looks.set(layer, lookAtTree(commands().snapshot(layer)));
    looks.set('working', lookAtTree(scene().mount));
  });

  function expectTrees(): void {
    commands().flush();
    for (const [layer, look] of looks) {
      const root = layer === 'working' ? scene().mount : commands().snapshot(layer);
      expect(difference(look, lookAtTree(root)), layer).toBeUndefined();
    }
  }

  it('finds nothing where nothing is wrong, and says how much it has looked at', () => {
    const outcome = expectClean(commands());
    expect(outcome).toMatchObject({
      layers: 4,
      chunks: 4,
      bytes: 3 * CHUNK_BYTES + 5000,
      problem_count: 0,
      repaired_count: 0,
      problems: [],
      seconds: expect.any(Number),
    });
  });

  /** Damage that is repaired: what it does, and what is said of it. */
  interface Damage {
    readonly what: string;
    readonly sql: () => string;
    readonly layer: string | null;
    readonly path: string | null;
    readonly problem: RegExp;
  }

  const REPAIRED: readonly Damage[] = [
    {
      what: 'the links of a file',
      sql: () => `UPDATE tarbox.inodes SET nlink = 7 WHERE ino = ${inoOf('linked')}`,
      layer: 'one',
      path: '/linked',
      problem: /7 links for 2 names/,
    },
    {
      what: 'the links of a directory',
      sql: () => `UPDATE tarbox.inodes SET nlink = 9 WHERE ino = ${inoOf('dir')} AND layer_id = ${idOf('two')}`,
      layer: 'two',
      path: '/dir',
      problem: /9 links for 3/,
    },
    {
      what: 'the links of the root',
      sql: () => `UPDATE tarbox.inodes SET nlink = 2 WHERE ino = ${ROOT_INO} AND layer_id = ${idOf('one')}`,
      layer: 'one',
      path: '/',
      problem: /2 links for 3/,
    },
    {
      what: 'the parent of a directory',
      sql: () => `UPDATE tarbox.inodes SET parent = ${ROOT_INO} WHERE ino = ${inoOf('dir/below')}`,
      layer: 'one',
      path: '/dir/below',
      problem: /takes inode 1 for its parent/,
    },
    {
      what: 'the bytes that a file holds',
      sql: () => `UPDATE tarbox.inodes SET allocated = 1 WHERE ino = ${inoOf('dir/below/large')}`,
      layer: 'one',
      path: '/dir/below/large',
      problem: /said to hold 1 bytes, and holds 393216/,
    },
    {
      what: 'the type that a name says',
      sql: () => `UPDATE tarbox.dentries SET type = 4 WHERE ino = ${inoOf('linked')} AND parent = ${ROOT_INO}`,
      layer: 'one',
      path: '/linked',
      problem: /says another type/,
    },
    {
      what: 'the totals of a layer',
      sql: () => `UPDATE tarbox.layers SET used_bytes = 5, used_inodes = 6 WHERE layer_id = ${idOf('one')}`,
      layer: 'one',
      path: null,
      problem: /the totals say 6 files with 5 bytes, and there are 6 with 393225/,
    },
    {
      what: 'the totals of the tree',
      sql: () => 'UPDATE tarbox.tenants SET used_bytes = 5',
      layer: 'working',
      path: null,
      problem: /the totals say 9 files with 5 bytes/,
    },
    {
      what: 'a tag',
      sql: () => `INSERT INTO tarbox.tags SELECT tenant_id, 'astray', 4711 FROM tarbox.tenants`,
      layer: null,
      path: null,
      problem: /the tag 'astray' points at no layer/,
    },
  ];

  it.each(REPAIRED)('repairs $what', async ({ sql, layer, path: where, problem }) => {
    await query(sql());
    const found = fsck();
    expect(found).toMatchObject({ ok: true, clean: false, repaired_count: 0 });
    expect(found['problems']).toContainEqual({ layer, path: where, problem: expect.stringMatching(problem) });
    const repaired = fsck({ repair: true });
    expect(repaired).toMatchObject({ ok: true, clean: false });
    expect(repaired['repaired_count']).toBe(repaired['problem_count']);
    expect(repaired['problems']).toContainEqual({
      layer,
      path: where,
      problem: expect.stringMatching(problem),
      repaired: true,
    });
    expectClean(commands());
    expectTrees();
  });

  it('repairs a name that stands for nothing by taking it away', async () => {
    writeFileSync(path('other/nothing'), 'soon');
    mkdirSync(path('other/nowhere'));
    commands().checkpoint('three');
    for (const name of ['other/nothing', 'other/nowhere'])
      await query(`DELETE FROM tarbox.inodes WHERE ino = ${inoOf(name)}`);
    expect(fsck()['problems']).toEqual(
      expect.arrayContaining(
        ['/other/nothing', '/other/nowhere'].map((where) => ({
          layer: 'three',
          path: where,
          problem: 'the name stands for nothing',
        })),
      ),
    );
    expect(fsck({ repair: true })['problems']).toContainEqual(
      expect.objectContaining({ path: '/other/nothing', repaired: true }),
    );
    expectClean(commands());
    expect(readdirSync(path('other'))).toEqual(['last']);
    expect(statSync(path('other')).nlink).toBe(2);
    expect(readdirSync(`${commands().snapshot('three')}/other`)).toEqual(['last']);
    writeFileSync(path('other/nothing'), 'again');
    commands().checkpoint('four');
    expectClean(commands());
    commands().switchTo('two');
    writeFileSync(path('other/last'), 'last');
    for (const layer of ['four', 'three']) commands().drop(layer);
    commands().run('control/gc', 'run');
    expectClean(commands());
    looks.set('working', lookAtTree(scene().mount));
  });

  it('repairs while the tree is in use, and what is open goes on', async () => {
    const holder = scene().holder();
    const handle = await holder.open(path('linked'));
    await holder.chdir(path('dir'));
    await query(`UPDATE tarbox.inodes SET nlink = 7 WHERE ino = ${inoOf('linked')}`);
    expect(fsck({ repair: true })).toMatchObject({ repaired_count: 1 });
    expect(await holder.stat(handle)).toMatchObject({ nlink: 2 });
    await holder.write(handle, 'SOME');
    expect(await holder.readPath('file')).toBe('SOME text');
    await holder.write(handle, 'some');
    expectClean(commands());
    looks.set('working', lookAtTree(scene().mount));
  });

  /** Damage that can only be told of, and what undoes it. */
  interface Loss extends Damage {
    /** What is kept and put back. */
    readonly table: 'chunks' | 'contents' | 'inodes' | 'dentries' | 'layers' | 'tenants';
  }

  const TOLD: readonly Loss[] = [
    {
      what: 'a chunk that is missing',
      table: 'chunks',
      sql: () => `DELETE FROM tarbox.chunks WHERE hash = ${hashIn('dir/new')}`,
      layer: 'two',
      path: '/dir/new',
      problem: /part 0 of its content is missing/,
    },
    {
      what: 'a chunk that is not what its hash says',
      table: 'chunks',
      sql: () =>
        `UPDATE tarbox.chunks SET data = set_byte(data, 1000, get_byte(data, 1000) # 1)
         WHERE hash = ${hashIn('dir/below/large', 1)}`,
      layer: 'one',
      path: '/dir/below/large',
      problem: /part 0 of its content is damaged/,
    },
    {
      what: 'a chunk that cannot be decompressed',
      table: 'chunks',
      sql: () => `UPDATE tarbox.chunks SET codec = 1 WHERE hash = ${hashIn('dir/new')}`,
      layer: 'two',
      path: '/dir/new',
      problem: /damaged/,
    },
    {
      what: 'a chunk that is too short',
      table: 'contents',
      sql: () => `UPDATE tarbox.contents SET chunks = set_byte(chunks, 1, 99) WHERE ino = ${inoOf('dir/new')}`,
      layer: 'two',
      path: '/dir/new',
      problem: /too short/,
    },
    {
      what: 'a list of chunks that is cut short',
      table: 'contents',
      sql: () =>
        `UPDATE tarbox.contents SET chunks = substring(chunks FROM 1 FOR 100) WHERE ino = ${inoOf('dir/below/large')}`,
      layer: 'one',
      path: '/dir/below/large',
      problem: /malformed/,
    },
    {
      what: 'a size that ends before the content',
      table: 'inodes',
      sql: () => `UPDATE tarbox.inodes SET size = 100 WHERE ino = ${inoOf('dir/new')}`,
      layer: 'two',
      path: '/dir/new',
      problem: /100 bytes, and content up to 5000/,
    },
    {
      what: 'a link that is longer than its target',
      table: 'inodes',
      sql: () => `UPDATE tarbox.inodes SET size = 100 WHERE ino = ${inoOf('symlink')}`,
      layer: 'one',
      path: '/symlink',
      problem: /100 bytes, and its target 3/,
    },
    {
      what: 'a directory that is missing with all that is in it',
      table: 'inodes',
      sql: () => `DELETE FROM tarbox.inodes WHERE ino = ${inoOf('dir')}`,
      layer: 'one',
      path: '/dir',
      problem: /the directory is missing; 2 names in it are there/,
    },
    {
      what: 'a file without a name',
      table: 'dentries',
      sql: () => `DELETE FROM tarbox.dentries WHERE ino = ${inoOf('symlink')}`,
      layer: 'one',
      path: expect.stringMatching(/^inode \d+$/),
      problem: /no name is left of 1/,
    },
    {
      what: 'a directory with two names',
      table: 'dentries',
      sql: () =>
        `INSERT INTO tarbox.dentries SELECT tenant_id, ${ROOT_INO}, layer_id, ino, cookie, type, 'twice'
         FROM tarbox.dentries WHERE ino = ${inoOf('dir/below')}`,
      layer: 'one',
      path: '/twice',
      problem: /the directory has 2 names/,
    },
    {
      what: 'a directory below itself',
      table: 'dentries',
      sql: () => `UPDATE tarbox.dentries SET parent = ${inoOf('dir/below')} WHERE ino = ${inoOf('dir')}`,
      layer: 'one',
      path: '…/below/dir',
      problem: /below itself/,
    },
    {
      what: 'two names in one place of a listing',
      table: 'dentries',
      sql: () => `UPDATE tarbox.dentries SET cookie = 16 WHERE parent = ${ROOT_INO} AND name IN ('linked', 'symlink')`,
      layer: 'one',
      path: '/linked',
      problem: /place in the listing is wrong/,
    },
    {
      what: 'content of what is no file',
      table: 'contents',
      sql: () => `UPDATE tarbox.contents SET ino = ${inoOf('symlink')} WHERE ino = ${inoOf('dir/new')}`,
      layer: 'two',
      path: '/symlink',
      problem: /content of something that is no file/,
    },
    {
      what: 'a layer that builds on nothing',
      table: 'layers',
      sql: () => `UPDATE tarbox.layers SET parent_id = 99 WHERE layer_id = ${idOf('two')}`,
      layer: 'two',
      path: null,
      problem: /builds on layer 99, which does not exist/,
    },
    {
      what: 'numbers that are given twice',
      table: 'tenants',
      sql: () => 'UPDATE tarbox.tenants SET next_ino = 3, next_layer = 2, next_cookie = 17',
      layer: null,
      path: null,
      problem: /the next inode would be 3/,
    },
  ];

  /** The hash of a chunk of a file's content, as SQL. */
  const hashIn = (name: string, chunk = 0): string =>
    `(SELECT substring(chunks FROM ${chunk * 36 + 5} FOR 32) FROM tarbox.contents WHERE ino = ${inoOf(name)} LIMIT 1)`;

  it.each(TOLD)('tells of $what, and lets it be', async ({ table, sql, layer, path: where, problem }) => {
    await query('DROP TABLE IF EXISTS public.kept');
    await query(`CREATE TABLE public.kept AS SELECT * FROM tarbox.${table}`);
    await query(sql());
    for (const command of ['run', { repair: true }]) {
      const found = fsck(command);
      const expected = { layer, path: where, problem: expect.stringMatching(problem) };
      expect(found['problems']).toContainEqual(command === 'run' ? expected : { ...expected, repaired: false });
    }
    if (table === 'tenants')
      await query(`UPDATE tarbox.tenants SET (next_ino, next_layer, next_cookie) =
        (SELECT next_ino, next_layer, next_cookie FROM public.kept)`);
    else {
      await query(`DELETE FROM tarbox.${table}`);
      await query(`INSERT INTO tarbox.${table} SELECT * FROM public.kept`);
    }
    // What was repaired around it is repaired the other way round.
    fsck({ repair: true });
    expectClean(commands());
    expectTrees();
  });

  it('goes on while the workspace is written, and with the daemon or the database killed in between', async () => {
    const holders = [scene().holder(), scene().holder()];
    const checking = (async () => {
      for (let round = 0; round < 10; round++) {
        const written = await holders[0]?.command(scene().mount, 'control/fsck', 'run');
        expect(written?.outcome).toMatchObject({ ok: true, clean: true });
      }
    })();
    const working = (async () => {
      for (let round = 0; round < 60; round++) {
        await holders[1]?.shell(
          scene().mount,
          `mkdir -p w/${round % 7}; echo ${round} > w/${round % 7}/f; rm -rf w/${(round + 3) % 7}`,
        );
        if (round % 10 === 5) await holders[1]?.command(scene().mount, 'layers/new', `w-${round}`);
      }
    })();
    await scene().replaceDaemon();
    await scene().server.kill();
    await scene().server.start();
    await Promise.all([checking, working]);
    expectClean(commands());
  });

  it.each(['', 'walk', '{"repair": "yes"}', '{"fix": true}', '{"mode": "look"}'])('refuses %j', (command) => {
    const { errno, outcome } = commands().write('control/fsck', command);
    expect({ errno, error: outcome.error }).toEqual({ errno: 'EINVAL', error: 'EINVAL' });
    expect(outcome.hint).toContain('"repair":true');
  });

  it('reads back what it wrote', () => {
    expect(readFileSync(path('dir/file'), 'utf8')).toBe('some text');
  });
});
