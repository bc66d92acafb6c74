import { readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { operations } from '../../src/fuse/wire/operations.ts';
import { attemptStart, useFolder } from '../support/attempt.ts';
import { eventually } from '../support/postgres.ts';
import { missingForMounts, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

const REQUEST = /^#(\d+)(?: again)? ([A-Z_0-9]+) node \d+( [ -~]*)? uid \d+ gid \d+ pid \d+$/;
const REPLY = /^#(\d+)(?: again)? → (ok|E[A-Z0-9]+|errno \d+|zeros|\d+ bytes|[a-zA-Z0-9]+ [ -~]+)$/;
const unanswered = new Set<string>(operations.filter(({ reply }) => reply === 'no reply').map(({ name }) => name));

suite(`TARBOX_TRACE=fuse${unless}`, () => {
  const tarbox = new Tarbox({ env: { TARBOX_TRACE: 'fuse' } });
  const at = (name: string) => join(tarbox.mount, name);
  /** Every line that is not of the log. */
  const trace = () => tarbox.log.filter(({ event }) => event === 'text').map((line) => String(line['text']));
  beforeAll(() => tarbox.start());
  afterAll(() => tarbox.remove());

  it('prints one line for each request and one for each reply, in printable ASCII but for the arrow', async () => {
    await mkdir(at('directory'));
    await writeFile(at('directory/a "quoted" \n\xff name'), 'secret content');
    await symlink('target', at('link'));
    await rename(at('link'), at('renamed'));
    await expect(stat(at('absent'))).rejects.toThrow('ENOENT');
    await readFile(at('.tarbox/health'));
    await execa('sync', [at('')]);
    await rm(at('directory'), { recursive: true });
    await tarbox.stop();
    const open = new Map<string, string>();
    for (const line of trace()) {
      const [, answered] = REPLY.exec(line) ?? [];
      if (answered !== undefined) {
        expect(open.delete(answered), `answers nothing: ${line}`).toBe(true);
        continue;
      }
      const [, unique = '', name = ''] = REQUEST.exec(line) ?? [];
      expect(name, `is neither a request nor a reply: ${line}`).not.toBe('');
      if (!unanswered.has(name)) open.set(unique, line);
    }
    expect([...open.values()]).toEqual([]);
  });

  it('names what was asked for, and never shows content', () => {
    const lines = trace();
    const has = (pattern: RegExp) =>
      expect(
        lines.some((line) => pattern.test(line)),
        String(pattern),
      ).toBe(true);
    has(/ INIT node 0 major 7 minor \d+ /);
    has(/ MKDIR node 1 mode \d+ .*name "directory" uid 0 gid 0 pid \d+$/);
    has(/ CREATE node \d+ .*name "a \\"quoted\\" \\n.*name" /);
    has(/ WRITE node \d+ .*size 14 .*data 14 bytes/);
    has(/ SYMLINK node 1 name "link" target "target" /);
    has(/ RENAME2? node 1 newdir 1 .*name "link" to "renamed" /);
    has(/ LOOKUP node 1 name "absent" /);
    expect(lines.join('\n')).not.toContain('secret content');
  });
});

suite(`the log${unless}`, () => {
  const folder = useFolder();
  const main = resolve(import.meta.dirname, '../../src/main.ts');

  it('is one JSON object a line where it goes to a file, with time, level and event first', async () => {
    const tarbox = new Tarbox({ env: { TARBOX_LOG_LEVEL: 'debug' } });
    try {
      await tarbox.start();
      await writeFile(join(tarbox.mount, 'file'), '');
      await tarbox.stop();
      expect(tarbox.log.filter(({ event }) => event === 'text')).toEqual([]);
      for (const line of tarbox.log) {
        expect(Object.keys(line).slice(0, 3)).toEqual(['time', 'level', 'event']);
        expect(String(line['time'])).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
        expect(['debug', 'info', 'warn', 'error']).toContain(line.level);
        expect(line.event).toMatch(/^[a-z]+(?:-[a-z]+)*$/);
      }
      expect(tarbox.log.map(({ event }) => event)).toEqual(
        expect.arrayContaining(['database-created', 'ready', 'stopping', 'stopped']),
      );
    } finally {
      await tarbox.remove();
    }
  });

  it('is readable on a terminal, with a welcome, and Ctrl-C there ends it', async ({ skip }) => {
    const probe = await execa('script', ['--version'], { reject: false });
    if (probe.exitCode !== 0) skip('this machine lacks script (package bsdutils)');
    const typescript = join(folder(), 'typescript');
    await writeFile(typescript, '');
    const terminal = execa(
      'script',
      ['--quiet', '--flush', '--return', '--command', `exec ${process.execPath} ${main}`, typescript],
      {
        env: { TARBOX_MOUNT: join(folder(), 'mnt'), TARBOX_DATA: join(folder(), 'data') },
        stdin: 'pipe',
        stdout: 'ignore',
        reject: false,
      },
    );
    const shown = () => readFileSync(typescript, 'utf8').replaceAll('\r', '');
    await eventually('it is ready', () => /Ctrl-C commits everything/.test(shown()) || undefined);
    terminal.stdin.write('\x03'); // what Ctrl-C sends
    const { exitCode } = await terminal;
    expect(exitCode).toBe(0);
    expect(shown()).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}ready mount=\S+ supervisorPid=\d+ daemonPid=\d+/m);
    expect(shown()).toContain(`echo hello > ${join(folder(), 'mnt')}/hello.txt`);
    expect(shown()).toMatch(/ info {2}stopping signal=SIGINT\n/);
    expect(shown()).toMatch(/ info {2}stopped seconds=[\d.]+\n/);
    expect(shown()).not.toMatch(/^\{/m);
  });

  it('has no password, whatever goes wrong and however much it tells', async () => {
    const env = { TARBOX_LOG_LEVEL: 'debug', TARBOX_TRACE: 'fuse' };
    for (const url of [
      'postgres://me:hunter2@',
      'postgres://me:hunt%2er2@127.0.0.1:1/db?password=hunter2&sslmode=bogus',
      'postgres://me@/db?host=/nowhere&password=hunter2',
      'postgres://me:hunter2@[::1/db',
    ]) {
      const tarbox = new Tarbox({ env: { ...env, DATABASE_URL: url } });
      try {
        tarbox.launch();
        await Promise.race([tarbox.exit(), tarbox.waitForLog('waiting-for-database', 30_000)]);
        await tarbox.stop();
      } finally {
        await tarbox.remove();
      }
      expect(tarbox.logText()).not.toBe('');
      expect(tarbox.logText()).not.toMatch(/hunter2|hunt%2er2/);
    }
    const { text } = await attemptStart({ ...env, TARBOX_PASSWORD: 'hunter2' });
    expect(text).toContain("'TARBOX_PASSWORD' is not a setting");
    expect(text).not.toContain('hunter2');
  });
});
