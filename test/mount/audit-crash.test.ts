import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask, type ToldEvent } from '../support/audit.ts';
import { missingForMounts, Tarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const FILES = 400;
const TIMES = 4;

/** Makes, writes, reads, renames and removes files, one after the other, and says how far it has got. */
const PROGRAM = `
import os, sys
directory, files = sys.argv[1], int(sys.argv[2])
os.mkdir(directory)
for n in range(files):
  name = f'{directory}/{n}'
  with open(name, 'wb') as file: file.write(b'line\\n' * (n % 7))
  with open(name, 'rb') as file: file.read()
  os.rename(name, name + '.moved')
  if n % 3 == 0: os.unlink(name + '.moved')
  print(n, flush=True)
`;

/** What the log must say of it: every operation once, in order. */
function expected(directory: string): string[] {
  const lines = [`mkdir ${directory}`];
  for (let n = 0; n < FILES; n++) {
    const name = `${directory}/${n}`;
    lines.push(`create ${name}`, `close ${name} ${5 * (n % 7)}/0`, `open ${name}`, `close ${name} 0/${5 * (n % 7)}`);
    lines.push(`rename ${name} -> ${name}.moved`);
    if (n % 3 === 0) lines.push(`unlink ${name}.moved`);
  }
  return lines;
}

const told = ({ op, path, target, bytes, bytes_read }: ToldEvent) =>
  `${op} ${path}${target === undefined ? '' : ` -> ${target}`}${op === 'close' ? ` ${bytes}/${bytes_read}` : ''}`;

suite(`the audit log, whatever dies${unless}`, () => {
  const tarbox = new Tarbox();
  beforeAll(() => tarbox.start());
  afterAll(() => tarbox.remove());

  /** Runs the program, and `strike` whenever so many files more are done. */
  async function run(directory: string, strike: () => Promise<void>): Promise<void> {
    const child = spawn('python3', ['-c', PROGRAM, join(tarbox.mount, directory), String(FILES)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exit = new Promise((resolve) => child.once('exit', resolve));
    let strikes: Promise<void> = Promise.resolve();
    let struck = 0;
    child.stdout.on('data', (data: Buffer) => {
      const done = Number(data.toString().trim().split('\n').at(-1));
      if (struck >= TIMES || done < ((struck + 1) * FILES) / (TIMES + 2)) return;
      struck++;
      strikes = strikes.then(strike);
    });
    expect(await exit).toBe(0);
    await strikes;
    expect(struck).toBe(TIMES);
  }

  /** Everything in a directory, oldest first, the directory itself included. */
  async function eventsOf(directory: string): Promise<ToldEvent[]> {
    const inside = await ask(tarbox.mount, { path: `/${directory}/*`, limit: 10_000 });
    const itself = await ask(tarbox.mount, { path: `/${directory}` });
    return [...itself, ...inside].sort((a, b) => a.event - b.event);
  }

  const killDaemon = async () => {
    const lines = tarbox.log.length;
    process.kill(tarbox.pids.daemon, 'SIGKILL');
    await tarbox.waitForLog('daemon-restarted', 60_000, lines);
  };
  const killDatabase = async () => {
    const lines = tarbox.log.length;
    process.kill(tarbox.pids.postgres ?? 0, 'SIGKILL');
    await tarbox.waitForLog('database-restarted', 60_000, lines);
  };

  it('has each operation once, in order, after kills of the daemon', async () => {
    await run('daemon', killDaemon);
    expect((await eventsOf('daemon')).map(told)).toEqual(expected('/daemon'));
  });

  it('has each operation once, in order, after kills of the database', async () => {
    await run('database', killDatabase);
    expect((await eventsOf('database')).map(told)).toEqual(expected('/database'));
  });

  it('has each operation once, in order, after kills of either', async () => {
    let turn = 0;
    await run('both', () => (turn++ % 2 === 0 ? killDaemon() : killDatabase()));
    expect((await eventsOf('both')).map(told)).toEqual(expected('/both'));
  });

  it('keeps what was stored when everything is killed', async () => {
    await run('all', async () => {});
    const before = await eventsOf('all');
    await tarbox.killEverything();
    await tarbox.start();
    expect((await eventsOf('all')).map(told)).toEqual(before.map(told));
  });
});
