import { mkdtempSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect } from 'vitest';
import { removeFolder } from './folder.ts';

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const DEADLINE_MS = 60_000;

/** What an attempt to start a sidecar came to. */
export interface Attempt {
  readonly exitCode: number | undefined;
  /** Everything on standard error. */
  readonly text: string;
  /** The lines of errors, as a person reads them: plain ones, and the reasons of logged ones. */
  readonly problems: readonly string[];
}

/**
 * Starts a sidecar that is expected to end by itself; `through` is a command that runs it. One that doesn't end is told
 * to stop after a while, as by Ctrl-C.
 */
export async function attemptStart(
  env: Readonly<Record<string, string>>,
  through: readonly string[] = [],
): Promise<Attempt> {
  const [program = process.execPath, ...args] = [...through, process.execPath, MAIN];
  const { exitCode, stderr } = await execa(program, args, {
    env,
    reject: false,
    stdin: 'ignore',
    timeout: DEADLINE_MS,
    killSignal: 'SIGINT',
    forceKillAfterDelay: DEADLINE_MS,
  });
  const problems = stderr.split('\n').flatMap(problemOf);
  return { exitCode, text: stderr, problems };
}

function problemOf(line: string): string[] {
  if (!line.startsWith('{')) return line === '' ? [] : [line];
  // A line of the log is a JSON object.
  const { level, reason, problem } = JSON.parse(line) as { level: string; reason?: string; problem?: object };
  return level === 'error' ? [reason ?? JSON.stringify(problem)] : [];
}

/** The attempt ended by itself, having told of exactly this one problem. */
export function expectProblem(attempt: Attempt, exitCode: number, problem: string | RegExp): void {
  expect(attempt.problems, attempt.text).toHaveLength(1);
  expect(attempt.problems[0]).toMatch(problem);
  expect(attempt.exitCode).toBe(exitCode);
}

/** A folder for the tests of a block, which any user may enter; removed after them. */
export function useFolder(): () => string {
  let folder = '';
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tarbox-attempt-'));
    await chmod(folder, 0o755);
  });
  afterAll(() => removeFolder(folder));
  return () => folder;
}
