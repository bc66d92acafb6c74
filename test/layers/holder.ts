import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { ended } from '../support/tarbox.ts';
import type { Written } from './commands.ts';
import type { Look, LookOptions } from './look.ts';
import type { Answer, Request, Requests } from './main.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

/** How long a call may take: whoever waits longer is never answered. */
const ANSWER_DEADLINE_MS = 60_000;
/** How long a process may take to be gone when it's killed: in the kernel, it waits for whoever serves the mount. */
const END_DEADLINE_MS = 10_000;

/** A call of the holder's that failed. */
export class HolderError extends Error {
  override readonly name = 'HolderError';
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call} failed with errno ${errno}`);
    this.errno = errno;
  }
}

/**
 * A process that keeps things open: handles, mappings, a working directory. What it's asked for it does with plain
 * system calls, one at a time.
 */
export class Holder {
  readonly #process: ChildProcess;
  readonly #waiting: { resolve: (answer: Answer) => void; reject: (problem: Error) => void }[] = [];

  constructor() {
    const child = fork(MAIN, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], execArgv: [] });
    this.#process = child;
    child.on('message', (answer: Answer) => this.#waiting.shift()?.resolve(answer));
    child.once('exit', (code, signal) => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(`the holder ended (${signal ?? code})`));
    });
  }

  /** @throws {HolderError} */
  async #ask<C extends keyof Requests>(call: C, ...args: Requests[C]): Promise<Answer> {
    let timer: NodeJS.Timeout | undefined;
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      const request: Request = { call, args };
      const late = `${call}(${JSON.stringify(args)}) is not answered after ${ANSWER_DEADLINE_MS / 1000} s`;
      timer = setTimeout(() => reject(new Error(late)), ANSWER_DEADLINE_MS);
      this.#process.send(request, (problem) => problem !== null && reject(problem));
    }).finally(() => clearTimeout(timer));
    if (answer.problem !== undefined) throw new Error(answer.problem);
    if (answer.result < 0) throw new HolderError(call, -answer.result);
    return answer;
  }

  /** Opens for reading, or for reading and writing; gives the handle. */
  async open(path: string, mode: 'r' | 'r+' | 'directory' | 'tmpfile' | 'sync' = 'r+'): Promise<number> {
    return (await this.#ask('open', path, mode)).result;
  }

  async close(handle: number): Promise<void> {
    await this.#ask('close', handle);
  }

  /** The whole file by its handle, through the kernel's cache. */
  async read(handle: number): Promise<string> {
    return (await this.#ask('read', handle)).text;
  }

  async write(handle: number, text: string, offset = 0): Promise<void> {
    await this.#ask('write', handle, text, offset);
  }

  async fsync(handle: number): Promise<void> {
    await this.#ask('fsync', handle);
  }

  async truncate(handle: number, size: number): Promise<void> {
    await this.#ask('truncate', handle, size);
  }

  async chmod(handle: number, mode: number): Promise<void> {
    await this.#ask('chmod', handle, mode);
  }

  async stat(handle: number): Promise<{ size: number; mode: number; nlink: number; ino: number; ctimeNs: string }> {
    return JSON.parse((await this.#ask('stat', handle)).text);
  }

  /** Names that the handle of a directory lists from its start. */
  async list(handle: number): Promise<string[]> {
    return JSON.parse((await this.#ask('list', handle)).text);
  }

  /** Maps the first bytes of a file, shared; gives the mapping's number. */
  async map(handle: number, length: number): Promise<number> {
    return (await this.#ask('map', handle, length)).result;
  }

  async peek(mapping: number, length: number, offset = 0): Promise<string> {
    return (await this.#ask('peek', mapping, offset, length)).text;
  }

  async poke(mapping: number, text: string, offset = 0): Promise<void> {
    await this.#ask('poke', mapping, offset, text);
  }

  async chdir(path: string): Promise<void> {
    await this.#ask('chdir', path);
  }

  /** A file by a path from the working directory. */
  async readPath(path: string): Promise<string> {
    return (await this.#ask('readPath', path)).text;
  }

  async writePath(path: string, text: string): Promise<void> {
    await this.#ask('writePath', path, text);
  }

  /** Where the working directory is, as the kernel tells. */
  async cwd(): Promise<string> {
    return (await this.#ask('cwd')).text;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.#ask('exists', path)).result === 1;
  }

  /** Runs a script in a directory; gives what it prints. Rejects when it fails. */
  async shell(directory: string, script: string): Promise<string> {
    return (await this.#ask('shell', directory, script)).text;
  }

  /** See `Commands.write`. */
  async command(mount: string, file: string, command: string | object): Promise<Written> {
    return JSON.parse((await this.#ask('command', mount, file, command)).text);
  }

  /** See `lookAtTree`. */
  async look(root: string, options: LookOptions = {}): Promise<Look> {
    return new Map(JSON.parse((await this.#ask('look', root, options)).text));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Ends it at once. Resolves when it's gone; rejects when the kernel doesn't let it go. */
  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGKILL');
    await ended(this.pid, END_DEADLINE_MS);
  }
}
