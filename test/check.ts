import { execa } from 'execa';

/** Fewer modules than this mean that the check of import directions looked at nothing. */
const LEAST_MODULES = 50;

interface Check {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** What is wrong with a run that exited with 0, if anything. */
  readonly verify?: (output: string) => string | undefined;
}

const checks: readonly Check[] = [
  { name: 'types', command: ['tsc', '--noEmit'] },
  { name: 'lint and format', command: ['biome', 'check', '--error-on-warnings'] },
  { name: 'floating promises', command: ['oxlint', '--type-aware', 'src', 'test'] },
  {
    name: 'import direction',
    command: ['depcruise', '--config', '.dependency-cruiser.mjs', 'src', 'test'],
    verify: (output) => {
      const modules = Number(output.match(/(\d+) modules/)?.[1] ?? 0);
      return modules < LEAST_MODULES ? `only ${modules} modules were looked at` : undefined;
    },
  },
  { name: 'unused code', command: ['knip', '--no-progress'] },
];

/** Runs every check, side by side, and tells of those that failed. */
const results = await Promise.all(
  checks.map(async ({ name, command: [program, ...args], verify }) => {
    const { all, exitCode } = await execa(program, args, { all: true, reject: false });
    const problem = exitCode === 0 ? verify?.(all) : all;
    process.stdout.write(problem === undefined ? `ok    ${name}\n` : `FAIL  ${name}\n${problem}\n`);
    return problem === undefined;
  }),
);
if (results.includes(false)) process.exitCode = 1;
