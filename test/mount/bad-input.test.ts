import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, describe, expect, it } from 'vitest';
import { isMounted } from '../../src/fuse/device.ts';
import { attemptStart, expectProblem, useFolder } from '../support/attempt.ts';
import { missingForMounts, startTarbox, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

describe('a configuration that is wrong', () => {
  const folder = useFolder();

  it.each([
    ['TARBOX_COMIT_INTERVAL', '1s', "'TARBOX_COMIT_INTERVAL' is not a setting; did you mean TARBOX_COMMIT_INTERVAL?"],
    ['TARBOX_COMMIT_INTERVAL', 'soon', /^tarbox: TARBOX_COMMIT_INTERVAL is 'soon'; allowed is a time such as 250ms/],
    ['TARBOX_QUOTA_BYTES', '-1', /^tarbox: TARBOX_QUOTA_BYTES is '-1'; allowed is a size such as/],
    [
      'TARBOX_CONTROL_ACCESS',
      'nobody',
      /^tarbox: TARBOX_CONTROL_ACCESS is 'nobody'; allowed is one of owner, group, all/,
    ],
    ['DATABASE_URL', 'mysql://me:hunter2@there/db', /^tarbox: DATABASE_URL is not valid \(its value is secret\)/],
    ['TARBOX_CONFIG', '/nowhere/tarbox.toml', "TARBOX_CONFIG: cannot read '/nowhere/tarbox.toml' (ENOENT)"],
  ])('stops the start: %s=%s', async (name, value, problem) => {
    const attempt = await attemptStart({ [name]: value });
    expectProblem(attempt, 2, problem);
    expect(attempt.text).not.toContain('hunter2');
  });

  it.each([
    ['[filesystem]\nblok_size = 1', "[filesystem] has no setting 'blok_size'; did you mean block_size?"],
    ['[filesystm]\n', "'filesystm' is not a section; did you mean [filesystem]?"],
    ['[cache]\nmetadata_size = true', "[cache] metadata_size is 'true'; allowed is a size such as"],
    ['[cache\n', 'line 1, column 7'],
    ['[database]\nurl = "postgres://me:hunter2@"', '[database] url is not valid (its value is secret)'],
  ])('stops the start: a file with %j', async (text, problem) => {
    const file = join(folder(), 'tarbox.toml');
    writeFileSync(file, text);
    const attempt = await attemptStart({ TARBOX_CONFIG: file });
    expectProblem(attempt, 2, problem);
    expect(attempt.text).not.toContain('hunter2');
  });
});

suite(`a mount point that cannot be used${unless}`, () => {
  const folder = useFolder();
  const at = (name: string) => join(folder(), name);
  const attempt = (mount: string) => attemptStart({ TARBOX_MOUNT: mount, TARBOX_DATA: at('data') });

  it('says that it is a file', async () => {
    writeFileSync(at('file'), '');
    expectProblem(await attempt(at('file')), 1, `cannot make the mount point ${at('file')}: it is not a directory`);
    expectProblem(await attempt(at('file/below')), 1, 'it is not a directory; set TARBOX_MOUNT');
  });

  it('says that it cannot be made', async () => {
    expectProblem(await attempt('/proc/tarbox'), 1, 'cannot make the mount point /proc/tarbox');
    expectProblem(await attempt(at('x'.repeat(256))), 1, 'the name is too long');
    symlinkSync('loop', at('loop'));
    expectProblem(await attempt(at('loop')), 1, 'has too many symbolic links');
  });

  it('says that it is not empty, and leaves what is in it alone', async () => {
    mkdirSync(at('full'));
    writeFileSync(at('full/kept'), '');
    expectProblem(await attempt(at('full')), 1, `${at('full')} is not empty: what is in it would be hidden`);
    expect(readdirSync(at('full'))).toEqual(['kept']);
  });

  it('says that another file system is mounted there, and leaves that alone', async () => {
    mkdirSync(at('taken'));
    await execa('mount', ['-t', 'tmpfs', 'none', at('taken')]);
    try {
      expectProblem(await attempt(at('taken')), 1, `${at('taken')} is in use: tmpfs is mounted there; unmount it`);
      expect(isMounted(at('taken'))).toBe(true);
    } finally {
      await execa('umount', [at('taken')]);
    }
  });
});

suite(`a mount point that another one has or had${unless}`, () => {
  const started: Tarbox[] = [];
  afterEach(async () => {
    for (const tarbox of started.splice(0).reverse()) await tarbox.remove();
  });
  const start = async (mount?: string): Promise<Tarbox> => {
    const tarbox = await startTarbox(mount === undefined ? {} : { mount });
    started.push(tarbox);
    return tarbox;
  };

  it('is refused while a Tarbox serves it, also by way of a symbolic link', async () => {
    const first = await start();
    const link = `${first.dataDir}-link`;
    symlinkSync(first.mount, link);
    for (const mount of [first.mount, link]) {
      const attempt = await attemptStart({ TARBOX_MOUNT: mount, TARBOX_DATA: `${first.dataDir}-2` });
      expectProblem(attempt, 1, `${first.mount} is in use: a Tarbox serves it already; stop that one`);
    }
    expect((await execa('ls', ['-A', first.mount])).stdout).toBe('');
  });

  it('is cleared when the one that served it was killed', async () => {
    const first = await start();
    await first.killEverything();
    await expect(execa('ls', [first.mount])).rejects.toThrow(/not connected/);
    const second = await start(first.mount);
    expect(second.log.map(({ event }) => event)).toContain('stale-mount-cleared');
    await execa('touch', [join(first.mount, 'file')]);
  });

  it('may be a symbolic link', async () => {
    const tarbox = new Tarbox();
    started.push(tarbox);
    const link = `${tarbox.mount}-link`;
    symlinkSync(tarbox.mount, link);
    await tarbox.start({ TARBOX_MOUNT: link });
    await execa('touch', [join(link, 'file')]);
    expect(isMounted(tarbox.mount)).toBe(true);
    await tarbox.stop();
    expect(isMounted(tarbox.mount)).toBe(false);
  });
});

suite(`a kernel interface that is not there${unless}`, () => {
  const folder = useFolder();
  const env = () => ({ TARBOX_MOUNT: join(folder(), 'mnt'), TARBOX_DATA: join(folder(), 'data') });

  it('is named when it is /dev/fuse, with what to do', async () => {
    const emptyDev = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"';
    const attempt = await attemptStart(env(), ['unshare', '--mount', 'sh', '-c', emptyDev, 'sh']);
    expectProblem(attempt, 1, /cannot open \/dev\/fuse: .*`--device \/dev\/fuse`.*\(ENOENT\)/);
  });

  it('is named when /dev/fuse may not be opened', async () => {
    mkdirSync(env().TARBOX_MOUNT, { recursive: true });
    const rootsDevice = 'mount -t tmpfs none /dev && mknod -m 600 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3';
    const user = 'exec setpriv --reuid=1000 --regid=1000 --clear-groups "$@"';
    const attempt = await attemptStart(env(), ['unshare', '--mount', 'sh', '-c', `${rootsDevice} && ${user}`, 'sh']);
    expectProblem(attempt, 1, /cannot open \/dev\/fuse: only root may open it here; run as root.*\(EACCES\)/);
  });

  it('is named when it is the right to mount, with what to do, and leaves nothing behind', async () => {
    const attempt = await attemptStart(env(), ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin']);
    expectProblem(attempt, 1, /cannot mount on .*: mounting needs CAP_SYS_ADMIN.*`--cap-add SYS_ADMIN`.*\(EPERM\)/);
    expect(isMounted(env().TARBOX_MOUNT)).toBe(false);
  });
});
