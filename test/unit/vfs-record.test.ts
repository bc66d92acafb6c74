import { describe, expect, it } from 'vitest';
import { ROOT_INO } from '../../src/brand.ts';
import { CHUNK_BYTES } from '../../src/vfs/geometry.ts';
import type { Inode } from '../../src/vfs/inode.ts';
import { createNode, createTemporary, link } from '../../src/vfs/ops/create.ts';
import { resize, write } from '../../src/vfs/ops/data.ts';
import { forget, unlink } from '../../src/vfs/ops/remove.ts';
import { segmentImage, settleChanges, slotsToStore, type Taken, takeChanges } from '../../src/vfs/record.ts';
import type { Batch } from '../../src/vfs/store.ts';
import type { Workspace } from '../../src/vfs/workspace.ts';
import { addRoot, bareWorkspace } from '../support/empty-workspace.ts';

const CALLER = { uid: 0, gid: 0, pid: 1 };
const MIB = 1024 * 1024;
const FILE = { mode: 0o100644, umask: 0, rdev: 0, target: '' };

function newWorkspace(metadataBytes = 64 * MIB): Workspace {
  const workspace = bareWorkspace({}, { metadataBytes });
  addRoot(workspace);
  return workspace;
}

function makeFile(workspace: Workspace, name: string): Inode {
  return createNode(workspace, ROOT_INO, name, FILE, CALLER);
}

function fill(workspace: Workspace, inode: Inode, bytes: number, value: number, offset = 0): void {
  write(workspace, inode, offset, Buffer.alloc(bytes, value), 0, bytes);
}

/** Gives the chunks of a batch hashes that tell what they are. */
function hashChunks(taken: Taken): void {
  for (const slot of slotsToStore(taken.plans)) slot.hash = `${slot.data?.[0]}`.padEnd(32, '.');
}

/** The batch as it would be committed. */
function batchOf(taken: Taken): Batch {
  hashChunks(taken);
  return { ...taken.batch, segments: taken.plans.map(segmentImage) };
}

/** Takes all changes and has them committed at once. */
function commit(workspace: Workspace): Batch {
  const taken = takeChanges(workspace);
  const batch = batchOf(taken);
  settleChanges(workspace, taken);
  return batch;
}

const namesOf = (batch: Batch) => batch.dentries.map(({ name }) => name);
const removedNamesOf = (batch: Batch) => batch.removedDentries.map(({ name }) => name);
const inosOf = (batch: Batch) => batch.inodes.map(({ ino }) => ino).sort((a, b) => a - b);

describe('the changes taken', () => {
  it('are all there are, once', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    const batch = commit(workspace);
    expect(inosOf(batch)).toEqual([ROOT_INO, file.ino]);
    expect(batch.dentries).toEqual([{ parent: ROOT_INO, name: 'a', ino: file.ino, type: 8, cookie: 16 }]);
    expect(batch).toMatchObject({
      nextIno: file.ino + 1,
      nextCookie: 17,
      usedInodes: 2,
      removedInodes: [],
      segments: [],
    });
    expect(commit(workspace)).toMatchObject({ inodes: [], dentries: [] });
  });

  it('are images: what changes later doesn’t change them', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    fill(workspace, file, 10, 1);
    const taken = takeChanges(workspace);
    const size = () => taken.batch.inodes.find(({ ino }) => ino === file.ino)?.size;
    fill(workspace, file, 20, 2);
    unlink(workspace, ROOT_INO, 'a');
    expect(size()).toBe(10);
    expect(batchOf(taken).segments).toEqual([{ ino: file.ino, index: 0, chunks: [], inline: Buffer.alloc(10, 1) }]);
    expect(taken.batch.dentries).toHaveLength(1);
  });

  it('have nothing of a file that came and went in between but its directory', () => {
    const workspace = newWorkspace();
    commit(workspace);
    const file = makeFile(workspace, 'a');
    fill(workspace, file, CHUNK_BYTES, 1);
    unlink(workspace, ROOT_INO, 'a');
    forget(workspace, file.ino, 0);
    const batch = commit(workspace);
    expect(inosOf(batch)).toEqual([ROOT_INO]);
    expect(batch).toMatchObject({
      dentries: [],
      removedDentries: [],
      removedInodes: [],
      segments: [],
      removedSegments: [],
    });
    expect(workspace).toMatchObject({ dirtyBytes: 0, usedBytes: 0, usedInodes: 1 });
  });

  it('remove what was stored: name, inode and content', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    fill(workspace, file, 2 * CHUNK_BYTES, 1);
    commit(workspace);
    unlink(workspace, ROOT_INO, 'a');
    forget(workspace, file.ino, 0);
    const batch = commit(workspace);
    expect(removedNamesOf(batch)).toEqual(['a']);
    expect(batch).toMatchObject({
      removedInodes: [file.ino],
      removedSegments: [],
      dentries: [],
      segments: [],
    });
    expect(workspace.cached(file.ino)).toBeUndefined();
  });

  it('remove what is only just being stored', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    const taken = takeChanges(workspace);
    unlink(workspace, ROOT_INO, 'a');
    forget(workspace, file.ino, 0);
    const next = takeChanges(workspace);
    settleChanges(workspace, taken);
    expect(next.batch).toMatchObject({ removedInodes: [file.ino], removedDentries: [{ parent: ROOT_INO, name: 'a' }] });
  });

  it('keep a file without a name for as long as someone refers to it', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    file.lookups = 1;
    commit(workspace);
    unlink(workspace, ROOT_INO, 'a');
    const batch = commit(workspace);
    expect(batch.removedInodes).toEqual([]);
    expect(batch.inodes.find(({ ino }) => ino === file.ino)?.nlink).toBe(0);
    forget(workspace, file.ino, 1);
    expect(commit(workspace).removedInodes).toEqual([file.ino]);
  });

  it('write a name once that was removed and made again', () => {
    const workspace = newWorkspace();
    makeFile(workspace, 'a');
    commit(workspace);
    unlink(workspace, ROOT_INO, 'a');
    const second = makeFile(workspace, 'a');
    const batch = commit(workspace);
    expect(batch.dentries.map(({ name, ino }) => [name, ino])).toEqual([['a', second.ino]]);
    expect(batch.removedDentries).toEqual([]);
  });

  it('remove a name that was removed, made and removed again', () => {
    const workspace = newWorkspace();
    makeFile(workspace, 'a');
    commit(workspace);
    for (let round = 0; round < 2; round++) {
      unlink(workspace, ROOT_INO, 'a');
      if (round === 0) makeFile(workspace, 'a');
    }
    const batch = commit(workspace);
    expect([namesOf(batch), removedNamesOf(batch)]).toEqual([[], ['a']]);
  });

  it('name a file without a name that was given one', () => {
    const workspace = newWorkspace();
    const file = createTemporary(workspace, ROOT_INO, FILE, CALLER);
    expect(commit(workspace).inodes.find(({ ino }) => ino === file.ino)?.nlink).toBe(0);
    link(workspace, file.ino, ROOT_INO, 'named');
    const batch = commit(workspace);
    expect(namesOf(batch)).toEqual(['named']);
    expect(batch.inodes.find(({ ino }) => ino === file.ino)?.nlink).toBe(1);
  });

  it('keep bytes in their row up to 4 KiB, and in chunks beyond', () => {
    const workspace = newWorkspace();
    const [tiny, small] = [makeFile(workspace, 'tiny'), makeFile(workspace, 'small')];
    fill(workspace, tiny, 4096, 1);
    fill(workspace, small, 4097, 2);
    const batch = commit(workspace);
    const of = (inode: Inode) => batch.segments.find(({ ino }) => ino === inode.ino);
    expect(of(tiny)?.inline).toEqual(Buffer.alloc(4096, 1));
    expect(of(small)?.chunks).toEqual([{ hash: '2'.padEnd(32, '.'), length: 4097 }]);
  });

  it('write only the segments that changed', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    for (const index of [0, 64, 128]) fill(workspace, file, 10, index + 1, index * CHUNK_BYTES);
    expect(commit(workspace).segments.map(({ index }) => index)).toEqual([0, 1, 2]);
    fill(workspace, file, 10, 9, 64 * CHUNK_BYTES);
    expect(commit(workspace).segments.map(({ index }) => index)).toEqual([1]);
  });

  it('leave trailing holes out, and say holes between with a length of 0', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    fill(workspace, file, 10, 7, 2 * CHUNK_BYTES);
    resize(workspace, file, 60 * CHUNK_BYTES);
    const hole = { hash: '', length: 0 };
    expect(commit(workspace).segments).toEqual([
      { ino: file.ino, index: 0, chunks: [hole, hole, { hash: '7'.padEnd(32, '.'), length: 10 }], inline: null },
    ]);
  });

  it('remove the segments that a file was cut by, save those that it has got again', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    for (const index of [0, 64, 128]) fill(workspace, file, 10, 1, index * CHUNK_BYTES);
    commit(workspace);
    resize(workspace, file, 5);
    workspace.touchContent(file);
    fill(workspace, file, 10, 2, 128 * CHUNK_BYTES);
    const batch = commit(workspace);
    expect(batch.removedSegments).toEqual([{ ino: file.ino, index: 1 }]);
    expect(batch.segments.map(({ index }) => index)).toEqual([0, 2]);
  });

  it('count the bytes that wait, and none once they’re taken', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    fill(workspace, file, 3 * CHUNK_BYTES, 1);
    expect(workspace.dirtyBytes).toBe(3 * CHUNK_BYTES);
    const taken = takeChanges(workspace);
    expect([taken.bytes, workspace.dirtyBytes]).toEqual([3 * CHUNK_BYTES, 0]);
  });
});

describe('committed changes', () => {
  it('leave their bytes in the cache, under their hashes', () => {
    const workspace = newWorkspace();
    const file = makeFile(workspace, 'a');
    fill(workspace, file, CHUNK_BYTES, 5);
    commit(workspace);
    expect(workspace.chunks.get('5'.padEnd(32, '.'))?.equals(Buffer.alloc(CHUNK_BYTES, 5))).toBe(true);
  });

  it('may be evicted, and those that aren’t committed may not', () => {
    const workspace = newWorkspace(MIB);
    const files = Array.from({ length: 5000 }, (_, index) => makeFile(workspace, `file ${index}`));
    expect(files.every(({ ino }) => workspace.cached(ino) !== undefined)).toBe(true);
    commit(workspace);
    const left = files.filter(({ ino }) => workspace.cached(ino) !== undefined).length;
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(files.length);
  });

  it('may not be evicted while a later batch holds changes of the same file', () => {
    const workspace = newWorkspace(MIB);
    const file = makeFile(workspace, 'kept');
    const first = takeChanges(workspace);
    fill(workspace, file, 10, 1);
    const second = takeChanges(workspace);
    settleChanges(workspace, first);
    for (let index = 0; index < 5000; index++) makeFile(workspace, `file ${index}`);
    expect(workspace.cached(file.ino)).toBe(file);
    settleChanges(workspace, second);
  });
});
