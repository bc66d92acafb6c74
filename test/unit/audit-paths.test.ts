import { describe, expect, it } from 'vitest';
import { Levels, parseRules } from '../../src/audit/levels.ts';
import { FULL, operationName, STANDARD } from '../../src/audit/operations.ts';
import { type Ino, ROOT_INO } from '../../src/brand.ts';
import { controlTree } from '../../src/control/tree.ts';
import { FsError } from '../../src/errno.ts';
import { Auditing } from '../../src/fuse/auditing.ts';
import { CONTROL_VIEW, nodeidHi, SNAPSHOT_VIEW } from '../../src/fuse/context.ts';
import { Dispatcher, type DispatchParts } from '../../src/fuse/dispatch.ts';
import { Placeholders } from '../../src/fuse/placeholders.ts';
import { PARKED, PAYLOAD } from '../../src/fuse/session.ts';
import { Traffic } from '../../src/fuse/traffic.ts';
import { attrOut, getattrIn, inHeader, writeIn, writeOut } from '../../src/fuse/wire/abi.ts';
import { OPCODE } from '../../src/fuse/wire/operations.ts';
import { createNode } from '../../src/vfs/ops/create.ts';
import type { Workspace } from '../../src/vfs/workspace.ts';
import { memoryLog } from '../support/audit-log.ts';
import { addRoot, bareWorkspace } from '../support/empty-workspace.ts';

const ESTALE = 116;

/** A workspace with one file, /file, whose name nobody knows any more, and what serves it. */
class Bench {
  readonly workspace: Workspace = bareWorkspace();
  readonly file: Ino;
  readonly log = memoryLog(FULL);
  readonly answers: number[] = [];
  loads = 0;
  readonly reply = Buffer.alloc(8192);
  readonly #dispatcher: Dispatcher;

  constructor(parts: Pick<DispatchParts, 'loadPath'> & Partial<DispatchParts>) {
    const root = addRoot(this.workspace);
    const node = { mode: 0o100644, umask: 0, rdev: 0, target: '' };
    const file = createNode(this.workspace, ROOT_INO, 'file', node, { uid: 0, gid: 0, pid: 0 });
    this.file = file.ino;
    file.namedIn = undefined;
    this.workspace.mutated = false;
    expect(root.directory?.names.size).toBe(1);
    const flush = [{ path: 'flush', about: '', node: { file: { command: async () => ({}) } } }];
    this.#dispatcher = new Dispatcher({
      workspace: this.workspace,
      services: {
        sync: () => Promise.resolve(),
        space: () => ({ totalBytes: 0, freeBytes: 0, totalInodes: 0, freeInodes: 0 }),
        placeholders: new Placeholders(),
        control: controlTree(flush, { access: 'all', visible: true, owner: () => ({ uid: 0, gid: 0 }), startedMs: 0 }),
        closeWaits: false,
        frozen: () => undefined,
      },
      clock: { now: () => 1000 },
      load: () => Promise.reject(new FsError('EIO', 'nothing is loaded here')),
      mustWait: () => false,
      room: () => Promise.resolve(),
      accept: () => {},
      strict: false,
      reply: (_lo, _hi, result) => this.answers.push(result),
      replyBuffer: () => this.reply,
      onDefect: (request, problem) => expect.unreachable(`${request}: ${problem}`),
      traffic: new Traffic(),
      isKilled: () => false,
      setxattrExtended: true,
      auditing: new Auditing(this.log, this.workspace, { now: () => 1000 }, undefined),
      ...parts,
      loadPath: (tree, ino) => {
        this.loads++;
        return parts.loadPath(tree, ino);
      },
    });
  }

  /** Serves a request of a node; resolves to its answer. */
  async serve(opcode: number, body: Buffer, nodeidLo: number, view = 0): Promise<number> {
    const request = Buffer.alloc(inHeader.size + body.length);
    const len = request.length;
    const pid = process.pid;
    inHeader.writer()(request, 0, { ...inHeader.blank(), len, opcode, pid, nodeidLo, nodeidHi: nodeidHi(view, 0) });
    request.set(body, inHeader.size);
    const result = this.#dispatcher.serve(request, len, this.reply);
    if (result !== PARKED) return result;
    for (let turns = 0; turns < 100 && this.answers.length === 0; turns++) await new Promise(setImmediate);
    return this.answers.shift() ?? expect.unreachable('it is never answered');
  }

  getattr(view = 0): Promise<number> {
    return this.serve(OPCODE.GETATTR, Buffer.alloc(getattrIn.size), this.file, view);
  }

  get events(): string[] {
    const { ring } = this.log;
    return Array.from({ length: ring.count }, (_, ordinal) => {
      const { op, path, result, layer, ino } = ring.event(ordinal);
      return `${operationName(op)} ${path} ${result} layer ${layer} ino ${ino}`;
    });
  }
}

describe("a path's names", () => {
  it('are loaded first, once', async () => {
    const bench = new Bench({
      loadPath: async (tree, ino) => {
        const inode = tree.inode(ino);
        inode.namedIn = ROOT_INO;
        inode.name = 'file';
      },
    });
    expect(await bench.getattr()).toBe(attrOut.size);
    expect(await bench.getattr()).toBe(attrOut.size);
    expect(bench.loads).toBe(1);
    expect(bench.events).toEqual([`getattr /file 0 layer 2 ino ${bench.file}`, expect.stringContaining('/file')]);
  });

  it('that cannot be loaded leave the path unknown, and the operation as it is', async () => {
    const bench = new Bench({ loadPath: () => Promise.reject(new Error('there is no storage')) });
    expect(await bench.getattr()).toBe(attrOut.size);
    expect(bench.loads).toBe(1);
    expect(bench.events).toEqual([`getattr null 0 layer 2 ino ${bench.file}`]);
  });

  it('that are not there after any number of loads do so, too', async () => {
    const bench = new Bench({ loadPath: () => Promise.resolve() });
    expect(await bench.getattr()).toBe(attrOut.size);
    expect(bench.loads).toBeLessThan(10);
    expect(bench.events).toEqual([`getattr null 0 layer 2 ino ${bench.file}`]);
  });

  it('are not looked for in a tree that is gone', async () => {
    const bench = new Bench({ loadPath: () => expect.unreachable('nothing is to be loaded') });
    expect(await bench.getattr(SNAPSHOT_VIEW + 7)).toBe(-ESTALE);
    expect(await bench.getattr(3)).toBe(-ESTALE);
    expect(bench.events).toEqual([
      `getattr null ${ESTALE} layer 7 ino ${bench.file}`,
      `getattr null ${ESTALE} layer 0 ino ${bench.file}`,
    ]);
  });
});

describe('rules by path', () => {
  const unknown = () => Promise.reject(new Error('there is no storage'));

  it('have what is done at an unknown path recorded as at the strictest', async () => {
    const bench = new Bench({ loadPath: unknown });
    bench.log.levels = new Levels(STANDARD, parseRules('/secret=full,/**=off') ?? []);
    await bench.getattr();
    expect(bench.events).toEqual([`getattr null 0 layer 2 ino ${bench.file}`]);
  });

  it('leave commands recorded', async () => {
    const bench = new Bench({ loadPath: unknown });
    bench.log.levels = new Levels(STANDARD, parseRules('/**=off') ?? []);
    const body = Buffer.alloc(writeIn.size + 4, 'all\n');
    writeIn.writer()(body, 0, { ...writeIn.blank(), size: 4 });
    await bench.serve(OPCODE.LOOKUP, Buffer.from('flush\0'), 0, CONTROL_VIEW);
    const flush = bench.reply.readUInt32LE(PAYLOAD);
    expect(await bench.serve(OPCODE.WRITE, body, flush, CONTROL_VIEW)).toBe(writeOut.size);
    expect(bench.events).toEqual(['command /.tarbox/flush 0 layer 2 ino 0']);
  });
});
