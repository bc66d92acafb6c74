import postgres from 'postgres';
import { StoreError } from '../vfs/store.ts';
import { within } from '../within.ts';
import { type Target, targetOfUrl } from './address.ts';
import { classify, isUniqueViolation } from './classify.ts';
import { openSocket } from './socket.ts';
import type { Wire } from './wire.ts';

/** Where the database is. */
export type DatabaseOptions = {
  readonly connectTimeoutMs: number;
  /** No statement may take longer: one that does has lost its connection without noticing. Default 60 s. */
  readonly statementTimeoutMs?: number;
} & ({ readonly url: string } | { readonly socketDirectory: string; readonly user: string; readonly database: string });

/** What this client of PostgreSQL calls a client. */
export type Client = postgres.Sql;

/** A client, and the way to be rid of it: nothing that it still does is heard of, and its socket is gone at once. */
interface Link {
  readonly client: Client;
  readonly abandon: () => void;
}

/** Of each client that has an unencrypted connection: the present one's. */
const wires = new WeakMap<Client, Wire>();

/** The way past the client library, where there is one: undefined for an encrypted connection, and before it's made. */
export function wireOf(client: Client): Wire | undefined {
  return wires.get(client);
}

const STATEMENT_TIMEOUT_MS = 60_000;
/** How long closing waits for a statement that runs, and for the server to say goodbye. */
const CLOSE_GRACE_MS = 2000;

/**
 * One connection, used by one caller at a time, in the order in which they came. After any error the client is given
 * up and the next caller gets a new one: this client library may otherwise answer with an old error, hang, or run
 * on in another session.
 */
export class Connection {
  readonly #options: DatabaseOptions;
  readonly #name: string;
  readonly #settings: Readonly<Record<string, string>>;
  #link: Link | undefined;
  /** Links made so far: each starts with the next address of several. */
  #links = 0;
  #losses = 0;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** `settings` are configuration parameters of the session. */
  constructor(options: DatabaseOptions, name: string, settings: Readonly<Record<string, string>> = {}) {
    this.#options = options;
    this.#name = name;
    this.#settings = settings;
  }

  /** How often it was broken or given up. When the server crashes, every connection is. */
  get losses(): number {
    return this.#losses;
  }

  /**
   * Runs `work` alone on the connection.
   *
   * @throws {StoreError} classified; the work may have been done or not when it's `unavailable`, and may even be done
   *   later, by a server that has yet to read it.
   */
  run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => this.#run(work));
    this.#last = turn.catch(() => {}); // whoever asked sees it; the next one only waits
    return turn;
  }

  async #run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    if (this.#closed) throw new StoreError('unavailable', 'the connection is closed');
    const timeoutMs = this.#options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new StoreError('unavailable', `PostgreSQL did not answer within ${timeoutMs / 1000} s`)),
        timeoutMs,
      );
    });
    let link: Link | undefined;
    try {
      link = this.#link ??= this.#connect();
      return await Promise.race([work(link.client), deadline]);
    } catch (problem) {
      const failure = classify(problem);
      // A server that finds a key taken is there: nothing that it was told before is in doubt.
      if (isUniqueViolation(failure) && this.#link === link) this.#link = undefined;
      this.#lose(link);
      link?.abandon();
      throw failure;
    } finally {
      clearTimeout(timer);
    }
  }

  #connect(): Link {
    const target = targetOf(this.#options);
    const first = this.#links++ % target.addresses.length;
    const addresses = [...target.addresses.slice(first), ...target.addresses.slice(0, first)];
    const abort = new AbortController();
    const settings = {
      ...credentialsOf(target),
      // For the library's messages only: its socket comes from us.
      host: addresses[0]?.host ?? '',
      port: addresses[0]?.port ?? 0,
      socket: async () => {
        const socket = await openSocket(addresses, this.#options.connectTimeoutMs, target.ssl !== false, abort.signal);
        if (socket.wire !== undefined) wires.set(client, socket.wire);
        return socket;
      },
      ssl: target.ssl,
      // Of several servers one takes writes, and others may lag behind what it told.
      ...(addresses.length > 1 ? { target_session_attrs: 'primary' as const } : {}),
      max: 1,
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: Math.ceil(this.#options.connectTimeoutMs / 1000),
      backoff: () => 0,
      onnotice: () => {},
      onclose: () => this.#lose(link),
      connection: { application_name: `tarbox ${this.#name}`, ...optionsOf(target), ...this.#settings },
    };
    const client = postgres(settings);
    const link: Link = {
      client,
      abandon: () => {
        abort.abort();
        client.end({ timeout: 0 }).catch(() => {}); // rejects what waits; its socket is gone
      },
    };
    return link;
  }

  #lose(link: Link | undefined): void {
    if (link === undefined || this.#link !== link) return;
    this.#link = undefined;
    this.#losses++;
  }

  /** What waits is refused; what runs has a moment to end. Never rejects. */
  async close(): Promise<void> {
    this.#closed = true;
    await within(CLOSE_GRACE_MS, this.#last);
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined) return;
    await within(CLOSE_GRACE_MS, link.client.end());
    link.abandon();
  }
}

function targetOf(options: DatabaseOptions): Target {
  if ('url' in options) return targetOfUrl(options.url);
  const { socketDirectory, user, database } = options;
  const addresses = [{ host: socketDirectory, port: 5432 }];
  return { addresses, user, password: undefined, database, ssl: false, options: undefined };
}

function credentialsOf({ user, password, database }: Target): { user?: string; password?: string; database?: string } {
  return {
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password }),
    ...(database === undefined ? {} : { database }),
  };
}

function optionsOf({ options }: Target): { options?: string } {
  return options === undefined ? {} : { options };
}
