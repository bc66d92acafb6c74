import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Holder } from '../layers/holder.ts';
import { LayersScene, useLayersScene } from '../layers/scene.ts';
import { ask, type ToldEvent } from '../support/audit.ts';
import { missingForMounts, startTarbox } from '../support/tarbox.ts';

const missing = missingForMounts();
const suite = describe.skipIf(missing !== undefined);
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;

/** A system call by Python, which has them all; its errno's name, or what it gives. */
function call(expression: string, cwd = '/'): string {
  const program = `import errno, os
try: print(${expression})
except OSError as problem: print(errno.errorcode[problem.errno])`;
  return execFileSync('python3', ['-c', program], { cwd, encoding: 'utf8' }).trim();
}

const quoted = (path: string): string => JSON.stringify(path);

/** What an event tells, and of which layer. */
const brief = ({ op, path, target, layer, result }: ToldEvent): string =>
  `${op} ${path}${target === undefined ? '' : ` -> ${target}`} ${result} in ${layer}`;

suite(`the audit log, of several trees at once${unless}`, () => {
  describe.each(['standard', 'full'])('at level %s', (level) => {
    const scene = useLayersScene(
      async () => new LayersScene(await startTarbox({ env: { TARBOX_AUDIT_LEVEL: level } }), undefined),
    );
    const path = (name: string): string => scene().path(name);
    const snapshot = (layer: string, name: string): string => `${scene().commands.snapshot(layer)}/${name}`;
    const found = async (query: object): Promise<string[]> => (await ask(scene().mount, query)).map(brief);

    /** A layer that has this file in a directory, both changed since. */
    function begin(name: string): void {
      scene().begin(`${name}-0`);
      mkdirSync(path('old'));
      writeFileSync(path('old/file'), name);
      writeFileSync(path('old/other'), name);
      scene().commands.checkpoint(name);
      call(`os.rename(${quoted(path('old'))}, ${quoted(path('new'))})`);
      writeFileSync(path('new/file'), `${name}, changed`);
      scene().commands.checkpoint(`${name}-2`);
    }

    /** Names that the kernel knows from now on, and nobody else does. */
    function looked(...paths: readonly string[]): void {
      for (const one of paths) call(`os.stat(${quoted(one)}).st_size`);
      scene().commands.flush();
    }

    it('has a link out of a snapshot, which is refused, with both paths', async () => {
      begin('link');
      const from = snapshot('link', 'old/file');
      looked(from, path('new'));
      expect(call(`os.link(${quoted(from)}, ${quoted(path('new/linked'))})`)).toBe('EROFS');
      looked(from, path('new'));
      expect(call(`os.link(${quoted(path('new/file'))}, ${quoted(snapshot('link', 'old/linked'))})`)).toBe('EROFS');
      expect(await found({ op: 'link', path: '/**/linked' })).toEqual([
        'link /old/file -> /new/linked EROFS in working',
        'link /new/file -> /old/linked EROFS in link',
      ]);
    });

    it('has a rename between trees, which is refused, with both paths', async () => {
      begin('rename');
      const from = snapshot('rename', 'old/file');
      const other = snapshot('rename-2', 'new/file');
      for (const [a, b] of [
        [from, path('new/renamed')],
        [path('new/file'), from],
        [from, other],
      ] as const) {
        looked(a, b);
        expect(call(`os.rename(${quoted(a)}, ${quoted(b)})`)).toBe('EROFS');
      }
      expect(await found({ op: 'rename', result: 'EROFS' })).toEqual([
        'rename /old/file -> /new/renamed EROFS in rename',
        'rename /new/file -> /old/file EROFS in working',
        'rename /old/file -> /new/file EROFS in rename',
      ]);
    });

    it('has a copy out of a snapshot, which the kernel then does by reading and writing', async () => {
      begin('copy');
      const [from, to] = [snapshot('copy', 'old/file'), path('new/copied')];
      writeFileSync(to, '');
      const opened = (one: string, flags: string) => `os.open(${quoted(one)}, os.${flags})`;
      looked(from, to);
      expect(call(`os.copy_file_range(${opened(from, 'O_RDONLY')}, ${opened(to, 'O_WRONLY')}, 100)`)).toBe('4');
      expect(readFileSync(to, 'utf8')).toBe('copy');
      expect(await found({ op: 'copy' })).toEqual(['copy /old/file -> /new/copied EXDEV in copy']);
      const [close] = (await ask(scene().mount, { op: 'close', path: '/new/copied', comm: 'python3' })).slice(-1);
      expect(close).toMatchObject({ bytes: 4, result: 'ok' });
      expect((await ask(scene().mount, { op: 'close', path: '/old/file', layer: 'copy' })).at(-1)?.bytes_read).toBe(4);
    });

    it('has a link of what a switch took away by the path that it had', async () => {
      begin('gone');
      const holder = scene().holder();
      const handle = await holder.open(path('new/file'));
      const through = `/proc/${holder.pid}/fd/${handle}`;
      const link = (name: string) =>
        call(`os.link(${quoted(through)}, ${quoted(path(name))}, src_dir_fd=os.open('/', 0))`);
      scene().commands.switchTo('gone');
      scene().commands.flush();
      expect(link('again')).toBe('ESTALE');
      scene().commands.drop('gone-2');
      expect(link('once-more')).toBe('ESTALE');
      // The kernel tries what was stale once more by itself.
      expect([...new Set(await found({ op: 'link', result: 'ESTALE' }))]).toEqual([
        'link /new/file -> /again ESTALE in working',
        'link null -> /once-more ESTALE in working',
      ]);
    });

    it('has what is done in a snapshot whose layer is dropped, without the paths that are gone with it', async () => {
      begin('dropped');
      const { id } = scene().commands.layer('dropped');
      const holder: Holder = scene().holder();
      await holder.chdir(snapshot('dropped', 'old'));
      const handle = await holder.open(snapshot('dropped', 'old/file'), 'r');
      await holder.stat(handle);
      scene().commands.flush();
      scene().commands.drop('dropped', true);
      const errno = { errno: 116 };
      await expect(holder.read(handle)).rejects.toMatchObject(errno);
      await expect(holder.readPath('other')).rejects.toMatchObject(errno);
      await expect(holder.writePath('made', 'x')).rejects.toMatchObject(errno);
      await holder.close(handle);
      const events = await ask(scene().mount, { layer: id, result: 'ESTALE' });
      // What was open is closed by the path that it had.
      for (const { op, path } of events) expect(path).toBe(op === 'close' ? '/old/file' : null);
      expect(events.map(({ op }) => op)).toEqual(
        level === 'full' ? expect.arrayContaining(['read', 'getattr', 'close']) : ['close'],
      );
      expect(readFileSync(path('new/file'), 'utf8')).toBe('dropped, changed');
    });
  });
});
