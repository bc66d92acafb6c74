import { mkdirSync, mkdtempSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Mount, parseMountinfo } from '../../src/fuse/device.ts';
import type { NativeState } from '../../src/native/rule.ts';
import { removeFolder } from '../support/folder.ts';
import { missingForMounts, startTarbox, type Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const DEADLINE_MS = 20_000;

interface Rule {
  readonly path: string;
  readonly source: string;
  readonly mode?: 'ro' | 'rw';
  readonly shared?: boolean;
  readonly priority?: number;
}

interface Listed extends Rule {
  readonly state: NativeState;
  readonly error?: string;
}

describe.skipIf(missing !== undefined)(`native mounts${unless}`, () => {
  let folder = '';
  let tarbox: Tarbox;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tarbox-native-test-'));
    writeFileSync(at('tarbox.toml'), '');
    tarbox = await startTarbox({
      env: { TARBOX_CONFIG: at('tarbox.toml'), TARBOX_NATIVE_ALLOW: at('host'), TARBOX_OWNER: '1000:1000' },
    });
  });
  afterAll(async () => {
    await tarbox.remove();
    removeFolder(folder);
  });
  beforeEach(() => {
    mkdirSync(at('host/shared/below'), { recursive: true });
    writeFileSync(at('host/shared/file'), 'native\n');
  });
  afterEach(async () => {
    await setRules([]);
    await sh('rm -rf -- * .venv');
  });

  const at = (name: string) => join(folder, name);
  /** In a shell of its own: a test that waited for what it keeps from going on would wait without end. */
  const run = (script: string) =>
    execa('sh', ['-ec', script], { cwd: tarbox.mount, reject: false, timeout: DEADLINE_MS, all: true });
  const sh = async (script: string): Promise<string> => {
    const { all, exitCode } = await run(script);
    if (exitCode !== 0) throw new Error(`${script}: ${all}`);
    return all;
  };
  const checkpoint = (name: string) => `echo '${JSON.stringify({ name, branch: true })}' > .tarbox/layers/new`;
  const list = async (): Promise<Listed[]> => JSON.parse(await sh('cat .tarbox/mounts/list'));
  const states = async () => Object.fromEntries((await list()).map(({ path, state }) => [path, state]));
  const mounts = (): Mount[] =>
    parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')).filter(({ mountPoint }) =>
      mountPoint.startsWith(`${tarbox.mount}/`),
    );

  /** Replaces the configuration file, as an editor does; resolves when that has been seen. */
  async function setRules(rules: readonly Rule[], more = ''): Promise<void> {
    const tables = rules.map((rule) =>
      ['[[native_mounts]]', ...Object.entries(rule).map(([key, value]) => `${key} = ${JSON.stringify(value)}`)].join(
        '\n',
      ),
    );
    const text = [more, ...tables, ''].join('\n');
    const before = readFileSync(at('tarbox.toml'), 'utf8');
    if (text === before) return;
    writeFileSync(at('tarbox.toml.new'), text);
    renameSync(at('tarbox.toml.new'), at('tarbox.toml'));
    await until(async () => (await sh('cat .tarbox/mounts/rules | grep -c path || true')) === String(rules.length));
    await until(async () => (await list()).length === rules.length);
  }

  async function until(condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    while (!(await condition())) {
      if (performance.now() > deadline)
        throw new Error(
          `not within ${DEADLINE_MS} ms: ${condition}\n${JSON.stringify(await list())}\n${tarbox.logText()}`,
        );
      await new Promise((done) => setTimeout(done, 25));
    }
  }
  const untilState = (path: string, state: NativeState) => until(async () => (await states())[path] === state);

  it("make a tenant's source when it is missing, and give it to the tenant's owner", async () => {
    await setRules([{ path: '/.venv', source: `${at('host')}/venvs/{tenant}-{tenant_id}` }]);
    await untilState('/.venv', 'mounted');
    expect(await sh('stat -c %u:%g .venv; echo made > .venv/file; ls -a')).toMatch(/^1000:1000\n\.\n\.\.\n\.venv$/);
    expect(readFileSync(at('host/venvs/default-1/file'), 'utf8')).toBe('made\n');
    expect(await list()).toEqual([
      { path: '/.venv', source: at('host/venvs/default-1'), mode: 'rw', shared: false, priority: 0, state: 'mounted' },
    ]);
  });

  it('are without setuid and devices, and read-only where the rule says so', async () => {
    await setRules([
      { path: '/tools', source: at('host/shared'), shared: true, mode: 'ro' },
      { path: '/one', source: at('host/shared/file'), shared: true },
    ]);
    await untilState('/one', 'mounted');
    expect(mounts().map(({ options }) => options)).toEqual([
      expect.stringMatching(/^ro,nosuid,nodev/),
      expect.stringMatching(/^rw,nosuid,nodev/),
    ]);
    expect(await sh('cat one tools/file')).toBe('native\nnative');
    expect((await run('echo more > tools/file')).all).toContain('Read-only file system');
  });

  it('nest, and the highest priority wins', async () => {
    await setRules([
      { path: '/v/in/ner', source: at('host/shared'), shared: true, mode: 'ro' },
      { path: '/v', source: `${at('host')}/low/{tenant}` },
      { path: '/v', source: `${at('host')}/high/{tenant}`, priority: 1 },
    ]);
    await untilState('/v/in/ner', 'mounted');
    expect(await sh('cat v/in/ner/file')).toBe('native');
    const [outer] = mounts();
    expect(outer?.root).toMatch(/\/high\/default$/);
    expect((await list()).map(({ source, state }) => [source.slice(at('host').length), state])).toEqual([
      ['/high/default', 'mounted'],
      ['/low/default', 'overridden'],
      ['/shared', 'mounted'],
    ]);
  });

  it('report what is wrong, and leave the rest alone', async () => {
    symlinkSync('/etc', at('host/shared/away'));
    await setRules([
      { path: '/a', source: at('host/shared/away'), shared: true },
      { path: '/b', source: at('host/shared/away/ssl'), shared: true },
      { path: '/c', source: at('host/nowhere'), shared: true },
      { path: '/d', source: '/etc', shared: true },
      { path: '/e', source: `${at('host')}/{tenant}/../../../etc` },
      { path: '/good', source: at('host/shared'), shared: true },
    ]);
    await untilState('/good', 'mounted');
    expect(Object.fromEntries((await list()).map(({ path, error }) => [path, error]))).toEqual({
      '/a': expect.stringContaining('shared/away is a symbolic link'),
      '/b': expect.stringContaining('shared/away is not a directory'),
      '/c': expect.stringContaining('there is no nowhere'),
      '/d': expect.stringContaining('/etc is outside of what TARBOX_NATIVE_ALLOW allows'),
      '/e': expect.stringContaining('may not have .. in it'),
      '/good': undefined,
    });
    expect(await sh('ls -A')).toBe('good');
    expect(JSON.parse(await sh('cat .tarbox/health'))).toMatchObject({ status: 'degraded' });
    await execa('rm', [at('host/shared/away')]);
  });

  it('are not led out of the workspace by its symbolic links, which come back after them', async () => {
    mkdirSync(at('outside'), { recursive: true });
    await sh(`ln -s ${at('outside')} link; ln -s ${at('outside')} way`);
    await setRules([
      { path: '/link', source: at('host/shared'), shared: true },
      { path: '/way/below', source: at('host/shared'), shared: true },
    ]);
    await untilState('/link', 'mounted');
    expect(await states()).toEqual({ '/link': 'mounted', '/way/below': 'waiting' });
    expect(await sh(`ls ${at('outside')}; cat link/file`)).toBe('native');
    await setRules([]);
    await until(async () => mounts().length === 0);
    expect(await sh('readlink link')).toBe(at('outside'));
  });

  it('are no part of layers, and stay across switches', async () => {
    await sh(`mkdir .venv; echo stored > .venv/stored; ${checkpoint('before')}`);
    await setRules([{ path: '/.venv', source: at('host/shared'), shared: true }]);
    await untilState('/.venv', 'mounted');
    const [mount] = mounts();
    const holder = execa('sh', ['-c', 'cd .venv; echo; read x; cat file; pwd -P'], { cwd: tarbox.mount });
    await new Promise((done) => holder.stdout.once('data', done));
    expect(await sh('cat .venv/file; echo new > .venv/native; echo x > x; ls -A')).toBe('native\n.venv\nx');
    expect(await sh(`${checkpoint('after')}; cat .tarbox/diff/before..after/changes`)).not.toContain('native');
    for (const layer of ['base', 'before', 'after']) {
      await sh(`echo ${layer} > .tarbox/layers/switch; cat .venv/file`);
      expect(mounts().map(({ mountId }) => mountId)).toEqual([mount?.mountId]);
    }
    holder.stdin.write('\n');
    expect((await holder).stdout).toContain('native');
    expect(await sh('ls -A .tarbox/snapshots/after/.venv')).toBe('stored');
    await setRules([]);
    await until(async () => (await run('cat .venv/stored')).all === 'stored');
    await sh('echo base > .tarbox/layers/switch');
  });

  it('wait for the directory that they are in, and come back with it', async () => {
    await setRules([{ path: '/app/modules', source: at('host/shared'), shared: true }]);
    await untilState('/app/modules', 'waiting');
    await sh(`mkdir app; echo x > app/x; ${checkpoint('with-app')}`);
    await untilState('/app/modules', 'mounted');
    expect(await sh('ls app; cat app/modules/file')).toBe('modules\nx\nnative');
    await sh(`echo y > app/x; ${checkpoint('more')}; echo with-app > .tarbox/layers/switch`);
    expect(await sh('cat app/x app/modules/file')).toBe('x\nnative');
    await sh('echo base > .tarbox/layers/switch');
    await untilState('/app/modules', 'waiting');
    expect(mounts()).toEqual([]);
    await sh('echo with-app > .tarbox/layers/switch');
    await untilState('/app/modules', 'mounted');
    expect(await sh('cat app/modules/file')).toBe('native');
    await setRules([]);
    await sh('echo base > .tarbox/layers/switch');
  });

  it('keep their names, and those of the directories that lead to them', async () => {
    await sh('mkdir app');
    await setRules([
      { path: '/app/modules', source: at('host/shared'), shared: true },
      { path: '/broken', source: at('host/shared'), shared: true },
    ]);
    await untilState('/app/modules', 'mounted');
    for (const script of [
      'mv app other',
      'rm -d app',
      'mv app/modules x',
      'rmdir app/modules',
      'mkdir other; mv -T other app',
    ])
      expect((await run(script)).all, script).toMatch(/busy|not empty/);
    for (const script of ['mkdir app/modules', 'ln -sT x broken', 'mkfifo broken'])
      expect((await run(script)).all, script).toMatch(/File exists/);
    expect(await sh('mv app/modules/file app/modules/moved; mv app/modules/moved app/modules/file; ls app')).toBe(
      'modules',
    );
  });

  it('go when nobody uses them any more', async () => {
    await setRules([{ path: '/used', source: at('host/shared'), shared: true }]);
    await untilState('/used', 'mounted');
    const holder = execa('sh', ['-c', 'exec 9<used/file; echo; read x'], { cwd: tarbox.mount });
    await new Promise((done) => holder.stdout.once('data', done));
    writeFileSync(at('tarbox.toml'), '# none');
    await untilState('/used', 'leaving');
    expect(await sh('cat used/file')).toBe('native');
    holder.stdin.write('\n');
    await holder;
    await until(async () => mounts().length === 0);
    await until(async () => (await sh('ls -A')) === '');
  });

  it('stay as they are when the file is broken, which the health tells of until it is mended', async () => {
    const rules = [{ path: '/kept', source: at('host/shared'), shared: true }];
    await setRules(rules);
    await untilState('/kept', 'mounted');
    const good = readFileSync(at('tarbox.toml'), 'utf8');
    writeFileSync(at('tarbox.toml'), '[[native_mounts]]\npath = 7');
    await until(async () => (await sh('cat .tarbox/health')).includes('the old configuration is kept'));
    expect(await sh('cat kept/file')).toBe('native');
    writeFileSync(at('tarbox.toml'), good);
    await until(async () => (await sh('cat .tarbox/health')).includes('"status": "ok"'));
  });

  it('outlive the daemon, and come back after kill -9 of everything', async () => {
    await setRules([{ path: '/.venv', source: `${at('host')}/venvs/{tenant}` }]);
    await untilState('/.venv', 'mounted');
    const [mount] = mounts();
    process.kill(tarbox.pids.daemon, 'SIGKILL');
    await sh('echo meanwhile > .venv/meanwhile');
    await tarbox.waitForLog('daemon-restarted', DEADLINE_MS);
    expect(await sh('cat .venv/meanwhile; ls -A')).toBe('meanwhile\n.venv');
    expect(mounts().map(({ mountId }) => mountId)).toEqual([mount?.mountId]);
    await tarbox.killEverything();
    await tarbox.start();
    expect(await sh('cat .venv/meanwhile; ls -A')).toBe('meanwhile\n.venv');
    expect(await states()).toEqual({ '/.venv': 'mounted' });
    await tarbox.restart();
    expect(await states()).toEqual({ '/.venv': 'mounted' });
  });
});
