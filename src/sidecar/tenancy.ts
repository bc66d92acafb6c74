import type { Config } from '../config/config.ts';
import { FsError } from '../errno.ts';
import type { Logger } from '../log.ts';
import type { Lease } from '../store/lease.ts';
import { openStore, type Store, type TenantStore } from '../store/store.ts';
import { type Commits, StoreError } from '../vfs/store.ts';
import { whenAvailable } from './available.ts';
import type { Health } from './health.ts';
import type { StartMessage } from './messages.ts';
import { isGone } from './owner.ts';

/** How long a start waits for a database that isn't up yet, and how often it says so. */
const DATABASE_WAIT_MS = 60_000;
const RETRY_MS = 500;
const SAY_EVERY_MS = 5000;
/** Renewals per life of the lease, so that two may fail in a row. */
const RENEWALS = 3;

/** The tenant's lease and what it opens: taken at the start, renewed while we live, given back at the end. */
export class Tenancy {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #start: StartMessage;
  readonly #health: Health;
  readonly #onLost: (reason: string) => void;
  #opened: Store | undefined;
  #lease: Lease | undefined;
  #tenant: TenantStore | undefined;
  #timer: NodeJS.Timeout | undefined;
  #renewal: Promise<void> | undefined;
  /** Why the lease is gone for good, once it is. */
  #lostTo: string | undefined;
  /** When the lease was last taken or asked about, by the monotonic clock. */
  #askedAt = 0;

  constructor(config: Config, log: Logger, start: StartMessage, health: Health, onLost: (reason: string) => void) {
    this.#config = config;
    this.#log = log;
    this.#start = start;
    this.#health = health;
    this.#onLost = onLost;
  }

  /** The tenant's storage. */
  get store(): TenantStore {
    if (this.#tenant === undefined) throw new Error('the tenant is not taken yet');
    return this.#tenant;
  }

  /** The tenant's writes. Chunks, which no epoch fences, are stored only under a lease that can't be another's. */
  get commits(): Commits {
    const { commits } = this.store;
    return {
      putChunks: async (chunks) => {
        if (this.suspended()) await this.confirm();
        if (this.#lostTo !== undefined) throw new StoreError('lease-lost', this.#lostTo);
        return await commits.putChunks(chunks);
      },
      commit: (batch) => commits.commit(batch),
    };
  }

  /** The database's version, as PostgreSQL names it. */
  serverVersion(): Promise<string> {
    if (this.#opened === undefined) throw new Error('the database is not open yet');
    return this.#opened.serverVersion();
  }

  /**
   * Connects, waiting for a database that isn't up yet, and takes the lease, waiting for one that runs out.
   *
   * @throws {StoreError} with one line for a person: the database doesn't let us in, or another sidecar has the tenant.
   */
  async take(): Promise<Lease> {
    const opened = await this.#whenAvailable(() =>
      openStore(this.#start.database, this.#config.database.poolSize),
    ).catch(withRemedy);
    this.#opened = opened;
    const lease = await this.#takeLease(opened);
    this.#lease = lease;
    this.#tenant = opened.tenant(lease);
    this.#askedAt = performance.now();
    this.#timer = setInterval(() => void this.confirm(), this.#config.leaseTtlMs / RENEWALS);
    return lease;
  }

  /** A daemon that goes on for another one waits without end: what isn't committed exists nowhere else. */
  async #whenAvailable<T>(work: () => Promise<T>): Promise<T> {
    const waitMs = this.#start.resume === undefined ? DATABASE_WAIT_MS : Number.POSITIVE_INFINITY;
    const deadline = performance.now() + waitMs;
    let saidAt = Number.NEGATIVE_INFINITY;
    return await whenAvailable(work, (problem) => {
      if (performance.now() > deadline) throw problem;
      if (performance.now() - saidAt < SAY_EVERY_MS) return;
      saidAt = performance.now();
      this.#log.warn('waiting-for-database', { reason: problem.message });
    });
  }

  async #takeLease(store: Store): Promise<Lease> {
    const { tenant, createTenant, leaseTtlMs } = this.#config;
    const root = { mode: this.#config.rootMode, ...this.#config.owner };
    const request = { tenant, create: createTenant, root, owner: this.#start.owner, ttlMs: leaseTtlMs };
    let replaces: string | undefined;
    let seenExpiry: number | undefined;
    for (;;) {
      const result = await this.#whenAvailable(() => store.takeLease({ ...request, replaces }));
      if (result.taken) return result.lease;
      const { owner, expires } = result;
      if (isGone(owner)) {
        replaces = owner;
        continue;
      }
      // A lease that is renewed while we watch has a living owner; one that isn't will run out.
      if (seenExpiry !== undefined && expires.getTime() > seenExpiry)
        throw new StoreError(
          'refused',
          `tenant '${tenant}' is in use by ${owner}: stop that sidecar, or set TARBOX_TENANT to another tenant`,
        );
      if (seenExpiry === undefined)
        this.#log.warn('waiting-for-lease', { tenant, owner, expires: expires.toISOString() });
      seenExpiry = expires.getTime();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /**
   * Whether this process has been held up for so long that the lease may be another's by now: nothing may be accepted
   * before `confirm`. While the database is away the answer is no, since then nobody can have taken it either.
   */
  suspended(): boolean {
    return performance.now() - this.#askedAt > this.#config.leaseTtlMs;
  }

  /** Renews the lease. Resolves when that is known to be ours, known to be lost, or can't be known at present. */
  confirm(): Promise<void> {
    this.#renewal ??= this.#renew().finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #renew(): Promise<void> {
    const { leaseTtlMs } = this.#config;
    if (this.#opened === undefined || this.#lease === undefined) return;
    try {
      if (await this.#opened.renewLease(this.#lease, leaseTtlMs)) this.#health.set('lease', 'ok', '');
      else await this.#lost(this.#opened, this.#lease);
    } catch (problem) {
      if (this.#timer === undefined) return;
      const reason = problem instanceof Error ? problem.message : String(problem);
      this.#health.set('lease', 'degraded', `the lease cannot be renewed: ${reason}`);
    }
    this.#askedAt = performance.now();
  }

  async #lost(store: Store, lease: Lease): Promise<void> {
    clearInterval(this.#timer);
    const holder = await store.leaseHolder(lease).catch(() => 'another sidecar');
    const reason = `tenant '${this.#config.tenant}' was taken over by ${holder}; this sidecar can write nothing any more`;
    this.#lostTo = reason;
    this.#log.error('lease-lost', { tenant: this.#config.tenant, holder });
    this.#health.set('lease', 'readonly', reason);
    this.#onLost(reason);
  }

  /** Gives the lease back and closes the connections. @throws {FsError} EIO when the database didn't take it. */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    try {
      if (this.#opened !== undefined && this.#lease !== undefined) await this.#opened.releaseLease(this.#lease);
    } catch (problem) {
      throw new FsError('EIO', 'the lease could not be given back; it runs out by itself', { cause: problem });
    } finally {
      await this.#opened?.close();
    }
  }
}

/** What PostgreSQL itself refuses is for those to solve who wrote its URL. */
function withRemedy(problem: unknown): never {
  const isTheirs = problem instanceof StoreError && problem.failure === 'refused' && problem.cause !== undefined;
  if (!isTheirs) throw problem;
  const message = `PostgreSQL refuses: ${problem.message}; check DATABASE_URL, and what its role may do`;
  throw new StoreError('refused', message, { cause: problem });
}
