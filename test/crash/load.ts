import { existsSync, mkdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from '../support/postgres.ts';
import { Client, lookAt } from './client.ts';
import type { Observed } from './observe.ts';
import type { Durability } from './operation.ts';
import { type Returned, readOplog } from './oplog.ts';
import type { PlanOptions } from './plan.ts';
import { differenceFrom, type Match, matchPrefix } from './prefix.ts';

export interface StartOptions {
  /** What the sidecar was configured to. */
  readonly durability?: Durability;
  /** The client's pause after each operation. */
  readonly thinkMs?: number;
}

/** A plan that is carried out in a directory of a mount, in one run after the other: each goes on where a crash led. */
export class Load {
  readonly plan: PlanOptions;
  readonly #root: string;
  readonly #folder: string;
  #run = 0;
  /** How many operations are known to be in the tree for good. */
  #kept = 0;
  #client: Client<'load'> | undefined;

  /** `folder`: outside of the mount, for the logs. */
  constructor(root: string, folder: string, plan: PlanOptions) {
    this.#root = root;
    this.#folder = folder;
    this.plan = plan;
    mkdirSync(folder, { recursive: true });
  }

  get #oplog(): string {
    return join(this.#folder, `run-${this.#run}.log`);
  }

  /** Operations that returned in this run, oldest first. */
  get returned(): Returned[] {
    return existsSync(this.#oplog) ? readOplog(this.#oplog) : [];
  }

  /** How many operations have returned, in all runs. */
  get length(): number {
    return this.returned.at(-1)?.length ?? this.#kept;
  }

  /** True when the client has failed or was stopped. */
  get ended(): boolean {
    return this.#client?.ended ?? true;
  }

  async start({ durability = 'relaxed', thinkMs = 0 }: StartOptions = {}): Promise<void> {
    this.#run++;
    if (this.#kept === 0) await mkdir(this.#root, { recursive: true });
    const { plan } = this;
    const options = { root: this.#root, plan, from: this.#kept, oplog: this.#oplog, durability, thinkMs };
    this.#client = new Client('load', options);
    await this.#client.ready();
  }

  /** Resolves when `count` more operations have returned; rejects when one failed. */
  async more(count: number): Promise<void> {
    const goal = this.length + count;
    const client = this.#started;
    await Promise.race([
      eventually(`${count} more operations have returned`, () => this.length >= goal || undefined),
      client.result(),
    ]);
  }

  /** Ends the client between two operations. Rejects when one has failed. */
  async stop(): Promise<void> {
    await this.#started.stop();
  }

  /** Waits until the client has ended by itself, because what it works on is gone. */
  async crashed(): Promise<void> {
    await this.#started.result().catch(() => {});
  }

  /**
   * Checks what a crash has left: the result of a prefix, with everything before the last barrier that returned. The
   * next run goes on from there.
   *
   * @throws {Error} saying what is wrong.
   */
  async checkCrashed(): Promise<Match> {
    const seen = await this.look();
    const match = matchPrefix(this.plan, this.length + 1, seen);
    const least = Math.max(this.#kept, lastBarrier(this.returned)?.length ?? 0);
    if (match.most < least)
      throw new Error(`of ${this.length} operations the first ${match.most} are there, but ${least} were committed`);
    this.#kept = match.most;
    return match;
  }

  /**
   * Checks that every operation that returned is in the tree, and nothing else is. The next run goes on from there.
   *
   * @throws {Error} with what differs.
   */
  async checkWhole(): Promise<void> {
    const { length } = this;
    const difference = differenceFrom(this.plan, length, await this.look());
    if (difference !== undefined) throw new Error(difference);
    this.#kept = length;
  }

  look(): Promise<Observed> {
    return lookAt(this.#root);
  }

  /** Ends the client at once, if it runs. */
  async remove(): Promise<void> {
    await this.#client?.kill();
  }

  get #started(): Client<'load'> {
    if (this.#client === undefined) throw new Error('the load was not started');
    return this.#client;
  }
}

function lastBarrier(returned: readonly Returned[]): Returned | undefined {
  return returned.findLast(({ barrier }) => barrier);
}

/** How many operations of this run had returned by then. */
function returnedBefore(returned: readonly Returned[], timeMs: number): number {
  return returned.findLast((entry) => entry.returnedMs < timeMs)?.length ?? 0;
}

/**
 * Checks two loads that ran side by side against each other: where the last operation of `other` that is there began,
 * everything of `one` had happened that had returned by then; and a barrier of `other` holds for `one`, too.
 *
 * @throws {Error} saying which order is broken.
 */
export function checkOrder(one: Load, oneMatch: Match, other: Load, otherMatch: Match): void {
  const { returned } = one;
  const last = other.returned.findLast(({ length }) => length <= otherMatch.least);
  const before = last === undefined ? 0 : returnedBefore(returned, last.startedMs);
  if (oneMatch.most < before)
    throw new Error(
      `operation ${last?.length} of seed ${other.plan.seed} is there, and of seed ${one.plan.seed} only ${oneMatch.most} are, though ${before} had returned before it began`,
    );
  const barrier = lastBarrier(other.returned);
  const secured = barrier === undefined ? 0 : returnedBefore(returned, barrier.startedMs);
  if (oneMatch.most < secured)
    throw new Error(
      `the barrier ${barrier?.length} of seed ${other.plan.seed} returned, and of seed ${one.plan.seed} only ${oneMatch.most} are there, though ${secured} had returned before it began`,
    );
}
