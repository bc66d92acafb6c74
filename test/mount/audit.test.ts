import { spawn } from 'node:child_process';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask, askText, lastRefusal, type ToldEvent } from '../support/audit.ts';
import { embeddedServer, eventually, TestServer } from '../support/postgres.ts';
import { missingForMounts, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

/** A sidecar for the tests of a block. */
function useTarbox(env: Readonly<Record<string, string>> = {}) {
  const tarbox = new Tarbox({ env: { TARBOX_ROOT_MODE: '0777', TARBOX_CONTROL_ACCESS: 'all', ...env } });
  beforeAll(() => tarbox.start());
  afterAll(() => tarbox.remove());
  return {
    tarbox,
    at: (name: string) => join(tarbox.mount, name),
    /** Runs a script in the workspace's root, as a user. */
    sh: (script: string, uid = 0) =>
      execa('setpriv', [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--', 'bash', '-c', script], {
        cwd: tarbox.mount,
        reject: false,
      }),
    ask: (query: object) => ask(tarbox.mount, query),
  };
}

/** Operations, paths, results and who it was. */
const brief = ({ op, path, target, result, uid, gid, comm }: ToldEvent) =>
  `${uid}:${gid} ${comm} ${op} ${path}${target === undefined ? '' : ` -> ${target}`} ${result}`;

/** What several users do with several programs. */
const STEPS: readonly (readonly [uid: number, script: string])[] = [
  [1000, 'mkdir work && chmod 777 work'],
  [1000, 'printf "one\\ntwo\\n" > work/a'],
  [1001, 'cat work/a'],
  [1000, 'mv work/a work/b'],
  [1000, 'ln work/b work/c; ln -s b work/s; mkfifo work/p'],
  [1001, 'rm -f work/c'],
  [1001, 'rmdir work/none'],
  [0, 'chown 1001 work/b; chmod 600 work/b; truncate -s 4 work/b; touch -d 2020-01-01 work/b'],
  [1001, 'printf "1\\n2\\n3\\n" > work/b'],
  [1001, 'ls work >/dev/null; mkdir work/d; rmdir work/d'],
  [1000, 'ln work/s work/a; mv -T work/p work/s'],
];

const BASIC = [
  '1000:1000 mkdir mkdir /work ok',
  '1000:1000 chmod chmod /work ok',
  '1000:1000 bash create /work/a ok',
  '1000:1000 mv rename /work/a -> /work/b ok',
  '1000:1000 ln link /work/b -> /work/c ok',
  '1000:1000 ln symlink /work/s ok',
  '1000:1000 mkfifo mknod /work/p ok',
  '1001:1001 rm unlink /work/c ok',
  '0:0 chown chown /work/b ok',
  '0:0 chmod chmod /work/b ok',
  '0:0 truncate truncate /work/b ok',
  '0:0 touch utimes /work/b ok',
  '1001:1001 bash open-truncate /work/b ok',
  '1001:1001 mkdir mkdir /work/d ok',
  '1001:1001 rmdir rmdir /work/d ok',
  '1000:1000 ln link /work/s -> /work/a ok',
  '1000:1000 mv rename /work/p -> /work/s ok',
];

const STANDARD = [
  '1000:1000 mkdir mkdir /work ok',
  '1000:1000 chmod chmod /work ok',
  '1000:1000 bash create /work/a ok',
  '1000:1000 bash close /work/a ok',
  '1001:1001 cat open /work/a ok',
  '1001:1001 cat close /work/a ok',
  '1000:1000 mv rename /work/a -> /work/b ok',
  '1000:1000 ln link /work/b -> /work/c ok',
  '1000:1000 ln symlink /work/s ok',
  '1000:1000 mkfifo mknod /work/p ok',
  '1001:1001 rm unlink /work/c ok',
  '0:0 chown chown /work/b ok',
  '0:0 chmod chmod /work/b ok',
  '0:0 truncate open /work/b ok',
  '0:0 truncate truncate /work/b ok',
  '0:0 truncate close /work/b ok',
  '0:0 touch open /work/b ok',
  '0:0 touch utimes /work/b ok',
  '0:0 touch close /work/b ok',
  '1001:1001 bash open-truncate /work/b ok',
  '1001:1001 bash close /work/b ok',
  '1001:1001 ls readdir /work ok',
  '1001:1001 mkdir mkdir /work/d ok',
  '1001:1001 rmdir rmdir /work/d ok',
  '1000:1000 ln link /work/s -> /work/a ok',
  '1000:1000 mv rename /work/p -> /work/s ok',
];

const IN_STANDARD = new Set([...STANDARD, ...BASIC].map((line) => line.split(' ')[2]));

suite(`the audit log${unless}`, () => {
  describe.each([
    ['off', []],
    ['basic', BASIC],
    ['standard', STANDARD],
    ['full', STANDARD],
  ] as const)('at level %s', (level, expected) => {
    const { tarbox, sh, ask: find } = useTarbox({ TARBOX_AUDIT_LEVEL: level });
    let events: ToldEvent[] = [];

    beforeAll(async () => {
      for (const [uid, script] of STEPS) await sh(script, uid);
      events = await find({ path: '/work/**', limit: 10_000 });
      const own = await find({ path: '/work', limit: 10_000 });
      events = [...events, ...own].sort((a, b) => a.event - b.event);
    });

    it('holds exactly what was done, in order', () => {
      const seen = level === 'full' ? events.filter(({ op }) => IN_STANDARD.has(op)) : events;
      expect(seen.map(brief)).toEqual(expected);
    });

    it('has times in order, and the tenant, layer and process of each event', () => {
      for (const [index, event] of events.entries()) {
        expect(event).toMatchObject({ tenant: 'default', layer: 'working' });
        expect(event.time >= (events[index - 1]?.time ?? '')).toBe(true);
        // The kernel doesn't say who closes a directory.
        if (event.op !== 'closedir') expect(event.pid).toBeGreaterThan(1);
        expect(event.duration_us).toBeGreaterThanOrEqual(0);
      }
    });

    if (level === 'full')
      it('has every lookup, read and write', async () => {
        const of = (op: string) => events.filter((event) => event.op === op);
        // The shell writes line by line.
        expect(of('write').map(({ path, bytes, offset }) => `${path} ${bytes}@${offset}`)).toEqual([
          '/work/a 4@0',
          '/work/a 4@4',
          '/work/b 2@0',
          '/work/b 2@2',
          '/work/b 2@4',
        ]);
        expect(of('read')[0]).toMatchObject({ path: '/work/a', uid: 1001, comm: 'cat', bytes: 8, offset: 0 });
        expect(of('lookup').map(brief)).toContain('1001:1001 rmdir lookup /work/none ENOENT');
        const stats = of('getattr').filter(({ path }) => path === '/work/b').length;
        for (let times = 0; times < 3; times++) await sh('stat work/b');
        const after = await find({ op: 'getattr', path: '/work/b', limit: 10_000 });
        const lookups = await find({ op: 'lookup', path: '/work/b', comm: 'stat', limit: 10_000 });
        expect(after.length - stats + lookups.length).toBeGreaterThanOrEqual(3);
      });

    if (level === 'standard' || level === 'full')
      it('tells on close what was read and written, and how many lines that changed', () => {
        const closes = events.filter(({ op }) => op === 'close');
        expect(closes[0]).toMatchObject({ path: '/work/a', bytes: 8, bytes_read: 0, lines_added: 2, lines_deleted: 0 });
        expect(closes[1]).toMatchObject({ comm: 'cat', bytes: 0, bytes_read: 8, lines_added: null });
        // "one\n" became "1\n2\n3\n".
        expect(closes.at(-1)).toMatchObject({ path: '/work/b', bytes: 6, lines_added: 3, lines_deleted: 1 });
      });

    it('has every command, refused ones too, with what it said', async () => {
      await sh('echo audited > .tarbox/layers/new; echo none > .tarbox/layers/switch', 1000);
      const commands = await find({ op: 'command', uid: 1000 });
      if (level === 'off') expect(commands).toEqual([]);
      else
        expect(commands.map(brief)).toEqual([
          '1000:1000 bash command /.tarbox/layers/new -> audited ok',
          '1000:1000 bash command /.tarbox/layers/switch -> none ENOENT',
        ]);
    });

    it('keeps everything when the sidecar is stopped', async () => {
      const before = await find({ path: '/work/**', limit: 10_000 });
      await tarbox.restart();
      const after = await find({ path: '/work/**', until: '1 s ago', limit: 10_000 });
      expect(after.filter(({ event }) => event <= (before.at(-1)?.event ?? 0)).map(brief)).toEqual(before.map(brief));
    });
  });

  describe('of names and paths', () => {
    const { tarbox, sh, at, ask: find } = useTarbox();
    const bytesOf = (event: ToldEvent) =>
      event.path_base64 === undefined ? Buffer.from(event.path ?? '') : Buffer.from(event.path_base64, 'base64');

    it.each([
      ['a newline and control characters', Buffer.from('new\nline\x01\x1b[31m\x7f\u202e')],
      ['quotes and backslashes', Buffer.from('q"u\'o\\t;e, $(x) `y`')],
      ['bytes that are not UTF-8', Buffer.from([0x61, 0xff, 0xfe, 0x80, 0x62])],
      ['UTF-8', Buffer.from('größe-文字-🙂')],
      ['255 bytes', Buffer.from('n'.repeat(255))],
      ['what patterns are made of', Buffer.from('star*[a]?{b}**')],
      ['a space at its end', Buffer.from('end ')],
    ])('one with %s reads back as the same bytes, in one line', async (_, name) => {
      const path = Buffer.concat([Buffer.from(`${tarbox.mount}/`), name]);
      await writeFile(path, 'x');
      const [event] = (await find({ op: 'create' })).slice(-1);
      expect(event && bytesOf(event).equals(Buffer.concat([Buffer.from('/'), name]))).toBe(true);
      const recent = (await readFile(at('.tarbox/audit/recent'), 'utf8')).split('\n').slice(0, -1);
      for (const line of recent)
        expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z [a-z-]+ \S+ uid=\d+ [\x20-\x7e\u{a0}-\u{10ffff}]*$/u);
      expect(recent.filter((line) => line.includes(' create ')).length).toBe((await find({ op: 'create' })).length);
      const asked = Buffer.concat([Buffer.from(at('.tarbox/audit/path/')), name]);
      const told = JSON.parse(await readFile(asked, 'utf8')) as ToldEvent[];
      expect(told.map(({ op }) => op).reverse()).toEqual(['create', 'close']);
    });

    it('those of directories that were renamed are what they were', async () => {
      await sh('mkdir -p x/y/z; touch x/y/z/1; mv x/y x/w; touch x/w/z/2; mv x v; touch v/w/z/3');
      const creates = await find({ op: 'create', path: '/*/*/z/*' });
      expect(creates.map(({ path }) => path)).toEqual(['/x/y/z/1', '/x/w/z/2', '/v/w/z/3']);
    });

    it('that of a file without a name is the last one', async () => {
      await sh('exec 7>gone; rm gone; echo x >&7; exec 7>&-');
      const events = await find({ path: '/gone' });
      expect(events.map(({ op, bytes }) => [op, bytes])).toEqual([
        ['create', null],
        ['unlink', null],
        ['close', 2],
      ]);
    });

    it('that of a file with several is one of those that it has', async () => {
      await sh('echo 1 > first; ln first second; ln first third; rm third; cat first; rm first; cat second');
      const opened = (await find({ op: 'open', comm: 'cat' })).slice(-2).map(({ path }) => path);
      expect(['/first', '/second']).toContain(opened[0]);
      expect(opened[1]).toBe('/second');
    });

    it('are known where the kernel knows the names and a new daemon does not', async () => {
      await sh('mkdir -p cold/er; echo x > cold/er/file; ln cold/er/file cold/link; sync cold');
      await sh('echo all > .tarbox/control/flush');
      const { daemon } = tarbox.pids;
      const lines = tarbox.log.length;
      process.kill(daemon, 'SIGKILL');
      await tarbox.waitForLog('daemon-restarted', 30_000, lines);
      await sh('echo all > .tarbox/control/flush; chmod 600 cold/er/file; touch cold/er/new');
      const chmod = await find({ op: 'chmod', since: '1 min ago', path: '/cold/**' });
      expect(['/cold/er/file', '/cold/link']).toContain(chmod.at(-1)?.path);
      expect((await find({ path: '/cold/er/new' })).map(({ op }) => op)).toContain('create');
    });

    it('of a long path and a deep one are whole', async () => {
      const deep = Array.from({ length: 12 }, (_, index) => `${'d'.repeat(200)}${index}`).join('/');
      await mkdir(at(deep), { recursive: true });
      await writeFile(at(`${deep}/file`), '');
      const [event] = await find({ op: 'create', path: `/${deep.split('/')[0]}/**` });
      expect(event?.path).toBe(`/${deep}/file`);
    });
  });

  describe('asked', () => {
    const { tarbox, sh, at, ask: find } = useTarbox();

    beforeAll(async () => {
      await sh(
        'mkdir -pm 777 q/sub; chmod 777 q; for n in 1 2 3 4 5; do echo $n > q/f$n; done; echo x > q/sub/x; rm q/f1',
      );
      await sh('touch q/theirs; cat q/none', 1000);
    });

    it.each([
      [{ op: 'unlink' }, ['/q/f1']],
      [{ op: ['unlink', 'mkdir'], path: '/q/**' }, ['/q/sub', '/q/f1']],
      [{ op: 'create', path: 'q/*' }, ['/q/f1', '/q/f2', '/q/f3', '/q/f4', '/q/f5', '/q/theirs']],
      [{ op: 'create', path: '/q/f[2-3]' }, ['/q/f2', '/q/f3']],
      [{ op: 'create', path: '/**/x' }, ['/q/sub/x']],
      [{ op: 'create', path: '/q/sub/' }, []],
      [{ op: 'mkdir', path: '/q/sub/' }, ['/q/sub']],
      [{ op: 'create', uid: 1000 }, ['/q/theirs']],
      [{ op: 'create', uid: '1000' }, ['/q/theirs']],
      [{ op: 'create', comm: 'touch' }, ['/q/theirs']],
      [{ op: 'create', limit: 2 }, ['/q/f1', '/q/f2']],
      [{ op: 'create', limit: 2, order: 'newest' }, ['/q/theirs', '/q/sub/x']],
      [{ op: 'create', limit: 0 }, []],
      [{ op: 'unlink', result: 'ok' }, ['/q/f1']],
      [{ op: 'unlink', result: 'error' }, []],
      [{ op: 'unlink', layer: 'working' }, ['/q/f1']],
      [{ op: 'unlink', layer: 'base' }, []],
      [{ op: 'unlink', since: '1h' }, ['/q/f1']],
      [{ op: 'unlink', since: '1 day ago', until: 'now' }, ['/q/f1']],
      [{ op: 'unlink', until: '1 hour ago' }, []],
      [{ op: 'unlink', since: '2000-01-01', until: '2001-01-01T00:00:00Z' }, []],
    ])('%j finds %j', async (query, paths) => {
      expect((await find(query)).map(({ path }) => path)).toEqual(paths);
    });

    it.each([
      ['nothing like JSON', '{"op":'],
      ['an unknown key', '{"ops":"unlink"}'],
      ['an unknown operation', '{"op":"delete"}'],
      ['the name of a property of objects', '{"op":"constructor"}'],
      ['no operation', '{"op":[]}'],
      ['an object for an operation', '{"op":{"a":1}}'],
      ['a number for a path', '{"path":1}'],
      ['an empty path', '{"path":""}'],
      ['null for a path', '{"path":null}'],
      ['a NUL in a path', '{"path":"a\\u0000b"}'],
      ['a set without an end', '{"path":"/a["}'],
      ['a very long path', JSON.stringify({ path: 'x'.repeat(5000) })],
      ['SQL for a user', '{"uid":"0 OR 1=1"}'],
      ['a negative user', '{"uid":-1}'],
      ['a fraction', '{"pid":1.5}'],
      ['a number too large', '{"uid":4294967296}'],
      ['a list for a command', '{"comm":["cat"]}'],
      ['an unknown errno', '{"result":"EFOO"}'],
      ['a time that is none', '{"since":"soon"}'],
      ['a time that does not exist', '{"since":"2026-99-99"}'],
      ['a time far away', '{"since":"999999999 weeks ago"}'],
      ['SQL for a time', `{"since":"now'; DROP TABLE tarbox.audit; --"}`],
      ['too much', '{"limit":1000000}'],
      ['another order', '{"order":"random"}'],
      ['another format', '{"format":"xml"}'],
    ])('%s is refused with EINVAL, and says why', async (_, text) => {
      await expect(askText(tarbox.mount, text)).rejects.toThrow('EINVAL');
      const { error, message, hint } = await lastRefusal(tarbox.mount);
      expect(error).toBe('EINVAL');
      expect(message.length).toBeLessThan(1500);
      expect(hint).toContain('write');
    });

    it.each([
      { path: `'; DROP TABLE tarbox.audit; --` },
      { path: '/q/%' },
      { path: '/q/f_' },
      { path: '\\\\x41' },
      { comm: `cat' OR '1'='1` },
      { comm: '\\x636174' },
      { comm: 'x'.repeat(10_000) },
      { path: `/${'*a'.repeat(400)}` },
      { path: `/**/${'**/'.repeat(100)}none` },
      { layer: '987654321' },
    ])('%j means nothing but itself', async (query) => {
      expect(await find(query)).toEqual([]);
      expect(await find({ op: 'unlink' })).toHaveLength(1);
    });

    it('for a layer that there is not, says so', async () => {
      await expect(askText(tarbox.mount, { layer: "x' OR 1=1" })).rejects.toThrow('ENOENT');
    });

    it('by a plain path finds what was done to it, newest first', async () => {
      const events = JSON.parse(await askText(tarbox.mount, 'q/f1\n')) as ToldEvent[];
      expect(events.map(({ op }) => op)).toEqual(['unlink', 'close', 'create']);
    });

    it('answers as lines of JSON and as CSV, too', async () => {
      const lines = await askText(tarbox.mount, { op: 'create', format: 'jsonl', order: 'oldest' });
      expect(
        lines
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line).path),
      ).toContain('/q/theirs');
      await writeFile(at('a "b",\nc'), '');
      const csv = await askText(tarbox.mount, { op: 'create', path: '/a*', format: 'csv' });
      expect(csv.split('\n')[0]).toMatch(/^time,op,path,/);
      expect(csv).toContain(',create,"/a ""b"",\nc",,');
    });

    it('counts by operation, user, command, path and hour', async () => {
      const stats = JSON.parse(await readFile(at('.tarbox/audit/stats'), 'utf8'));
      const of = (list: { events: number }[], key: string, value: string) =>
        list.find((one) => (one as Record<string, unknown>)[key] === value)?.events;
      expect(of(stats.by_op, 'op', 'unlink')).toBe(1);
      expect(of(stats.by_uid, 'uid', '1000')).toBeGreaterThan(1);
      expect(of(stats.by_comm, 'comm', 'rm')).toBe(1);
      expect(of(stats.by_prefix, 'prefix', '/q')).toBeGreaterThan(10);
      expect(stats.by_hour.reduce((sum: number, { events }: { events: number }) => sum + events, 0)).toBe(stats.events);
    });

    it('lists the paths that there are events of', async () => {
      const { stdout } = await sh('ls -1 .tarbox/audit/path/q .tarbox/audit/path/q/sub');
      expect(stdout.split('\n')).toEqual([
        '.tarbox/audit/path/q:',
        'f1',
        'f2',
        'f3',
        'f4',
        'f5',
        'sub',
        'theirs',
        '',
        '.tarbox/audit/path/q/sub:',
        'x',
      ]);
      await expect(readFile(at('.tarbox/audit/path/q/never'))).rejects.toThrow('ENOENT');
    });

    it('is up to date with the last operation', async () => {
      for (let round = 0; round < 20; round++) {
        await writeFile(at(`now-${round}`), '');
        const recent = await readFile(at('.tarbox/audit/recent'), 'utf8');
        expect(recent).toContain(` create ok uid=0 gid=0 pid=${process.pid} comm=`);
        expect(recent).toContain(`/now-${round}\n`);
        expect((await find({ path: `/now-${round}` }))[0]?.op).toBe('create');
      }
    });
  });

  describe('followed', () => {
    const { tarbox, sh, at } = useTarbox();

    it('wakes each reader for each event, and ends with a signal', async () => {
      const readers = [1, 2].map(() =>
        spawn('cat', [at('.tarbox/audit/stream')], { stdio: ['ignore', 'pipe', 'inherit'] }),
      );
      const lines = readers.map(({ stdout }) => createInterface(stdout)[Symbol.asyncIterator]());
      const next = async (index: number, path: string): Promise<string> => {
        for (;;) {
          const { value } = await (lines[index]?.next() ?? Promise.reject(new Error('no reader')));
          const event = JSON.parse(String(value)) as ToldEvent;
          if (event.path === path) return event.op;
        }
      };
      // Both read by the time that each has seen its own open.
      for (const index of [0, 1]) expect(await next(index, '/.tarbox/audit/stream')).toBe('open');
      for (let round = 0; round < 5; round++) {
        await mkdir(at(`followed-${round}`));
        for (const index of [0, 1]) expect(await next(index, `/followed-${round}`)).toBe('mkdir');
      }
      for (const reader of readers) {
        const ended = new Promise((resolve) => reader.once('exit', (_, signal) => resolve(signal)));
        reader.kill('SIGINT');
        expect(await ended).toBe('SIGINT');
      }
    });

    it('lets a program handle its signal', async () => {
      const program = `import os, signal
def interrupted(*_): raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, interrupted)
handle = os.open(${JSON.stringify(at('.tarbox/audit/stream'))}, os.O_RDONLY)
print('ready', flush=True)
try:
  while True: os.read(handle, 65536)
except KeyboardInterrupt: print('interrupted', flush=True)`;
      const reader = spawn('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'inherit'] });
      const lines = createInterface(reader.stdout)[Symbol.asyncIterator]();
      expect((await lines.next()).value).toBe('ready');
      // However often it takes until it's in the middle of a read.
      const signals = setInterval(() => reader.kill('SIGUSR1'), 50);
      expect((await lines.next()).value).toBe('interrupted');
      clearInterval(signals);
      reader.kill('SIGKILL');
      expect((await sh('cat .tarbox/health')).exitCode).toBe(0);
      expect(tarbox.log.some(({ level }) => level === 'error')).toBe(false);
    });
  });

  describe('changed with the configuration file', () => {
    const { tarbox, sh, ask: find } = useTarbox();
    let file = '';

    const configure = async (text: string) => {
      const lines = tarbox.log.length;
      await writeFile(file, text);
      await tarbox.waitForLog('config-changed', 10_000, lines);
    };

    beforeAll(async () => {
      file = join(tarbox.dataDir, '..', 'config.toml');
      await writeFile(file, '[audit]\nlevel = "standard"\n');
      await tarbox.restart({ TARBOX_CONFIG: file });
      await sh('mkdir build secrets other; for d in build secrets other; do echo x > $d/known; cat $d/known; done');
    });

    it('rules give some paths another level', async () => {
      await configure('[audit]\nlevel = "basic"\nrules = "/build/**=off, /secrets/*=full"\n');
      await sh('for d in build secrets other; do echo x > $d/new; cat $d/known; done');
      const events = await find({ since: '1 min ago', path: '/*/*' });
      const after = events.slice(events.findLastIndex(({ path }) => path === '/other/known') + 1);
      expect([...new Set(after.filter(({ path }) => path?.startsWith('/other/')).map(({ op }) => op))]).toEqual([
        'create',
      ]);
      expect(after.filter(({ path }) => path?.startsWith('/build/'))).toEqual([]);
      const secrets = after.filter(({ path }) => path?.startsWith('/secrets/')).map(({ op, path }) => `${op} ${path}`);
      expect(secrets).toContain('read /secrets/known');
      expect(secrets).toContain('write /secrets/new');
    });

    it('full sees what the kernel had cached', async () => {
      await configure('[audit]\nlevel = "standard"\n');
      await sh('cat other/known; stat other/known');
      await configure('[audit]\nlevel = "full"\n');
      for (let round = 0; round < 2; round++) await sh('cat other/known; stat other/known');
      const reads = await find({ op: 'read', path: '/other/known', comm: 'cat' });
      expect(reads.filter(({ bytes }) => bytes === 2)).toHaveLength(2);
      expect((await find({ op: ['lookup', 'getattr'], path: '/other/known', comm: 'stat' })).length).toBeGreaterThan(1);
    });

    it('nothing is recorded while it is off', async () => {
      await configure('[audit]\nenabled = false\n');
      await sh('touch other/unseen');
      expect(await find({ path: '/other/unseen' })).toEqual([]);
      await configure('[audit]\nenabled = true\n');
      await sh('touch other/seen');
      expect((await find({ path: '/other/seen' }))[0]?.op).toBe('create');
    });
  });

  it('does not go to those who may not use the control files', async () => {
    const tarbox = new Tarbox({ env: { TARBOX_ROOT_MODE: '0777' } });
    try {
      await tarbox.start();
      const read = await execa(
        'setpriv',
        ['--reuid=1000', '--regid=1000', '--clear-groups', 'cat', '.tarbox/audit/recent'],
        {
          cwd: tarbox.mount,
          reject: false,
        },
      );
      expect(read.stderr).toContain('Permission denied');
    } finally {
      await tarbox.remove();
    }
  });

  it('of one tenant tells nothing of another', async () => {
    const tarbox = new Tarbox({ env: { TARBOX_TENANT: 'red' } });
    try {
      await tarbox.start();
      const { mount } = tarbox;
      await mkdir(join(mount, 'of-red'));
      await writeFile(join(mount, 'of-red/secret'), '');
      expect(await ask(mount, { path: '/of-red/**' })).not.toEqual([]);
      await tarbox.restart({ TARBOX_TENANT: 'blue' });
      await mkdir(join(mount, 'of-blue'));
      for (const query of [
        {},
        { path: '/**' },
        { path: '/of-red/secret' },
        { op: 'mkdir' },
        { uid: 0 },
        { layer: 'working' },
      ])
        for (const event of await ask(mount, query)) {
          expect(event.tenant).toBe('blue');
          expect(event.path).not.toContain('red');
        }
      await expect(readFile(join(mount, '.tarbox/audit/path/of-red/secret'))).rejects.toThrow('ENOENT');
      const { stdout } = await execa('ls', [join(mount, '.tarbox/audit/path')]);
      expect(stdout.split('\n')).toContain('of-blue');
      expect(stdout).not.toContain('of-red');
      expect(await readFile(join(mount, '.tarbox/audit/stats'), 'utf8')).not.toContain('red"');
      const recent = await readFile(join(mount, '.tarbox/audit/recent'), 'utf8');
      expect(recent.split('\n').filter((line) => line.includes('red') && !line.includes('audit/query'))).toEqual([]);
    } finally {
      await tarbox.remove();
    }
  });

  it('is asked on a connection of its own, and a question can be interrupted', async () => {
    const server = await TestServer.start(embeddedServer);
    const { socketDirectory, user, database } = server.running;
    const url = `postgres://${user}@/${database}?host=${encodeURIComponent(socketDirectory)}`;
    const tarbox = new Tarbox({ env: { DATABASE_URL: url } });
    try {
      await tarbox.start();
      const { mount } = tarbox;
      await ask(mount, {});
      const holder = server.query(`BEGIN; LOCK TABLE tarbox.audit; SELECT pg_sleep(20)`);
      holder.catch(() => {}); // it's ended with its server
      const locks = () =>
        server.query(
          `SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'tarbox.audit'::regclass`,
        );
      await eventually('the table is locked', async () => (await locks()).length > 0);
      const asking = execa('bash', ['-c', 'exec 8<>.tarbox/audit/query; echo {} >&8'], { cwd: mount, reject: false });
      const waits = () =>
        server.query<{ n: number }>(
          `SELECT count(*)::integer AS n FROM pg_stat_activity WHERE application_name LIKE 'tarbox audit%' AND wait_event_type = 'Lock'`,
        );
      await eventually('storing waits for the table', async () => (await waits())[0]?.n !== 0);
      // Whoever works in the workspace notices nothing.
      const file = await open(join(mount, 'meanwhile'), 'w');
      await file.sync();
      await file.close();
      // However often it takes until it's in the middle of it.
      const signals = setInterval(() => asking.kill('SIGINT'), 50);
      const { signal } = await asking;
      clearInterval(signals);
      expect(signal).toBe('SIGINT');
      // The table is still locked.
      expect((await waits())[0]?.n).toBeGreaterThan(0);
      await server.query(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock'`);
    } finally {
      await tarbox.remove();
      await server.remove();
    }
  });
});
