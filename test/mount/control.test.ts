import { appendFile, mkdir, open, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingForMounts, startTarbox, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const FILES = [
  'README',
  'audit/query',
  'audit/recent',
  'audit/stats',
  'audit/stream',
  'config',
  'control/flush',
  'control/fsck',
  'control/gc',
  'health',
  'layers/current',
  'layers/drop',
  'layers/list',
  'layers/new',
  'layers/squash',
  'layers/switch',
  'layers/tree',
  'metrics',
  'mounts/list',
  'mounts/rules',
  'stats/cache',
  'stats/performance',
  'stats/usage',
  'version',
];
/** Files for people, not programs. */
const PROSE = ['README', 'audit/recent', 'layers/tree', 'metrics'];
/** A file that has no end. */
const ENDLESS = 'audit/stream';
/** Finds every file but those that there are for each layer and each file of the tree. */
const FIND = String.raw`cd .tarbox && find . \( -name snapshots -o -name diff -o -name history -o -path ./audit/path \) -prune -o -type f`;
const FLUSHED = {
  ok: true,
  flushed: 'all',
  metadata_bytes_dropped: expect.any(Number),
  chunk_bytes_dropped: expect.any(Number),
};

/** A sidecar for the tests of a block. */
function useTarbox(env: Readonly<Record<string, string>> = {}) {
  const tarbox = new Tarbox({ env });
  beforeAll(() => tarbox.start());
  afterAll(() => tarbox.remove());
  return {
    tarbox,
    at: (name: string) => join(tarbox.mount, name),
    /** Runs a script in the workspace's root. */
    sh: (script: string, user: readonly string[] = []) => {
      const [program = 'bash', ...args] = [...user, 'bash', '-c', script];
      return execa(program, args, { cwd: tarbox.mount, reject: false });
    },
  };
}

const asUser = (uid: number, gid: number) => ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];

suite(`control files${unless}`, () => {
  const { tarbox, at, sh } = useTarbox();

  describe('what they tell', () => {
    const text = (name: string) => readFile(at(`.tarbox/${name}`), 'utf8');
    // What is read is given its form by the expectation that follows.
    const json = async (name: string) => JSON.parse(await text(name)) as Record<string, unknown>;

    it.each(FILES.filter((name) => name !== ENDLESS))(
      '%s is UTF-8 that ends in a newline, and JSON unless it is for people',
      async (name) => {
        const bytes = await readFile(at(`.tarbox/${name}`));
        expect(new TextDecoder('utf-8', { fatal: true }).decode(bytes)).toMatch(/[^\n]\n$/);
        if (!PROSE.includes(name)) expect(JSON.parse(bytes.toString())).toBeTypeOf('object');
      },
    );

    it('README names every file with its access, and its examples work', async () => {
      const readme = await text('README');
      const rows = [...readme.matchAll(/^ {2}(\S+) +(rw?) +[^\s/].*$/gm)].map(
        ([, path, access]) => `${path} ${access}`,
      );
      const files = (await sh(`${FIND} -printf "%P %m\n"`)).stdout.split('\n');
      const modes = files.map((line) => line.replace(/ 600$/, ' rw').replace(/ 400$/, ' r'));
      expect(rows.sort()).toEqual(modes.sort());
      const examples = [...readme.matchAll(/^ {2}(.*\.tarbox\/.*)$/gm)].map(([, example]) => example);
      expect(examples.length).toBeGreaterThan(2);
      for (const example of examples) expect(await sh(`${example}`)).toMatchObject({ exitCode: 0, stderr: '' });
    });

    it('version has the versions of Tarbox, of the protocol and of Node', async () => {
      expect(await json('version')).toMatchObject({
        tarbox: expect.stringMatching(/^\d+\.\d+\.\d+$/),
        fuse: expect.stringMatching(/^7\.\d+$/),
        node: expect.stringMatching(/^v\d+\./),
      });
    });

    it('health is ok without reasons, and up since a time in the past', async () => {
      const health = await json('health');
      expect(health).toMatchObject({ status: 'ok', reasons: [], tenant: 'default', dirty_bytes: expect.any(Number) });
      expect(String(health['up_since'])).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(Date.parse(String(health['up_since']))).toBeLessThanOrEqual(Date.now());
    });

    it('config has the settings in force, each as it would be written', async () => {
      expect(await json('config')).toMatchObject({
        TARBOX_MOUNT: tarbox.mount,
        TARBOX_DATA: tarbox.dataDir,
        TARBOX_COMMIT_INTERVAL: '1s',
        TARBOX_CONTROL_VISIBLE: 'false',
        DATABASE_URL: null,
      });
    });

    it('layers/current has the working layer, its files and bytes as they are now', async () => {
      await writeFile(at('changed'), 'so that there is something that is in no checkpoint');
      const before = await json('layers/current');
      expect(before).toMatchObject({ name: 'working', modified: true, frozen: false });
      await writeFile(at('new'), 'x'.repeat(1000));
      const after = await json('layers/current');
      expect(after['inodes']).toBe(Number(before['inodes']) + 1);
      expect(after['bytes']).toBe(Number(before['bytes']) + 1000);
    });

    it('is never cached: each reading tells how it is now, on the same handle too', async () => {
      const file = await open(at('.tarbox/layers/current'));
      const bytesAt = async () => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
        return JSON.parse(buffer.toString('utf8', 0, bytesRead)).bytes;
      };
      const first = await bytesAt();
      await appendFile(at('new'), 'more');
      expect(await bytesAt()).toBe(first + 4);
      await file.close();
    });

    it('gives one state to a reader that takes it in pieces', async () => {
      const whole = await text('config');
      expect((await sh('dd if=.tarbox/config bs=7 status=none')).stdout).toBe(whole.trimEnd());
      expect((await sh('tail -c 10 .tarbox/config; cp .tarbox/config copy && cat copy')).stdout).toContain(
        whole.trimEnd(),
      );
    });
  });

  describe('their directory', () => {
    beforeAll(() => sh('find . -mindepth 1 -delete'));

    it('is reached by its path and is in no listing of the root', async () => {
      await writeFile(at('file'), '');
      expect(await readdir(at(''))).toEqual(['file']);
      expect((await sh('find . | sort')).stdout).toBe('.\n./file');
      expect((await sh('ls -d .tarbox .tarbox/../file .tarbox/control/../../.tarbox/health')).exitCode).toBe(0);
      expect((await sh('shopt -s dotglob; echo *')).stdout).toBe('file');
    });

    it('lists everything inside, with types, modes and inode numbers that agree with stat', async () => {
      expect((await sh(`${FIND} -printf "%P\n" | sort`)).stdout.split('\n')).toEqual(FILES);
      expect((await sh('ls -A .tarbox')).stdout.split('\n')).toEqual([
        'README',
        'audit',
        'config',
        'control',
        'diff',
        'health',
        'history',
        'layers',
        'metrics',
        'mounts',
        'snapshots',
        'stats',
        'version',
      ]);
      const listed = (await sh('ls -ai .tarbox | sed "s/^ *//"')).stdout.split('\n');
      for (const line of listed) {
        const [ino, name] = line.split(' ');
        if (name !== '..') expect(String((await stat(at(`.tarbox/${name}`))).ino)).toBe(ino);
      }
      expect(
        (await sh('stat -c "%n %F %a %h" .tarbox .tarbox/control .tarbox/control/flush .tarbox/health')).stdout,
      ).toBe(
        [
          '.tarbox directory 500 10',
          '.tarbox/control directory 500 2',
          '.tarbox/control/flush regular empty file 600 1',
          '.tarbox/health regular empty file 400 1',
        ].join('\n'),
      );
    });

    it('is taken by the programs that walk trees', async () => {
      expect((await sh('cd .tarbox/control && ls .. && cat ../health && cat ../../file')).exitCode).toBe(0);
      expect((await sh('grep -rl --exclude-dir=audit \'"tenant": "default"\' .tarbox | sort')).stdout).toBe(
        '.tarbox/health',
      );
      expect(await sh('ls -laR .tarbox')).toMatchObject({ exitCode: 0, stderr: '' });
      expect(await sh('du -s .tarbox/control')).toMatchObject({ exitCode: 0, stdout: '0\t.tarbox/control' });
      expect(await sh('tar cf - .tarbox | tar tf - | sort | head -1')).toMatchObject({ stdout: '.tarbox/' });
    });

    it.each([
      'mkdir .tarbox',
      'touch .tarbox/new',
      'mkdir .tarbox/new',
      'ln -s x .tarbox/new',
      'mkfifo .tarbox/control/new',
      'rm -f .tarbox/health',
      'rmdir .tarbox/control',
      'rmdir .tarbox',
      'rm -rf .tarbox',
      'mv .tarbox elsewhere',
      'mv -T directory .tarbox',
      'mv file .tarbox/file',
      'mv .tarbox/health elsewhere',
      'mv .tarbox/health .tarbox/well',
      'ln .tarbox/health elsewhere',
      'ln file .tarbox/file',
      'echo x > .tarbox/health',
      'chattr +i .tarbox/health',
    ])('cannot be changed: %s', async (command) => {
      await sh('rm -rf directory elsewhere; mkdir directory; echo content > file');
      const { exitCode, stderr } = await sh(command);
      expect(exitCode, stderr).not.toBe(0);
      expect((await sh('find . | sort; cat file')).stdout).toBe('.\n./directory\n./file\ncontent');
      expect((await sh(`${FIND} -printf "%P\n" | sort`)).stdout.split('\n')).toEqual(FILES);
    });

    it('answers EPERM where its name would be made, renamed or removed', async () => {
      const eperm = expect.objectContaining({ code: 'EPERM' });
      await expect(rename(at('.tarbox'), at('x'))).rejects.toEqual(eperm);
      await expect(rename(at('directory'), at('.tarbox'))).rejects.toEqual(eperm);
      await expect(writeFile(at('.tarbox/new'), '')).rejects.toEqual(eperm);
      await expect(mkdir(at('.tarbox/new'))).rejects.toEqual(eperm);
      await mkdir(at('sub'));
      await writeFile(at('sub/.tarbox'), 'an ordinary file, anywhere but in the root');
    });

    it('is copied from and to like any other', async () => {
      expect(await sh('cp .tarbox/version v && diff v .tarbox/version')).toMatchObject({ exitCode: 0 });
      expect(await sh('echo all > command; cp command .tarbox/control/flush; cat .tarbox/control/flush')).toMatchObject(
        {
          stdout: expect.stringContaining('"flushed": "all"'),
        },
      );
      expect((await sh('cat command')).stdout).toBe('all');
    });
  });

  describe('commands', () => {
    const outcome = async () => JSON.parse(await readFile(at('.tarbox/control/flush'), 'utf8'));

    it.each([
      ['echo', 'echo all > .tarbox/control/flush'],
      ['echo, appending', 'echo all >> .tarbox/control/flush'],
      ['tee', 'echo all | tee .tarbox/control/flush'],
      ['tee, appending', 'echo all | tee -a .tarbox/control/flush'],
      ['dd', 'echo all | dd of=.tarbox/control/flush status=none'],
      ['dd, without truncation', 'printf all | dd of=.tarbox/control/flush conv=notrunc status=none'],
      ['carriage return', String.raw`printf 'all\r\n' > .tarbox/control/flush`],
      ['node', `node -e "require('fs').writeFileSync('.tarbox/control/flush', 'all')"`],
    ])('are written by %s', async (_, command) => {
      expect(await sh(command)).toMatchObject({ exitCode: 0, stderr: '' });
      expect(await outcome()).toEqual(FLUSHED);
    });

    it('are written by Python, whose handle gives the outcome', async ({ skip }) => {
      if ((await sh('command -v python3')).exitCode !== 0) skip('this machine lacks python3');
      const script = [
        "path = '.tarbox/control/flush'",
        "open(path, 'w').write('chunks\\n')",
        "with open(path, 'r+') as handle:",
        "  handle.write('all')",
        '  handle.flush()',
        '  handle.seek(0)',
        '  print(handle.read())',
      ].join('\n');
      const { stdout, stderr } = await sh(`python3 - <<'EOF'\n${script}\nEOF`);
      expect(stderr).toBe('');
      expect(JSON.parse(stdout)).toEqual(FLUSHED);
    });

    it('give their own outcome on the handle that wrote, wherever its offset stands', async () => {
      expect(JSON.parse((await sh('exec 8<>.tarbox/control/flush; echo all >&8; cat <&8')).stdout)).toEqual(FLUSHED);
      const file = await open(at('.tarbox/control/flush'), 'r+');
      const next = async () => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, null);
        return buffer.toString('utf8', 0, bytesRead);
      };
      await file.write('metadata');
      expect(JSON.parse(await next())).toMatchObject({ flushed: 'metadata' });
      expect(await next()).toBe('');
      await file.write('chunks');
      expect(JSON.parse(await next())).toMatchObject({ flushed: 'chunks' });
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
      expect(JSON.parse(buffer.toString('utf8', 0, bytesRead))).toMatchObject({ flushed: 'chunks' });
      await file.close();
    });

    it('give their own outcome however many run at once', async () => {
      const one = async (n: number) => {
        const what = ['all', 'metadata', 'chunks', `nonsense ${n}`][n % 4] ?? '';
        const file = await open(at('.tarbox/control/flush'), 'r+');
        await file.write(what).catch(() => {}); // the outcome says it
        const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
        await file.close();
        const found = JSON.parse(buffer.toString('utf8', 0, bytesRead));
        if (n % 4 === 3) expect(found).toMatchObject({ ok: false, message: expect.stringContaining(`'${what}'`) });
        else expect(found).toMatchObject({ ok: true, flushed: what });
      };
      await Promise.all(Array.from({ length: 40 }, (_, n) => one(n)));
    });

    it.each([
      ['an unknown word', 'everything'],
      ['nothing', '\n'],
      ['two lines', 'all\nall\n'],
      ['a number', '0'],
      ['JSON of another command', '{"name":"checkpoint"}'],
      ['bytes that are not UTF-8', Buffer.from([0xff, 0xfe, 0x00, 0x80])],
      ['a NUL', 'all\0'],
      ['a file', Buffer.alloc(100_000, 'all\n')],
      ['a large file', Buffer.alloc(3_000_000, 'x')],
    ])('are refused with EINVAL and a reason: %s', async (_, command) => {
      await expect(writeFile(at('.tarbox/control/flush'), command)).rejects.toMatchObject({ code: 'EINVAL' });
      expect(await outcome()).toMatchObject({ ok: false, error: 'EINVAL', message: expect.any(String) });
      expect(await readFile(at('.tarbox/control/flush'), 'utf8')).toMatch(/\}\n$/);
    });

    it('say what to write instead', async () => {
      expect((await sh('echo evrything > .tarbox/control/flush')).stderr).toContain('Invalid argument');
      expect(await outcome()).toEqual({
        ok: false,
        error: 'EINVAL',
        message: "'evrything' cannot be flushed",
        hint: 'write one of: all, metadata, chunks',
      });
    });

    it('cannot be written to files that only tell', async () => {
      for (const name of ['README', 'version', 'health', 'config', 'layers/current'])
        await expect(writeFile(at(`.tarbox/${name}`), 'x')).rejects.toMatchObject({ code: 'EACCES' });
    });

    it('go on through a crash of the daemon, also on a handle from before it', async () => {
      const file = await open(at('.tarbox/control/flush'), 'r+');
      await file.write('chunks');
      process.kill(tarbox.pids.daemon, 'SIGKILL');
      const written = file.write('all'); // while there's no daemon
      await tarbox.waitForLog('daemon-restarted', 60_000);
      await written;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
      expect(JSON.parse(buffer.toString('utf8', 0, bytesRead))).toEqual(FLUSHED);
      await file.close();
    });

    it('have taken effect when they return: what was written, mapped pages too, is there after everything was killed', async () => {
      await writeFile(at('kept'), 'written before');
      const mapped = [
        'import mmap, os',
        "fd = os.open('mapped', os.O_RDWR | os.O_CREAT)",
        'os.truncate(fd, 8192)',
        "mapping = mmap.mmap(fd, 8192); mapping[5000:5006] = b'mapped'",
        "open('.tarbox/control/flush', 'w').write('all')",
        'os._exit(0)',
      ].join('\n');
      const hasPython = (await sh('command -v python3')).exitCode === 0;
      if (hasPython) expect(await sh(`python3 -c "${mapped}"`)).toMatchObject({ stderr: '', exitCode: 0 });
      else await writeFile(at('.tarbox/control/flush'), 'all');
      await tarbox.killEverything();
      // Unless the daemon saw its supervisor gone before it was killed itself, and has unmounted.
      await execa('umount', ['--lazy', tarbox.mount], { reject: false });
      await tarbox.start();
      expect(await readFile(at('kept'), 'utf8')).toBe('written before');
      if (hasPython) expect((await readFile(at('mapped'))).toString('utf8', 5000, 5006)).toBe('mapped');
    });
  });
});

suite(`who may use control files${unless}`, () => {
  const readings = 'cat .tarbox/health > /dev/null && ls .tarbox > /dev/null && echo all > .tarbox/control/flush';
  const owner = asUser(1000, 1000);
  const member = asUser(1001, 1000);
  const other = asUser(1002, 1002);

  describe.each([
    ['owner', [true, false, false]],
    ['group', [true, true, false]],
    ['all', [true, true, true]],
  ] as const)('with TARBOX_CONTROL_ACCESS=%s', (access, allowed) => {
    const { sh } = useTarbox({ TARBOX_CONTROL_ACCESS: access, TARBOX_OWNER: '1000:1000' });

    it('lets in root, and of owner, group and others whom it says', async () => {
      expect(await sh(readings)).toMatchObject({ exitCode: 0, stderr: '' });
      for (const [index, user] of [owner, member, other].entries()) {
        const { exitCode, stderr } = await sh(readings, user);
        expect(exitCode === 0, `${user.join(' ')}: ${stderr}`).toBe(allowed[index]);
        if (!allowed[index]) expect(stderr).toMatch(/Permission denied/);
      }
    });
  });
});

suite(`a control directory that is listed${unless}`, () => {
  const { at, sh } = useTarbox({ TARBOX_CONTROL_VISIBLE: 'true' });

  it('is in the listing of the root, once, and leads to itself', async () => {
    for (let n = 0; n < 300; n++) await writeFile(at(`file-${String(n).padStart(3, '0')}`), '');
    const names = (await sh('ls -A | head -3')).stdout.split('\n');
    expect(names).toEqual(['.tarbox', 'file-000', 'file-001']);
    expect((await sh('ls -A | wc -l')).stdout).toBe('301');
    expect((await sh('find . -path "./.tarbox/control/*" -type f | sort')).stdout).toBe(
      FILES.filter((file) => file.startsWith('control/'))
        .map((file) => `./.tarbox/${file}`)
        .join('\n'),
    );
    expect((await sh('ls -aid .tarbox')).stdout).toBe((await sh('ls -ai | grep "\\.tarbox$" | sed "s/^ *//"')).stdout);
  });
});

suite(`secrets${unless}`, () => {
  it('are in no control file: the password of DATABASE_URL', async () => {
    const database = await startTarbox();
    const url = `postgres://tarbox:hunter2@/postgres?host=${database.dataDir}/socket`;
    const tarbox = new Tarbox({ env: { DATABASE_URL: url, TARBOX_TENANT: 'another', TARBOX_LOG_LEVEL: 'debug' } });
    try {
      await tarbox.start();
      const all = await execa('grep', ['-r', '--exclude=stream', '', '.tarbox'], { cwd: tarbox.mount });
      expect(all.stdout).toContain('postgres://tarbox:***@/postgres');
      expect(all.stdout).not.toContain('hunter2');
      await tarbox.stop();
      expect(tarbox.logText()).not.toContain('hunter2');
    } finally {
      await tarbox.remove();
      await database.remove();
    }
  });
});
