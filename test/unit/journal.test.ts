import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Journal, type JournalOptions, type JournalState } from '../../src/journal/journal.ts';
import { LocalLog } from '../../src/journal/log.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import { createNode } from '../../src/vfs/ops/create.ts';
import { write } from '../../src/vfs/ops/data.ts';
import { type Batch, type ByteString, type Commits, StoreError, type StoreFailure } from '../../src/vfs/store.ts';
import { addRoot, bareWorkspace } from '../support/empty-workspace.ts';

const CALLER = { uid: 0, gid: 0, pid: 1 };
const INTERVAL_MS = 1000;
const MIB = 1024 * 1024;

interface Call {
  readonly batch: Batch;
  readonly resolve: () => void;
  readonly reject: (problem: unknown) => void;
}

/** Storage whose commits end when the test says so. */
class FakeCommits implements Commits {
  /** Commits under way, oldest first. */
  readonly waiting: Call[] = [];
  readonly all: Batch[] = [];
  readonly stored: Buffer[] = [];
  /** The problems of the next calls of putChunks. */
  readonly chunkProblems: unknown[] = [];
  /** Chunks and batches in the order in which they were asked for. */
  readonly order: string[] = [];

  async putChunks(chunks: readonly Uint8Array[]): Promise<readonly ByteString[]> {
    const copies = chunks.map((chunk) => Buffer.from(chunk));
    this.order.push(`chunks ${chunks.length}`);
    const problem = this.chunkProblems.shift();
    if (problem !== undefined) throw problem;
    this.stored.push(...copies);
    return copies.map((copy) => createHash('sha256').update(copy).digest().toString('latin1'));
  }

  commit(batch: Batch): Promise<void> {
    this.order.push(`batch ${batch.sequence}`);
    this.all.push(batch);
    return new Promise((resolve, reject) => {
      const call: Call = {
        batch,
        resolve: () => {
          this.waiting.splice(this.waiting.indexOf(call), 1);
          resolve();
        },
        reject: (problem) => {
          this.waiting.splice(this.waiting.indexOf(call), 1);
          reject(problem);
        },
      };
      this.waiting.push(call);
    });
  }
}

/** What became of a promise so far. */
function fateOf(promise: Promise<unknown>): { readonly now: string } {
  const fate = { now: 'waits' };
  promise.then(
    () => {
      fate.now = 'done';
    },
    (problem: unknown) => {
      fate.now = problem instanceof Error && 'code' in problem ? String(problem.code) : String(problem);
    },
  );
  return fate;
}

/** Lets everything happen that is due now. */
const turn = () => vi.advanceTimersByTimeAsync(0);

function setUp(options: Partial<JournalOptions> = {}, localLog?: LocalLog) {
  const workspace = bareWorkspace();
  const root = addRoot(workspace);
  const commits = new FakeCommits();
  const states: JournalState[] = [];
  const loads = { settled: Promise.resolve() };
  const journal = new Journal(
    {
      workspace,
      commits,
      localLog,
      loadsSettled: () => loads.settled,
      onState: (state) => void states.push(state),
    },
    { intervalMs: INTERVAL_MS, dirtyLimitBytes: 8 * MIB, ...options },
  );
  let files = 0;
  const accept = () => {
    workspace.mutated = false;
    workspace.sequence++;
    if (localLog !== undefined)
      localLog.append({
        sequence: workspace.sequence,
        timeMs: 0,
        request: Buffer.from('request'),
        requestBytes: 7,
        answer: Buffer.alloc(0),
        answerAt: 0,
        result: 0,
      });
    journal.changed();
  };
  return {
    workspace,
    commits,
    journal,
    states,
    loads,
    /** One operation: a new empty file. */
    makeFile(): Inode {
      const node = { mode: 0o100644, umask: 0, rdev: 0, target: '' };
      const inode = createNode(workspace, root.ino, `file ${++files}`, node, CALLER);
      accept();
      return inode;
    },
    /** One operation: `bytes` bytes at `offset` of a file. */
    fill(inode: Inode, bytes: number, value: number, offset = 0): void {
      write(workspace, inode, offset, Buffer.alloc(bytes, value), 0, bytes);
      accept();
    },
  };
}

const failure = (kind: StoreFailure) => new StoreError(kind, `storage says ${kind}`);
const first = <T>(list: readonly T[]): T => {
  const [one] = list;
  if (one === undefined) throw new Error('there is none');
  return one;
};

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a commit', () => {
  it('takes everything once the interval is over, and not before', async () => {
    const { commits, makeFile } = setUp();
    makeFile();
    makeFile();
    await vi.advanceTimersByTimeAsync(INTERVAL_MS - 1);
    expect(commits.all).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(commits.all.map(({ sequence, inodes, dentries }) => [sequence, inodes.length, dentries.length])).toEqual([
      [2, 3, 2],
    ]);
  });

  it('runs alone, while the next one’s changes gather', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const one = fateOf(journal.sync());
    await turn();
    makeFile();
    makeFile();
    const three = fateOf(journal.sync());
    await vi.advanceTimersByTimeAsync(10 * INTERVAL_MS);
    expect(commits.all.map(({ sequence }) => sequence)).toEqual([1]);
    first(commits.waiting).resolve();
    await turn();
    expect(commits.all.map(({ sequence }) => sequence)).toEqual([1, 3]);
    expect([one.now, three.now]).toEqual(['done', 'waits']);
    first(commits.waiting).resolve();
    await turn();
    expect(three.now).toBe('done');
  });

  it('of changes that came during another one follows within the interval', async () => {
    const { commits, makeFile } = setUp();
    makeFile();
    await vi.advanceTimersByTimeAsync(INTERVAL_MS);
    makeFile();
    first(commits.waiting).resolve();
    await vi.advanceTimersByTimeAsync(INTERVAL_MS);
    expect(commits.all.map(({ sequence }) => sequence)).toEqual([1, 2]);
  });

  it('starts early when much content waits', async () => {
    const { commits, makeFile, fill } = setUp({ dirtyLimitBytes: 8 * MIB });
    const inode = makeFile();
    fill(inode, MIB, 1);
    await turn();
    expect(commits.all).toEqual([]);
    fill(inode, MIB, 1, MIB);
    await turn();
    expect(commits.all).toHaveLength(1);
  });

  it('starts early when many files wait', async () => {
    const { commits, makeFile } = setUp();
    for (let count = 0; count < 3998; count++) makeFile();
    await turn();
    expect(commits.all).toEqual([]);
    makeFile();
    await turn();
    expect(commits.all).toHaveLength(1);
  });

  it('comes after all of its chunks are stored', async () => {
    const { commits, journal, makeFile, fill } = setUp({ dirtyLimitBytes: 1024 * MIB });
    fill(makeFile(), 20 * MIB, 7);
    fateOf(journal.sync());
    await turn();
    expect(commits.order.at(-1)).toBe('batch 2');
    expect(commits.order.slice(0, -1).every((what) => what.startsWith('chunks'))).toBe(true);
    expect(commits.stored).toHaveLength(160);
    expect(commits.all[0]?.segments.flatMap(({ chunks }) => chunks)).toHaveLength(160);
  });

  it('holds the bytes as they were when it was taken, whatever is written meanwhile', async () => {
    const { commits, journal, makeFile, fill } = setUp();
    const inode = makeFile();
    fill(inode, 1000, 1);
    const other = makeFile();
    fill(other, 200_000, 1);
    fateOf(journal.sync());
    fill(inode, 500, 2);
    fill(other, 500, 2, 100);
    await turn();
    const batch = first(commits.all);
    expect(batch.segments.find(({ ino }) => ino === inode.ino)?.inline).toEqual(Buffer.alloc(1000, 1));
    expect(commits.stored.map((chunk) => chunk.every((byte) => byte === 1))).toEqual([true, true]);
    first(commits.waiting).resolve();
    fateOf(journal.sync());
    await turn();
    const changed = Buffer.concat([Buffer.alloc(500, 2), Buffer.alloc(500, 1)]);
    expect(commits.all[1]?.segments.find(({ ino }) => ino === inode.ino)?.inline).toEqual(changed);
  });

  it('lets loads end before its own rows count as loaded', async () => {
    const { commits, journal, makeFile, loads } = setUp();
    let settle: () => void = () => {};
    loads.settled = new Promise((resolve) => {
      settle = resolve;
    });
    makeFile();
    const synced = fateOf(journal.sync());
    await turn();
    first(commits.waiting).resolve();
    await turn();
    expect(synced.now).toBe('waits');
    settle();
    await turn();
    expect(synced.now).toBe('done');
  });
});

describe('sync', () => {
  it('commits at once what has changed', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const synced = fateOf(journal.sync());
    await turn();
    expect(commits.all).toHaveLength(1);
    expect(synced.now).toBe('waits');
    first(commits.waiting).resolve();
    await turn();
    expect(synced.now).toBe('done');
  });

  it('has nothing to wait for when everything is committed', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    fateOf(journal.sync());
    await turn();
    first(commits.waiting).resolve();
    await turn();
    const again = fateOf(journal.sync());
    await turn();
    expect(again.now).toBe('done');
    expect(commits.all).toHaveLength(1);
  });

  it('waits for the commit under way when that holds everything', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const all = [fateOf(journal.sync())];
    await turn();
    all.push(fateOf(journal.sync()));
    await turn();
    expect(all.map(({ now }) => now)).toEqual(['waits', 'waits']);
    first(commits.waiting).resolve();
    await turn();
    expect(all.map(({ now }) => now)).toEqual(['done', 'done']);
    expect(commits.all).toHaveLength(1);
  });
});

describe('back-pressure', () => {
  it('holds writers up at the limit, what is being committed included, until a commit has made room', async () => {
    const { commits, journal, makeFile, fill } = setUp({ dirtyLimitBytes: 8 * MIB });
    const inode = makeFile();
    expect(journal.mustWait(100)).toBe(false);
    fill(inode, 4 * MIB, 1);
    await turn(); // half of it is on its way now
    expect(commits.all).toHaveLength(1);
    expect(journal.mustWait(100)).toBe(false);
    fill(inode, 4 * MIB, 2, 4 * MIB);
    expect(journal.dirtyBytes).toBe(8 * MIB);
    expect(journal.mustWait(100)).toBe(true);
    const room = fateOf(journal.room());
    await turn();
    expect(room.now).toBe('waits');
    first(commits.waiting).resolve();
    await turn();
    expect(room.now).toBe('done');
    expect(journal.mustWait(100)).toBe(false);
  });

  it('starts a commit for those who wait', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const room = fateOf(journal.room());
    await turn();
    expect(commits.all).toHaveLength(1);
    first(commits.waiting).resolve();
    await turn();
    expect(room.now).toBe('done');
  });

  it('holds writers up while the local log is full', async () => {
    const log = new LocalLog(new ArrayBuffer(4096));
    log.reset(1);
    const { commits, journal, makeFile } = setUp({}, log);
    while (!journal.mustWait(7)) makeFile();
    const room = fateOf(journal.room());
    await turn();
    first(commits.waiting).resolve();
    await turn();
    expect(room.now).toBe('done');
    expect(journal.mustWait(7)).toBe(false);
  });
});

describe('the local log', () => {
  it('loses what is committed, and only then', async () => {
    const memory = new ArrayBuffer(64 * 1024);
    const log = new LocalLog(memory);
    log.reset(1);
    const { commits, journal, makeFile } = setUp({}, log);
    const kept = () => new LocalLog(memory.slice(0)).recover().map(({ sequence }) => sequence);
    makeFile();
    makeFile();
    fateOf(journal.sync());
    await turn();
    makeFile();
    expect(kept()).toEqual([1, 2, 3]);
    first(commits.waiting).reject(failure('unavailable'));
    await turn();
    expect(kept()).toEqual([1, 2, 3]);
    await vi.advanceTimersByTimeAsync(100);
    first(commits.waiting).resolve();
    await turn();
    expect(kept()).toEqual([3]);
  });
});

describe('storage that is unavailable', () => {
  it('is asked again for the same batch until it takes it, and nobody is told of a failure', async () => {
    const { commits, journal, states, makeFile } = setUp();
    makeFile();
    const synced = fateOf(journal.sync());
    await turn();
    for (let round = 0; round < 6; round++) {
      first(commits.waiting).reject(failure('unavailable'));
      await vi.advanceTimersByTimeAsync(3000);
      expect(commits.waiting).toHaveLength(1);
    }
    makeFile();
    expect(synced.now).toBe('waits');
    expect(journal.state).toBe('degraded');
    first(commits.waiting).resolve();
    await turn();
    expect(synced.now).toBe('done');
    expect(states).toEqual(['degraded', 'ok']);
    expect(new Set(commits.all.map(({ sequence }) => sequence))).toEqual(new Set([1]));
    expect(new Set(commits.all.map((batch) => JSON.stringify(batch))).size).toBe(1);
    fateOf(journal.sync());
    await turn();
    expect(commits.all.at(-1)?.sequence).toBe(2);
  });

  it('has all chunks stored again before the batch is tried again', async () => {
    const { commits, journal, makeFile, fill } = setUp();
    fill(makeFile(), 200_000, 1);
    const synced = fateOf(journal.sync());
    await turn();
    first(commits.waiting).reject(failure('unavailable'));
    await vi.advanceTimersByTimeAsync(3000);
    expect(commits.order).toEqual(['chunks 2', 'batch 2', 'chunks 2', 'batch 2']);
    first(commits.waiting).resolve();
    await turn();
    expect(synced.now).toBe('done');
  });

  it('gets no batch whose chunks it didn’t take', async () => {
    const { commits, journal, makeFile, fill } = setUp();
    commits.chunkProblems.push(failure('unavailable'), failure('unavailable'));
    fill(makeFile(), 200_000, 1);
    fateOf(journal.sync());
    await turn();
    expect(commits.all).toEqual([]);
    await vi.advanceTimersByTimeAsync(3000);
    expect(commits.order).toEqual(['chunks 2', 'chunks 2', 'chunks 2', 'batch 2']);
  });

  it('holds writers up at the limit without an error', async () => {
    const { commits, journal, makeFile, fill } = setUp({ dirtyLimitBytes: MIB });
    fill(makeFile(), MIB, 1);
    await turn();
    first(commits.waiting).reject(failure('unavailable'));
    await turn();
    expect(journal.mustWait(1)).toBe(true);
  });
});

describe('storage that is full', () => {
  it('fails those who wait with ENOSPC, keeps the changes, and takes them later', async () => {
    const { commits, journal, states, makeFile, fill } = setUp({ dirtyLimitBytes: MIB });
    fill(makeFile(), MIB, 1);
    const synced = fateOf(journal.sync());
    const room = fateOf(journal.room());
    await turn();
    first(commits.waiting).reject(failure('full'));
    await turn();
    expect([synced.now, room.now]).toEqual(['ENOSPC', 'ENOSPC']);
    expect(() => journal.mustWait(1)).toThrow('storage says full');
    expect(states).toEqual(['degraded']);
    const again = fateOf(journal.sync());
    await vi.advanceTimersByTimeAsync(100);
    first(commits.waiting).reject(failure('full'));
    await turn();
    expect(again.now).toBe('ENOSPC');
    await vi.advanceTimersByTimeAsync(3000);
    first(commits.waiting).resolve();
    await turn();
    expect(states).toEqual(['degraded', 'ok']);
    expect(journal.mustWait(1)).toBe(false);
    expect(fateOf(journal.sync()).now).toBe('waits');
    expect(new Set(commits.all.map(({ sequence }) => sequence))).toEqual(new Set([2]));
  });

  it('lets writers go on below the limit', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    fateOf(journal.sync());
    await turn();
    first(commits.waiting).reject(failure('full'));
    await turn();
    expect(journal.mustWait(1)).toBe(false);
  });

  it('fails with ENOSPC also where it’s the chunks that don’t fit', async () => {
    const { commits, journal, makeFile, fill } = setUp();
    commits.chunkProblems.push(failure('full'));
    fill(makeFile(), 200_000, 1);
    const synced = fateOf(journal.sync());
    await turn();
    expect(synced.now).toBe('ENOSPC');
  });
});

describe('storage that refuses', () => {
  it.each([failure('refused'), new TypeError('a defect')])(
    'fails those who wait with EIO, and is asked again',
    async (problem) => {
      const { commits, journal, makeFile } = setUp();
      makeFile();
      const synced = fateOf(journal.sync());
      await turn();
      first(commits.waiting).reject(problem);
      await turn();
      expect(synced.now).toBe('EIO');
      await vi.advanceTimersByTimeAsync(3000);
      first(commits.waiting).resolve();
      await turn();
      expect(journal.state).toBe('ok');
    },
  );
});

describe('a lost lease', () => {
  it('ends everything with EROFS, for good', async () => {
    const { commits, journal, states, makeFile } = setUp();
    makeFile();
    const synced = fateOf(journal.sync());
    const room = fateOf(journal.room());
    await turn();
    first(commits.waiting).reject(failure('lease-lost'));
    await turn();
    expect([synced.now, room.now]).toEqual(['EROFS', 'EROFS']);
    expect(() => journal.mustWait(1)).toThrow('storage says lease-lost');
    const later = fateOf(journal.sync());
    await vi.advanceTimersByTimeAsync(60_000);
    expect(later.now).toBe('EROFS');
    expect(commits.all).toHaveLength(1);
    expect(states).toEqual(['lost']);
  });

  it('that is learned of elsewhere ends what is waiting to be tried again', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const synced = fateOf(journal.sync());
    await turn();
    first(commits.waiting).reject(failure('unavailable'));
    await turn();
    journal.lose('taken over');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(synced.now).toBe('EROFS');
    expect(commits.all).toHaveLength(1);
  });

  it('stays lost although a commit that was under way succeeds', async () => {
    const { commits, journal, states, makeFile } = setUp();
    makeFile();
    const synced = fateOf(journal.sync());
    await turn();
    journal.lose('taken over');
    first(commits.waiting).resolve();
    await turn();
    expect(synced.now).toBe('EROFS');
    expect(journal.state).toBe('lost');
    expect(states).toEqual(['lost']);
    expect(() => journal.mustWait(1)).toThrow('taken over');
    makeFile();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(commits.all).toHaveLength(1);
  });
});

describe('stopping', () => {
  it('commits what is left, and nothing afterwards', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const stopped = fateOf(journal.stop());
    await turn();
    first(commits.waiting).resolve();
    await turn();
    expect(stopped.now).toBe('done');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(commits.all.map(({ sequence }) => sequence)).toEqual([1]);
  });

  it('says so when what is left can’t be committed, tries once more, and gives up', async () => {
    const { commits, journal, makeFile } = setUp();
    makeFile();
    const stopped = fateOf(journal.stop());
    await turn();
    first(commits.waiting).reject(failure('full'));
    await turn();
    first(commits.waiting).reject(failure('full'));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(stopped.now).toBe('ENOSPC');
    expect(commits.all).toHaveLength(2);
  });
});
