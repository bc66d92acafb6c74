import { describe, expect, it } from 'vitest';
import { targetOfUrl } from '../../src/store/address.ts';
import { StoreError } from '../../src/vfs/store.ts';

describe('the target of a database URL', () => {
  it('is what the URL says, decoded', () => {
    expect(targetOfUrl('postgres://us%40er:p%2Fa%3As%25s@db.example:5433/na%2Fme?sslmode=require')).toEqual({
      addresses: [{ host: 'db.example', port: 5433 }],
      user: 'us@er',
      password: 'p/a:s%s',
      database: 'na/me',
      ssl: 'require',
      options: undefined,
    });
  });

  it('leaves out what the URL doesn’t say', () => {
    expect(targetOfUrl('postgresql://db.example')).toEqual({
      addresses: [{ host: 'db.example', port: 5432 }],
      user: undefined,
      password: undefined,
      database: undefined,
      ssl: 'prefer',
      options: undefined,
    });
  });

  const addresses: readonly [url: string, expected: readonly (readonly [host: string, port: number])[]][] = [
    [
      'postgres://a:1,b,c:3/db',
      [
        ['a', 1],
        ['b', 5432],
        ['c', 3],
      ],
    ],
    ['postgres://[::1]:5433/db', [['::1', 5433]]],
    ['postgres://[fe80::1]/db', [['fe80::1', 5432]]],
    ['postgres://user@/db?host=/run/postgresql', [['/run/postgresql', 5432]]],
    ['postgres:///db?host=/run/postgresql&port=5433', [['/run/postgresql', 5433]]],
    ['postgres://user@%2Frun%2Fpostgresql:5433/db', [['/run/postgresql', 5433]]],
    ['postgres://user@/db', [['localhost', 5432]]],
    [
      'postgres://ignored/db?host=a.example,b.example',
      [
        ['a.example', 5432],
        ['b.example', 5432],
      ],
    ],
  ];
  it.each(addresses)('of %s has its addresses in order', (url, expected) => {
    expect(targetOfUrl(url).addresses).toEqual(expected.map(([host, port]) => ({ host, port })));
  });

  it('takes user, password and database from parameters too', () => {
    expect(targetOfUrl('postgres://db.example?user=u&password=p%26w&dbname=d')).toMatchObject({
      user: 'u',
      password: 'p&w',
      database: 'd',
    });
  });

  it('keeps the options of the session, and ignores what is libpq’s own business', () => {
    const url =
      'postgres://h/d?options=-c%20a%3Db&channel_binding=require&target_session_attrs=read-write&application_name=x';
    expect(targetOfUrl(url).options).toBe('-c a=b');
  });

  it('uses no TLS on a socket', () => {
    expect(targetOfUrl('postgres:///db?host=/run/postgresql&sslmode=require').ssl).toBe(false);
  });

  it.each(['verify-ca', 'verify-full'])('checks the server’s certificate with sslmode=%s', (mode) => {
    expect(targetOfUrl(`postgres://h/d?sslmode=${mode}`).ssl).toMatchObject({
      checkServerIdentity: expect.any(Function),
    });
  });

  it.each([
    'postgres://user:secret/word@host/db',
    'postgres://user:sec%ret@host/db',
    'postgres://user:secret#@host/db',
    'postgres://user:secret@host:port/db',
    'http://user:secret@host/db',
    'secret',
  ])('is refused without showing anything of a malformed URL: %s', (url) => {
    let problem: unknown;
    try {
      targetOfUrl(url);
    } catch (reason) {
      problem = reason;
    }
    expect(problem).toBeInstanceOf(StoreError);
    expect(problem).toMatchObject({ failure: 'refused', message: 'DATABASE_URL is not a PostgreSQL URL' });
    expect(problem).not.toHaveProperty('cause');
  });

  it('is refused with an sslmode that isn’t known, or a certificate that can’t be read', () => {
    expect(() => targetOfUrl('postgres://h/d?sslmode=maybe')).toThrow("sslmode 'maybe' is not known");
    expect(() => targetOfUrl('postgres://h/d?sslmode=verify-ca&sslrootcert=/nowhere')).toThrow(
      '/nowhere, cannot be read',
    );
  });
});
