import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, effectiveConfig, loadConfig, secretsOf } from '../../src/config/config.ts';
import { ALL_SETTINGS } from '../../src/config/settings.ts';
import { createLogger } from '../../src/log.ts';
import { CHUNK_BYTES } from '../../src/vfs/geometry.ts';

/** The line that stops the start. */
function refusal(env: Record<string, string>): string {
  try {
    loadConfig(env);
  } catch (problem) {
    if (problem instanceof ConfigError) return problem.message;
    throw problem;
  }
  throw new Error(`${JSON.stringify(env)} was accepted`);
}

describe('the configuration', () => {
  it('has a default for everything', () => {
    expect(loadConfig({ HOME: '/root' })).toEqual({
      tenant: 'default',
      createTenant: true,
      mount: '/workspace/default',
      protectMountPoint: true,
      requirePropagation: false,
      data: '/var/lib/tarbox',
      database: { url: undefined, connectTimeoutMs: 10_000, poolSize: 6 },
      owner: { uid: 0, gid: 0 },
      rootMode: 0o755,
      commitIntervalMs: 1000,
      durability: 'relaxed',
      dirtyLimitBytes: 32 * 2 ** 20,
      leaseTtlMs: 10_000,
      logLevel: 'info',
      trace: '',
      control: { visible: false, access: 'owner' },
      quota: { bytes: 0, inodes: 0 },
      cache: { metadataBytes: 64 * 2 ** 20, chunkBytes: 32 * 2 ** 20 },
      maxFileBytes: 2 ** 40,
      native: { rules: [], allow: ['/var/tarbox'] },
      layer: { autoCheckpoint: false, checkpointIntervalMs: 3_600_000 },
      audit: {
        enabled: true,
        level: 'standard',
        rules: '',
        overflow: 'block',
        retentionDays: 90,
        batchSize: 5000,
      },
      configFile: undefined,
    });
  });

  it('takes every variable', () => {
    const config = loadConfig({
      DATABASE_URL: 'postgres://u:p@h/db',
      TARBOX_DB_CONNECT_TIMEOUT: '3s',
      TARBOX_DB_POOL_SIZE: '8',
      TARBOX_DATA: '/data/',
      TARBOX_MOUNT: '/mnt/../mnt/w/',
      TARBOX_PROTECT_MOUNT_POINT: 'false',
      TARBOX_REQUIRE_PROPAGATION: 'true',
      TARBOX_TENANT: 'a.b_c-D',
      TARBOX_TENANT_CREATE: 'false',
      TARBOX_OWNER: '1000:1001',
      TARBOX_ROOT_MODE: '2775',
      TARBOX_COMMIT_INTERVAL: '250ms',
      TARBOX_DURABILITY: 'strict',
      TARBOX_DIRTY_LIMIT: '32MiB',
      TARBOX_LEASE_TTL: '2s',
      TARBOX_LOG_LEVEL: 'debug',
      TARBOX_TRACE: 'fuse',
      TARBOX_CONTROL_VISIBLE: 'TRUE',
      TARBOX_CONTROL_ACCESS: 'all',
      TARBOX_QUOTA_BYTES: '4GB',
      TARBOX_QUOTA_INODES: '1000',
      TARBOX_METADATA_CACHE: '1GiB',
      TARBOX_CHUNK_CACHE: '2MiB',
      TARBOX_MAX_FILE_SIZE: String(Number.MAX_SAFE_INTEGER - 4096),
      TARBOX_NATIVE_MOUNTS:
        '[{"path":"/a","source":"/b","priority":2},{"path":"/c","source":"/d","mode":"ro","shared":true}]',
      TARBOX_NATIVE_ALLOW: '/b:/d/',
      TARBOX_LAYER_AUTO_CHECKPOINT: 'true',
      TARBOX_LAYER_CHECKPOINT_INTERVAL: '30s',
      TARBOX_AUDIT_ENABLED: 'false',
      TARBOX_AUDIT_LEVEL: 'full',
      TARBOX_AUDIT_RULES: '/build/**=off, /secrets/*=full',
      TARBOX_AUDIT_OVERFLOW: 'drop',
      TARBOX_AUDIT_RETENTION_DAYS: '7',
      TARBOX_AUDIT_BATCH_SIZE: '100',
    });
    expect(config).toEqual({
      tenant: 'a.b_c-D',
      createTenant: false,
      mount: '/mnt/w',
      protectMountPoint: false,
      requirePropagation: true,
      data: '/data',
      database: { url: 'postgres://u:p@h/db', connectTimeoutMs: 3000, poolSize: 8 },
      owner: { uid: 1000, gid: 1001 },
      rootMode: 0o2775,
      commitIntervalMs: 250,
      durability: 'strict',
      dirtyLimitBytes: 32 * 2 ** 20,
      leaseTtlMs: 2000,
      logLevel: 'debug',
      trace: 'fuse',
      control: { visible: true, access: 'all' },
      quota: { bytes: 4e9, inodes: 1000 },
      cache: { metadataBytes: 2 ** 30, chunkBytes: 2 * 2 ** 20 },
      maxFileBytes: Number.MAX_SAFE_INTEGER - 4096,
      native: {
        rules: [
          { path: '/a', source: '/b', mode: undefined, shared: false, priority: 2 },
          { path: '/c', source: '/d', mode: 'ro', shared: true, priority: 0 },
        ],
        allow: ['/b', '/d'],
      },
      layer: { autoCheckpoint: true, checkpointIntervalMs: 30_000 },
      audit: {
        enabled: false,
        level: 'full',
        rules: '/build/**=off, /secrets/*=full',
        overflow: 'drop',
        retentionDays: 7,
        batchSize: 100,
      },
      configFile: undefined,
    });
  });

  it('takes an empty variable for one that is not set', () => {
    expect(loadConfig({ DATABASE_URL: '', TARBOX_TENANT: '', TARBOX_CONFIG: '' })).toEqual(loadConfig({}));
  });

  it('has a mount point that follows the tenant', () => {
    expect(loadConfig({ TARBOX_TENANT: 'blue' }).mount).toBe('/workspace/blue');
  });

  it('stores content in the pieces that its table says', () => {
    const pieces = ALL_SETTINGS.find(({ name }) => name === 'filesystem.block_size');
    expect(pieces?.fallback).toBe(CHUNK_BYTES);
  });

  it('shows in readable units, each setting as something that it would accept', () => {
    const config = loadConfig({ DATABASE_URL: 'postgres://h/db', TARBOX_DIRTY_LIMIT: '65536KiB' });
    const shown = effectiveConfig(config);
    expect(shown).toMatchObject({ TARBOX_DIRTY_LIMIT: '64MiB', TARBOX_LEASE_TTL: '10s', TARBOX_ROOT_MODE: '0755' });
    const variables = Object.entries(shown).filter(([name, value]) => !name.includes('.') && value !== null);
    expect(loadConfig(Object.fromEntries(variables.map(([name, value]) => [name, value ?? ''])))).toEqual(config);
  });
});

describe('a bad value', () => {
  it.each([
    ['TARBOX_DB_CONNECT_TIMEOUT', 'soon'],
    ['TARBOX_DB_POOL_SIZE', '3'],
    ['TARBOX_DB_POOL_SIZE', '65'],
    ['TARBOX_DB_POOL_SIZE', '4.5'],
    ['TARBOX_MOUNT', '/'],
    ['TARBOX_TENANT', '.hidden'],
    ['TARBOX_TENANT', '-x'],
    ['TARBOX_TENANT', 'a/b'],
    ['TARBOX_TENANT', 'ä'],
    ['TARBOX_TENANT', 'x'.repeat(64)],
    ['TARBOX_TENANT_CREATE', 'maybe'],
    ['TARBOX_TENANT_CREATE', 'constructor'],
    ['TARBOX_OWNER', '1000'],
    ['TARBOX_OWNER', '0:4294967295'],
    ['TARBOX_OWNER', 'root:root'],
    ['TARBOX_ROOT_MODE', '0o755'],
    ['TARBOX_ROOT_MODE', '0855'],
    ['TARBOX_ROOT_MODE', '17777'],
    ['TARBOX_COMMIT_INTERVAL', '0'],
    ['TARBOX_DURABILITY', 'none'],
    ['TARBOX_DIRTY_LIMIT', '1MiB'],
    ['TARBOX_LEASE_TTL', '1999ms'],
    ['TARBOX_LOG_LEVEL', 'INFO'],
    ['TARBOX_TRACE', 'all'],
    ['TARBOX_CONTROL_VISIBLE', 'yes'],
    ['TARBOX_CONTROL_ACCESS', 'nobody'],
    ['TARBOX_QUOTA_BYTES', '-1'],
    ['TARBOX_QUOTA_INODES', '1k'],
    ['TARBOX_METADATA_CACHE', '64'],
    ['TARBOX_CHUNK_CACHE', 'big'],
    ['TARBOX_AUDIT_LEVEL', 'all'],
    ['TARBOX_AUDIT_RULES', '/a/**'],
    ['TARBOX_AUDIT_RULES', '/a/**=most'],
    ['TARBOX_AUDIT_RULES', '/a/[b=off'],
    ['TARBOX_AUDIT_OVERFLOW', 'wait'],
    ['TARBOX_AUDIT_RETENTION_DAYS', '0'],
    ['TARBOX_AUDIT_BATCH_SIZE', '0'],
    ['TARBOX_MAX_FILE_SIZE', String(Number.MAX_SAFE_INTEGER - 4095)],
  ])('%s=%s is refused in one line that names both and what is allowed', (name, value) => {
    const line = refusal({ [name]: value });
    expect(line).toMatch(/^[^\n]+$/);
    expect(line.startsWith(`${name} is '${value}'; allowed is `)).toBe(true);
  });

  it('cannot break the line', () => {
    expect(refusal({ TARBOX_TENANT: 'a\nb\x1b[2J\x9b\u202e' })).toMatch(/^[\x20-\x7e]+$/);
  });
});

describe('an unknown variable', () => {
  it('is refused with the nearest known name', () => {
    expect(refusal({ TARBOX_TENAT: 'x' })).toBe("'TARBOX_TENAT' is not a setting; did you mean TARBOX_TENANT?");
    expect(refusal({ TARBOX_POOL_SIZE: '5' })).toContain('TARBOX_DB_POOL_SIZE?');
  });

  it('does not have its value printed', () => {
    expect(refusal({ TARBOX_DATABASE_URL: 'postgres://u:hunter2@h/db' })).not.toContain('hunter2');
  });

  it('that Kubernetes sets for a service of our name is left alone', () => {
    const env = {
      TARBOX_SERVICE_HOST: '10.0.0.1',
      TARBOX_SERVICE_PORT: '5432',
      TARBOX_SERVICE_PORT_HTTP: '80',
      TARBOX_PORT: 'tcp://10.0.0.1:5432',
      TARBOX_PORT_5432_TCP_ADDR: '10.0.0.1',
      TARBOX_DB_SERVICE_HOST: '10.0.0.2',
      TARBOX_DB_PORT: 'tcp://10.0.0.2:5432',
    };
    expect(loadConfig(env)).toEqual(loadConfig({}));
  });
});

describe('DATABASE_URL', () => {
  it.each([
    'postgres://localhost',
    'postgresql://user@localhost/db',
    'postgres://user:p%40ss%2F@db.example.org:5432/db?sslmode=require',
    'postgres://user:secret@[::1]:5432/db',
    'postgres://a:5432,b:5433/db?target_session_attrs=read-write',
    'postgres:///db?host=/var/run/postgresql',
    'postgres://user@/db?host=%2Fvar%2Frun%2Fpostgresql',
    'postgres://%2Fvar%2Frun%2Fpostgresql/db',
  ])('may be %s', (url) => {
    expect(loadConfig({ DATABASE_URL: url }).database.url).toBe(url);
  });

  it.each([
    'mysql://user:hunter2@host/db',
    'hunter2',
    'postgres:hunter2',
    'postgres://',
    'postgres:///db',
    'postgres:///db?password=hunter2',
    'postgres:///db?host=&password=hunter2',
    'postgres://user:hun@hunter2@host/db',
    'postgres://user:12/hunter2@host/db',
    'postgres://user:12?hunter2@host/db',
    'postgres://user:12#hunter2@host/db',
    'postgres://user:hunter2 hunter2@host/db',
    'postgres://user:hunter2%@host/db',
    'postgres://user:hunter2@host:99999/db',
    'postgres://user:hunter2@host:port/db',
    'postgres://user:hunter2\n@host/db',
    'host=h password=hunter2',
  ])('may not be %s, and is not repeated', (url) => {
    const line = refusal({ DATABASE_URL: url });
    expect(line).toMatch(/^DATABASE_URL is not valid \(its value is secret\); allowed is postgres:\/\/[^\n]+$/);
    expect(line).not.toContain('hunter2');
  });

  it('is shown without its secrets', () => {
    const url = 'postgres://user:hunter2@h:5/db?sslmode=require&sslpassword=hunter2&p%61ssword=hunter2';
    expect(effectiveConfig(loadConfig({ DATABASE_URL: url }))).toMatchObject({
      DATABASE_URL: 'postgres://user:***@h:5/db?sslmode=require&sslpassword=***&p%61ssword=***',
    });
  });

  it('leaks no password whatever it is: not shown, not logged, not in a refusal', () => {
    // What a password shares with the fixed texts would be found there.
    const password = fc.string({ minLength: 1, maxLength: 20, unit: 'grapheme' }).map((text) => `Zq${text}qZ`);
    fc.assert(
      fc.property(password, fc.boolean(), (secret, encoded) => {
        const inUrl = encoded ? encodeURIComponent(secret) : secret;
        const url = `postgres://user:${inUrl}@host/db?sslpassword=${encodeURIComponent(secret)}`;
        const config = (() => {
          try {
            return loadConfig({ DATABASE_URL: url });
          } catch (problem) {
            expect(String(problem)).not.toContain('Zq');
            expect(problem).not.toHaveProperty('cause');
            return undefined;
          }
        })();
        if (encoded) expect(config).toBeDefined();
        if (config === undefined) return;
        expect(JSON.stringify(effectiveConfig(config))).not.toContain('Zq');
        const written: string[] = [];
        const stream = { write: (text: string) => written.push(text) };
        const log = createLogger({ level: 'info', stream, clock: { now: () => 0 }, secrets: secretsOf(config) });
        log.error('failed', { url, config, secret, problem: new Error(`no ${secret} ${inUrl} at ${url}`) });
        expect(written.join('')).not.toContain('Zq');
      }),
    );
  });
});
