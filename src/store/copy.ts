import { Readable, Writable } from 'node:stream';
import type { Client } from './connection.ts';

/** COPY's binary format (PostgreSQL manual, COPY, File Formats). */
const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);

/** Bytes gathered before they're handed to the socket. */
const WRITE_BYTES = 256 * 1024;

/** One value of a binary row: bytes, or null. */
export type Value = Uint8Array | null;

/**
 * What a query object of the library has besides its types (postgres 3.4.9, query.js and connection.js). A COPY calls
 * `resolve` twice: with its stream when it starts, and again when the connection is ready for the next query. The
 * library's promise takes the first call alone, and so reports neither the end nor an error after the data; its
 * streams pause the socket and leave it paused. So both calls are watched here, and the tests kill servers to hold
 * the library to this.
 */
interface CopyQuery {
  resolve: (value: unknown) => void;
  reject: (problem: unknown) => void;
  execute(): unknown;
}

function copyQuery(client: Client, statement: string): CopyQuery {
  return client.unsafe(statement) as unknown as CopyQuery; // see CopyQuery
}

/**
 * Sends rows by COPY … FROM STDIN (FORMAT binary). Resolves when the server has taken them all.
 *
 * @throws what the server or the connection says, also about rows already sent; the client must not be used again then.
 */
export async function copyIn(client: Client, statement: string, rows: Iterable<readonly Value[]>): Promise<void> {
  const query = copyQuery(client, statement);
  const started = Promise.withResolvers<Writable>();
  const ended = Promise.withResolvers<never>();
  const done = Promise.withResolvers<void>();
  for (const { promise } of [started, ended, done]) promise.catch(() => {}); // rejected together, awaited in turn
  query.resolve = (value) => (value instanceof Writable ? started.resolve(value) : done.resolve());
  query.reject = (problem) => {
    for (const { reject } of [started, ended, done]) reject(problem);
  };
  query.execute();
  const stream = await Promise.race([started.promise, done.promise]);
  if (stream === undefined) throw new Error('the statement was not a COPY FROM');
  stream.on('error', query.reject);
  await Promise.race([sendAll(stream, rows), ended.promise]);
  stream.end();
  await done.promise;
}

async function sendAll(stream: Writable, rows: Iterable<readonly Value[]>): Promise<void> {
  let parts: Uint8Array[] = [SIGNATURE];
  let bytes = SIGNATURE.length;
  for (const row of rows) {
    bytes += putRow(parts, row);
    if (bytes < WRITE_BYTES) continue;
    await send(stream, Buffer.concat(parts));
    parts = [];
    bytes = 0;
  }
  parts.push(TRAILER);
  await send(stream, Buffer.concat(parts));
}

function send(stream: Writable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (problem) => (problem ? reject(problem) : resolve()));
  });
}

function putRow(parts: Uint8Array[], row: readonly Value[]): number {
  const count = Buffer.allocUnsafe(2);
  count.writeInt16BE(row.length);
  parts.push(count);
  let bytes = 2;
  for (const value of row) {
    const length = Buffer.allocUnsafe(4);
    length.writeInt32BE(value === null ? -1 : value.length);
    parts.push(length);
    if (value !== null) parts.push(value);
    bytes += 4 + (value?.length ?? 0);
  }
  return bytes;
}

/**
 * All rows of a COPY … TO STDOUT (FORMAT binary). It's always read to its end: breaking it off would leave the
 * connection unusable.
 *
 * @throws what the server or the connection says; {Error} when what comes isn't the binary format.
 */
export async function copyOut(client: Client, statement: string): Promise<(Buffer | null)[][]> {
  const parts: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    const query = copyQuery(client, statement);
    query.resolve = (value) => (value instanceof Readable ? takeAll(value, parts) : resolve());
    query.reject = reject;
    query.execute();
  });
  return parseRows(Buffer.concat(parts));
}

/** Diverts what the library puts into the stream, so that it never holds the socket up. */
function takeAll(stream: Readable, parts: Buffer[]): void {
  stream.on('error', () => {}); // the query's reject tells
  stream.push = (part: Buffer | null) => {
    if (part !== null) parts.push(part);
    return true;
  };
}

export function parseRows(bytes: Buffer): (Buffer | null)[][] {
  if (!bytes.subarray(0, 11).equals(SIGNATURE.subarray(0, 11)))
    throw new Error('COPY did not answer in its binary format');
  const rows: (Buffer | null)[][] = [];
  let at = 19 + bytes.readInt32BE(15);
  for (;;) {
    const fields = bytes.readInt16BE(at);
    at += 2;
    if (fields < 0) return rows;
    const row: (Buffer | null)[] = [];
    for (let field = 0; field < fields; field++) {
      const length = bytes.readInt32BE(at);
      at += 4;
      row.push(length < 0 ? null : bytes.subarray(at, at + length));
      if (length > 0) at += length;
    }
    rows.push(row);
  }
}

/** Binary forms of numbers, as COPY wants them. */
export function int8(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

export function int4(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}

export function int2(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeInt16BE(value);
  return bytes;
}
