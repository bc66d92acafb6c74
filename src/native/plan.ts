import { join } from 'node:path';
import type { NativeRule, NativeState } from './rule.ts';

/** Whose mounts they are, and where their sources may be. */
export interface NativeScope {
  readonly tenant: string;
  readonly tenantId: number;
  /** Directories of the host, absolute. */
  readonly allow: readonly string[];
}

/** A rule as it's to be carried out for a tenant. */
export interface PlannedMount {
  readonly rule: NativeRule;
  /** Normalised, from the workspace's root: `/.venv`. */
  readonly path: string;
  /** The names of the path. */
  readonly names: readonly string[];
  /** With its templates filled in. */
  readonly source: string;
  /** The allowed directory that the source is in, and the names from there. */
  readonly allowed: string;
  readonly sourceNames: readonly string[];
  readonly readOnly: boolean;
  /** Set when it can't be mounted, whatever the machine looks like. */
  readonly refused: { readonly state: NativeState; readonly error: string } | undefined;
}

/** Where what belongs to the system is. */
const SYSTEM = ['/bin', '/boot', '/etc', '/lib', '/lib32', '/lib64', '/opt', '/sbin', '/usr'];
const NAME_MAX_BYTES = 255;

/**
 * What to mount where, outermost first; of rules with the same path the one with the highest priority, of those the
 * first, counts. Pure: nothing is looked at.
 */
export function planMounts(rules: readonly NativeRule[], scope: NativeScope): readonly PlannedMount[] {
  const planned = rules.map((rule) => plan(rule, scope)).sort((a, b) => b.rule.priority - a.rule.priority);
  const taken = new Map<string, NativeRule>();
  const decided = planned.map((mount) => {
    if (mount.refused !== undefined) return mount;
    const winner = taken.get(mount.path);
    if (winner === undefined) {
      taken.set(mount.path, mount.rule);
      return mount;
    }
    const error = `another rule has this path, with priority ${winner.priority}`;
    return { ...mount, refused: { state: 'overridden', error } as const };
  });
  return decided.sort((a, b) => a.names.length - b.names.length);
}

function plan(rule: NativeRule, scope: NativeScope): PlannedMount {
  const source = rule.source.replaceAll('{tenant}', scope.tenant).replaceAll('{tenant_id}', String(scope.tenantId));
  const names = namesOf(rule.path);
  const sourceNames = namesOf(source);
  const path = `/${names.join('/')}`;
  const isSystem = SYSTEM.some((directory) => isWithin(namesOf(directory), sourceNames));
  const base = { rule, path, names, source, readOnly: (rule.mode ?? (isSystem ? 'ro' : 'rw')) === 'ro' };
  const allowed = scope.allow.find((directory) => isWithin(namesOf(directory), sourceNames));
  const error =
    problemOfPath(rule.path, names) ??
    problemOfSource(rule, sourceNames) ??
    (allowed === undefined ? outside(source, scope) : undefined);
  return {
    ...base,
    allowed: allowed ?? '/',
    sourceNames: sourceNames.slice(namesOf(allowed ?? '/').length),
    refused: error === undefined ? undefined : { state: 'failed', error },
  };
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

/** Whether a path is another one or below it. */
export function isWithin(outer: readonly string[], inner: readonly string[]): boolean {
  return outer.every((name, at) => inner[at] === name);
}

function problemOfPath(path: string, names: readonly string[]): string | undefined {
  if (!path.startsWith('/')) return 'the path must start with /, which is the root of the workspace';
  if (names.length === 0) return 'a native mount cannot replace the root of the workspace';
  if (names[0] === '.tarbox') return '/.tarbox is reserved: it holds the control files';
  return problemOfNames(names, 'path');
}

function problemOfSource({ source, shared }: NativeRule, names: readonly string[]): string | undefined {
  if (!source.startsWith('/')) return 'the source must start with /';
  if (!shared && !/\{tenant(?:_id)?\}/.test(source))
    return 'the source is not per tenant: put {tenant_id} or {tenant} in it, or set shared = true';
  return problemOfNames(names, 'source');
}

function problemOfNames(names: readonly string[], what: string): string | undefined {
  if (names.includes('..')) return `the ${what} may not have .. in it`;
  if (names.some((name) => name.includes('\0'))) return `the ${what} has a NUL in it`;
  if (names.some((name) => Buffer.byteLength(name) > NAME_MAX_BYTES)) return `a name in the ${what} is too long`;
  return undefined;
}

function outside(source: string, { allow }: NativeScope): string {
  const allowed = allow.length === 0 ? 'nothing' : allow.map((directory) => join(directory)).join(':');
  return `${source} is outside of what TARBOX_NATIVE_ALLOW allows (${allowed})`;
}
