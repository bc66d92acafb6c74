import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { controlTree } from '../../src/control/tree.ts';
import { FsError } from '../../src/errno.ts';
import { Auditing } from '../../src/fuse/auditing.ts';
import { CONTROL_VIEW, nodeidHi } from '../../src/fuse/context.ts';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import { handlerTable } from '../../src/fuse/handlers/table.ts';
import { Placeholders } from '../../src/fuse/placeholders.ts';
import { NO_REPLY, PARKED, PAYLOAD } from '../../src/fuse/session.ts';
import { traceRequest } from '../../src/fuse/trace.ts';
import { Traffic } from '../../src/fuse/traffic.ts';
import { attrOut, inHeader, readIn, setattrIn } from '../../src/fuse/wire/abi.ts';
import { FATTR } from '../../src/fuse/wire/flags.ts';
import { OPCODE, type Operation, operations } from '../../src/fuse/wire/operations.ts';
import type { Workspace } from '../../src/vfs/workspace.ts';
import { memoryLog } from '../support/audit-log.ts';
import { addRoot, bareWorkspace } from '../support/empty-workspace.ts';

const MIB = 2 ** 20;
const EIO = 5;
const ENOSYS = 38;
/** The largest error number that the kernel takes as one (MAX_ERRNO). */
const MAX_ERRNO = 4095;

/** A dispatcher over a workspace in memory: what isn't there doesn't exist. */
class Bench {
  readonly workspace: Workspace;
  readonly request = Buffer.alloc(MIB + 8192, 0xaa);
  readonly reply = Buffer.alloc(MIB + 8192);
  readonly defects: string[] = [];
  readonly answers = new Map<number, number>();
  readonly #dispatcher: Dispatcher;
  readonly #writeHeader = inHeader.writer();
  #unique = 2;

  constructor() {
    this.workspace = bareWorkspace();
    addRoot(this.workspace);
    const files = [
      { path: 'health', about: '', node: { file: { read: () => 'well\n' } } },
      { path: 'control/flush', about: '', node: { file: { command: async () => ({}) } } },
    ];
    const owner = () => ({ uid: 0, gid: 0 });
    this.#dispatcher = new Dispatcher({
      workspace: this.workspace,
      services: {
        sync: () => Promise.resolve(),
        space: () => ({ totalBytes: 0, freeBytes: 0, totalInodes: 0, freeInodes: 0 }),
        placeholders: new Placeholders(),
        control: controlTree(files, { access: 'owner', visible: true, owner, startedMs: 0 }),
        closeWaits: false,
        frozen: () => undefined,
      },
      clock: { now: () => 1000 },
      load: (_, miss) => Promise.reject(new FsError('ESTALE', `there is no ${miss.kind}`)),
      loadPath: () => Promise.reject(new FsError('EIO', 'there is no storage')),
      mustWait: () => false,
      room: () => Promise.resolve(),
      accept: () => {},
      strict: false,
      reply: (unique, _, result) => this.answers.set(unique, result),
      replyBuffer: () => this.reply,
      onDefect: (request) => this.defects.push(request),
      traffic: new Traffic(),
      isKilled: () => false,
      setxattrExtended: true,
      auditing: new Auditing(memoryLog(), this.workspace, { now: () => 1000 }, undefined),
    });
  }

  /** Serves what is in the request buffer. */
  dispatch(length: number): number {
    return this.#dispatcher.serve(this.request, length, this.reply);
  }

  /** Serves a request with this body. Resolves to its answer, which is asserted to be one. */
  async serve(opcode: number, body: Uint8Array, header: { lo?: number; hi?: number; extlen?: number } = {}) {
    const unique = this.#unique;
    this.#unique += 2;
    const length = inHeader.size + body.length;
    this.request.set(body, inHeader.size);
    this.#writeHeader(this.request, 0, {
      ...inHeader.blank(),
      len: length,
      opcode,
      uniqueLo: unique,
      nodeidLo: header.lo ?? 1,
      nodeidHi: header.hi ?? 0,
      totalExtlen: header.extlen ?? 0,
    });
    expect(traceRequest(this.request, length)).toMatch(/^#\d+ /);
    let result = this.dispatch(length);
    if (result === PARKED) {
      // Promises that are settled already need no more than a turn of the event loop.
      await new Promise(setImmediate);
      result = this.answers.get(unique) ?? PARKED;
    }
    expect(result === NO_REPLY || (result >= -MAX_ERRNO && result <= this.reply.length - PAYLOAD)).toBe(true);
    return result;
  }
}

/** A request that is whole: zeros for the argument, names, and some data. */
function wholeBody({ argument, names, data }: Operation): Buffer {
  const parts = [Buffer.alloc(argument?.size ?? 0)];
  for (let name = 0; name < names; name++) parts.push(Buffer.from(`name-${name}\0`));
  if (data) parts.push(Buffer.alloc(8, 1));
  return Buffer.concat(parts);
}

const served = operations.filter(({ opcode }) => handlerTable(true)[opcode] !== undefined);
const isForget = ({ opcode }: Operation) => opcode === OPCODE.FORGET || opcode === OPCODE.BATCH_FORGET;
/** Their nodes: the root, the control directory, a command file. */
const NODES = [{}, { lo: 0, hi: nodeidHi(CONTROL_VIEW, 0) }, { lo: 3, hi: nodeidHi(CONTROL_VIEW, 3) }];

describe.each(served.map((operation) => [operation.name, operation] as const))('%s', (_, operation) => {
  const { opcode, argument, argumentBytes, names, data } = operation;

  it('is EIO, and reported, wherever it is cut off; the next request is served', async () => {
    const bench = new Bench();
    const body = wholeBody(operation);
    // TMPFILE's name says nothing. Of control files, many answer EPERM without looking further.
    const named = names > 0 && opcode !== OPCODE.TMPFILE ? (argument?.size ?? 0) + names * 'name-0\0'.length : 0;
    for (const node of NODES) {
      const needed = node === NODES[0] ? Math.max(argumentBytes, named) : argumentBytes;
      for (let length = 0; length < needed; length++) {
        bench.defects.length = 0;
        const result = await bench.serve(opcode, body.subarray(0, length), node);
        expect(result, `${length} of ${needed} bytes`).toBe(isForget(operation) ? NO_REPLY : -EIO);
        expect(bench.defects).toHaveLength(1);
      }
    }
    expect(await bench.serve(OPCODE.GETATTR, Buffer.alloc(16))).toBe(attrOut.size);
  });

  if (data && argument !== undefined)
    it('is EIO, and reported, when it says that it has more data than it has', async () => {
      const bench = new Bench();
      const body = wholeBody(operation);
      // The field that tells the size of the data; WRITE's is at 16, the others' at 0.
      body.writeUInt32LE(9, opcode === OPCODE.WRITE ? 16 : 0);
      for (const node of NODES.filter((_, index) => opcode === OPCODE.WRITE || index === 0)) {
        bench.defects.length = 0;
        expect(await bench.serve(opcode, body, node)).toBe(isForget(operation) ? NO_REPLY : -EIO);
        expect(bench.defects).toHaveLength(1);
      }
    });

  it('has an answer whatever its bytes are, and the next request is served', async () => {
    const bench = new Bench();
    await bench.serve(OPCODE.CREATE, Buffer.concat([Buffer.alloc(16), Buffer.from('file\0')]));
    const word = fc.oneof(fc.constantFrom(0, 1, 2, 0x7fffffff, 0xffffffff), fc.nat(100), fc.nat(0xffffffff));
    const node = fc.oneof(
      fc.constantFrom({ lo: 1, hi: 0 }, { lo: 2, hi: 0 }, ...NODES),
      fc.record({ lo: word, hi: word }),
    );
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(word).map((words) => Uint32Array.from(words)),
    );
    await fc.assert(
      fc.asyncProperty(bytes, node, fc.constantFrom(0, 1, 50), async (garbage, at, extlen) => {
        const body = new Uint8Array(garbage.buffer, garbage.byteOffset, garbage.byteLength);
        await bench.serve(opcode, body, { ...at, extlen });
        expect(await bench.serve(OPCODE.GETATTR, Buffer.alloc(16))).toBe(attrOut.size);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a request', () => {
  it('of an operation that is not served is ENOSYS, whatever its bytes are', async () => {
    const bench = new Bench();
    const handled = new Set([...served.map(({ opcode }) => opcode), OPCODE.INTERRUPT]);
    for (let opcode = 0; opcode < 70; opcode++) {
      if (handled.has(opcode)) continue;
      for (const length of [0, 1, 100]) expect(await bench.serve(opcode, Buffer.alloc(length, 0xff))).toBe(-ENOSYS);
    }
    expect(await bench.serve(0xffffffff, Buffer.alloc(0))).toBe(-ENOSYS);
  });

  it('to read more than an answer holds gets what it holds at most', async () => {
    const bench = new Bench();
    await bench.serve(OPCODE.CREATE, Buffer.concat([Buffer.alloc(16), Buffer.from('file\0')]));
    const size = setattrIn.writer();
    const attributes = Buffer.alloc(setattrIn.size);
    size(attributes, 0, { ...setattrIn.blank(), valid: FATTR.SIZE, size: 2 ** 30 });
    expect(await bench.serve(OPCODE.SETATTR, attributes, { lo: 2 })).toBe(attrOut.size);
    const read = Buffer.alloc(readIn.size);
    for (const bytes of [2 * MIB, 2 ** 32 - 1]) {
      readIn.writer()(read, 0, { ...readIn.blank(), size: bytes });
      expect(await bench.serve(OPCODE.READ, read, { lo: 2 })).toBe(bench.reply.length - PAYLOAD);
    }
  });

  it('that is shorter than a header, or that lies about its length, is EIO and reported', () => {
    const bench = new Bench();
    const dispatch = (length: number, says: number) => {
      bench.request.writeUInt32LE(says, 0);
      return bench.dispatch(length);
    };
    expect(dispatch(16, 16)).toBe(-EIO);
    expect(dispatch(56, 57)).toBe(-EIO);
    expect(dispatch(56, 0)).toBe(-EIO);
    expect(bench.defects).toHaveLength(3);
  });
});
