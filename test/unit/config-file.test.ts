import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, effectiveConfig, loadConfig } from '../../src/config/config.ts';
import { followConfig, type Reload, reload } from '../../src/config/live.ts';
import { ALL_SETTINGS } from '../../src/config/settings.ts';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tarbox-config-'));
  file = join(directory, 'tarbox.toml');
});

afterEach(() => rmSync(directory, { recursive: true }));

function load(toml: string, env: Record<string, string> = {}) {
  writeFileSync(file, toml);
  return loadConfig({ TARBOX_CONFIG: file, ...env });
}

/** The line that stops the start, without the file's name. */
function refusal(toml: string): string {
  try {
    load(toml);
  } catch (problem) {
    if (!(problem instanceof ConfigError)) throw problem;
    expect(problem.message).toMatch(/^[^\n]+$/);
    expect(problem.cause).toBeUndefined();
    expect(problem.message.startsWith(`${file}: `)).toBe(true);
    return problem.message.slice(`${file}: `.length);
  }
  throw new Error('it was accepted');
}

const EVERYTHING = `
[database]
url = "postgres://u:p@h/db"
connection_timeout = 3
pool_size = 8
data_directory = "/data"
[workspace]
mount = "/mnt/w"
tenant = "blue"
tenant_create = false
protect_mount_point = false
require_propagation = true
owner = "1000:1000"
root_mode = "0700"
quota_bytes = "4GB"
quota_inodes = 1000
lease_ttl = "1h"
[layer]
auto_checkpoint = true
checkpoint_interval = "10m"

[audit]
enabled = false
level = "full"
rules = "/build/**=off"
overflow = "drop"
retention_days = 7
batch_size = 100
[filesystem]
commit_interval = 0.25
durability = "close"
dirty_limit = 33554432
max_file_size = "4GB"
block_size = "128KiB"
[cache]
metadata_size = "1GiB"
block_size = "512MiB"
policy = "lru"
[control]
visible = true
access = "group"
[native]
allow = "/var/tarbox:/srv"
[[native_mounts]]
path = "/.venv"
source = "/srv/{tenant}"
[log]
level = "warn"
trace = "fuse"
`;

describe('the file', () => {
  it('sets everything that a variable sets', () => {
    expect(effectiveConfig(load(EVERYTHING))).toEqual({
      TARBOX_CONFIG: file,
      DATABASE_URL: 'postgres://u:***@h/db',
      TARBOX_DB_CONNECT_TIMEOUT: '3s',
      TARBOX_DB_POOL_SIZE: '8',
      TARBOX_DATA: '/data',
      TARBOX_MOUNT: '/mnt/w',
      TARBOX_PROTECT_MOUNT_POINT: 'false',
      TARBOX_REQUIRE_PROPAGATION: 'true',
      TARBOX_TENANT: 'blue',
      TARBOX_TENANT_CREATE: 'false',
      TARBOX_OWNER: '1000:1000',
      TARBOX_ROOT_MODE: '0700',
      TARBOX_QUOTA_BYTES: '4GB',
      TARBOX_QUOTA_INODES: '1000',
      TARBOX_LEASE_TTL: '1h',
      TARBOX_LAYER_AUTO_CHECKPOINT: 'true',
      TARBOX_LAYER_CHECKPOINT_INTERVAL: '10m',
      TARBOX_AUDIT_ENABLED: 'false',
      TARBOX_AUDIT_LEVEL: 'full',
      TARBOX_AUDIT_RULES: '/build/**=off',
      TARBOX_AUDIT_OVERFLOW: 'drop',
      TARBOX_AUDIT_RETENTION_DAYS: '7',
      TARBOX_AUDIT_BATCH_SIZE: '100',
      TARBOX_COMMIT_INTERVAL: '250ms',
      TARBOX_DURABILITY: 'close',
      TARBOX_DIRTY_LIMIT: '32MiB',
      TARBOX_MAX_FILE_SIZE: '4GB',
      'filesystem.block_size': '128KiB',
      TARBOX_METADATA_CACHE: '1GiB',
      TARBOX_CHUNK_CACHE: '512MiB',
      'cache.policy': 'lru',
      TARBOX_CONTROL_VISIBLE: 'true',
      TARBOX_CONTROL_ACCESS: 'group',
      TARBOX_NATIVE_MOUNTS: '[{"path":"/.venv","source":"/srv/{tenant}","shared":false,"priority":0}]',
      TARBOX_NATIVE_ALLOW: '/var/tarbox:/srv',
      TARBOX_LOG_LEVEL: 'warn',
      TARBOX_TRACE: 'fuse',
    });
    for (const { toml } of ALL_SETTINGS) if (toml !== undefined) expect(EVERYTHING).toContain(toml.split('.').at(-1));
  });

  it('yields to the environment', () => {
    expect(load(EVERYTHING, { TARBOX_TENANT: 'green', TARBOX_LOG_LEVEL: '' })).toMatchObject({
      tenant: 'green',
      logLevel: 'warn',
    });
  });

  it('may be empty', () => {
    expect(load('')).toEqual({ ...loadConfig({}), configFile: file });
  });

  it('must be there', () => {
    expect(() => loadConfig({ TARBOX_CONFIG: file })).toThrow(`TARBOX_CONFIG: cannot read '${file}' (ENOENT)`);
  });

  it.each([
    ['[database]\npool_size = 99', "[database] pool_size is '99'; allowed is a whole number from 4 to 64"],
    ['[cache]\npolicy = "lfu"', "[cache] policy is 'lfu'; allowed is one of lru"],
    ['[control]\nvisible = 1', "[control] visible is '1'; allowed is true or false"],
    ['[log]\nlevel = ["info"]', `[log] level is '["info"]'; allowed is one of debug, info, warn, error`],
    ['[cach]\npolicy = "lru"', "'cach' is not a section; did you mean [cache]?"],
    ['[cache]\npolici = "lru"', "[cache] has no setting 'polici'; did you mean policy?"],
    ['cache = 5', 'cache is a section: write [cache] on a line of its own'],
    ['[[cache]]\npolicy = "lru"', 'cache is a section: write [cache] on a line of its own'],
    ['[audit]\nlevel = "all"', "[audit] level is 'all'; allowed is one of off, basic, standard, full"],
    ['[log]\nlevel = ', 'line 2, column 9: invalid value'],
  ])('%j is refused', (toml, line) => {
    expect(refusal(toml)).toBe(line);
  });

  it('may only say what the format of content is, not change it', () => {
    expect(refusal('[filesystem]\nblock_size = "64KiB"')).toContain("block_size is '64KiB'");
  });

  it('wants a mode as a string, since 755 is another number', () => {
    expect(refusal('[workspace]\nroot_mode = 755')).toContain("root_mode is '755'");
  });

  it('is checked also where the environment wins', () => {
    expect(() => load('[workspace]\ntenant = "a/b"', { TARBOX_TENANT: 'green' })).toThrow("tenant is 'a/b'");
  });

  it.each([
    '[[native_mounts]]\npath = "/x"',
    '[[native_mounts]]\npath = "/x"\nsource = "/y"\nsorce = "/z"',
    '[[native_mounts]]\npath = "/x"\nsource = "/y"\nmode = "wr"',
    '[native_mounts]\npath = "/x"\nsource = "/y"',
    'native_mounts = "/x"',
  ])('%j is refused as a rule', (toml) => {
    expect(refusal(toml)).toMatch(/^native_mounts is '.*'; allowed is a list of \{"path", "source"\} with "mode"/);
  });

  it.each([
    '[database]\nurl = "mysql://user:hunter2@host/db"',
    '[database]\nurl = ["postgres://user:hunter2@host/db"]',
    '[database]\nurl = "postgres://user:hunter2"@host/db"',
    '[database]\nurl = postgres://user:hunter2@host/db',
    '[database]\nurl = "postgres://user:\\hunter2@host/db"',
    '[database]\n"postgres://user:hunter2@host/db" = 1',
    '["postgres://user:hunter2@host/db"]\nurl = 1',
    '[workspace]\ntenant = "postgres://user:hunter2@host/db"',
  ])('%j is refused without a secret', (toml) => {
    expect(refusal(toml)).not.toContain('hunter2');
  });
});

describe('a changed file', () => {
  it('changes the live settings, and names those that need a restart', () => {
    const before = load(EVERYTHING);
    const after = load(
      EVERYTHING.replace('"warn"', '"debug"').replace('"1h"', '"2h"').replace('2h', '30s').replace('u:p@', 'u:q@'),
    );
    expect(reload(before, after)).toEqual({
      config: { ...before, logLevel: 'debug' },
      changed: ['TARBOX_LOG_LEVEL'],
      needRestart: ['TARBOX_LEASE_TTL', 'DATABASE_URL'],
    });
  });

  it('takes over exactly the settings that the table calls live', () => {
    const before = loadConfig({});
    const { config, changed } = reload(before, load(EVERYTHING));
    const [was, is] = [effectiveConfig(before), effectiveConfig(config)];
    const live = ALL_SETTINGS.filter((setting) => setting.live === true).map(({ name }) => name);
    expect(
      Object.keys(is)
        .filter((name) => is[name] !== was[name])
        .sort(),
    ).toEqual([...live].sort());
    expect([...changed].sort()).toEqual([...live].sort());
  });
});

describe('following the file', () => {
  type Seen = { readonly reload: Reload } | { readonly problem: string };

  /** Follows the file; `change` acts again and again until what is wanted was seen, for a watch begins at some time. */
  function follow() {
    const seen: Seen[] = [];
    let wake = () => {};
    const add = (one: Seen) => {
      seen.push(one);
      wake();
    };
    const follower = followConfig(
      loadConfig({ TARBOX_CONFIG: file }),
      { TARBOX_CONFIG: file },
      {
        onReload: (result) => add({ reload: result }),
        onProblem: (problem) => add({ problem: problem.message }),
      },
    );
    return {
      close: () => follower.close(),
      async change(act: () => void, wanted: 'reload' | 'problem'): Promise<Seen | undefined> {
        const found = () => seen.slice(count).find((one) => wanted in one);
        const count = seen.length;
        const deadline = performance.now() + 20_000;
        while (found() === undefined && performance.now() < deadline) {
          act();
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, 1000);
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
          });
        }
        return found();
      },
    };
  }

  it('tells of a change, keeps the old configuration when the file is broken, and goes on after it', async () => {
    writeFileSync(file, '[log]\nlevel = "info"');
    const following = follow();
    try {
      const first = await following.change(() => writeFileSync(file, '[log]\nlevel = "debug"'), 'reload');
      expect(first).toMatchObject({ reload: { changed: ['TARBOX_LOG_LEVEL'], config: { logLevel: 'debug' } } });
      const second = await following.change(() => writeFileSync(file, '[log]\nlevel = "loud"'), 'problem');
      expect(second).toMatchObject({ problem: expect.stringContaining("[log] level is 'loud'") });
      const third = await following.change(() => {
        writeFileSync(`${file}.new`, '[log]\nlevel = "debug"\n[filesystem]\ncommit_interval = "2s"');
        renameSync(`${file}.new`, file);
      }, 'reload');
      expect(third).toMatchObject({ reload: { changed: ['TARBOX_COMMIT_INTERVAL'] } });
    } finally {
      await following.close();
    }
  }, 60_000);

  it('sees a link changed beside it, which is how Kubernetes changes a mounted file', async () => {
    for (const level of ['info', 'debug']) {
      mkdirSync(join(directory, level));
      writeFileSync(join(directory, level, 'tarbox.toml'), `[log]\nlevel = "${level}"`);
    }
    symlinkSync('info', join(directory, '..data'));
    symlinkSync('..data/tarbox.toml', file);
    const following = follow();
    try {
      const seen = await following.change(() => {
        symlinkSync('debug', join(directory, '..new'));
        renameSync(join(directory, '..new'), join(directory, '..data'));
      }, 'reload');
      expect(seen).toMatchObject({ reload: { changed: ['TARBOX_LOG_LEVEL'] } });
    } finally {
      await following.close();
    }
  }, 60_000);
});
