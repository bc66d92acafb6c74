import { describe, expect, it } from 'vitest';
import { planMounts } from '../../src/native/plan.ts';
import type { NativeRule } from '../../src/native/rule.ts';

const SCOPE = { tenant: 'blue', tenantId: 7, allow: ['/var/tarbox', '/usr'] };

function rule(fields: Partial<NativeRule>): NativeRule {
  return { path: '/here', source: '/var/tarbox/x', mode: undefined, shared: true, priority: 0, ...fields };
}

/** Why a rule is refused; undefined when it isn't. */
function refusal(fields: Partial<NativeRule>, scope = SCOPE): string | undefined {
  return planMounts([rule(fields)], scope)[0]?.refused?.error;
}

describe('a plan of native mounts', () => {
  it('fills the tenant in, and says where the source is below what is allowed', () => {
    const source = '/var/tarbox/{tenant}/{tenant_id}//./x/';
    expect(planMounts([rule({ source, shared: false, path: '//.venv/./lib/' })], SCOPE)).toMatchObject([
      {
        path: '/.venv/lib',
        names: ['.venv', 'lib'],
        allowed: '/var/tarbox',
        sourceNames: ['blue', '7', 'x'],
        readOnly: false,
        refused: undefined,
      },
    ]);
  });

  it('takes a system directory to be for reading, unless the rule says otherwise', () => {
    const readOnly = (fields: Partial<NativeRule>) => planMounts([rule(fields)], SCOPE)[0]?.readOnly;
    expect(readOnly({ source: '/usr/lib' })).toBe(true);
    expect(readOnly({ source: '/usr/lib', mode: 'rw' })).toBe(false);
    expect(readOnly({ source: '/var/tarbox' })).toBe(false);
    expect(readOnly({ mode: 'ro' })).toBe(true);
  });

  it('has the outermost first, whatever their priorities', () => {
    const rules = [rule({ path: '/a/b/c', priority: 9 }), rule({ path: '/a', priority: 1 }), rule({ path: '/a/b' })];
    expect(planMounts(rules, SCOPE).map(({ path }) => path)).toEqual(['/a', '/a/b', '/a/b/c']);
  });

  it('lets the highest priority win where paths collide, and otherwise the first', () => {
    const rules = [rule({ source: '/usr' }), rule({ priority: 5 }), rule({ priority: 5, source: '/usr/lib' })];
    expect(planMounts(rules, SCOPE).map(({ source, refused }) => [source, refused?.state])).toEqual([
      ['/var/tarbox/x', undefined],
      ['/usr/lib', 'overridden'],
      ['/usr', 'overridden'],
    ]);
  });

  it('does not let a refused rule hide another one', () => {
    const planned = planMounts([rule({ source: '/root', priority: 9 }), rule({})], SCOPE);
    expect(planned.map(({ refused }) => refused?.state)).toEqual(['failed', undefined]);
  });

  it.each([
    [{ path: 'relative' }, 'the path must start with /'],
    [{ path: '/' }, 'cannot replace the root'],
    [{ path: '/./' }, 'cannot replace the root'],
    [{ path: '/a/../b' }, 'the path may not have .. in it'],
    [{ path: '/.tarbox/layers' }, '/.tarbox is reserved'],
    [{ path: '/a\0b' }, 'the path has a NUL in it'],
    [{ path: `/${'é'.repeat(128)}` }, 'a name in the path is too long'],
    [{ source: 'relative' }, 'the source must start with /'],
    [{ source: '/var/tarbox/../../etc' }, 'the source may not have .. in it'],
    [{ source: '/etc' }, '/etc is outside of what TARBOX_NATIVE_ALLOW allows (/var/tarbox:/usr)'],
    [{ source: '/var/tarbox-2/x' }, 'is outside of what TARBOX_NATIVE_ALLOW allows'],
    [{ source: '/var/tarbox/x', shared: false }, 'the source is not per tenant: put {tenant_id}'],
  ])('refuses %j', (fields, reason) => {
    expect(refusal(fields)).toContain(reason);
  });

  it('refuses a tenant that would lead out', () => {
    expect(refusal({ source: '/var/tarbox/{tenant}', shared: false }, { ...SCOPE, tenant: '..' })).toContain('..');
  });

  it('allows nothing where nothing is allowed', () => {
    expect(refusal({}, { ...SCOPE, allow: [] })).toContain('allows (nothing)');
  });
});
