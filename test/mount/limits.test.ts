import { mkdirSync } from 'node:fs';
import { appendFile, mkdir, open, readFile, rm, stat, statfs, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useFolder } from '../support/attempt.ts';
import { missingForMounts, startTarbox, type Tarbox, type TarboxOptions } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const KIB = 1024;
const MIB = 1024 * KIB;

/** One sidecar for a block. */
function useTarbox(options: () => TarboxOptions): { at: (name: string) => string; tarbox: () => Tarbox } {
  let tarbox: Tarbox | undefined;
  beforeAll(async () => {
    tarbox = await startTarbox(options());
  });
  afterAll(() => tarbox?.remove());
  const running = (): Tarbox => {
    if (tarbox === undefined) throw new Error('it is not running');
    return tarbox;
  };
  return { at: (name) => join(running().mount, name), tarbox: running };
}

const failure = (code: string) => expect.objectContaining({ code });

suite(`names and paths${unless}`, () => {
  const { at } = useTarbox(() => ({}));
  const longest = 'n'.repeat(255);
  const tooLong = 'n'.repeat(256);

  it('has names of 255 bytes, and refuses 256 for every call that takes a name', async () => {
    await writeFile(at(longest), 'x');
    expect(await readFile(at(longest), 'utf8')).toBe('x');
    await expect(writeFile(at(tooLong), '')).rejects.toEqual(failure('ENAMETOOLONG'));
    await expect(mkdir(at(tooLong))).rejects.toEqual(failure('ENAMETOOLONG'));
    await expect(symlink('x', at(tooLong))).rejects.toEqual(failure('ENAMETOOLONG'));
    await expect(stat(at(tooLong))).rejects.toEqual(failure('ENAMETOOLONG'));
    for (const program of [['mv', longest], ['ln', longest], ['mkfifo']])
      await expect(execa('sh', ['-c', '"$@"', 'sh', ...program, tooLong], { cwd: at('') })).rejects.toThrow(/too long/);
    await rm(at(longest));
  });

  it('has targets of symbolic links of up to 4095 bytes', async () => {
    const target = 'd/'.repeat(2047);
    await symlink(target, at('long'));
    expect((await execa('readlink', [at('long')])).stdout).toBe(target);
    await expect(symlink('d/'.repeat(2048), at('longer'))).rejects.toEqual(failure('ENAMETOOLONG'));
  });

  it('refuses a path beyond PATH_MAX, and has trees deeper than that', async () => {
    await expect(stat(at(`${'d/'.repeat(2048)}d`))).rejects.toEqual(failure('ENAMETOOLONG'));
    const down = 'for i in $(seq 50); do mkdir "$1" && cd "$1" || exit; done; echo end >file; cat file';
    expect((await execa('bash', ['-c', down, 'bash', 'x'.repeat(200)], { cwd: at('') })).stdout).toBe('end');
    expect((await execa('find', [at(''), '-name', 'file'])).stdout.length).toBeGreaterThan(10_000);
    await execa('rm', ['-r', at('x'.repeat(200))]);
  });
});

suite(`the largest size of a file${unless}`, () => {
  const { at } = useTarbox(() => ({ env: { TARBOX_MAX_FILE_SIZE: '1MiB' } }));

  it('stops a write, a truncate and an allocation with EFBIG, and keeps what fits', async () => {
    const dd = execa('dd', ['if=/dev/zero', `of=${at('file')}`, 'bs=64K', 'count=20']);
    await expect(dd).rejects.toThrow(/File too large/);
    expect((await stat(at('file'))).size).toBe(MIB);
    await expect(appendFile(at('file'), 'x')).rejects.toEqual(failure('EFBIG'));
    await expect(truncate(at('file'), MIB + 1)).rejects.toEqual(failure('EFBIG'));
    await expect(execa('fallocate', ['--length', '2MiB', at('file')])).rejects.toThrow(/File too large/);
    await expect(execa('fallocate', ['--length', '2MiB', at('other')])).rejects.toThrow(/File too large/);
    expect((await stat(at('file'))).size).toBe(MIB);
    expect((await stat(at('other'))).size).toBe(0);
  });

  it('lets the last byte be written', async () => {
    const file = await open(at('last'), 'w');
    await file.write('x', MIB - 1);
    await expect(file.write('x', MIB)).rejects.toEqual(failure('EFBIG'));
    await file.close();
    expect((await stat(at('last'))).size).toBe(MIB);
  });
});

suite(`a quota${unless}`, () => {
  const { at, tarbox } = useTarbox(() => ({ env: { TARBOX_QUOTA_BYTES: '4MiB', TARBOX_QUOTA_INODES: '10' } }));
  const zeros = (kib: number) => Buffer.alloc(kib * KIB, 1);
  const df = async () => {
    const { blocks, bsize, bavail, files, ffree } = await statfs(tarbox().mount);
    return { total: blocks * bsize, free: bavail * bsize, files, ffree };
  };

  it('is what df shows', async () => {
    // The root is one of the ten.
    expect(await df()).toEqual({ total: 4 * MIB, free: 4 * MIB, files: 10, ffree: 9 });
    await writeFile(at('half'), zeros(2048));
    expect(await df()).toEqual({ total: 4 * MIB, free: 2 * MIB, files: 10, ffree: 8 });
  });

  it('of bytes is ENOSPC for what goes beyond it, and keeps what was there', async () => {
    await writeFile(at('rest'), zeros(2048));
    expect((await df()).free).toBe(0);
    await expect(writeFile(at('more'), zeros(64))).rejects.toEqual(failure('ENOSPC'));
    await expect(appendFile(at('half'), zeros(64))).rejects.toEqual(failure('ENOSPC'));
    expect((await readFile(at('half'))).equals(zeros(2048))).toBe(true);
    // Neither what is there already nor a hole takes more space.
    await writeFile(at('half'), zeros(2048), { flag: 'r+' });
    await truncate(at('more'), 100 * MIB);
    await expect(execa('fallocate', ['--length', '1MiB', at('more')])).resolves.toBeDefined();
    await expect(execa('fallocate', ['--length', '101MiB', at('more')])).rejects.toThrow(/No space left/);
  });

  it('is free again once something is removed, and the same after a restart', async () => {
    await rm(at('rest'));
    await writeFile(at('rest'), zeros(2048));
    await rm(at('rest'));
    await writeFile(at('again'), zeros(1024));
    // The kernel tells that it lets go of a file when it comes to it.
    await expect.poll(async () => (await df()).free, { timeout: 10_000 }).toBe(MIB);
    const before = await df();
    await tarbox().restart();
    expect(await df()).toEqual(before);
  });

  it('of files is ENOSPC for the one beyond it', async () => {
    const { ffree } = await df();
    for (let n = 0; n < ffree; n++) await writeFile(at(`file-${n}`), '');
    expect((await df()).ffree).toBe(0);
    await expect(writeFile(at('beyond'), '')).rejects.toEqual(failure('ENOSPC'));
    await expect(mkdir(at('beyond'))).rejects.toEqual(failure('ENOSPC'));
    await expect(symlink('x', at('beyond'))).rejects.toEqual(failure('ENOSPC'));
    // A second name is no second file.
    await execa('ln', [at('half'), at('link')]);
    await rm(at('file-0'));
    await mkdir(at('beyond'));
  });
});

suite(`a disk that gets full below the embedded server${unless}`, () => {
  const folder = useFolder();
  const disk = () => join(folder(), 'disk');
  beforeAll(async () => {
    mkdirSync(disk());
    await execa('mount', ['-t', 'tmpfs', '-o', 'size=500m,mode=755', 'none', disk()]);
  });
  const { at, tarbox } = useTarbox(() => ({ dataDir: join(disk(), 'data') }));
  afterAll(() => execa('umount', ['--lazy', disk()]));

  const sync = () => execa('sync', [tarbox().mount], { reject: false, timeout: 60_000 });

  it('makes fsync fail with ENOSPC, loses nothing that was committed, and goes on when there is space', async () => {
    await writeFile(at('before'), 'committed');
    expect((await sync()).exitCode).toBe(0);
    await execa('fallocate', ['--length', '330MiB', join(disk(), 'ballast')], { reject: false });
    let failed: Awaited<ReturnType<typeof sync>> | undefined;
    for (let n = 0; n < 100 && failed === undefined; n++) {
      await execa('dd', ['if=/dev/urandom', `of=${at(`fill-${n}`)}`, 'bs=1M', 'count=16'], { reject: false });
      const result = await sync();
      if (result.exitCode !== 0) failed = result;
    }
    expect(failed?.stderr).toMatch(/No space left on device/);
    expect(JSON.parse(await readFile(at('.tarbox/health'), 'utf8'))).toMatchObject({ status: 'degraded' });
    expect(await readFile(at('before'), 'utf8')).toBe('committed');
    await rm(join(disk(), 'ballast'));
    await execa('mount', ['-o', 'remount,size=4g', disk()]);
    const deadline = performance.now() + 60_000;
    while ((await sync()).exitCode !== 0) expect(performance.now()).toBeLessThan(deadline);
    const sums = await execa('sh', ['-c', 'sha256sum before fill-*'], { cwd: tarbox().mount });
    await tarbox().restart();
    const again = await execa('sh', ['-c', 'sha256sum before fill-*'], { cwd: tarbox().mount });
    expect(again.stdout).toBe(sums.stdout);
    expect(JSON.parse(await readFile(at('.tarbox/health'), 'utf8'))).toMatchObject({ status: 'ok' });
  });
});
