import { chmodSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { removeFolder } from '../support/folder.ts';
import { AGENT_IMAGE, compose, docker, IMAGE, POSTGRES_IMAGE } from './engine.ts';

/** What a command in a container came to. */
export interface Ran {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

const DEADLINE_MS = 60_000;

/** A stack of compose/, with directories and names of its own. */
export class Stack {
  readonly #project: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'tarbox-containers-'));
  readonly #files: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #shared: string[] = [];

  /** `files`: of compose/, in order; the tests' own settings come on top. */
  constructor(name: string, files: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#project = `tarbox-test-${process.pid}-${name}`;
    this.#files = [...files.map((file) => `compose/${file}`), 'test/containers/compose.yaml'];
    chmodSync(this.#folder, 0o755);
    this.#env = {
      TARBOX_IMAGE: IMAGE,
      AGENT_IMAGE,
      POSTGRES_IMAGE,
      TARBOX_WORKSPACES: this.directory('one'),
      TARBOX_WORKSPACES_TWO: this.directory('two'),
      TEST_HOST: this.directory('host'),
      ...env,
    };
  }

  /** A directory of this machine, for the containers. */
  directory(name: string): string {
    const path = join(this.#folder, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Starts services, all of them where none is named. */
  async up(...services: string[]): Promise<void> {
    for (const name of ['one', 'two']) {
      const path = this.directory(name);
      if (this.#shared.includes(path)) continue;
      await execa('mount', ['--bind', path, path]);
      this.#shared.push(path);
      await execa('mount', ['--make-rshared', path]);
    }
    await this.compose('up', '-d', '--no-build', ...services);
  }

  compose(...args: string[]): Promise<string> {
    return compose(this.#project, this.#files, this.#env, ...args);
  }

  /** A service's container. */
  async container(service: string): Promise<string> {
    const filters = [`com.docker.compose.project=${this.#project}`, `com.docker.compose.service=${service}`];
    const args = filters.flatMap((label) => ['--filter', `label=${label}`]);
    return await docker('ps', '--all', '--quiet', ...args);
  }

  /** A field of a service's container, such as `.State.Pid`. */
  async inspect(service: string, field: string): Promise<string> {
    return await docker('inspect', '--format', `{{${field}}}`, await this.container(service));
  }

  async logs(service: string): Promise<string> {
    const { all } = await execa('docker', ['logs', await this.container(service)], { all: true });
    return all;
  }

  /** Runs a script by `sh -e` in a service's container; `user` as Docker takes it. */
  async run(service: string, script: string, user = '0'): Promise<Ran> {
    const args = ['exec', '--user', user, await this.container(service), 'sh', '-ec', script];
    const options = { reject: false, stdin: 'ignore', timeout: DEADLINE_MS } as const;
    const { exitCode, stdout, stderr } = await execa('docker', args, options);
    return { exitCode, stdout, stderr };
  }

  /** As `run`, of a script that has to succeed; resolves to what it printed. */
  async output(service: string, script: string, user = '0'): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(service, script, user);
    if (exitCode !== 0) throw new Error(`in ${service}, ${script}\nended with ${exitCode}: ${stderr}\n${stdout}`);
    return stdout;
  }

  /** Waits until a script succeeds in a service's container. */
  async until(service: string, script: string, user = '0'): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const { exitCode, stderr } = await this.run(service, script, user);
      if (exitCode === 0) return;
      if (performance.now() > deadline)
        throw new Error(
          `in ${service}, not within ${DEADLINE_MS} ms: ${script}\n${stderr}\n${await this.logs('tarbox')}`,
        );
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  /** kill -9 of everything in a service's container, as when the machine runs out of memory; it's started again. */
  async kill(service: string): Promise<void> {
    const pid = Number(await this.inspect(service, '.State.Pid'));
    if (pid > 0) process.kill(pid, 'SIGKILL');
  }

  /** Takes away all there is, whatever state it's in. */
  async remove(): Promise<void> {
    try {
      await this.compose('down', '--volumes', '--remove-orphans', '--timeout', '5');
    } finally {
      for (const path of this.#shared) await execa('umount', ['--recursive', '--lazy', path]);
      removeFolder(this.#folder);
    }
  }
}
