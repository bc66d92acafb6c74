import type { Ino } from '../brand.ts';
import { nodeidHi, viewIn } from '../fuse/context.ts';
import type { Device } from '../fuse/device.ts';
import { NAMED_MESSAGE_BYTES, packInvalEntry, packInvalInode } from '../fuse/notify.ts';
import { directoryOf, Placeholders, type Step, wayTo } from '../fuse/placeholders.ts';
import type { NativeNotice } from '../native/mounts.ts';
import type { NativeStatus } from '../native/rule.ts';
import { findName } from '../vfs/directory.ts';
import { type Miss, Missing } from '../vfs/miss.ts';
import type { Workspace } from '../vfs/workspace.ts';
import type { Health } from './health.ts';

export interface NativePartParts {
  readonly device: Device;
  readonly health: Health;
  readonly load: (miss: Miss) => Promise<void>;
}

/** The daemon's part in native mounts: the names that stand for mount points, and what the supervisor tells of them. */
export class NativePart {
  readonly placeholders = new Placeholders();
  readonly #parts: NativePartParts;
  /** The directories that led to mount points when it was last heard of these. */
  #ways: readonly Step[] = [];
  statuses: readonly NativeStatus[] = [];

  constructor(parts: NativePartParts) {
    this.#parts = parts;
  }

  /** Takes a notice over. What the kernel knows stays as it is: for a daemon that goes on where another one ended. */
  adopt({ placeholders, statuses }: NativeNotice): void {
    this.placeholders.set(placeholders);
    this.statuses = statuses;
    const failed = statuses.filter(({ state }) => state === 'failed').map(({ path, error }) => `${path}: ${error}`);
    this.#parts.health.set('native-mounts', failed.length > 0 ? 'degraded' : 'ok', failed.join('; '));
  }

  /** Takes a notice over; resolves when the kernel asks anew for what it may have known otherwise. */
  async apply(workspace: Workspace, notice: NativeNotice): Promise<void> {
    this.adopt(notice);
    for (const placeholder of notice.refresh) {
      const directory = await this.#loaded(() => directoryOf(workspace, placeholder));
      if (directory !== undefined) await this.#forgetName(workspace, directory, placeholder.path.at(-1) ?? '');
    }
    const { placeholders } = notice;
    this.#ways = await this.#loaded(() => placeholders.flatMap((placeholder) => wayTo(workspace, placeholder)));
  }

  /** Whether a name in the tree means to the kernel what it meant before a switch, and a native mount is there or below. */
  async keeps(workspace: Workspace, parent: Ino, name: string): Promise<boolean> {
    if ((await this.#loaded(() => this.placeholders.find(workspace, parent, name))) !== undefined) return true;
    const way = this.#ways.find((step) => step.parent === parent && step.name === name);
    if (way === undefined) return false;
    return (await this.#loaded(() => findName(workspace.directory(parent), name)))?.ino === way.ino;
  }

  async #loaded<T>(look: () => T): Promise<T> {
    for (;;)
      try {
        return look();
      } catch (problem) {
        if (!(problem instanceof Missing)) throw problem;
        await this.#parts.load(problem.miss);
      }
  }

  /**
   * A name, and the listing that has it or hasn't. On another thread: the kernel waits for whoever is asking something of
   * that directory.
   */
  async #forgetName(workspace: Workspace, directory: Ino, name: string): Promise<void> {
    const message = Buffer.alloc(NAMED_MESSAGE_BYTES);
    const hi = nodeidHi(viewIn(workspace, directory), directory);
    await this.#parts.device.writeAway(message, packInvalEntry(message, directory >>> 0, hi, name));
    await this.#parts.device.writeAway(message, packInvalInode(message, directory >>> 0, hi, 0, 0));
  }
}
