import type { Ino } from '../brand.ts';
import type { Content, Slot } from './content.ts';
import { INLINE_BYTES } from './geometry.ts';
import { type Inode, imageOf } from './inode.ts';
import type { Batch, ByteString, ChunkRef, DentryImage, InodeImage, Seal, SegmentImage } from './store.ts';
import type { Workspace } from './workspace.ts';

/** A row of `contents` to write, its chunks perhaps not hashed yet. */
export interface SegmentPlan {
  readonly inode: Inode;
  readonly index: number;
  readonly slots: readonly (Slot | undefined)[];
  readonly inline: boolean;
}

/** Everything that changed up to one moment, taken out of the workspace to be committed. */
export interface Taken {
  /** The rows as they were at that moment; `segments` is filled once the chunks have hashes. */
  readonly batch: Omit<Batch, 'segments'>;
  readonly plans: readonly SegmentPlan[];
  readonly inodes: readonly Inode[];
  /** Bytes of content in it. */
  readonly bytes: number;
}

/**
 * Takes all changes. What the workspace holds now is exactly the result of its operations so far, so the batch is
 * a prefix of them. Later changes go into the next batch and leave this one's bytes alone. With a seal, this batch is
 * the last of its layer, and later changes are the next one's.
 */
export function takeChanges(workspace: Workspace, seal?: Seal): Taken {
  const inodes: InodeImage[] = [];
  const removedInodes: Ino[] = [];
  const dentries: DentryImage[] = [];
  const removedDentries: { parent: Ino; name: ByteString }[] = [];
  const removedSegments: { ino: Ino; index: number }[] = [];
  const plans: SegmentPlan[] = [];
  const changed = [...workspace.changed];
  for (const inode of changed) {
    inode.dirty = false;
    inode.commits++;
    takeNames(inode, dentries, removedDentries);
    if (inode.removed) {
      if (!inode.stored) continue;
      removedInodes.push(inode.ino);
      continue;
    }
    if (inode.content !== undefined) takeContent(inode, inode.content, plans, removedSegments);
    inodes.push(imageOf(inode));
    inode.stored = true;
  }
  const unnamed = workspace.orphanTotals();
  const taken: Taken = {
    batch: {
      place: workspace.place,
      seal,
      sequence: workspace.sequence,
      nextIno: workspace.nextIno,
      nextCookie: workspace.nextCookie,
      usedBytes: workspace.usedBytes - unnamed.bytes,
      usedInodes: workspace.usedInodes - unnamed.inodes,
      inodes,
      removedInodes,
      dentries,
      removedDentries,
      removedSegments,
    },
    plans,
    inodes: changed,
    bytes: workspace.dirtyBytes,
  };
  workspace.changed = new Set();
  workspace.dirtyBytes = 0;
  if (seal !== undefined) workspace.place = seal.next;
  return taken;
}

function takeNames(inode: Inode, dentries: DentryImage[], removedDentries: { parent: Ino; name: ByteString }[]): void {
  const directory = inode.directory;
  if (directory === undefined || directory.unsaved.size === 0) return;
  for (const [name, wasStored] of directory.unsaved) {
    const dentry = directory.names.get(name);
    if (dentry !== undefined && dentry !== null) {
      dentries.push({ parent: inode.ino, name, ino: dentry.ino, type: dentry.type, cookie: dentry.cookie });
      dentry.stored = true;
    } else if (wasStored) removedDentries.push({ parent: inode.ino, name });
  }
  directory.unsaved = new Map();
}

function takeContent(
  inode: Inode,
  content: Content,
  plans: SegmentPlan[],
  removedSegments: { ino: Ino; index: number }[],
): void {
  if (content.trimmedFrom !== Number.POSITIVE_INFINITY) {
    if (inode.stored) removedSegments.push({ ino: inode.ino, index: content.trimmedFrom });
    content.trimmedFrom = Number.POSITIVE_INFINITY;
  }
  for (const index of content.unsaved) {
    const slots = (content.segments.get(index) ?? []).slice();
    while (slots.length > 0 && slots[slots.length - 1] === undefined) slots.pop();
    for (const slot of slots) if (slot !== undefined) slot.shared = true;
    const only = index === 0 && slots.length === 1 ? slots[0] : undefined;
    const inline = only?.data !== undefined && only.length <= INLINE_BYTES;
    plans.push({ inode, index, slots, inline });
  }
  content.unsaved.clear();
}

/** The chunks of a batch whose bytes storage may not have yet. */
export function slotsToStore(plans: readonly SegmentPlan[]): Slot[] {
  const slots: Slot[] = [];
  for (const plan of plans) {
    if (plan.inline) continue;
    for (const slot of plan.slots) if (slot?.data !== undefined && slot.length > 0) slots.push(slot);
  }
  return slots;
}

const HOLE: ChunkRef = { hash: '', length: 0 };

/** The row of a plan whose chunks all have hashes. */
export function segmentImage(plan: SegmentPlan): SegmentImage {
  const { inode, index, slots } = plan;
  const only = slots[0];
  if (plan.inline && only?.data !== undefined)
    return { ino: inode.ino, index, chunks: [], inline: only.data.subarray(0, only.length) };
  const chunks = slots.map((slot) => (slot === undefined ? HOLE : { hash: slot.hash, length: slot.length }));
  return { ino: inode.ino, index, chunks, inline: null };
}

/** Called when the batch is committed: its bytes go to the cache, its inodes may be evicted. */
export function settleChanges(workspace: Workspace, taken: Taken): void {
  for (const plan of taken.plans) {
    if (plan.inline) continue;
    for (const slot of plan.slots) {
      if (slot?.data === undefined) continue;
      if (!plan.inode.removed) workspace.chunks.set(slot.hash, slot.data, { size: slot.data.length });
      slot.data = undefined;
    }
  }
  for (const inode of taken.inodes) workspace.settle(inode);
}
