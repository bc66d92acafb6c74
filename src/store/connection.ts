import postgres from 'postgres';
import { StoreError, type StoreFailure } from '../vfs/store.ts';

/** Where the database is. */
export type DatabaseOptions = { readonly connectTimeoutMs: number } & (
  | { readonly url: string }
  | { readonly socketDirectory: string; readonly user: string; readonly database: string }
);

/** What this client of PostgreSQL calls a client. */
export type Client = postgres.Sql;

/** No statement may take longer; one that does has lost its connection without noticing. */
const STATEMENT_DEADLINE_MS = 60_000;

/**
 * One connection, used by one caller at a time, in the order in which they came. After any error the client is given
 * up and the next caller gets a new one: this client library may otherwise answer with an old error, hang, or run
 * on in another session.
 */
export class Connection {
  readonly #options: DatabaseOptions;
  readonly #name: string;
  readonly #settings: Readonly<Record<string, string>>;
  #client: Client | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** `settings` are configuration parameters of the session. */
  constructor(options: DatabaseOptions, name: string, settings: Readonly<Record<string, string>> = {}) {
    this.#options = options;
    this.#name = name;
    this.#settings = settings;
  }

  /**
   * Runs `work` alone on the connection.
   *
   * @throws {StoreError} classified; the work may have been done or not when it's `unavailable`.
   */
  run<T>(work: (client: Client) => Promise<T>, deadlineMs = STATEMENT_DEADLINE_MS): Promise<T> {
    const turn = this.#last.then(() => this.#run(work, deadlineMs));
    this.#last = turn.catch(() => {}); // whoever asked sees it; the next one only waits
    return turn;
  }

  async #run<T>(work: (client: Client) => Promise<T>, deadlineMs: number): Promise<T> {
    if (this.#closed) throw new StoreError('unavailable', 'the connection is closed');
    this.#client ??= connect(this.#options, this.#name, this.#settings);
    const client = this.#client;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new StoreError('unavailable', `PostgreSQL did not answer within ${deadlineMs / 1000} s`)),
        deadlineMs,
      );
    });
    const result = work(client);
    result.catch(() => {}); // it may fail after the deadline has been reported
    try {
      return await Promise.race([result, deadline]);
    } catch (problem) {
      this.#client = undefined;
      client.end({ timeout: 0 }).catch(() => {}); // it's broken; ending it only frees what it holds
      throw classify(problem);
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    await this.#last;
    this.#closed = true;
    await this.#client?.end({ timeout: 5 });
    this.#client = undefined;
  }
}

function connect(options: DatabaseOptions, name: string, settings: Readonly<Record<string, string>>): Client {
  const common = {
    max: 1,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: Math.ceil(options.connectTimeoutMs / 1000),
    backoff: () => 0,
    onnotice: () => {},
    connection: { application_name: `tarbox ${name}`, ...settings },
  };
  if ('url' in options) return postgres(options.url, { ...common, ...socketOf(options.url) });
  const { socketDirectory, user, database } = options;
  return postgres({ ...common, host: socketDirectory, username: user, database });
}

/** `postgres://user@/db?host=/directory` names a socket, as libpq has it. */
function socketOf(url: string): { host?: string } {
  const host = new URL(url.replace(/^postgres(ql)?:\/\/([^/]*@)?\//, 'postgres://$2localhost/')).searchParams.get(
    'host',
  );
  return host?.startsWith('/') ? { host } : {};
}

/** SQLSTATE classes and codes after which the same may be tried again (PostgreSQL manual, appendix A). */
const UNAVAILABLE =
  /^(08|57P0|53300|40|55P03|25006|CONNECT|ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOST|ENET|EAI_AGAIN|ENOTFOUND)/;
const FULL = /^(53100|53200|53400|58030)/;

/** Turns whatever a client throws into a StoreError. */
export function classify(problem: unknown): StoreError {
  if (problem instanceof StoreError) return problem;
  const code = codeOf(problem);
  const message = problem instanceof Error ? problem.message : String(problem);
  let failure: StoreFailure = 'refused';
  if (UNAVAILABLE.test(code) || /CONNECTION_/.test(code)) failure = 'unavailable';
  else if (FULL.test(code)) failure = 'full';
  return new StoreError(failure, code === '' ? message : `${message} (${code})`, { cause: problem });
}

function codeOf(problem: unknown): string {
  if (typeof problem !== 'object' || problem === null || !('code' in problem)) return '';
  return String(problem.code);
}
