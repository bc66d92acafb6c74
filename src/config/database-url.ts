import type { Kind } from './kinds.ts';
import { isSecretName, MASK, percentDecode } from './redact.ts';

const URL_PARTS =
  /^(?<scheme>postgres(?:ql)?):\/\/(?:(?<user>[^:@/?#]*)(?::(?<password>[^@/?#]*))?@)?(?<hosts>[^@/?#]*)(?:\/(?<database>[^@/?#]*))?(?:\?(?<query>[^@#]*))?$/;
const HOST = /^(?:\[[0-9a-f:.]+\]|(?:[A-Za-z0-9._~-]|%[0-9a-f]{2})+)(?::(?<port>\d{1,5}))?$/i;

interface Parts {
  readonly scheme: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly hosts: string;
  readonly database: string | undefined;
  /** Undecoded. */
  readonly parameters: readonly { readonly name: string; readonly value: string }[];
}

/** Undefined for what is not allowed. Stricter than WHATWG's URL, which finds a host in many a badly encoded password. */
function parse(text: string): Parts | undefined {
  const groups = /[\s\p{Cc}]/u.test(text) ? undefined : URL_PARTS.exec(text)?.groups;
  if (groups === undefined) return undefined;
  const { scheme = '', user, password, hosts = '', database, query = '' } = groups;
  const parameters = query === '' ? [] : query.split('&').map(parameter);
  const decodable = [user, password, database, ...parameters.flatMap(({ name, value }) => [name, value])];
  if (decodable.some((part) => part !== undefined && percentDecode(part) === undefined)) return undefined;
  const hostIsNamed = hosts !== '' || parameters.some(({ name, value }) => name === 'host' && value !== '');
  if (!hostIsNamed || (hosts !== '' && !hosts.split(',').every(isHost))) return undefined;
  return { scheme, user, password, hosts, database, parameters };
}

function parameter(text: string): { name: string; value: string } {
  const at = text.indexOf('=');
  return at < 0 ? { name: text, value: '' } : { name: text.slice(0, at), value: text.slice(at + 1) };
}

function isHost(text: string): boolean {
  const found = HOST.exec(text);
  if (found === null) return false;
  const port = found.groups?.['port'];
  return port === undefined || (Number(port) > 0 && Number(port) < 65_536);
}

const isSecretParameter = (name: string): boolean => isSecretName(percentDecode(name) ?? name);

/** Where PostgreSQL is, as libpq writes it (PostgreSQL manual, "Connection URIs"). Its text form has no secrets. */
export const databaseUrl: Kind<string> = {
  allowed:
    'postgres://user:password@host:port/database, or postgres://user@/database?host=/socket/directory; ' +
    'in user and password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %, %20 for a space',
  toml: ['string'],
  parse: (text) => (parse(text) === undefined ? undefined : text),
  format: withoutSecrets,
};

function withoutSecrets(url: string): string {
  const parts = parse(url);
  if (parts === undefined) return MASK;
  const { scheme, user, password, hosts, database, parameters } = parts;
  const who = user === undefined ? '' : `${user}${password === undefined ? '' : `:${MASK}`}@`;
  const query = parameters.map(({ name, value }) => `${name}=${isSecretParameter(name) ? MASK : value}`).join('&');
  return `${scheme}://${who}${hosts}${database === undefined ? '' : `/${database}`}${query === '' ? '' : `?${query}`}`;
}

/** What must never be printed of a valid URL: the password and each secret parameter, decoded. */
export function secretsOfUrl(url: string): string[] {
  const parts = parse(url);
  if (parts === undefined) return [url];
  const values = parts.parameters.filter(({ name }) => isSecretParameter(name)).map(({ value }) => value);
  return [parts.password, ...values].flatMap((value) => (value ? [value, percentDecode(value) ?? value] : []));
}
