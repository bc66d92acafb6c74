import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Observed } from './observe.ts';
import type { OptionsOf, ProgramName, ResultOf } from './programs/all.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

/** What a client tells whoever started it. */
export type FromClient =
  | { readonly type: 'ready' }
  | { readonly type: 'result'; readonly value: unknown }
  | { readonly type: 'failed'; readonly problem: string };

/** A client program that runs on a mount. */
export class Client<Name extends ProgramName> {
  readonly #name: Name;
  readonly #process: ChildProcess;
  readonly #ready: Promise<void>;
  readonly #result: Promise<ResultOf<Name>>;
  /** True once it has given its result, failed or been killed. */
  ended = false;

  constructor(name: Name, options: OptionsOf<Name>) {
    this.#name = name;
    const child = fork(MAIN, [name, JSON.stringify(options)], { stdio: 'inherit', execArgv: [] });
    this.#process = child;
    this.#result = new Promise((resolve, reject) => {
      child.on('message', (message: FromClient) => {
        if (message.type === 'result')
          resolve(message.value as ResultOf<Name>); // it's the program of that name
        else if (message.type === 'failed') reject(new Error(`the ${name} saw an error:\n${message.problem}`));
      });
      child.once('exit', (code, signal) => {
        this.ended = true;
        reject(new Error(`the ${name} ended without a result (${signal ?? code})`));
      });
    });
    this.#ready = new Promise((resolve, reject) => {
      child.on('message', (message: FromClient) => message.type === 'ready' && resolve());
      this.#result.then(() => resolve(), reject);
    });
    // Seen by whoever asks for them.
    this.#ready.catch(() => {});
    this.#result.catch(() => {});
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Resolves once the program is under way. Rejects when it failed before. */
  async ready(): Promise<void> {
    await this.#ready;
  }

  /** What the program gives. Rejects with what it saw where that was wrong. */
  async result(): Promise<ResultOf<Name>> {
    return await this.#result;
  }

  /** Asks it to end. As `result`. */
  async stop(): Promise<ResultOf<Name>> {
    if (!this.ended && this.#process.connected) this.#process.send('stop', () => {}); // it may have ended meanwhile
    return await this.result();
  }

  /** Ends it at once. Resolves when it's gone; rejects when it's still there after `deadlineMs`. */
  async kill(deadlineMs = 10_000): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = new Promise<void>((resolve) => this.#process.once('exit', () => resolve()));
    this.#process.kill('SIGKILL');
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the ${this.#name} is not gone after a SIGKILL`)), deadlineMs);
    });
    await Promise.race([exited, late]).finally(() => clearTimeout(timer));
  }
}

/** What a tree looks like now, through the mount. */
export async function lookAt(root: string): Promise<Observed> {
  const seen = await new Client('look', { root }).result();
  return new Map(seen.map(([path, text, mtimeNs]) => [path, { text, mtimeNs: BigInt(mtimeNs) }]));
}
