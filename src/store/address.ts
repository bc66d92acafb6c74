import { readFileSync } from 'node:fs';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';
import { StoreError } from '../vfs/store.ts';

/** A server: `host` is a name, an address, or the directory of a socket (which starts with `/`). */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** What `DATABASE_URL` says. What is undefined the client library decides: user, password, database. */
export interface Target {
  /** In the order in which they are tried; at least one. */
  readonly addresses: readonly Address[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  readonly ssl: false | 'prefer' | 'require' | ConnectionOptions;
  /** Command-line options for the session, as libpq's parameter `options` has them. */
  readonly options: string | undefined;
}

const DEFAULT_PORT = 5432;
const URL_PARTS =
  /^postgres(?:ql)?:\/\/(?:(?<user>[^:@/?#]*)(?::(?<password>[^@/?#]*))?@)?(?<hosts>[^@/?#]*)(?:\/(?<database>[^@/?#]*))?(?:\?(?<query>[^#]*))?$/;
const HOST = /^(?:\[(?<literal>[^\]]+)\]|(?<name>[^:]*))(?::(?<port>\d+))?$/;

/**
 * Reads a URL as libpq does (PostgreSQL manual, Connection URIs). Of its parameters these count: `host`, `port`,
 * `user`, `password`, `dbname`, `options`, `sslmode` and `sslrootcert`; others are libpq's own business and ignored.
 *
 * @throws {StoreError} `refused`; the message has nothing of the URL in it, which may hold a password.
 */
export function targetOfUrl(url: string): Target {
  try {
    return parse(url);
  } catch (problem) {
    if (problem instanceof StoreError) throw problem;
    throw new StoreError('refused', 'DATABASE_URL is not a PostgreSQL URL'); // the cause would show the URL
  }
}

function parse(url: string): Target {
  const groups = URL_PARTS.exec(url)?.groups;
  if (groups === undefined) throw new Error('no match');
  const parameters = new Map((groups['query'] ?? '').split('&').map(parameter));
  const user = present(groups['user']) ?? parameters.get('user');
  const password = present(groups['password']) ?? parameters.get('password');
  const database = present(groups['database']) ?? parameters.get('dbname');
  const hosts = parameters.get('host') ?? groups['hosts'] ?? '';
  const addresses = hosts.split(',').map((host) => addressOf(host, parameters.get('port')));
  const ssl = addresses.every(isLocal) ? false : sslOf(parameters, addresses);
  return { addresses, user, password, database, ssl, options: parameters.get('options') };
}

function parameter(text: string): [string, string] {
  const at = text.indexOf('=');
  const [name, value] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
  return [decodeURIComponent(name), decodeURIComponent(value)];
}

function present(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : decodeURIComponent(text);
}

function addressOf(text: string, otherPort: string | undefined): Address {
  const port = Number(otherPort ?? DEFAULT_PORT);
  if (text.startsWith('/')) return { host: text, port };
  const groups = HOST.exec(text)?.groups;
  if (groups === undefined) throw new Error('not a host');
  const host = groups['literal'] ?? (decodeURIComponent(groups['name'] ?? '') || 'localhost');
  return { host, port: groups['port'] === undefined ? port : Number(groups['port']) };
}

export function isLocal({ host }: Address): boolean {
  return host.startsWith('/');
}

/** libpq's `sslmode` and `sslrootcert` (PostgreSQL manual, Database Connection Control Functions). */
function sslOf(parameters: ReadonlyMap<string, string>, addresses: readonly Address[]): Target['ssl'] {
  const mode = parameters.get('sslmode') ?? 'prefer';
  const file = parameters.get('sslrootcert');
  const ca = file === undefined || file === 'system' ? {} : { ca: readCertificates(file) };
  switch (mode) {
    case 'disable':
      return false;
    case 'allow':
    case 'prefer':
      return 'prefer';
    case 'require':
      return 'ca' in ca ? { ...ca, checkServerIdentity: () => undefined } : 'require';
    case 'verify-ca':
      return { ...ca, checkServerIdentity: () => undefined };
    case 'verify-full':
      return { ...ca, checkServerIdentity: isOneOf(addresses) };
    default:
      throw new StoreError('refused', `DATABASE_URL: sslmode '${mode}' is not known`);
  }
}

/** The client library names the host only where it's no number; left to itself, Node would then look for `localhost`. */
function isOneOf(addresses: readonly Address[]): typeof checkServerIdentity {
  return (_, certificate) => {
    const problems = addresses.map(({ host }) => checkServerIdentity(host, certificate));
    return problems.includes(undefined) ? undefined : problems[0];
  };
}

function readCertificates(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (problem) {
    throw new StoreError('refused', `DATABASE_URL: the file of sslrootcert, ${file}, cannot be read`, {
      cause: problem,
    });
  }
}
