import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';

/**
 * Every test there is: vitest's and bats', then a line of totals. Arguments are passed to vitest, and then bats is left
 * out: `node test/run.ts test/unit`.
 */
interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

const root = join(import.meta.dirname, '..');
const filters = process.argv.slice(2);
const totals: Totals = { passed: 0, failed: 0, skipped: 0 };

await runVitest();
if (filters.length === 0) await runBats();

const { passed, failed, skipped } = totals;
process.stdout.write(`\nTotal: ${passed} passed, ${failed} failed, ${skipped} skipped\n`);
if (failed > 0 || passed === 0) process.exitCode = 1;

/** The summary of vitest's JSON reporter, as far as it's used. */
interface VitestReport {
  readonly success: boolean;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
}

async function runVitest(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tarbox-test-'));
  const report = join(folder, 'report.json');
  try {
    const { exitCode } = await execa(
      'vitest',
      [
        'run',
        '--config',
        'test/vitest.config.ts',
        '--reporter=default',
        '--reporter=json',
        `--outputFile=${report}`,
        ...filters,
      ],
      { cwd: root, stdio: 'inherit', reject: false, preferLocal: true },
    );
    // Written by vitest, in the form above.
    const found = JSON.parse(readFileSync(report, 'utf8')) as VitestReport;
    totals.passed += found.numPassedTests;
    totals.skipped += found.numPendingTests + found.numTodoTests;
    // A file that doesn't load, or an error outside of any test, fails the run without counting as a test.
    totals.failed += Math.max(found.numFailedTests, exitCode === 0 ? 0 : 1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function runBats(): Promise<void> {
  // By its path: npm ci makes no link for it, since a lock file has no place for `directories.bin`.
  const bats = join(root, 'node_modules/bats/bin/bats');
  const { stdout, exitCode } = await execa(bats, ['--tap', '--timing', 'test/mount'], {
    cwd: root,
    stdout: ['inherit', 'pipe'],
    stderr: 'inherit',
    reject: false,
    preferLocal: true,
  });
  const lines = stdout.split('\n');
  const skipped = lines.filter((line) => /^ok .*# skip/.test(line)).length;
  const failed = lines.filter((line) => line.startsWith('not ok ')).length;
  totals.passed += lines.filter((line) => line.startsWith('ok ')).length - skipped;
  totals.skipped += skipped;
  totals.failed += Math.max(failed, exitCode === 0 ? 0 : 1);
}
