import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadConfig } from '../../src/config/config.ts';
import { ALL_SETTINGS } from '../../src/config/settings.ts';

const code = (text: string | null | undefined): string => (text ? `\`${text}\`` : '');

it('lists every setting in the README, with its default', () => {
  const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
  const defaults = loadConfig({});
  const rows = ALL_SETTINGS.map(({ env, toml, description, live, show }) => {
    const meaning = `${description}${live ? ' (live)' : ''}`;
    return `| ${code(env)} | ${code(toml)} | ${code(show(defaults))} | ${meaning} |`;
  });
  for (const row of rows) expect(readme).toContain(row);
});
