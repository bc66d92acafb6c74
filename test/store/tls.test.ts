import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket, connect as tcpConnect } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { embeddedServer, type TestServer, temporaryFolder, useServer } from '../support/postgres.ts';
import { newTenant } from './tenant.ts';

const CHUNK_BYTES = 128 * 1024;

/** A key and a certificate for it; undefined when there's no openssl to make them. */
function makeCertificate(): { key: Buffer; cert: Buffer } | undefined {
  const folder = temporaryFolder('tarbox-tls-');
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const kind = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
  try {
    execFileSync('openssl', ['req', ...kind, '-keyout', key, '-out', cert], { stdio: 'ignore' });
    return { key: readFileSync(key), cert: readFileSync(cert) };
  } catch {
    return undefined;
  } finally {
    execFileSync('rm', ['-r', folder]);
  }
}

const certificate = makeCertificate();

/** A TCP port that speaks TLS as PostgreSQL does (manual, SSL Session Encryption) and leads to the server's socket. */
async function encryptingRelay(server: TestServer): Promise<{ port: number; count: () => number }> {
  let encrypted = 0;
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    socket.once('data', () => {
      socket.write('S');
      const secure = new TLSSocket(socket, { isServer: true, ...certificate });
      secure.once('secure', () => encrypted++);
      const target = tcpConnect({ path: join(server.options.socketDirectory, '.s.PGSQL.5432') });
      const destroy = () => {
        for (const each of [secure, target, socket]) each.destroy();
      };
      for (const end of [secure, target]) end.on('error', () => {}).on('close', destroy);
      secure.pipe(target).pipe(secure);
    });
    socket.on('error', () => {});
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    listener.close();
  });
  // A TCP server's address is of this form.
  return { port: (listener.address() as AddressInfo).port, count: () => encrypted };
}

describe.skipIf(certificate === undefined)('an encrypted connection (skipped without openssl)', () => {
  const server = useServer(embeddedServer);

  it.each(['require', 'prefer'])('stores and loads chunks, with sslmode=%s', async (mode) => {
    const relay = await encryptingRelay(server());
    const url = `postgres://tarbox@127.0.0.1:${relay.port}/postgres?sslmode=${mode}`;
    const tenant = await newTenant({ url, connectTimeoutMs: 5000, statementTimeoutMs: 20_000 });
    const chunks = Array.from({ length: 40 }, (_, n) =>
      n % 2 === 0 ? randomBytes(CHUNK_BYTES) : Buffer.alloc(CHUNK_BYTES, `text ${n}`),
    );
    const hashes = await tenant.commits.putChunks(chunks);
    const loaded = await tenant.loads.chunks(hashes);
    expect(chunks.every((chunk, n) => loaded.get(hashes[n] ?? '')?.equals(chunk))).toBe(true);
    expect(relay.count()).toBeGreaterThan(0);
  });
});
