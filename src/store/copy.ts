import { Readable, Writable } from 'node:stream';
import { type Client, wireOf } from './connection.ts';
import { CopyRows, SIGNATURE } from './copy-rows.ts';
import type { Wire } from './wire.ts';

/** No flags, no extension. */
const HEADER = Buffer.concat([SIGNATURE, Buffer.alloc(8)]);
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
export function copyIn(client: Client, statement: string, rows: Iterable<readonly Value[]>): Promise<void> {
  return copyFrom(client, statement, (stream) => sendAll(stream, rows));
}

/** The same for rows that are in the binary format already, any number of them in each piece. */
export function copyInRaw(client: Client, statement: string, pieces: readonly Uint8Array[]): Promise<void> {
  return copyFrom(client, statement, async (stream) => {
    await send(stream, HEADER);
    for (const piece of pieces)
      for (let from = 0; from < piece.length; from += WRITE_BYTES)
        await send(stream, piece.subarray(from, from + WRITE_BYTES));
    await send(stream, TRAILER);
  });
}

/** What comes before the row in each message of `copyMessages`: CopyData's type and length, see `putMessageHead`. */
export const MESSAGE_HEAD_BYTES = 5;

/** Makes a message of a row that has room before it. */
export function putMessageHead(message: Buffer): void {
  message.write('d', 0, 'latin1');
  message.writeInt32BE(message.length - 1, 1);
}

/**
 * As `copyIn`, with rows that are messages already, and aren't copied on their way: they mustn't change until this
 * resolves, or after an error until the client was given up.
 *
 * @throws as `copyIn`
 */
export function copyMessages(client: Client, statement: string, messages: readonly Buffer[]): Promise<void> {
  return copyFrom(client, statement, async (stream) => {
    await send(stream, HEADER);
    const wire = wireOf(client);
    if (wire !== undefined) await wire.send(messages);
    else for (const message of messages) await send(stream, message.subarray(MESSAGE_HEAD_BYTES));
    await send(stream, TRAILER);
  });
}

async function copyFrom(
  client: Client,
  statement: string,
  sendRows: (stream: Writable) => Promise<void>,
): Promise<void> {
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
  const sent = sendRows(stream);
  sent.catch(() => {}); // seen here, unless the server has spoken first
  await Promise.race([sent, ended.promise]);
  stream.end();
  await done.promise;
}

async function sendAll(stream: Writable, rows: Iterable<readonly Value[]>): Promise<void> {
  let parts: Uint8Array[] = [HEADER];
  let bytes = HEADER.length;
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

function send(stream: Writable, bytes: Uint8Array): Promise<void> {
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
 * All rows of a COPY … TO STDOUT (FORMAT binary), each value longer than a few bytes in memory of its own. It's always
 * read to its end: breaking it off would leave the connection unusable.
 *
 * @throws what the server or the connection says; {Error} when what comes isn't the binary format.
 */
export async function copyOut(client: Client, statement: string): Promise<(Buffer | null)[][]> {
  const rows = new CopyRows();
  const query = copyQuery(client, statement);
  const ended = new Promise<void>((resolve, reject) => {
    query.resolve = (value) => {
      if (!(value instanceof Readable)) resolve();
      else takeAll(value, rows, wireOf(client));
    };
    query.reject = reject;
  });
  query.execute();
  try {
    await ended;
  } finally {
    wireOf(client)?.divert(undefined);
  }
  return rows.rows();
}

/** Diverts what comes, so that the library never holds the socket up. */
function takeAll(stream: Readable, rows: CopyRows, wire: Wire | undefined): void {
  stream.on('error', () => {}); // the query's reject tells
  // What came along with the start of it went to the library, which has it first.
  stream.push = (part: Buffer | null) => {
    if (part !== null) rows.take(part);
    return true;
  };
  wire?.divert((part) => rows.take(part));
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
