import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImages, IMAGE, missingForContainers } from './engine.ts';
import { Stack } from './stack.ts';

const missing = missingForContainers();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const DEADLINE_MS = 60_000;

describe.skipIf(missing !== undefined)(`a sidecar's container that cannot work${unless}`, () => {
  let stack: Stack;
  beforeAll(async () => {
    stack = new Stack('start', ['compose.yaml']);
    await buildImages();
    await stack.up('postgres');
  }, 600_000);
  afterAll(() => stack.remove());

  /** Runs the sidecar with these arguments of `docker run`; the reasons that it gives for its end. */
  async function reasons(...args: string[]): Promise<string[]> {
    const command = ['run', '--rm', ...args, IMAGE];
    const { stderr, exitCode } = await execa('docker', command, { reject: false, timeout: DEADLINE_MS });
    expect(exitCode, stderr).toBe(1);
    // The log's lines are JSON objects.
    const lines = stderr.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
    return lines.filter(({ level }) => level === 'error').map(({ reason }) => String(reason));
  }
  const workspace = () => ['-v', `${stack.directory('one')}:/workspace:rshared`];
  const fuse = ['--device', '/dev/fuse'];
  const mounting = ['--cap-add', 'SYS_ADMIN', '--security-opt', 'apparmor=unconfined'];

  it('says that a named volume does not propagate, and what to write', async () => {
    const [reason, ...more] = await reasons(...fuse, ...mounting, '-v', '/workspace');
    expect(reason).toMatch(/^\/workspace does not propagate mounts, .*-v \/srv\/tarbox:\/workspace:rshared.*compose/);
    expect(reason).toContain('mountPropagation: Bidirectional');
    expect(more).toEqual([]);
  });

  it('says that nothing shares its directory, and what to write', async () => {
    expect(await reasons(...fuse, ...mounting)).toEqual([
      expect.stringMatching(/^\/workspace\/default is inside this container, so no other container would see/),
    ]);
  });

  it('says that the device is missing, and what to write', async () => {
    expect(await reasons(...mounting, ...workspace())).toEqual([
      expect.stringMatching(/^cannot open \/dev\/fuse: .*`devices: \[\/dev\/fuse\]`.*privileged: true/),
    ]);
  });

  it('says that the right to mount is missing, and what to write', async () => {
    expect(await reasons(...fuse, ...workspace())).toEqual([
      expect.stringMatching(/^cannot mount on \/workspace\/default: .*CAP_SYS_ADMIN.*`cap_add: \[SYS_ADMIN\]`/),
    ]);
  });

  it('says that the password is wrong, without telling it', async () => {
    const network =
      (await stack.inspect('postgres', 'json .NetworkSettings.Networks')).match(/^\{"([^"]+)"/)?.[1] ?? '';
    const url = 'DATABASE_URL=postgres://tarbox:hunter2@postgres/tarbox';
    const found = await reasons(...fuse, ...mounting, ...workspace(), '--network', network, '-e', url);
    expect(found).toEqual([expect.stringMatching(/^PostgreSQL refuses: password authentication failed.*DATABASE_URL/)]);
    expect(found[0]).not.toContain('hunter2');
  });
});
