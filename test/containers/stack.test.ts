import { renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImages, missingForContainers } from './engine.ts';
import { Stack } from './stack.ts';

const missing = missingForContainers();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const suite = describe.skipIf(missing !== undefined);

/** The main job of an agent, from inside its container: files, git, a checkpoint, a diff, and back. */
const MAIN_JOB = `
cd /workspace/default && mkdir job-$NAME && cd job-$NAME
export HOME=/tmp/home-$NAME && mkdir -p $HOME
git config --global user.email agent@example.org && git config --global user.name Agent
git init -q . && for i in $(seq 50); do mkdir -p d$i && echo "line $i" > d$i/file; done
ln -s d1/file link && ln d1/file hard && chmod 600 d2/file && printf %0100000d 7 > big
git add -A && git commit -qm first && git fsck --strict 2>&1
control=/workspace/default/.tarbox
echo '{"name": "before-'$NAME'", "branch": true}' > $control/layers/new
rm -rf d* .git && echo changed > big && echo new > added
grep -q '"added"' $control/diff/before-$NAME..working/changes
grep -q 'job-'$NAME'/added' $control/diff/before-$NAME..working/patch
echo "before-$NAME" > $control/layers/switch
cd /workspace/default/job-$NAME
[ -z "$(git status --porcelain)" ] && [ "$(wc -c < big)" = 100000 ] && [ "$(cat link)" = 'line 1' ] && ! [ -e added ]
git fsck --strict 2>&1
`;

suite(`the stack of compose/compose.yaml${unless}`, () => {
  let stack: Stack;
  const configFile = () => join(stack.directory('host'), 'tarbox.toml');
  beforeAll(async () => {
    stack = new Stack('stack', ['compose.yaml'], {
      TARBOX_OWNER: '1000:1000',
      TEST_CONFIG: '/etc/tarbox/tarbox.toml',
    });
    writeFileSync(configFile(), '');
    await buildImages();
    await stack.up();
    await stack.until('agent', 'test -e /workspace/default/.tarbox/README');
  }, 600_000);
  afterAll(() => stack.remove());

  it('lets the agent do its work, as root and as another user', async () => {
    await stack.output('agent', `NAME=root; ${MAIN_JOB}`);
    await stack.output('agent', `NAME=user; ${MAIN_JOB}`, '1000:1000');
  });

  it('keeps control files from other users', async () => {
    const { stderr } = await stack.run('agent', 'cat /workspace/default/.tarbox/health', '1001:1001');
    expect(stderr).toContain('Permission denied');
  });

  it('is healthy, and runs without being privileged', async () => {
    await stack.until('tarbox', 'tarbox-health');
    expect(await stack.inspect('tarbox', '.HostConfig.Privileged')).toBe('false');
    expect((await stack.run('tarbox', 'tarbox-health /nowhere')).exitCode).toBe(1);
  });

  it('gives the agent a directory of the host at its own speed, as soon as the configuration file names it', async () => {
    writeFileSync(`${configFile()}.new`, '[[native_mounts]]\npath = "/.venv"\nsource = "/var/tarbox/venvs/{tenant}"\n');
    renameSync(`${configFile()}.new`, configFile());
    await stack.until('agent', 'grep -q " /workspace/default/.venv " /proc/self/mountinfo', '1000:1000');
    const counted = 'tarbox_written_bytes_total';
    const written = () => stack.output('agent', `grep "^${counted}" /workspace/default/.tarbox/metrics`);
    const before = await written();
    await stack.output('agent', 'cd /workspace/default/.venv && head -c 50M /dev/zero > big && sync big', '1000:1000');
    expect(await written()).toBe(before);
    expect(statSync(join(stack.directory('host'), 'venvs/default/big'))).toMatchObject({
      size: 50 * 2 ** 20,
      uid: 1000,
    });
    await stack.kill('tarbox');
    await stack.until('agent', 'test -e /workspace/default/.venv/big');
  });

  it('stops while the agent holds a file, having stored what it wrote; nobody can write where the workspace was', async () => {
    await stack.output(
      'agent',
      'sh -c "exec sleep 1000 9>/workspace/default/held" >/dev/null 2>&1 & echo $! > /tmp/holder',
    );
    await stack.output('agent', 'echo unsynced > /workspace/default/unsynced', '1000:1000');
    await stack.compose('stop', 'tarbox');
    expect(await stack.logs('tarbox')).toMatch(/"event":"stopped","seconds":\d/);
    expect(await stack.inspect('tarbox', '.State.ExitCode')).toBe('0');
    const { stderr } = await stack.run('agent', 'echo lost > /workspace/default/lost');
    expect(stderr).toMatch(/Operation not permitted|nonexistent/);
    expect(await stack.output('agent', 'ls -A /workspace/default; kill $(cat /tmp/holder)')).toBe('');
    expect(await stack.output('agent', 'grep -c " /workspace/" /proc/self/mountinfo || true')).toBe('0');
    await stack.compose('start', 'tarbox');
    await stack.until('agent', 'cat /workspace/default/unsynced');
    expect(await stack.output('agent', 'cat /workspace/default/unsynced')).toBe('unsynced');
  });

  const services = ['tarbox', 'postgres', 'agent'] as const;
  const orders = services.flatMap((first) =>
    services.flatMap((second) =>
      services.flatMap((third) => (new Set([first, second, third]).size === 3 ? [[first, second, third]] : [])),
    ),
  );

  it.each(orders)('comes back after kill -9 of %s, %s and %s, with everything that was synced', async (...order) => {
    const name = order.join('-');
    for (const service of order) {
      const script = `cd /workspace/default && echo ${service} >> ${name} && sync ${name}`;
      await stack.until('agent', script, '1000:1000');
      await stack.kill(service);
    }
    await stack.until('agent', 'echo all > /workspace/default/.tarbox/control/flush', '1000:1000');
    expect((await stack.output('agent', `cat /workspace/default/${name}`)).split('\n')).toEqual(
      expect.arrayContaining(order),
    );
  });

  it('gives the workspace back to an agent that was never restarted', async () => {
    const started = await stack.inspect('agent', '.State.StartedAt');
    await stack.kill('tarbox');
    await stack.until('agent', 'cat /workspace/default/unsynced');
    expect(await stack.logs('tarbox')).toContain('stale-mount-cleared');
    expect(await stack.inspect('agent', '.State.StartedAt')).toBe(started);
  });
});

suite(`two tenants side by side${unless}`, () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = new Stack('tenants', ['compose.yaml', 'two-tenants.yaml']);
    await buildImages();
    await stack.up();
    await stack.until('agent', 'test -e /workspace/default/.tarbox/README');
    await stack.until('agent-two', 'test -e /workspace/two/.tarbox/README');
  }, 600_000);
  afterAll(() => stack.remove());

  it('see each their own workspace, and nothing of the other', async () => {
    await stack.output('agent', 'cd /workspace/default && echo one > secret && echo mine > .tarbox/layers/new');
    await stack.output('agent-two', 'cd /workspace/two && echo two > secret && sync secret');
    expect(await stack.output('agent', 'ls -A /workspace; cat /workspace/default/secret')).toBe('default\none');
    expect(await stack.output('agent-two', 'ls -A /workspace; cat /workspace/two/secret')).toBe('two\ntwo');
    const told = 'cat .tarbox/health .tarbox/config .tarbox/layers/list .tarbox/layers/current .tarbox/version';
    expect(await stack.output('agent', `cd /workspace/default && ${told}`)).not.toContain('"two"');
    expect(await stack.output('agent-two', `cd /workspace/two && ${told}`)).not.toMatch(/mine|"default"/);
  });

  it('go on when the sidecar of the other one is gone', async () => {
    await stack.compose('stop', 'tarbox');
    await stack.output('agent-two', 'cd /workspace/two && echo more > more && sync more');
  });
});

suite(`the stack with the embedded server${unless}`, () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = new Stack('embedded', ['compose.yaml', 'embedded.yaml', 'audit.yaml']);
    await buildImages();
    await stack.up('tarbox', 'agent');
    await stack.until('agent', 'test -e /workspace/default/.tarbox/README');
  }, 600_000);
  afterAll(() => stack.remove());

  it('lets the agent do its work, and starts no other database', async () => {
    await stack.output('agent', `NAME=root; ${MAIN_JOB}`);
    expect(await stack.container('postgres')).toBe('');
  });

  it('has everything after kill -9 of the sidecar', async () => {
    await stack.output('agent', 'cd /workspace/default && echo synced > synced && sync synced');
    await stack.kill('tarbox');
    await stack.until('agent', '[ "$(cat /workspace/default/synced)" = synced ]');
  });

  it("shows the agent's processes to the sidecar, which comes back with the agent", async () => {
    expect(await stack.output('tarbox', 'cat /proc/[0-9]*/comm')).toContain('sleep');
    await stack.kill('agent');
    await stack.until('agent', '[ "$(cat /workspace/default/synced)" = synced ]');
  });
});
