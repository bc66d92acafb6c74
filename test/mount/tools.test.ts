import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { missingForMounts, Tarbox } from '../support/tarbox.ts';

/** What a group of tests needs and this machine lacks, if anything. */
function missingFor(program: string): string | undefined {
  if (spawnSync(program, ['--version']).error !== undefined) return `${program} (the Debian package of that name)`;
  return missingForMounts();
}

function suite(program: string, tests: (mount: () => string) => void): void {
  const missing = missingFor(program);
  const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
  describe.skipIf(missing !== undefined)(`${program}${unless}`, () => {
    const tarbox = new Tarbox();
    const tree = () => execa('find', [tarbox.mount, '-printf', '%P %y %m %n %s\n']).then(({ stdout }) => stdout);
    let before = '';
    let daemon = 0;
    beforeAll(async () => {
      await tarbox.start();
      await mkdir(join(tarbox.mount, 'kept'));
      await writeFile(join(tarbox.mount, 'kept/file'), 'content');
      daemon = tarbox.pids.daemon;
    });
    beforeEach(async () => {
      before = await tree();
    });
    afterEach(async () => {
      expect(await tree()).toBe(before);
      expect(tarbox.pids.daemon).toBe(daemon);
      expect(tarbox.log.filter(({ level }) => level === 'error' || level === 'warn')).toEqual([]);
    });
    afterAll(() => tarbox.remove());
    tests(() => tarbox.mount);
  });
}

suite('fio', (mount) => {
  it.each([
    ['random writes of several jobs', ['--rw=randwrite', '--bs=4k', '--ioengine=psync', '--numjobs=4']],
    ['random reads and writes of mixed sizes, with fsync', ['--rw=randrw', '--bsrange=512-256k', '--fsync=32']],
    ['random writes through mappings of several jobs', ['--rw=randwrite', '--bs=4k', '--ioengine=mmap', '--numjobs=2']],
    ['random writes past the page cache', ['--rw=randwrite', '--bs=16k', '--direct=1', '--numjobs=2']],
    ['sequential writes into space set aside', ['--rw=write', '--bs=128k', '--ioengine=pvsync2', '--fallocate=keep']],
    ['many requests at once', ['--rw=randwrite', '--bs=8k', '--ioengine=libaio', '--iodepth=32']],
  ])('finds what it wrote: %s', async (_, options) => {
    const folder = await mkdtemp(join(mount(), 'fio-'));
    const common = [
      '--name=job',
      `--directory=${folder}`,
      '--size=8m',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_state_save=0',
    ];
    const { stdout } = await execa('fio', [...common, '--do_verify=1', '--output-format=json', ...options]);
    // fio's report, as far as it's used.
    const { jobs } = JSON.parse(stdout.slice(stdout.indexOf('{'))) as { jobs: { error: number }[] };
    expect(jobs.map(({ error }) => error).filter((error) => error !== 0)).toEqual([]);
    await execa('rm', ['-r', folder]);
  });
});

/** Each sees its own mistakes with --verify. Those left out test the kernel alone, or mount and watch other places. */
const STRESSORS = [
  ['names', ['dentry', 'dir', 'dirdeep', 'dirmany', 'filename', 'link', 'mknod', 'rename', 'symlink', 'touch']],
  ['content', ['copy-file', 'fallocate', 'hdd', 'io', 'iomix', 'seek', 'sync-file', 'verity']],
  ['attributes', ['access', 'chdir', 'chmod', 'chown', 'fstat', 'getdent', 'handle', 'utime', 'xattr']],
  ['locks and handles', ['dup', 'fcntl', 'flock', 'inotify', 'lease', 'locka', 'lockf', 'lockofd', 'open', 'fsize']],
] as const;

suite('stress-ng', (mount) => {
  it.each(STRESSORS)('sees nothing wrong: %s', async (_, stressors) => {
    const folder = await mkdtemp(join(mount(), 'stress-'));
    const each = stressors.flatMap((name) => [`--${name}`, '1', `--${name}-ops`, '200']);
    const bounds = ['--hdd-bytes', '8m', '--fallocate-bytes', '8m', '--iomix-bytes', '8m'];
    const options = [...each, ...bounds, '--timeout', '8', '--verify', '--temp-path', folder];
    const { exitCode, stdout, stderr } = await execa('stress-ng', options, { reject: false });
    const said = `${stdout}\n${stderr}`;
    expect(exitCode, said).toBe(0);
    expect(said).not.toMatch(/\b(?:fail|error): /);
    expect((await execa('find', [folder, '-mindepth', '1'])).stdout).toBe('');
    await execa('rmdir', [folder]);
  });
});
