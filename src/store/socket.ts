import { connect, type Socket } from 'node:net';
import { StoreError } from '../vfs/store.ts';
import { type Address, isLocal } from './address.ts';
import { classify } from './classify.ts';
import { Wire } from './wire.ts';

/** A connected socket; the client library reads whom it belongs to from it, for TLS and for its messages. */
export type OpenSocket = Socket & Address & { readonly wire: Wire | undefined };

/**
 * Connects to the first of these addresses that answers, each given `timeoutMs`. The client library's own way through
 * a list of hosts never ends when all of them are down, and keeps going after its client was given up.
 *
 * @param encrypted whether TLS will be spoken on it: then it has no `wire`.
 * @param signal destroys the socket, also a connected one.
 * @throws {StoreError} naming each address and what it said.
 */
export async function openSocket(
  addresses: readonly Address[],
  timeoutMs: number,
  encrypted: boolean,
  signal: AbortSignal,
): Promise<OpenSocket> {
  const problems: StoreError[] = [];
  for (const address of addresses) {
    if (signal.aborted) break;
    try {
      return await open(address, timeoutMs, encrypted ? undefined : new Wire(), signal);
    } catch (problem) {
      problems.push(classify(problem));
    }
  }
  const said = problems.map(({ message }, index) => `${nameOf(addresses[index])}: ${message}`).join('; ');
  const failure = problems.every((problem) => problem.failure === 'refused') ? 'refused' : 'unavailable';
  throw new StoreError(failure, `cannot connect to PostgreSQL at ${said}`, { cause: problems[0]?.cause });
}

function nameOf(address: Address | undefined): string {
  if (address === undefined) return '';
  return isLocal(address) ? socketPath(address) : `${address.host}:${address.port}`;
}

function socketPath({ host, port }: Address): string {
  return `${host}/.s.PGSQL.${port}`;
}

function open(address: Address, timeoutMs: number, wire: Wire | undefined, signal: AbortSignal): Promise<OpenSocket> {
  const target = isLocal(address) ? { path: socketPath(address) } : { host: address.host, port: address.port };
  const socket = connect(wire === undefined ? target : { ...target, onread: wire.onread });
  wire?.attach(socket);
  const destroy = () => socket.destroy();
  signal.addEventListener('abort', destroy);
  socket.once('close', () => signal.removeEventListener('abort', destroy));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new StoreError('unavailable', `no answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    socket.on('error', (problem) => reject(problem)); // stays, so that an error between two owners ends nothing
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(Object.assign(socket, { host: address.host, port: address.port, wire }));
    });
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new StoreError('unavailable', 'the connection was given up'));
    });
  });
}
