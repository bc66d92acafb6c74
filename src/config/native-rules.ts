import type { NativeRule } from '../native/rule.ts';
import type { Kind } from './kinds.ts';

const KEYS = ['path', 'source', 'mode', 'shared', 'priority'];

/** The rules of native mounts. What a rule means is for `mounts/list` to say; here it has to be of the form of one. */
export const nativeRules: Kind<readonly NativeRule[]> = {
  allowed:
    'a list of {"path", "source"} with "mode" ("ro" or "rw"), "shared" (true or false) and "priority" (a whole number) where wanted',
  toml: ['list'],
  parse: (text) => {
    const found = parsed(text);
    if (!Array.isArray(found)) return undefined;
    const rules = found.map(ruleOf);
    return rules.every((rule) => rule !== undefined) ? rules : undefined;
  },
  format: (rules) => JSON.stringify(rules),
};

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function ruleOf(value: unknown): NativeRule | undefined {
  if (typeof value !== 'object' || value === null || !Object.keys(value).every((key) => KEYS.includes(key)))
    return undefined;
  // An object whose every key is one of a rule's; their values are looked at below.
  const { path, source, mode, shared = false, priority = 0 } = value as { readonly [key: string]: unknown };
  if (typeof path !== 'string' || typeof source !== 'string' || typeof shared !== 'boolean') return undefined;
  if (mode !== undefined && mode !== 'ro' && mode !== 'rw') return undefined;
  if (typeof priority !== 'number' || !Number.isInteger(priority)) return undefined;
  return { path, source, mode, shared, priority };
}
