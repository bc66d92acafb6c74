import { exec, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Commands, Outcome } from '../layers/commands.ts';
import { difference, lookAtTree } from '../layers/look.ts';
import { useLayersScene } from '../layers/scene.ts';
import { missingForMounts } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

suite(`layers as files${unless}`, () => {
  const scene = useLayersScene();
  const commands = (): Commands => scene().commands;
  const path = (name: string): string => scene().path(name);
  const text = (name: string): string => readFileSync(path(name), 'utf8');
  const shell = (script: string) => spawnSync('bash', ['-c', script], { cwd: scene().mount, encoding: 'utf8' });

  /** What was refused: the errno of the write, the outcome's own, and that it helps. */
  function expectRefusal(written: ReturnType<Commands['write']>, errno: string, message: string | RegExp): Outcome {
    expect(written.errno).toBe(errno);
    expect(written.outcome).toMatchObject({ ok: false, error: errno, message: expect.stringMatching(message) });
    return written.outcome;
  }

  it('begins with a frozen base and a working layer', () => {
    expect(commands().list()).toMatchObject([
      { id: 1, name: 'base', parent: null, frozen: true, inodes: 1, bytes: 0, tags: [] },
      { id: 2, name: 'working', parent: 'base', frozen: false, inodes: 1, bytes: 0 },
    ]);
    expect(commands().current()).toMatchObject({ name: 'base', modified: false, working: { name: 'working', id: 2 } });
    expect(commands().read('layers/tree')).toBe('base [current]\nworking\n');
  });

  describe('a checkpoint', () => {
    it('freezes what is there under a name and goes on in a new layer', () => {
      scene().begin('freezes');
      writeFileSync(path('file'), '12345');
      const before = commands().current();
      expect(before).toMatchObject({ name: 'working', parent: 'freezes', modified: true, inodes: 2, bytes: 5 });
      const outcome = commands().run('layers/new', { name: 'freezes-1', description: 'before the upgrade' });
      expect(outcome).toEqual({ ok: true, layer: 'freezes-1', id: before.working.id });
      const layer = commands().layer('freezes-1');
      expect(layer).toMatchObject({
        id: before.working.id,
        parent: 'freezes',
        description: 'before the upgrade',
        frozen: true,
        inodes: 2,
        bytes: 5,
      });
      expect(Date.parse(layer.frozen_at ?? '')).toBeGreaterThanOrEqual(Date.parse(layer.created_at));
      expect(commands().current()).toMatchObject({ name: 'freezes-1', modified: false });
      expect(commands().current().working.id).toBeGreaterThan(layer.id);
    });

    it('picks a name for an empty line', () => {
      scene().begin('picks');
      const first = commands().run('layers/new', '');
      expect(first.layer).toMatch(/^checkpoint-\d+$/);
      const second = commands().run('layers/new', '{}');
      expect(second.layer).toMatch(/^checkpoint-\d+$/);
      expect(second.layer).not.toBe(first.layer);
      expect(commands().names()).toEqual(expect.arrayContaining([first.layer, second.layer]));
    });

    it('can be taken of nothing new', () => {
      scene().begin('nothing');
      commands().checkpoint('nothing-1');
      commands().checkpoint('nothing-2');
      expect(commands().layer('nothing-2').parent).toBe('nothing-1');
    });

    it.each([
      ['echo', 'echo by-echo > .tarbox/layers/new'],
      ['printf', 'printf by-printf > .tarbox/layers/new'],
      ['>>', 'echo by-append >> .tarbox/layers/new'],
      ['tee', 'echo by-tee | tee .tarbox/layers/new'],
      ['cat', 'echo by-cat | cat > .tarbox/layers/new'],
      ['dd', 'echo by-dd | dd of=.tarbox/layers/new conv=notrunc status=none'],
      ['JSON', `echo '{"name": "by-json", "description": "d"}' > .tarbox/layers/new`],
      ['Python', `python3 -c 'open(".tarbox/layers/new", "w").write("by-python\\n")'`],
      ['Node', `node -e 'fs.writeFileSync(".tarbox/layers/new", "by-node")'`],
    ])('is taken by %s', (_, script) => {
      if (!existsSync(path('written'))) scene().begin(`tools-${Math.random()}`);
      writeFileSync(path('written'), 'x');
      const name = script.match(/by-\w+/)?.[0] ?? '';
      const { status, stderr } = shell(script);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(commands().current().name).toBe(name);
    });

    it('takes a name of 200 bytes, of any script, and with anything that is not ruled out', () => {
      scene().begin('names');
      for (const name of [
        'x'.repeat(200),
        '日本語',
        'a b',
        '1a',
        '1.5',
        'a.b',
        "it's",
        '*?[]',
        'Ünïcödé',
        '"q"',
        'a\\b',
      ]) {
        expect(commands().checkpoint(name).layer).toBe(name);
        expect(commands().current().name).toBe(name);
        expect(readdirSync(commands().snapshot(name))).toEqual([]);
      }
    });

    it.each([
      ['starts with a dot', '.hidden', /starts with/],
      ['starts with a dash', '-rf', /starts with/],
      ['has a slash', 'a/b', '"/"'],
      ['has two dots', 'a..b', '".."'],
      ['is a number', '17', 'numbers are ids'],
      ['is working', 'working', 'reserved'],
      ['is current', 'current', 'reserved'],
      ['has a tab in it', 'a\tb', 'control character'],
      ['has a line break in it', 'a\nb', 'control character'],
      ['has 201 bytes', 'x'.repeat(201), '200 bytes'],
      ['has 201 bytes in 67 characters', '日'.repeat(67), '200 bytes'],
      ['has 10 KB', 'x'.repeat(10_240), '200 bytes'],
    ])('is refused under a name that %s', (_, name, reason) => {
      const before = commands().list();
      for (const command of [name, { name }]) {
        const outcome = expectRefusal(commands().write('layers/new', command), 'EINVAL', reason);
        expect(outcome.hint).toMatch(/1 to 200 bytes/);
        expect(outcome.message?.length).toBeLessThan(400);
      }
      expect(commands().list()).toEqual(before);
    });

    it('is refused under a name that a layer or a tag has', () => {
      scene().begin('taken');
      commands().run('layers/tags/taken-tag', 'taken');
      const before = commands().list();
      for (const name of ['base', 'taken', 'taken-tag'])
        expect(expectRefusal(commands().write('layers/new', name), 'EEXIST', 'taken').hint).toMatch(/another name/);
      expect(commands().list()).toEqual(before);
    });

    it.each([
      ['{"name": "x"', 'not JSON'],
      ['{"nane": "x"}', "'nane' is not a key"],
      ['{"name": 5.5}', "'name'"],
      ['{"name": ["x"]}', "'name' must be a string"],
      ['{"name": null}', "'name' must be a string"],
      ['{"name": "x", "confirm": "yes"}', "'confirm' must be a boolean"],
      ['{"name": "x", "confirm": true, "branch": true}', 'confirm'],
      ['{"__proto__": "x"}', 'is not a key'],
    ])('is refused as %s', (command, reason) => {
      const before = commands().list();
      expect(expectRefusal(commands().write('layers/new', command), 'EINVAL', reason).hint).toMatch(/"name"/);
      expect(commands().list()).toEqual(before);
    });

    it.each([
      ['bytes that are not UTF-8', Buffer.from([0x61, 0xff, 0xfe])],
      ['a NUL', Buffer.from('a\0b')],
      ['more than a command can have', Buffer.alloc(70_000, 'x')],
    ])('is refused as %s', (_, bytes) => {
      const before = commands().list();
      expect(() => writeFileSync(commands().path('layers/new'), bytes)).toThrow(/EINVAL/);
      expect(JSON.parse(commands().read('layers/new'))).toMatchObject({ ok: false, error: 'EINVAL' });
      expect(commands().list()).toEqual(before);
    });
  });

  describe('outcomes', () => {
    it('are read from the handle that wrote, whatever others do meanwhile', () => {
      scene().begin('race');
      const script = `
        exec 8<>.tarbox/layers/new 9<>.tarbox/layers/new
        echo race-1 >&8; echo race-1 >&9 2>/dev/null; echo race-2 >&8
        cat <&9; cat <&8`;
      const outcomes = shell(script).stdout.replaceAll('}\n{', '}\0{').split('\0');
      expect(outcomes.map((outcome) => JSON.parse(outcome))).toMatchObject([
        { ok: false, error: 'EEXIST' },
        { ok: true, layer: 'race-2' },
      ]);
    });

    it('are read after a seek, too, and by those who come later', () => {
      scene().begin('seek');
      const python = `
import json, os
f = open('.tarbox/layers/new', 'r+b', buffering=0)
f.write(b'seek-1\\n'); f.seek(0); print(json.loads(f.read())['layer'])
f.write(b'seek-2\\n'); print(json.loads(f.read())['layer'])
try: f.write(b'seek-2\\n')
except OSError as e: print(e.errno)
f.seek(0); print(json.loads(f.read())['error'])
`;
      const { stdout, stderr } = spawnSync('python3', ['-c', python], { cwd: scene().mount, encoding: 'utf8' });
      expect(stderr).toBe('');
      expect(stdout.trim().split('\n')).toEqual(['seek-1', 'seek-2', '17', 'EEXIST']);
      expect(JSON.parse(commands().read('layers/new'))).toMatchObject({ ok: false, error: 'EEXIST' });
    });

    it('end in a newline and are JSON', () => {
      for (const file of [
        'layers/new',
        'layers/switch',
        'layers/drop',
        'layers/squash',
        'layers/list',
        'layers/current',
      ]) {
        expect(commands().read(file)).toMatch(/[\]}]\n$/);
        expect(() => JSON.parse(commands().read(file))).not.toThrow();
      }
    });

    it('of lists have one element a line', () => {
      const lines = commands().read('layers/list').trimEnd().split('\n');
      expect(lines).toHaveLength(commands().list().length);
    });
  });

  describe('history', () => {
    it('is linear: a checkpoint is refused while newer layers exist, until it says what is to become of them', () => {
      scene().begin('linear');
      writeFileSync(path('file'), 'one');
      commands().checkpoint('linear-1');
      writeFileSync(path('file'), 'two');
      commands().checkpoint('linear-2');
      commands().switchTo('linear-1');
      writeFileSync(path('file'), 'three');
      const before = commands().list();
      const outcome = expectRefusal(commands().write('layers/new', 'linear-3'), 'EBUSY', 'linear-2');
      expect(outcome.hint).toContain('"confirm":true');
      expect(outcome.hint).toContain('"branch":true');
      expect(commands().list()).toEqual(before);
      expect(text('file')).toBe('three');
    });

    it('keeps newer layers as a branch when asked to', () => {
      commands().checkpoint('linear-3', { branch: true });
      expect(commands().layer('linear-3').parent).toBe('linear-1');
      expect(commands().layer('linear-2').parent).toBe('linear-1');
      commands().switchTo('linear-2');
      expect(text('file')).toBe('two');
      commands().switchTo('linear-3');
      expect(text('file')).toBe('three');
      expect(commands().read('layers/tree')).toMatch(/├─ linear-2\n.*└─ linear-3 \[current\]/);
    });

    it('discards newer layers, with all that builds on them, when asked to', () => {
      commands().switchTo('linear-3');
      commands().checkpoint('linear-4');
      commands().run('layers/tags/linear-tag', 'linear-4');
      commands().switchTo('linear-1');
      commands().checkpoint('linear-5', { confirm: true });
      const names = commands().names();
      for (const gone of ['linear-2', 'linear-3', 'linear-4']) {
        expect(names).not.toContain(gone);
        expect(existsSync(commands().snapshot(gone))).toBe(false);
        expectRefusal(commands().write('layers/switch', gone), 'ENOENT', gone);
      }
      expect(readdirSync(commands().path('layers/tags'))).not.toContain('linear-tag');
      expect(text('file')).toBe('one');
    });

    it('goes on under the old name when the layer that had it is discarded', () => {
      scene().begin('again');
      commands().checkpoint('again-1');
      commands().switchTo('again');
      commands().checkpoint('again-1', { confirm: true });
      expect(commands().layer('again-1').parent).toBe('again');
    });

    it('needs no word about layers that are on another branch already', () => {
      scene().begin('others');
      commands().checkpoint('others-1');
      commands().switchTo('others');
      commands().checkpoint('others-2', { branch: true });
      commands().checkpoint('others-3');
      expect(commands().layer('others-3').parent).toBe('others-2');
    });
  });

  describe('a switch', () => {
    it('shows the tree as it was, forward and back', () => {
      scene().begin('back');
      const looks = new Map<string, ReturnType<typeof lookAtTree>>();
      for (let n = 1; n <= 6; n++) {
        mkdirSync(path(`d${n}`));
        writeFileSync(path(`d${n}/f`), `${n}`);
        writeFileSync(path('f'), 'x'.repeat(n));
        if (n > 2) rmSync(path(`d${n - 2}`), { recursive: true });
        commands().checkpoint(`back-${n}`);
        looks.set(`back-${n}`, lookAtTree(scene().mount, { ctime: true }));
      }
      for (const n of [1, 6, 3, 3, 2, 5, 4, 1, 2, 6]) {
        commands().switchTo(`back-${n}`);
        expect(
          difference(looks.get(`back-${n}`) ?? new Map(), lookAtTree(scene().mount, { ctime: true })),
        ).toBeUndefined();
        expect(commands().current()).toMatchObject({ name: `back-${n}`, modified: false });
      }
    });

    it('takes a name, an id as text or number, and a tag', () => {
      scene().begin('ways');
      writeFileSync(path('file'), 'as tagged');
      commands().checkpoint('ways-1');
      const { id } = commands().layer('ways-1');
      commands().run('layers/tags/ways-tag', 'ways-1');
      for (const command of ['ways-1', `${id}`, 'ways-tag', { layer: 'ways-1' }, { layer: id }, { layer: `${id}` }]) {
        commands().switchTo('ways');
        expect(existsSync(path('file'))).toBe(false);
        expect(commands().run('layers/switch', command)).toEqual({ ok: true, layer: 'ways-1', id });
        expect(text('file')).toBe('as tagged');
      }
    });

    it('seals what was in no checkpoint first', () => {
      scene().begin('sealed');
      writeFileSync(path('file'), 'unsaved');
      const outcome = commands().switchTo('base');
      expect(outcome.sealed).toMatch(/^auto-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/);
      expect(existsSync(path('file'))).toBe(false);
      const sealed = outcome.sealed ?? '';
      expect(commands().layer(sealed)).toMatchObject({ parent: 'sealed', frozen: true });
      expect(readFileSync(`${commands().snapshot(sealed)}/file`, 'utf8')).toBe('unsaved');
      commands().switchTo(sealed);
      expect(text('file')).toBe('unsaved');
    });

    it('seals nothing when nothing has changed', () => {
      scene().begin('clean');
      commands().checkpoint('clean-1');
      const before = commands().names();
      for (const layer of ['clean', 'clean-1', 'clean-1', 'clean'])
        expect(commands().switchTo(layer).sealed).toBeUndefined();
      expect(commands().names()).toEqual(before);
    });

    it('to the layer that the tree is based on throws the changes out of the tree, into a layer', () => {
      scene().begin('undo');
      writeFileSync(path('file'), 'good');
      commands().checkpoint('undo-1');
      writeFileSync(path('file'), 'bad');
      writeFileSync(path('more'), 'bad');
      const { sealed } = commands().switchTo('undo-1');
      expect(text('file')).toBe('good');
      expect(existsSync(path('more'))).toBe(false);
      expect(readFileSync(`${commands().snapshot(sealed ?? '')}/file`, 'utf8')).toBe('bad');
    });

    it.each(['nowhere', '999999', 'working', 'current', '', '/', '..', '-1', 'x'.repeat(5000)])(
      'to %j is refused',
      (layer) => {
        const before = commands().list();
        const { errno, outcome } = commands().write('layers/switch', layer);
        expect(['ENOENT', 'EINVAL']).toContain(errno);
        expect(outcome).toMatchObject({ ok: false, error: errno, hint: expect.stringContaining('layers/list') });
        expect(commands().list()).toEqual(before);
      },
    );
  });

  describe('a drop', () => {
    function build(name: string): Map<string, ReturnType<typeof lookAtTree>> {
      scene().begin(name);
      const looks = new Map<string, ReturnType<typeof lookAtTree>>();
      for (let n = 1; n <= 5; n++) {
        writeFileSync(path(`only-${n}`), `${n}`);
        writeFileSync(path('all'), `${n}`);
        mkdirSync(path(`dir-${n}`));
        writeFileSync(path(`dir-${n}/in`), `${n}`);
        if (n >= 2) rmSync(path(`only-${n - 1}`));
        if (n >= 3) rmSync(path(`dir-${n - 2}`), { recursive: true });
        commands().checkpoint(`${name}-${n}`);
        looks.set(`${name}-${n}`, lookAtTree(scene().mount, { ctime: true }));
      }
      return looks;
    }

    function expectAll(looks: ReadonlyMap<string, ReturnType<typeof lookAtTree>>): void {
      for (const [name, look] of looks) {
        commands().switchTo(name);
        expect(difference(look, lookAtTree(scene().mount, { ctime: true })), name).toBeUndefined();
      }
    }

    it('of the newest layer needs no force once the tree is elsewhere', () => {
      const looks = build('newest');
      commands().switchTo('newest-4');
      expect(commands().drop('newest-5')).toMatchObject({ ok: true, dropped: 'newest-5' });
      looks.delete('newest-5');
      expectAll(looks);
    });

    it('of a layer that others build on is refused unless forced, and then they stay what they are', () => {
      const looks = build('middle');
      const before = commands().list();
      const refused = expectRefusal(commands().write('layers/drop', 'middle-3'), 'EBUSY', 'middle-4');
      expect(refused.hint).toContain('"force":true');
      expect(commands().list()).toEqual(before);
      for (const gone of ['middle-3', 'middle-1', 'middle-4']) {
        expect(commands().drop(gone, true).dropped).toBe(gone);
        looks.delete(gone);
        expect(existsSync(commands().snapshot(gone))).toBe(false);
        expectAll(looks);
      }
      expect(commands().layer('middle-5').parent).toBe('middle-2');
    });

    it('of the layer that the tree is based on keeps the tree', () => {
      const looks = build('based');
      writeFileSync(path('extra'), 'extra');
      const look = lookAtTree(scene().mount, { ctime: true });
      expectRefusal(commands().write('layers/drop', 'based-5'), 'EBUSY', 'the tree');
      commands().drop('based-5', true);
      looks.delete('based-5');
      expect(difference(look, lookAtTree(scene().mount, { ctime: true }))).toBeUndefined();
      commands().flush();
      expect(difference(look, lookAtTree(scene().mount, { ctime: true }))).toBeUndefined();
      commands().checkpoint('based-6');
      looks.set('based-6', look);
      expectAll(looks);
    });

    it('of a layer with branches keeps each of them', () => {
      const looks = build('fork');
      commands().switchTo('fork-2');
      writeFileSync(path('branch'), 'branch');
      commands().checkpoint('fork-b', { branch: true });
      looks.set('fork-b', lookAtTree(scene().mount, { ctime: true }));
      commands().drop('fork-2', true);
      looks.delete('fork-2');
      expectAll(looks);
      expect(commands().layer('fork-b').parent).toBe('fork-1');
      expect(commands().layer('fork-3').parent).toBe('fork-1');
    });

    it('takes a tag, and the tags of the layer go with it', () => {
      build('tagged');
      commands().run('layers/tags/tagged-tag', 'tagged-3');
      commands().run('layers/tags/tagged-too', 'tagged-3');
      expect(commands().drop('tagged-tag', true).dropped).toBe('tagged-3');
      expect(readdirSync(commands().path('layers/tags'))).not.toEqual(expect.arrayContaining(['tagged-tag']));
      expect(readdirSync(commands().path('layers/tags'))).not.toEqual(expect.arrayContaining(['tagged-too']));
    });

    it('of the base layer is refused, forced or not', () => {
      for (const force of [false, true])
        expectRefusal(commands().write('layers/drop', { layer: 'base', force }), 'EINVAL', 'base layer');
    });

    it.each(['nowhere', '', 'working', '{"layer": "x", "forced": true}', '{"force": true}'])(
      'of %j is refused',
      (command) => {
        const before = commands().list();
        const { errno, outcome } = commands().write('layers/drop', command);
        expect(['ENOENT', 'EINVAL']).toContain(errno);
        expect(outcome).toMatchObject({ ok: false, error: errno, hint: expect.any(String) });
        expect(commands().list()).toEqual(before);
      },
    );

    it('makes the name free', () => {
      scene().begin('free');
      commands().checkpoint('free-1');
      commands().switchTo('free');
      commands().drop('free-1');
      commands().checkpoint('free-1');
    });
  });

  describe('a squash', () => {
    it('makes a run of layers one, and keeps every other layer', () => {
      scene().begin('squash');
      const looks = new Map<string, ReturnType<typeof lookAtTree>>();
      for (let n = 1; n <= 6; n++) {
        writeFileSync(path(`only-${n}`), `${n}`);
        if (n >= 3) rmSync(path(`only-${n - 2}`));
        writeFileSync(path('all'), 'x'.repeat(n * 3000));
        commands().checkpoint(`squash-${n}`);
        looks.set(`squash-${n}`, lookAtTree(scene().mount, { ctime: true }));
      }
      commands().run('layers/tags/squash-tag', 'squash-3');
      const outcome = commands().squash('squash-2', 'squash-4', 'squash-2to4');
      expect(outcome).toMatchObject({ ok: true, layer: 'squash-2to4' });
      expect(commands().layer('squash-2to4')).toMatchObject({ parent: 'squash-1', tags: ['squash-tag'] });
      expect(commands().layer('squash-5').parent).toBe('squash-2to4');
      const merged = looks.get('squash-4') ?? new Map();
      for (const gone of ['squash-2', 'squash-3', 'squash-4']) {
        looks.delete(gone);
        expect(existsSync(commands().snapshot(gone))).toBe(false);
      }
      looks.set('squash-2to4', merged);
      for (const [name, look] of looks) {
        commands().switchTo(name);
        expect(difference(look, lookAtTree(scene().mount, { ctime: true })), name).toBeUndefined();
        expect(difference(look, lookAtTree(commands().snapshot(name), { ctime: true })), name).toBeUndefined();
      }
    });

    it('may take the name of a layer of the run, and be of one layer only', () => {
      scene().begin('rename');
      for (const n of [1, 2, 3]) commands().checkpoint(`rename-${n}`);
      expect(commands().squash('rename-1', 'rename-2', 'rename-1').layer).toBe('rename-1');
      expect(commands().squash('rename-3', 'rename-3', 'renamed').layer).toBe('renamed');
      expect(commands().layer('renamed').parent).toBe('rename-1');
    });

    it('up to the layer that the tree is based on keeps the tree', () => {
      scene().begin('upto');
      writeFileSync(path('one'), '1');
      commands().checkpoint('upto-1');
      writeFileSync(path('two'), '2');
      commands().checkpoint('upto-2');
      writeFileSync(path('three'), '3');
      const look = lookAtTree(scene().mount, { ctime: true });
      commands().squash('upto-1', 'upto-2', 'upto-1to2');
      commands().flush();
      expect(difference(look, lookAtTree(scene().mount, { ctime: true }))).toBeUndefined();
      expect(commands().current()).toMatchObject({ modified: true, working: { parent: 'upto-1to2' } });
    });

    it('is refused where it would change another layer, or makes no sense', () => {
      scene().begin('wrong');
      for (const n of [1, 2, 3]) commands().checkpoint(`wrong-${n}`);
      commands().switchTo('wrong-2');
      commands().checkpoint('wrong-b', { branch: true });
      const before = commands().list();
      const squash = (from: string, to: string, name = 'wrong-new') =>
        commands().write('layers/squash', { from, to, name });
      expectRefusal(squash('wrong-1', 'wrong-3'), 'EBUSY', 'wrong-2');
      expectRefusal(squash('wrong-3', 'wrong-b'), 'EINVAL', 'does not build on');
      expectRefusal(squash('wrong-3', 'wrong-1'), 'EINVAL', 'does not build on');
      expectRefusal(squash('base', 'wrong-1'), 'EINVAL', 'base layer');
      expectRefusal(squash('wrong-1', 'nowhere'), 'ENOENT', 'nowhere');
      expectRefusal(squash('wrong-1', 'wrong-2', 'wrong-3'), 'EEXIST', 'taken');
      expectRefusal(squash('wrong-1', 'wrong-2', '../x'), 'EINVAL', 'cannot be a name');
      for (const command of ['wrong-1', '', '{}', '{"from": "wrong-1"}', { from: 'wrong-1', to: 'wrong-2' }])
        expectRefusal(commands().write('layers/squash', command), 'EINVAL', 'needs');
      expect(commands().list()).toEqual(before);
    });
  });

  describe('a tag', () => {
    it('is a file: written, read, pointed elsewhere, removed', () => {
      scene().begin('tags');
      commands().checkpoint('tags-1');
      const tag = commands().path('layers/tags/good');
      expect(shell('echo tags > .tarbox/layers/tags/good').status).toBe(0);
      expect(readFileSync(tag, 'utf8')).toBe('tags\n');
      expect(commands().layer('tags').tags).toEqual(['good']);
      expect(readdirSync(commands().path('layers/tags'))).toContain('good');
      writeFileSync(tag, 'tags-1');
      expect(readFileSync(tag, 'utf8')).toBe('tags-1\n');
      expect(commands().layer('tags').tags).toEqual([]);
      expect(commands().read('layers/tree')).toMatch(/tags-1 \(good\) \[current\]/);
      expect(shell('rm .tarbox/layers/tags/good').status).toBe(0);
      expect(readdirSync(commands().path('layers/tags'))).not.toContain('good');
      expect(existsSync(tag)).toBe(false);
      expect(commands().layer('tags-1').tags).toEqual([]);
    });

    it('is written by id and by another tag', () => {
      scene().begin('tagways');
      commands().run('layers/tags/one', `${commands().layer('tagways').id}`);
      commands().run('layers/tags/two', 'one');
      expect(commands().layer('tagways').tags).toEqual(['one', 'two']);
      commands().removeTag('one');
      expect(commands().read('layers/tags/two')).toBe('tagways\n');
    });

    it('stays through a restart', async () => {
      commands().run('layers/tags/stays', 'base');
      await scene().tarbox.restart();
      expect(commands().read('layers/tags/stays')).toBe('base\n');
    });

    it('is refused for a layer that is not there, under a name that a layer has, and under a bad name', () => {
      scene().begin('tagbad');
      const write = (tag: string, layer: string) => shell(`echo ${layer} > '.tarbox/layers/tags/${tag}'`).stderr;
      expect(write('tagbad-t', 'nowhere')).toMatch(/No such file/);
      expect(readdirSync(commands().path('layers/tags'))).not.toContain('tagbad-t');
      expect(write('tagbad', 'base')).toMatch(/File exists/);
      for (const name of ['-x', '12', 'current', 'a..b', 'x'.repeat(201)])
        expect(write(name, 'base')).toMatch(/Invalid argument/);
      expect(shell('rm .tarbox/layers/tags/nowhere').stderr).toMatch(/No such file/);
    });
  });

  it('nothing of it can be made, renamed or removed, nor is it seen by those who walk the tree', () => {
    for (const script of [
      'mkdir .tarbox/layers/x',
      'touch .tarbox/layers/x',
      'rm .tarbox/layers/new',
      'mv .tarbox/layers/new .tarbox/layers/old',
      'mv .tarbox elsewhere',
      'rmdir .tarbox/snapshots/base',
      'mkdir .tarbox/snapshots/x',
      'ln -s a .tarbox/layers/x',
      'mkdir .tarbox',
      'rm -r .tarbox/layers/tags',
    ]) {
      const { status, stderr } = shell(script);
      expect({ script, status }).not.toEqual({ script, status: 0 });
      expect(stderr).toMatch(/Operation not permitted|File exists|Permission denied|Read-only/);
    }
    expect(shell('echo x > .tarbox/layers/list').stderr).toMatch(/Permission denied/);
    expect(execFileSync('find', [scene().mount]).toString()).not.toContain('.tarbox');
    expect(readdirSync(scene().mount)).not.toContain('.tarbox');
  });

  it('two commands at once are carried out one after the other', async () => {
    scene().begin('both');
    const run = (script: string) =>
      new Promise<string>((resolve) =>
        exec(script, { cwd: scene().mount, shell: '/bin/bash' }, (_, __, stderr) => resolve(stderr)),
      );
    const scripts = Array.from({ length: 8 }, (_, n) => `echo x > f${n}; echo both-${n} > .tarbox/layers/new`);
    const switches = Array.from({ length: 4 }, () => 'echo both > .tarbox/layers/switch');
    const failures = (await Promise.all([...scripts, ...switches].map(run))).filter((stderr) => stderr !== '');
    // After a switch back the next checkpoint is refused, for newer layers exist.
    for (const stderr of failures) expect(stderr).toMatch(/Device or resource busy|No such file|Stale/);
    const ids = commands()
      .list()
      .map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(
      commands()
        .list()
        .filter(({ frozen }) => !frozen),
    ).toHaveLength(1);
  });
});
