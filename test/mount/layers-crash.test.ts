import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lookAt } from '../crash/client.ts';
import { matchPrefix } from '../crash/prefix.ts';
import { rounds, seedOf } from '../crash/rounds.ts';
import { Scene } from '../crash/scene.ts';
import type { ListedLayer, Outcome } from '../layers/commands.ts';
import { Holder, type HolderError } from '../layers/holder.ts';
import { difference, type Look } from '../layers/look.ts';
import { Random } from '../model/random.ts';
import { embeddedServer, eventually, useServer } from '../support/postgres.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const ESTALE = 116;
const ECONNABORTED = 103;

/** Whether a process waits in the kernel for an answer of whoever serves a mount (proc(5), wchan). */
function waitsForMount(pid: number): boolean {
  return readFileSync(`/proc/${pid}/wchan`, 'utf8') === 'request_wait_answer';
}

/**
 * Whatever touches the mount here does so in other processes: this one passes the sidecar's messages to the database on,
 * and must see what it logs.
 */
suite(`layers when something is killed or away${unless}`, () => {
  const server = useServer(embeddedServer);
  let scene: Scene;
  /** Works in the tree; another one gives commands, which may have to wait. */
  let holder: Holder;
  let commander: Holder;
  const started: Holder[] = [];

  beforeEach(async () => {
    scene = await Scene.open({}, server());
    await scene.tarbox.start();
    holder = newHolder();
    commander = newHolder();
  });

  afterEach(async () => {
    try {
      // All at once: some wait for others in the kernel.
      await Promise.all(started.splice(0).map((each) => each.end()));
    } finally {
      await scene.remove();
    }
  });

  function newHolder(): Holder {
    const made = new Holder();
    started.push(made);
    return made;
  }

  const mount = () => scene.tarbox.mount;
  const path = (name: string) => scene.path(name);
  const snapshot = (layer: string) => path(`.tarbox/snapshots/${layer}`);
  const text = (name: string) => holder.readPath(path(name));
  const shell = (script: string) => holder.shell(mount(), script);
  const look = (root = mount()) => holder.look(root, { ctime: true });
  const list = async (): Promise<ListedLayer[]> => JSON.parse(await text('.tarbox/layers/list'));
  const names = async () => (await list()).map(({ name }) => name);

  async function command(file: string, given: string | object, by = commander): Promise<Outcome & { errno?: string }> {
    const { errno, outcome } = await by.command(mount(), file, given);
    return errno === undefined ? outcome : { ...outcome, errno };
  }

  async function done(file: string, given: string | object): Promise<Outcome> {
    const outcome = await command(file, given);
    expect(outcome).toMatchObject({ ok: true });
    return outcome;
  }

  const checkpoint = (name: string) => done('layers/new', { name, branch: true });

  /** One working layer, parents that exist and are older, names that are unique. */
  async function expectConsistent(): Promise<void> {
    const layers = await list();
    expect(layers.filter(({ frozen }) => !frozen)).toHaveLength(1);
    expect(new Set(layers.map(({ name }) => name)).size).toBe(layers.length);
    for (const { parent, id, name } of layers)
      if (name === 'base') expect(parent).toBeNull();
      else expect(layers.find((layer) => layer.name === parent)?.id).toBeLessThan(id);
  }

  async function expectLook(expected: Look | undefined, root: string, what: string): Promise<void> {
    expect(difference(expected ?? new Map(), await look(root)), what).toBeUndefined();
  }

  async function expectStale(handle: number): Promise<void> {
    const problem = await holder.write(handle, 'late').catch((thrown: HolderError) => thrown.errno);
    expect(problem).toBe(ESTALE);
  }

  const dropCaches = () => shell('echo 3 > /proc/sys/vm/drop_caches');

  describe('the daemon', () => {
    it('killed after a switch leaves every handle what it was', async () => {
      await shell('printf old > changed; printf same > same');
      await checkpoint('one');
      await shell('printf new > changed');
      await checkpoint('two');
      const changed = await holder.open(path('changed'));
      const same = await holder.open(path('same'));
      await shell('printf unlinked > unlinked');
      const unlinked = await holder.open(path('unlinked'));
      await shell('rm unlinked');
      await done('layers/switch', 'one');
      for (let kill = 0; kill < 2; kill++) {
        await scene.replaceDaemon();
        await dropCaches();
        expect(await holder.read(changed)).toBe('new');
        expect(await holder.read(same)).toBe('same');
        expect(await holder.read(unlinked)).toBe('unlinked');
        await expectStale(changed);
        await expectStale(unlinked);
        expect(await text('changed')).toBe('old');
        await done('layers/switch', 'two');
        await expectStale(changed);
        await done('layers/switch', 'one');
      }
      // Nobody knows any more what is open: it stays readable all the same.
      await done('layers/drop', { layer: 'two', force: true });
      await dropCaches();
      expect(await holder.read(changed)).toBe('new');
      await holder.write(same, 'SAME');
      expect(await text('same')).toBe('SAME');
    });

    /** Builds a history, and gives what each layer looks like. */
    async function history(): Promise<Map<string, Look>> {
      const looks = new Map<string, Look>();
      for (const name of ['one', 'two', 'three']) {
        await shell(`mkdir ${name}; printf ${name} > file; ln -sfn ${name} link`);
        await checkpoint(name);
        looks.set(name, await look());
      }
      await done('layers/tags/tag', 'one');
      return looks;
    }

    interface Case {
      readonly file: string;
      readonly given: string | object;
      readonly outcome: object;
      readonly check: () => Promise<void>;
    }
    const newest = async () => (await names()).at(-2);
    const COMMANDS: readonly Case[] = [
      {
        file: 'layers/new',
        given: { name: 'new', branch: true },
        outcome: { layer: 'new' },
        check: async () => expect(await newest()).toBe('new'),
      },
      {
        file: 'layers/new',
        given: { branch: true },
        outcome: { layer: expect.stringMatching(/^checkpoint-/) },
        check: async () => {
          expect(await newest()).toMatch(/^checkpoint-/);
          expect((await names()).filter((name) => name.startsWith('checkpoint-'))).toHaveLength(1);
        },
      },
      {
        file: 'layers/switch',
        given: 'one',
        outcome: { layer: 'one' },
        check: async () => expect(await text('file')).toBe('one'),
      },
      {
        file: 'layers/drop',
        given: { layer: 'two', force: true },
        outcome: { dropped: 'two' },
        check: async () => expect(await names()).not.toContain('two'),
      },
      {
        file: 'layers/squash',
        given: { from: 'three', to: 'three', name: 'squashed' },
        outcome: { layer: 'squashed' },
        check: async () => {
          expect(await names()).toContain('squashed');
          expect(await names()).not.toContain('three');
        },
      },
    ];

    /** Has every command done once: a statement that is new takes an answer before it's carried out. */
    async function prepareStatements(): Promise<void> {
      for (const name of ['warm-1', 'warm-2', 'warm-3', 'warm-4']) await checkpoint(name);
      await done('layers/squash', { from: 'warm-1', to: 'warm-2', name: 'warm-2' });
      await done('layers/switch', 'warm-3');
      await done('layers/switch', 'three');
      for (const layer of ['warm-2', 'warm-3', 'warm-4']) await done('layers/drop', { layer, force: true });
    }

    /** Grows with each change of the tenant. */
    async function changes(): Promise<number> {
      const [row] = await scene.server.query<{ n: string }>(
        'SELECT commit_number + lease_epoch * 1000000 AS n FROM tarbox.tenants',
      );
      return Number(row?.n);
    }

    it('killed once it has carried out a command, and before it says so, has carried it out once', async () => {
      const looks = await history();
      for (const { file, given, outcome, check } of COMMANDS) {
        await done('layers/switch', 'three');
        await prepareStatements();
        const before = await look();
        const number = await changes();
        scene.relay.set('commit', 'mute');
        const answer = command(file, given);
        await eventually('it is committed', async () => (await changes()) > number || undefined);
        await scene.killDaemon();
        scene.relay.set('commit', 'pass');
        expect(await answer).toMatchObject({ ok: true, ...outcome });
        await check();
        await expectConsistent();
        await expectLook(file === 'layers/switch' ? looks.get('one') : before, mount(), file);
        for (const layer of await names())
          if (looks.has(layer)) await expectLook(looks.get(layer), snapshot(layer), `${file}: ${layer}`);
      }
    });

    it('killed before it can carry out a command has the next one do it', async () => {
      const looks = await history();
      for (const { file, given, outcome, check } of COMMANDS) {
        await done('layers/switch', 'three');
        await shell('printf uncommitted > uncommitted');
        scene.relay.set('commit', 'stall');
        const answer = command(file, given);
        await eventually('it is sent', () => scene.relay.kept('commit') > 0 || undefined);
        await scene.killDaemon();
        scene.relay.set('commit', 'pass');
        expect(await answer).toMatchObject({ ok: true, ...outcome });
        await check();
        await expectConsistent();
        if (file !== 'layers/switch') expect(await text('uncommitted')).toBe('uncommitted');
        for (const layer of await names())
          if (looks.has(layer)) await expectLook(looks.get(layer), snapshot(layer), `${file}: ${layer}`);
      }
    });

    /**
     * Has a checkpoint asked for that takes in the kernel's pages, while what that takes can't be loaded. The kernel has
     * forgotten the root's attributes, and nobody but the sidecar asks for them. Gives the command's handle, too.
     */
    async function checkpointThatWaits(): Promise<{ readonly handle: number; readonly written: Promise<void> }> {
      await history();
      const handle = await commander.open(path('.tarbox/layers/new'));
      await holder.write(await holder.open(path('.tarbox/layers/switch')), 'one');
      scene.relay.set('read', 'stall');
      const written = commander.write(handle, JSON.stringify({ name: 'new', branch: true }));
      written.catch(() => {}); // it may be killed
      await eventually('the root is being loaded', () => scene.relay.kept('read') > 0 || undefined);
      return { handle, written };
    }

    it('killed while the mount is waited for on its behalf has the next one go on', async () => {
      const { handle, written } = await checkpointThatWaits();
      await scene.killDaemon();
      scene.relay.set('read', 'pass');
      await written;
      expect(JSON.parse(await commander.read(handle))).toMatchObject({ ok: true, layer: 'new' });
      expect(await newest()).toBe('new');
      await expectConsistent();
    });

    it('killed with its supervisor while the mount is waited for on its behalf lets everyone go', async () => {
      const { written } = await checkpointThatWaits();
      await scene.tarbox.killEverything();
      await expect(written).rejects.toThrow(`errno ${ECONNABORTED}`);
      scene.relay.set('read', 'pass');
      await scene.tarbox.start();
      await expectConsistent();
    });

    it('killed twice while several commands wait carries each of them out once', async () => {
      await history();
      const lastRequest = async () => {
        const [row] = await scene.server.query<{ request: string }>('SELECT request FROM tarbox.commands');
        return row?.request;
      };
      const carriesOutAnother = async (work: () => Promise<unknown>) => {
        const before = await lastRequest();
        await work();
        await eventually('one more is committed', async () => (await lastRequest()) !== before || undefined);
      };
      scene.relay.muteAnswersOf('commit', 'tarbox.commands');
      const answers: Promise<Outcome>[] = [];
      await carriesOutAnother(async () => {
        answers.push(command('layers/new', { branch: true }));
      });
      // The kernel has one writer of a file at a time.
      const others = COMMANDS.slice(2).map(({ file, given }) => ({ file, given, by: newHolder() }));
      answers.push(...others.map(({ file, given, by }) => command(file, given, by)));
      await eventually('all wait', () => others.every(({ by }) => waitsForMount(by.pid)) || undefined);
      await carriesOutAnother(() => scene.killDaemon());
      await scene.killDaemon();
      scene.relay.set('commit', 'pass');
      for (const outcome of await Promise.all(answers)) expect(outcome).toMatchObject({ ok: true });
      expect((await names()).filter((name) => name.startsWith('checkpoint-'))).toHaveLength(1);
      expect(await text('file')).toBe('one');
      await expectConsistent();
    });

    it('killed between a switch and telling the kernel, together with who asked for it, leaves nothing stale', async () => {
      const looks = await history();
      await prepareStatements();
      // All of it is in the kernel's caches.
      await expectLook(looks.get('three'), mount(), 'the tree');
      const number = await changes();
      scene.relay.set('commit', 'mute');
      const answer = command('layers/switch', 'one');
      answer.catch(() => {}); // it's killed
      await eventually('it is committed', async () => (await changes()) > number || undefined);
      await Promise.all([commander.end(), scene.killDaemon()]);
      scene.relay.set('commit', 'pass');
      await eventually('the kernel has been told', async () => {
        const found = await look().catch(() => new Map()); // it may be told while we look
        return difference(looks.get('one') ?? new Map(), found) === undefined || undefined;
      });
    });

    it('killed at any step of a command has it carried out once', async () => {
      // About as many as these commands take.
      const MOST_STEPS = 12;
      // A supervisor gives up on a daemon that dies ten times within a minute.
      const KILLS_AT_MOST = 8;
      for (const round of rounds(KILLS_AT_MOST / 2)) {
        if (round > 0 && round % KILLS_AT_MOST === 0) await scene.tarbox.restart();
        const seed = seedOf(round);
        const random = new Random(seed);
        const [one, two, three] = [`one-${seed}`, `two-${seed}`, `three-${seed}`];
        const looks = new Map<string, Look>();
        await done('layers/switch', 'base');
        for (const name of [one, two, three]) {
          await shell(`printf ${name} > file; mkdir ${name}; printf ${name} > ${name}/file`);
          await checkpoint(name);
          looks.set(name, await look());
        }
        await shell('printf uncommitted > uncommitted');
        const before = await look();
        const count = (await names()).length;
        const [file, given, outcome, layers] = random.pick([
          ['layers/new', { branch: true }, { layer: expect.stringMatching(/^checkpoint-/) }, count + 1],
          ['layers/switch', one, { layer: one }, count + 1],
          ['layers/drop', { layer: two, force: true }, { dropped: two }, count - 1],
          ['layers/squash', { from: two, to: three, name: `run-${seed}` }, { layer: `run-${seed}` }, count - 1],
        ] as const);
        const at = random.pick(['question', 'answer'] as const);
        const step = random.between(0, MOST_STEPS);
        const what = `seed ${seed}: ${file}, killed at ${at} ${step}`;
        const { daemon } = scene;
        const lines = scene.tarbox.log.length;
        scene.relay.strikeAfter(step, at, () => process.kill(daemon, 'SIGKILL'));
        expect(await command(file, given), what).toMatchObject({ ok: true, ...outcome });
        const isSpared = scene.relay.disarm();
        if (!isSpared) await scene.tarbox.waitForLog('daemon-restarted', 30_000, lines);
        expect(await names(), what).toHaveLength(layers);
        await expectConsistent();
        await expectLook(file === 'layers/switch' ? looks.get(one) : before, mount(), what);
        for (const layer of await names())
          if (looks.has(layer)) await expectLook(looks.get(layer), snapshot(layer), `${what}: ${layer}`);
      }
    });

    it('killed at any time amid commands carries each of them out once', async () => {
      for (const seed of rounds(1).map(seedOf)) {
        const random = new Random(seed);
        const looks = new Map<string, Look>();
        let stop = false;
        let kills = 0;
        const killing = (async () => {
          // A supervisor gives up on a daemon that dies ten times within a minute.
          for (; !stop && kills < 9; kills++) {
            const calm = performance.now() + random.between(20, 1500);
            await eventually('it is calm', () => performance.now() > calm || undefined);
            await scene.replaceDaemon();
          }
        })();
        killing.catch(() => {}); // seen below
        try {
          for (let round = 0; round < 12 || (kills < 3 && round < 200); round++)
            await commandsInTurn(random, `r${seed}-${round}`, looks);
        } finally {
          stop = true;
          await killing;
        }
        expect(kills).toBeGreaterThan(1);
        await expectConsistent();
        expect((await names()).filter((name) => name.startsWith('r'))).toEqual([...looks.keys()]);
        for (const [name, expected] of looks) await expectLook(expected, snapshot(name), name);
      }
    });
  });

  /** A checkpoint, a switch, and now and then a drop. */
  async function commandsInTurn(random: Random, name: string, looks: Map<string, Look>): Promise<void> {
    await shell(`mkdir d-${name}; echo ${name} > f; echo ${name} > d-${name}/x`);
    expect(await command('layers/new', { name, branch: true })).toMatchObject({ ok: true, layer: name });
    looks.set(name, await look());
    const target = random.pick([...looks.keys()]);
    expect(await command('layers/switch', target)).toMatchObject({ ok: true, layer: target });
    await expectLook(looks.get(target), mount(), `${name} → ${target}`);
    if (!random.chance(0.2)) return;
    const layer = random.pick([...looks.keys()]);
    expect(await command('layers/drop', { layer, force: true })).toMatchObject({ ok: true, dropped: layer });
    looks.delete(layer);
  }

  it('the sidecar, told to stop at any step of a switch, ends, and has switched or not', async () => {
    await shell('printf one > file; mkdir one');
    await checkpoint('one');
    const switched = await look();
    for (const seed of rounds(1).map(seedOf)) {
      await done('layers/switch', 'base');
      await shell(`printf two > file; mkdir two-${seed}`);
      const before = await look();
      const { supervisor } = scene.tarbox.pids;
      scene.relay.strikeAfter(new Random(seed).between(0, 9), 'answer', () => process.kill(supervisor, 'SIGTERM'));
      const answer = await command('layers/switch', 'one').catch((problem: HolderError) => problem);
      if (scene.relay.disarm()) process.kill(supervisor, 'SIGTERM');
      await scene.tarbox.stop();
      await scene.tarbox.start();
      await expectConsistent();
      const found = await look();
      const isSwitched = difference(switched, found) === undefined;
      if (!('ok' in answer && answer.ok) && !isSwitched) await expectLook(before, mount(), `seed ${seed}`);
      else await expectLook(switched, mount(), `seed ${seed}`);
    }
  });

  it('everything, killed amid commands, has every layer whose command returned', async () => {
    for (const seed of rounds(1).map(seedOf)) {
      const random = new Random(seed);
      const taken: string[] = [];
      let killed = false;
      const working = (async () => {
        for (let round = 0; !killed; round++) {
          const name = `k${seed}-${round}`;
          await shell(`echo ${name} > f; mkdir -p d; echo ${name} > d/${name}`);
          await checkpoint(name);
          taken.push(name);
        }
      })();
      working.catch(() => {}); // it ends when what it works on does
      const goal = random.between(3, 8);
      await eventually('some are taken', () => taken.length >= goal || undefined);
      await Promise.all([scene.tarbox.killEverything(), scene.server.kill()]);
      killed = true;
      await working.catch(() => {});
      await scene.server.start();
      await scene.tarbox.start();
      await expectConsistent();
      const looks = new Map<string, Look>();
      for (const name of taken) {
        expect(await names()).toContain(name);
        expect(await text(`.tarbox/snapshots/${name}/f`)).toBe(`${name}\n`);
        expect(await text(`.tarbox/snapshots/${name}/d/${name}`)).toBe(`${name}\n`);
        looks.set(name, await look(snapshot(name)));
      }
      await done('layers/switch', 'base');
      for (const [name, expected] of looks) {
        await done('layers/switch', name);
        // Inode numbers differ, and are not looked at.
        await expectLook(expected, mount(), name);
      }
    }
  });

  describe('the database', () => {
    const health = async () => JSON.parse(await text('.tarbox/health')) as { status: string }; // it says so in README

    it('away lets commands wait, and they are carried out when it is back', async () => {
      await shell('printf one > file');
      await checkpoint('one');
      await shell('printf two > file');
      await scene.server.stop();
      const first = command('layers/new', 'two');
      await eventually('it has been tried', async () => (await health()).status === 'degraded' || undefined);
      const second = command('layers/switch', 'one', newHolder());
      // What is cached is read, and the tree is written, all the while.
      for (let round = 0; round < 10; round++) {
        await holder.writePath(path('meanwhile'), `${round}`);
        expect(await text('file')).toBe('two');
      }
      await scene.server.start();
      expect(await first).toMatchObject({ ok: true, layer: 'two' });
      expect(await second).toMatchObject({ ok: true, layer: 'one', sealed: expect.stringMatching(/^auto-/) });
      expect(await text('file')).toBe('one');
      await expectConsistent();
    });

    it('that is slow to switch has a file that is opened for writing meanwhile be that of the new tree', async () => {
      for (const name of ['one', 'two']) {
        await shell(`printf ${name} > file`);
        await checkpoint(name);
      }
      // Its name is in the kernel's cache.
      await holder.close(await holder.open(path('file')));
      scene.relay.set('commit', 'stall');
      const switching = command('layers/switch', 'one');
      await eventually('the switch is sent', () => scene.relay.kept('commit') > 0 || undefined);
      const opening = holder.open(path('file'));
      opening.catch(() => {}); // seen below
      await eventually('the file is being opened', () => waitsForMount(holder.pid) || undefined);
      scene.relay.set('commit', 'pass');
      expect(await switching).toMatchObject({ ok: true });
      const handle = await opening;
      expect(await holder.read(handle)).toBe('one');
      await holder.write(handle, 'ONE');
      expect(await text('file')).toBe('ONE');
    });

    it('that goes away at any moment of a command has it carried out once', async () => {
      for (const seed of rounds(1).map(seedOf)) {
        const random = new Random(seed);
        const looks = new Map<string, Look>();
        for (let round = 0; round < 12; round++) {
          const name = `c${seed}-${round}`;
          await shell(`echo ${name} > f; mkdir d-${name}`);
          const cutting = scene.relay.cutAfter(random.between(1, 6000));
          expect(await command('layers/new', { name, branch: true })).toMatchObject({ ok: true, layer: name });
          looks.set(name, await look());
          const target = random.pick([...looks.keys()]);
          expect(await command('layers/switch', target)).toMatchObject({ ok: true, layer: target });
          await expectLook(looks.get(target), mount(), `${name} → ${target}`);
          for (let more = 0; more < 50; more++) {
            const isCut = await Promise.race([cutting.then(() => true), shell('touch f; sync .').then(() => false)]);
            if (isCut) break;
          }
          await cutting;
        }
        await expectConsistent();
        for (const [name, expected] of looks) await expectLook(expected, snapshot(name), name);
      }
    });

    it('that refuses a change for lack of space fails the command with ENOSPC, and nothing has changed', async () => {
      for (const name of ['one', 'two']) {
        await shell(`printf ${name} > file`);
        await checkpoint(name);
      }
      await done('layers/tags/tag', 'one');
      await shell('printf three > file; sync .');
      const before = await list();
      await scene.server.query(`CREATE FUNCTION public.no_space() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`);
      const tables = ['layers', 'tags'];
      for (const table of tables)
        await scene.server.query(
          `CREATE TRIGGER no_space BEFORE INSERT OR UPDATE OR DELETE ON tarbox.${table} EXECUTE FUNCTION public.no_space()`,
        );
      for (const [file, given] of [
        ['layers/new', 'three'],
        ['layers/switch', 'one'],
        ['layers/drop', { layer: 'one', force: true }],
        ['layers/squash', { from: 'one', to: 'two', name: 'squashed' }],
        ['layers/tags/tag', 'two'],
      ] as const) {
        expect(await command(file, given), file).toMatchObject({ ok: false, error: 'ENOSPC', errno: 'ENOSPC' });
        expect(await list()).toEqual(before);
        expect(await text('file')).toBe('three');
      }
      for (const table of tables) await scene.server.query(`DROP TRIGGER no_space ON tarbox.${table}`);
      await shell('printf more > more');
      await checkpoint('three');
      await done('layers/switch', 'one');
      expect(await text('file')).toBe('one');
      await done('layers/switch', 'three');
      expect([await text('file'), await text('more')]).toEqual(['three', 'more']);
      await expectConsistent();
    });
  });

  it('every command is refused with EROFS when another sidecar has the lease', async () => {
    await checkpoint('one');
    await scene.server.query(`UPDATE tarbox.tenants SET lease_epoch = lease_epoch + 1, lease_owner = 'another'`);
    for (const [file, given] of [
      ['layers/new', 'two'],
      ['layers/switch', 'base'],
      ['layers/drop', { layer: 'one', force: true }],
      ['layers/squash', { from: 'one', to: 'one', name: 'x' }],
      ['layers/tags/tag', 'one'],
    ] as const)
      expect(await command(file, given), file).toMatchObject({ ok: false, error: 'EROFS', errno: 'EROFS' });
  });

  it('checkpoints while programs write are prefixes of what these do', async () => {
    const one = scene.load('one', { seed: seedOf(5), barriers: false });
    const other = scene.load('other', { seed: seedOf(6), barriers: true });
    await Promise.all([one.start(), other.start()]);
    /** How much had returned when each was asked for. */
    const cuts = new Map<string, number>();
    for (let round = 0; round < 4; round++) {
      await one.more(30);
      const returned = one.length;
      await checkpoint(`cut-${round}`);
      cuts.set(`cut-${round}`, returned);
    }
    await Promise.all([one.more(20), other.more(20)]);
    await Promise.all([one.stop(), other.stop()]);
    for (const [name, returned] of cuts) {
      const match = matchPrefix(one.plan, one.length, await lookAt(`${snapshot(name)}/one`));
      expect(match.most).toBeGreaterThanOrEqual(returned);
      matchPrefix(other.plan, other.length, await lookAt(`${snapshot(name)}/other`));
    }
    await one.checkWhole();
    await other.checkWhole();
  });
});
