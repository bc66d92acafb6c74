import { readFileSync } from 'node:fs';
import { FsError } from '../errno.ts';
import { parseMountinfo } from '../fuse/device.ts';
import type { Placeholder } from '../fuse/placeholders.ts';
import { placeholderIno } from '../fuse/reply.ts';
import type { Logger } from '../log.ts';
import { mountIdOf, Stage, unbind } from './bind.ts';
import { isWithin, type NativeScope, type PlannedMount, planMounts } from './plan.ts';
import type { NativeRule, NativeState, NativeStatus } from './rule.ts';
import { openBelow, openRoot, type Place } from './walk.ts';

/** What the daemon has to know: before anything is mounted, and for `mounts/list`. */
export interface NativeNotice {
  /** The names that stand for mount points, all of them. */
  readonly placeholders: readonly Placeholder[];
  /** Those of which the kernel may know something older: it's to forget the names. */
  readonly refresh: readonly Placeholder[];
  readonly statuses: readonly NativeStatus[];
}

export interface NativeMountsParts {
  /** Where the workspace is mounted. */
  readonly mount: string;
  /** To whom sources belong that are made. */
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly log: Logger;
  /** Resolves when the notice has taken effect, a daemon's restart in between included. */
  readonly notify: (notice: NativeNotice) => Promise<void>;
}

interface Mounted {
  readonly plan: PlannedMount;
  readonly mountId: number;
  readonly isDirectory: boolean;
}

/** How often it's looked after what waits, fails, leaves, or has been taken away by a switch. */
const TICK_MS = 1000;

/**
 * Keeps the native mounts as the rules say. Every step is on other threads and may take as long as a daemon is away.
 * What is mounted needs no daemon and no supervisor; it ends with the workspace's own mount at the latest.
 */
export class NativeMounts {
  readonly #parts: NativeMountsParts;
  #rules: readonly NativeRule[] = [];
  #scope: NativeScope | undefined;
  /** By path. */
  readonly #mounted = new Map<string, Mounted>();
  readonly #ids = new Map<string, number>();
  #placeholders: readonly Placeholder[] = [];
  #states = new Map<PlannedMount | Mounted, { readonly state: NativeState; readonly error?: string }>();
  /** Placeholders of which the kernel turned out to know something older. */
  readonly #stale = new Set<number>();
  #told = '';
  #warned: ReadonlyMap<string, string> = new Map();
  #settled = true;
  #stage: Stage | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** One round after the other. */
  #last: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(parts: NativeMountsParts) {
    this.#parts = parts;
  }

  /** Carries out other rules; resolves when each of them is mounted, or has a state that says why not. */
  configure(rules: readonly NativeRule[], scope: NativeScope): Promise<void> {
    this.#rules = rules;
    this.#scope = scope;
    this.#settled = false;
    if (this.#timer === undefined && rules.length > 0) this.#tick();
    return this.#turn();
  }

  #tick(): void {
    this.#timer = setTimeout(() => {
      void this.#turn().finally(() => {
        if (!this.#stopped) this.#tick();
      });
    }, TICK_MS);
  }

  #turn(): Promise<void> {
    this.#last = this.#last
      .then(() => this.#reconcile())
      .catch((problem: unknown) => this.#parts.log.error('native-mounts-failed', { problem }));
    return this.#last;
  }

  async #reconcile(): Promise<void> {
    const scope = this.#scope;
    if (scope === undefined || this.#stopped) return;
    const present = presentMounts();
    for (const [path, { mountId }] of this.#mounted) {
      if (present.has(mountId)) continue;
      this.#mounted.delete(path); // a switch took the directory away that it was in
      this.#settled = false;
    }
    if (this.#settled) return;
    const planned = planMounts(this.#rules, scope);
    this.#states = new Map();
    const root = await openRoot(this.#parts.mount);
    const sources = new Map<PlannedMount, Place>();
    try {
      await this.#leave(root, planned);
      await this.#openSources(planned, sources);
      await this.#tell(planned, sources);
      for (const [plan, source] of sources) await this.#mount(root, plan, source);
      await this.#tell(planned, sources);
    } finally {
      for (const place of [root, ...sources.values()]) await place.close();
    }
    this.#settled = [...this.#states.values()].every(({ state }) => state === 'mounted' || state === 'overridden');
  }

  /** Takes away what is mounted and not wanted any more, innermost first, and what is inside of that with it. */
  async #leave(root: Place, planned: readonly PlannedMount[]): Promise<void> {
    const wanted = new Map(planned.flatMap((plan) => (plan.refused === undefined ? [[plan.path, plan]] : [])));
    const going = this.#innermostFirst().filter(({ plan }) => !isSame(wanted.get(plan.path), plan));
    for (const mounted of this.#innermostFirst()) {
      const { plan } = mounted;
      if (!going.some((outer) => isWithin(outer.plan.names, plan.names))) {
        this.#states.set(mounted, { state: 'mounted' });
        continue;
      }
      const error = await this.#unmount(root, mounted, false);
      if (error !== undefined) this.#states.set(mounted, { state: 'leaving', error });
    }
  }

  #innermostFirst(): Mounted[] {
    return [...this.#mounted.values()].sort((a, b) => b.plan.names.length - a.plan.names.length);
  }

  /** Returns why it couldn't be, if so. */
  async #unmount(root: Place, { plan, mountId }: Mounted, lazy: boolean): Promise<string | undefined> {
    try {
      const parent = await openBelow(root, plan.names.slice(0, -1));
      try {
        await unbind(parent, plan.names.at(-1) ?? '', lazy);
      } finally {
        await parent.close();
      }
    } catch (problem) {
      if (presentMounts().has(mountId)) return problem instanceof Error ? problem.message : String(problem);
    }
    this.#mounted.delete(plan.path);
    this.#parts.log.info('native-unmounted', { path: plan.path, source: plan.source });
    return undefined;
  }

  async #openSources(planned: readonly PlannedMount[], sources: Map<PlannedMount, Place>): Promise<void> {
    for (const plan of planned) {
      if (plan.refused !== undefined) this.#states.set(plan, plan.refused);
      else if (!this.#mounted.has(plan.path)) {
        try {
          sources.set(plan, await openSource(plan, this.#parts.owner));
        } catch (problem) {
          this.#fail(plan, `the source ${plan.source} cannot be used: ${messageOf(problem)}`);
        }
      }
    }
  }

  #fail(plan: PlannedMount, error: string, state: NativeState = 'failed'): void {
    this.#states.set(plan, { state, error });
  }

  /** Tells the daemon where mount points have to be, and how each rule fares. */
  async #tell(planned: readonly PlannedMount[], sources: ReadonlyMap<PlannedMount, Place>): Promise<void> {
    const points = new Map<string, { names: readonly string[]; directory: boolean }>();
    for (const { plan, isDirectory } of this.#mounted.values())
      points.set(plan.path, { names: plan.names, directory: isDirectory });
    for (const [plan, source] of sources)
      points.set(plan.path, { names: plan.names, directory: (await source.stat()).isDirectory() });
    const all = [...points.values()];
    const placeholders = all
      // One that is inside of another is a directory of that one's source.
      .filter(({ names }) => !all.some((outer) => outer.names.length < names.length && isWithin(outer.names, names)))
      .map(({ names, directory }) => ({ id: this.#idOf(names), path: names.map(bytesOf), directory }));
    const before = new Map(this.#placeholders.map((placeholder) => [placeholder.id, placeholder]));
    const after = new Map(placeholders.map((placeholder) => [placeholder.id, placeholder]));
    const refresh = [
      ...placeholders.filter(({ id, directory }) => before.get(id)?.directory !== directory || this.#stale.has(id)),
      ...this.#placeholders.filter(({ id }) => !after.has(id)),
    ];
    const statuses = this.#statuses(planned);
    const told = JSON.stringify([placeholders, statuses]);
    if (refresh.length === 0 && told === this.#told) return;
    this.#warn(statuses);
    await this.#parts.notify({ placeholders, refresh, statuses });
    this.#stale.clear();
    this.#placeholders = placeholders;
    this.#told = told;
  }

  /** Once for each thing that is wrong. */
  #warn(statuses: readonly NativeStatus[]): void {
    const wrong = statuses.filter(({ state }) => state === 'failed');
    for (const { path, source, error = '' } of wrong)
      if (this.#warned.get(path) !== error)
        this.#parts.log.warn('native-mount-failed', { path, source, reason: error });
    this.#warned = new Map(wrong.map(({ path, error = '' }) => [path, error]));
  }

  /** The same for a path as long as this process lives. */
  #idOf(names: readonly string[]): number {
    const path = names.join('/');
    const id = this.#ids.get(path) ?? this.#ids.size + 1;
    this.#ids.set(path, id);
    return id;
  }

  #statuses(planned: readonly PlannedMount[]): NativeStatus[] {
    const leaving = this.#innermostFirst().filter((mounted) => this.#states.get(mounted)?.state === 'leaving');
    const ofPlans = planned.flatMap((plan) => {
      const mounted = this.#mounted.get(plan.path);
      const isMounted = mounted !== undefined && this.#states.get(mounted)?.state !== 'leaving' && !plan.refused;
      const found = this.#states.get(plan);
      if (found === undefined && !isMounted) return [];
      return [statusOf(plan, isMounted ? { state: 'mounted' } : (found ?? { state: 'waiting' }))];
    });
    return [
      ...ofPlans,
      ...leaving.map((mounted) => statusOf(mounted.plan, this.#states.get(mounted) ?? { state: 'leaving' })),
    ];
  }

  async #mount(root: Place, plan: PlannedMount, source: Place): Promise<void> {
    const outer = this.#outerOf(plan);
    const name = plan.names.at(-1) ?? '';
    try {
      const isDirectory = (await source.stat()).isDirectory();
      const kind = isDirectory ? 'directory' : 'file';
      const make = outer === undefined || outer.plan.readOnly ? undefined : ({ ...this.#parts.owner, kind } as const);
      const parent = await openBelow(root, plan.names.slice(0, -1), make && { ...make, kind: 'directory' });
      try {
        const target = await openBelow(parent, [name], make);
        try {
          await this.#requireTarget(plan, target, outer);
          this.#stage ??= new Stage();
          const mountId = await this.#stage.bind(source, parent, name, target, plan.readOnly);
          const mounted = { plan, mountId, isDirectory };
          this.#mounted.set(plan.path, mounted);
          this.#states.set(mounted, { state: 'mounted' });
          this.#states.delete(plan);
          this.#parts.log.info('native-mounted', {
            path: plan.path,
            source: plan.source,
            mode: plan.readOnly ? 'ro' : 'rw',
          });
        } finally {
          await target.close();
        }
      } finally {
        await parent.close();
      }
    } catch (problem) {
      const isAbsent = problem instanceof FsError && ['ENOENT', 'ENOTDIR', 'ELOOP', 'EAGAIN'].includes(problem.code);
      this.#fail(plan, messageOf(problem), isAbsent && outer === undefined ? 'waiting' : 'failed');
    }
  }

  /** The innermost mount that a planned one is inside of. */
  #outerOf({ names }: PlannedMount): Mounted | undefined {
    return this.#innermostFirst().find(({ plan }) => plan.names.length < names.length && isWithin(plan.names, names));
  }

  /** @throws {FsError} unless it's the placeholder itself, or in the mount that is around it */
  async #requireTarget(plan: PlannedMount, target: Place, outer: Mounted | undefined): Promise<void> {
    if (outer !== undefined) {
      if ((await mountIdOf(target)) === outer.mountId) return;
      throw new FsError('EBUSY', `something else is mounted at ${plan.path}`);
    }
    const id = this.#idOf(plan.names);
    if ((await target.stat()).ino === placeholderIno(id)) return;
    this.#stale.add(id);
    throw new FsError('EAGAIN', 'the kernel still knows what was there before');
  }

  /** Takes them all away, lazily what is in use. Nothing is mounted after this. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#last;
    if (this.#mounted.size > 0) {
      const root = await openRoot(this.#parts.mount);
      try {
        for (const mounted of this.#innermostFirst()) await this.#unmount(root, mounted, true);
      } finally {
        await root.close();
      }
    }
    this.#stage?.close();
  }
}

/** Numbers of all that is mounted where this process sees it. */
function presentMounts(): ReadonlySet<number> {
  return new Set(parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')).map(({ mountId }) => mountId));
}

async function openSource(plan: PlannedMount, owner: { readonly uid: number; readonly gid: number }): Promise<Place> {
  const allowed = await openRoot(plan.allowed);
  try {
    return await openBelow(allowed, plan.sourceNames, plan.rule.shared ? undefined : { ...owner, kind: 'directory' });
  } finally {
    await allowed.close();
  }
}

function isSame(wanted: PlannedMount | undefined, { path, source, readOnly }: PlannedMount): boolean {
  return wanted?.path === path && wanted.source === source && wanted.readOnly === readOnly;
}

function statusOf(
  { rule, path, source, readOnly }: PlannedMount,
  found: { readonly state: NativeState; readonly error?: string },
): NativeStatus {
  const { shared, priority } = rule;
  return { path, source, mode: readOnly ? 'ro' : 'rw', shared, priority, ...found };
}

function messageOf(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}

/** A name as the kernel has it, one character a byte. */
function bytesOf(name: string): string {
  return Buffer.from(name).toString('latin1');
}
