import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAt } from '../crash/client.ts';
import { matchPrefix } from '../crash/prefix.ts';
import { rounds, seedOf } from '../crash/rounds.ts';
import { Scene } from '../crash/scene.ts';
import { Commands, type ListedLayer, type Outcome } from '../layers/commands.ts';
import { Holder, type HolderError } from '../layers/holder.ts';
import { difference, type Look, lookAtTree } from '../layers/look.ts';
import { Random } from '../model/random.ts';
import { eventually } from '../support/postgres.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const ESTALE = 116;
const run = promisify(execFile);

/** A command in a process of its own, which may be held up: its outcome, or its errno's name. */
async function command(commands: Commands, file: string, text: string | object): Promise<Outcome & { errno?: string }> {
  const python = `
import errno, json, os, sys
f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try: os.write(f, sys.argv[2].encode()); e = {}
except OSError as x: e = {'errno': errno.errorcode[x.errno]}
print(json.dumps({**json.loads(os.pread(f, 1 << 20, 0)), **e}))`;
  const given = typeof text === 'string' ? text : JSON.stringify(text);
  const { stdout } = await run('python3', ['-c', python, commands.path(file), given]);
  return JSON.parse(stdout);
}

suite(`layers when something is killed or away${unless}`, () => {
  let scene: Scene;
  let commands: Commands;
  let holder: Holder;
  const path = (name: string) => scene.path(name);
  const text = (name: string) => readFileSync(path(name), 'utf8');
  const look = () => lookAtTree(scene.tarbox.mount, { ctime: true });

  beforeEach(async () => {
    scene = await Scene.open();
    await scene.tarbox.start();
    commands = new Commands(scene.tarbox.mount);
    holder = new Holder();
  });

  afterEach(async () => {
    await holder.end();
    await scene.remove();
  });

  /** One working layer, parents that exist and are older, names that are unique. */
  function expectConsistent(layers: readonly ListedLayer[] = commands.list()): void {
    expect(layers.filter(({ frozen }) => !frozen)).toHaveLength(1);
    expect(new Set(layers.map(({ name }) => name)).size).toBe(layers.length);
    for (const { parent, id, name } of layers) {
      if (name === 'base') expect(parent).toBeNull();
      else expect(layers.find((layer) => layer.name === parent)?.id).toBeLessThan(id);
    }
  }

  async function expectStale(handle: number): Promise<void> {
    const problem = await holder.write(handle, 'late').catch((thrown: HolderError) => thrown.errno);
    expect(problem).toBe(ESTALE);
  }

  describe('the daemon', () => {
    it('killed after a switch leaves every handle what it was', async () => {
      writeFileSync(path('changed'), 'old');
      writeFileSync(path('same'), 'same');
      commands.checkpoint('one');
      writeFileSync(path('changed'), 'new');
      commands.checkpoint('two');
      const changed = await holder.open(path('changed'));
      const same = await holder.open(path('same'));
      writeFileSync(path('unlinked'), 'unlinked');
      const unlinked = await holder.open(path('unlinked'));
      unlinkSync(path('unlinked'));
      commands.switchTo('one');
      for (let kill = 0; kill < 2; kill++) {
        await scene.replaceDaemon();
        writeFileSync('/proc/sys/vm/drop_caches', '3');
        expect(await holder.read(changed)).toBe('new');
        expect(await holder.read(same)).toBe('same');
        expect(await holder.read(unlinked)).toBe('unlinked');
        await expectStale(changed);
        await expectStale(unlinked);
        expect(text('changed')).toBe('old');
        commands.switchTo('two');
        await expectStale(changed);
        commands.switchTo('one');
      }
      // Nobody knows any more what is open: it stays readable all the same.
      commands.drop('two', true);
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      expect(await holder.read(changed)).toBe('new');
      await holder.write(same, 'SAME');
      expect(text('same')).toBe('SAME');
    });

    /** Builds a history, and gives what each layer looks like. */
    function history(): Map<string, Look> {
      const looks = new Map<string, Look>();
      for (const name of ['one', 'two', 'three']) {
        mkdirSync(path(name));
        writeFileSync(path('file'), name);
        rmSync(path('link'), { force: true });
        symlinkSync(name, path('link'));
        commands.checkpoint(name);
        looks.set(name, look());
      }
      commands.run('layers/tags/tag', 'one');
      return looks;
    }

    const COMMANDS: readonly [what: string, file: string, text: string | object, outcome: object, check: () => void][] =
      [
        ['a checkpoint', 'layers/new', 'new', { layer: 'new' }, () => expect(commands.current().name).toBe('new')],
        [
          'a checkpoint without a name',
          'layers/new',
          '',
          { layer: expect.stringMatching(/^checkpoint-/) },
          () => expect(commands.names().filter((name) => name.startsWith('checkpoint-'))).toHaveLength(1),
        ],
        ['a switch', 'layers/switch', 'one', { layer: 'one' }, () => expect(text('file')).toBe('one')],
        [
          'a drop',
          'layers/drop',
          { layer: 'two', force: true },
          { dropped: 'two' },
          () => expect(commands.names()).not.toContain('two'),
        ],
        [
          'a squash',
          'layers/squash',
          { from: 'one', to: 'two', name: 'squashed' },
          { layer: 'squashed' },
          () => expect(commands.names()).toEqual(['base', 'squashed', 'three', 'working']),
        ],
      ];

    it.each(COMMANDS)(
      'killed once it has carried out %s, and before it says so, has carried it out once',
      async (_, file, given, outcome, check) => {
        const looks = history();
        writeFileSync(path('uncommitted'), 'uncommitted');
        if (file === 'layers/switch') commands.checkpoint('last');
        const before = look();
        await run('sync', [scene.tarbox.mount]);
        const number = await commitNumber();
        scene.relay.set('commit', 'mute');
        const answer = command(commands, file, given);
        await eventually('it is committed', async () => (await commitNumber()) > number || undefined);
        await scene.killDaemon();
        scene.relay.set('commit', 'pass');
        expect(await answer).toMatchObject({ ok: true, ...outcome });
        check();
        expectConsistent();
        if (file !== 'layers/switch') expect(difference(before, look())).toBeUndefined();
        else expect(difference(looks.get('one') ?? new Map(), look())).toBeUndefined();
        for (const layer of ['one', 'two', 'three'].filter((name) => commands.names().includes(name)))
          expect(
            difference(looks.get(layer) ?? new Map(), lookAtTree(commands.snapshot(layer), { ctime: true })),
          ).toBeUndefined();
      },
    );

    async function commitNumber(): Promise<number> {
      const [row] = await scene.server.query<{ n: string }>(
        'SELECT commit_number + lease_epoch * 1000000 AS n FROM tarbox.tenants',
      );
      return Number(row?.n);
    }

    it.each(COMMANDS)(
      'killed before it can carry out %s has the next one do it',
      async (_, file, given, outcome, check) => {
        history();
        writeFileSync(path('uncommitted'), 'uncommitted');
        scene.relay.set('commit', 'stall');
        const answer = command(commands, file, given);
        await eventually('it is sent', () => scene.relay.kept('commit') > 0 || undefined);
        await scene.killDaemon();
        scene.relay.set('commit', 'pass');
        expect(await answer).toMatchObject({ ok: true, ...outcome });
        check();
        expectConsistent();
      },
    );

    it('killed between a switch and telling the kernel, together with who asked for it, leaves nothing stale', async () => {
      const looks = history();
      // All of it is in the kernel's caches.
      expect(difference(looks.get('three') ?? new Map(), look())).toBeUndefined();
      expect(existsSync(path('two'))).toBe(true);
      const number = await commitNumber();
      scene.relay.set('commit', 'mute');
      const answer = run('bash', ['-c', `exec bash -c 'echo one > .tarbox/layers/switch'`], {
        cwd: scene.tarbox.mount,
      });
      answer.catch(() => {}); // it's killed
      await eventually('it is committed', async () => (await commitNumber()) > number || undefined);
      answer.child.kill('SIGKILL');
      await scene.killDaemon();
      scene.relay.set('commit', 'pass');
      await eventually('it serves', () => commands.current().name === 'one' || undefined);
      await eventually('names are forgotten', () => !existsSync(path('two')) || undefined);
      await eventually('targets are forgotten', () => readlinkSync(path('link')) === 'one' || undefined);
      await eventually('attributes are forgotten', () => statSync(scene.tarbox.mount).nlink === 3 || undefined);
      expect(difference(looks.get('one') ?? new Map(), look())).toBeUndefined();
    });

    it('killed at any time amid commands carries each of them out once', async () => {
      for (const seed of rounds(1).map(seedOf)) {
        const random = new Random(seed);
        const looks = new Map<string, Look>();
        let stop = false;
        const killing = (async () => {
          let kills = 0;
          while (!stop) {
            const calm = performance.now() + random.between(20, 400);
            await eventually('it is calm', () => performance.now() > calm || undefined);
            await scene.replaceDaemon();
            kills++;
          }
          return kills;
        })();
        for (let round = 0; round < 25; round++) {
          const name = `r${seed}-${round}`;
          await run('bash', ['-c', `mkdir d-${name}; echo ${name} > f; echo ${name} > d-${name}/x`], {
            cwd: scene.tarbox.mount,
          });
          const { ok, layer } = await command(commands, 'layers/new', { name, branch: true });
          expect({ ok, layer }).toEqual({ ok: true, layer: name });
          looks.set(name, new Map(await lookAway(commands.snapshot(name))));
          const target = random.pick([...looks.keys()]);
          expect(await command(commands, 'layers/switch', target)).toMatchObject({ ok: true, layer: target });
          expect(
            difference(looks.get(target) ?? new Map(), await lookAway(scene.tarbox.mount)),
            `${name} → ${target}`,
          ).toBeUndefined();
          if (round % 5 === 4) {
            const victim = random.pick([...looks.keys()]);
            expect(await command(commands, 'layers/drop', { layer: victim, force: true })).toMatchObject({
              ok: true,
              dropped: victim,
            });
            looks.delete(victim);
          }
        }
        stop = true;
        expect(await killing).toBeGreaterThan(2);
        expectConsistent();
        expect(commands.names().filter((name) => name.startsWith('r'))).toEqual([...looks.keys()]);
        for (const [name, expected] of looks)
          expect(difference(expected, lookAtTree(commands.snapshot(name))), name).toBeUndefined();
      }
    });

    /** The look of a tree, taken by another process: this one must see the log while a daemon is away. */
    async function lookAway(root: string): Promise<Look> {
      const seen = await lookAt(root);
      return new Map([...seen].map(([name, { text: line, mtimeNs }]) => [name, `${line} ${mtimeNs}`]));
    }
  });

  describe('everything', () => {
    it('killed amid commands has every layer whose command returned, and a tree that is one of them or a later one', async () => {
      for (const seed of rounds(3).map(seedOf)) {
        const random = new Random(seed);
        const done: string[] = [];
        const looks = new Map<string, Look>();
        let stopped = false;
        const working = (async () => {
          for (let round = 0; !stopped; round++) {
            const name = `k${seed}-${round}`;
            await run('bash', ['-c', `echo ${name} > f; mkdir -p d; echo ${name} > d/${name}`], {
              cwd: scene.tarbox.mount,
            });
            const { ok } = await command(commands, 'layers/new', { name, branch: true });
            if (!ok) throw new Error(`${name} was refused`);
            done.push(name);
          }
        })();
        working.catch(() => {}); // it ends when what it works on does
        const goal = random.between(3, 8);
        await eventually('some are taken', () => done.length >= goal || undefined);
        await Promise.all([scene.tarbox.killEverything(), scene.server.kill()]);
        stopped = true;
        await working.catch(() => {});
        await scene.server.start();
        await scene.tarbox.start();
        expectConsistent();
        for (const name of done) {
          expect(commands.names()).toContain(name);
          expect(readFileSync(`${commands.snapshot(name)}/f`, 'utf8')).toBe(`${name}\n`);
          expect(readdirSync(`${commands.snapshot(name)}/d`)).toContain(name);
          looks.set(name, lookAtTree(commands.snapshot(name)));
        }
        commands.switchTo('base');
        for (const [name, expected] of looks) {
          commands.switchTo(name);
          expect(difference(expected, lookAtTree(scene.tarbox.mount)), name).toBeUndefined();
        }
      }
    });
  });

  describe('the database', () => {
    it('away lets commands wait, and they are carried out when it is back', async () => {
      writeFileSync(path('file'), 'one');
      commands.checkpoint('one');
      writeFileSync(path('file'), 'two');
      await scene.server.stop();
      const checkpoint = command(commands, 'layers/new', 'two');
      await eventually('it has been tried', async () => (await health()).status === 'degraded' || undefined);
      // What is cached is read, and the tree is written, all the while.
      const switching = command(commands, 'layers/switch', 'one');
      for (let round = 0; round < 10; round++) {
        writeFileSync(path('meanwhile'), `${round}`);
        expect(await readAway('file')).toBe('two');
      }
      await scene.server.start();
      expect(await checkpoint).toMatchObject({ ok: true, layer: 'two' });
      expect(await switching).toMatchObject({ ok: true, layer: 'one', sealed: expect.stringMatching(/^auto-/) });
      expect(text('file')).toBe('one');
      expectConsistent();
    });

    const health = async () => JSON.parse((await run('cat', [commands.path('health')])).stdout) as { status: string };
    const readAway = async (name: string) => (await run('cat', [path(name)])).stdout;

    it('that goes away at any moment of a command has it carried out once', async () => {
      const looks = new Map<string, Look>();
      for (const seed of rounds(1).map(seedOf)) {
        const random = new Random(seed);
        for (let round = 0; round < 20; round++) {
          const name = `c${seed}-${round}`;
          await run('bash', ['-c', `echo ${name} > f; mkdir d-${name}`], { cwd: scene.tarbox.mount });
          const cutting = scene.relay.cutAfter(random.between(1, 6000));
          expect(await command(commands, 'layers/new', { name, branch: true })).toMatchObject({
            ok: true,
            layer: name,
          });
          looks.set(name, lookAtTree(scene.tarbox.mount));
          const target = random.pick([...looks.keys()]);
          expect(await command(commands, 'layers/switch', target)).toMatchObject({ ok: true, layer: target });
          await run('cat', [path('f')]);
          await Promise.race([cutting, run('sync', [scene.tarbox.mount])]);
          expect(difference(looks.get(target) ?? new Map(), lookAtTree(scene.tarbox.mount)), name).toBeUndefined();
        }
        expectConsistent();
        for (const [name, expected] of looks)
          expect(difference(expected, lookAtTree(commands.snapshot(name))), name).toBeUndefined();
      }
    });

    it('that refuses a change for lack of space fails the command with ENOSPC, and nothing has changed', async () => {
      writeFileSync(path('file'), 'one');
      commands.checkpoint('one');
      writeFileSync(path('file'), 'two');
      commands.checkpoint('two');
      commands.run('layers/tags/tag', 'one');
      writeFileSync(path('file'), 'three');
      await run('sync', [scene.tarbox.mount]);
      const before = commands.list();
      await scene.server.query(`CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`);
      for (const table of ['layers', 'tags'])
        await scene.server.query(
          `CREATE TRIGGER full BEFORE INSERT OR UPDATE OR DELETE ON tarbox.${table} EXECUTE FUNCTION public.full()`,
        );
      for (const [file, given] of [
        ['layers/new', 'three'],
        ['layers/switch', 'one'],
        ['layers/drop', { layer: 'one', force: true }],
        ['layers/squash', { from: 'one', to: 'two', name: 'squashed' }],
        ['layers/tags/tag', 'two'],
      ] as const) {
        expect(await command(commands, file, given)).toMatchObject({ ok: false, error: 'ENOSPC', errno: 'ENOSPC' });
        expect(commands.list()).toEqual(before);
        expect(text('file')).toBe('three');
      }
      for (const table of ['layers', 'tags']) await scene.server.query(`DROP TRIGGER full ON tarbox.${table}`);
      writeFileSync(path('more'), 'more');
      commands.checkpoint('three');
      commands.switchTo('one');
      expect(text('file')).toBe('one');
      commands.switchTo('three');
      expect([text('file'), text('more')]).toEqual(['three', 'more']);
      expectConsistent();
    });
  });

  it('another sidecar with the lease refuses every command with EROFS', async () => {
    commands.checkpoint('one');
    await scene.server.query(`UPDATE tarbox.tenants SET lease_epoch = lease_epoch + 1, lease_owner = 'another'`);
    writeFileSync(path('file'), 'x');
    for (const [file, given] of [
      ['layers/new', 'two'],
      ['layers/switch', 'base'],
      ['layers/drop', 'one'],
      ['layers/squash', { from: 'one', to: 'one', name: 'x' }],
      ['layers/tags/tag', 'one'],
    ] as const)
      expect(await command(commands, file, given)).toMatchObject({ ok: false, error: 'EROFS', errno: 'EROFS' });
  });

  it('checkpoints while programs write are prefixes of what these do', async () => {
    const one = scene.load('one', { seed: 5, barriers: false });
    const other = scene.load('other', { seed: 6, barriers: true });
    await Promise.all([one.start(), other.start()]);
    const names: string[] = [];
    const seen = new Map<string, number>();
    for (let round = 0; round < 8; round++) {
      await one.more(30);
      seen.set(`cut-${round}`, one.length);
      names.push(`cut-${round}`);
      expect(await command(commands, 'layers/new', `cut-${round}`)).toMatchObject({ ok: true });
    }
    await Promise.all([one.more(20), other.more(20)]);
    await Promise.all([one.stop(), other.stop()]);
    for (const name of names) {
      const match = matchPrefix(one.plan, one.length, await lookAt(`${commands.snapshot(name)}/one`));
      // What had returned when it was asked for is in it.
      expect(match.most).toBeGreaterThanOrEqual(seen.get(name) ?? 0);
      matchPrefix(other.plan, other.length, await lookAt(`${commands.snapshot(name)}/other`));
    }
    await one.checkWhole();
    await other.checkWhole();
  });
});
