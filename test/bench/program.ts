import { execa } from 'execa';

/** No step takes longer than this unless something hangs. */
const DEADLINE_MS = 15 * 60_000;

export interface RunOptions {
  readonly directory?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** The program's output isn't wanted. */
  readonly discard?: boolean;
}

export interface RunResult {
  readonly stdout: string;
  /** From before the program was started until it had ended. */
  readonly seconds: number;
}

/**
 * Runs a program to its end. Its locale is C.
 *
 * @throws {Error} when it can't be started, fails, takes longer than 15 minutes, or the signal aborts it.
 */
export async function run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const started = performance.now();
  const { stdout } = await execa(command, args, {
    cwd: options.directory ?? '/',
    env: { LC_ALL: 'C', ...options.environment },
    cancelSignal: options.signal,
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
    stdin: 'ignore',
    stdout: options.discard === true ? 'ignore' : 'pipe',
    stderr: 'pipe',
    maxBuffer: 64 * 1024 * 1024,
  });
  return { stdout: stdout ?? '', seconds: (performance.now() - started) / 1000 };
}
