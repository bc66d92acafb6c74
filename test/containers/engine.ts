import { accessSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execa, execaSync } from 'execa';
import { missingForMounts } from '../support/tarbox.ts';

/** The project's own folder. */
export const ROOT = resolve(import.meta.dirname, '../..');
export const BASE_IMAGE = process.env['BASE_IMAGE'] ?? 'node:24-bookworm-slim';
export const POSTGRES_IMAGE = process.env['POSTGRES_IMAGE'] ?? 'postgres:17';
export const IMAGE = 'tarbox:test';
export const SLIM_IMAGE = 'tarbox:test-slim';
export const AGENT_IMAGE = 'tarbox-agent:test';

/** For a build by BuildKit with an engine that has another builder by default. */
const BUILDER = { DOCKER_BUILDKIT: '1', COMPOSE_DOCKER_CLI_BUILD: '1' };

/** What containers need and this machine lacks, for a test to be skipped by name; undefined when nothing is. */
export function missingForContainers(): string | undefined {
  const forMounts = missingForMounts();
  if (forMounts !== undefined) return forMounts;
  if (!succeeds('docker', ['version'])) return 'a container engine that answers';
  if (composeCommand() === undefined) return 'docker compose';
  if (isRemote()) return 'a container engine on this machine';
  return [BASE_IMAGE, POSTGRES_IMAGE].find(
    (image) => !succeeds('docker', ['image', 'inspect', image]) && !succeeds('docker', ['pull', '-q', image]),
  );
}

function succeeds(program: string, args: readonly string[]): boolean {
  return execaSync(program, args, { reject: false, timeout: 60_000 }).exitCode === 0;
}

/** Compose v2, or else v1. */
function composeCommand(): readonly [string, ...string[]] | undefined {
  if (succeeds('docker', ['compose', 'version'])) return ['docker', 'compose'];
  return succeeds('docker-compose', ['version']) ? ['docker-compose'] : undefined;
}

/** Whether directories of this machine aren't the engine's. */
function isRemote(): boolean {
  const { stdout } = execaSync('docker', ['info', '--format', '{{.DockerRootDir}}'], { reject: false });
  try {
    accessSync(stdout);
    return false;
  } catch {
    return true;
  }
}

/** Runs a command of the engine; resolves to what it printed. Rejects with what it complained of. */
export async function docker(...args: string[]): Promise<string> {
  const { stdout } = await execa('docker', args, { env: BUILDER, stdin: 'ignore' });
  return stdout;
}

/** Builds the sidecar's images and the agent's. */
export async function buildImages(): Promise<void> {
  const build = (tag: string, dockerfile: string, context: string, ...more: string[]) => {
    const base = ['--network', 'host', '--build-arg', `BASE_IMAGE=${BASE_IMAGE}`];
    return docker('build', '--quiet', ...base, '--tag', tag, '--file', join(ROOT, dockerfile), ...more, context);
  };
  await build(IMAGE, 'images/sidecar/Dockerfile', ROOT);
  await build(SLIM_IMAGE, 'images/sidecar/Dockerfile', ROOT, '--target', 'slim');
  await build(AGENT_IMAGE, 'test/containers/agent.Dockerfile', import.meta.dirname);
}

/** Runs Compose on these files of the project. */
export async function compose(
  project: string,
  files: readonly string[],
  env: Readonly<Record<string, string>>,
  ...args: string[]
): Promise<string> {
  const [program, ...first] = composeCommand() ?? ['docker', 'compose'];
  const chosen = files.flatMap((file) => ['--file', join(ROOT, file)]);
  const { stdout } = await execa(program, [...first, '--project-name', project, ...chosen, ...args], {
    env: { ...BUILDER, ...env },
    stdin: 'ignore',
  });
  return stdout;
}
