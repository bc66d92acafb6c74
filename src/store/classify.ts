import { StoreError, type StoreFailure } from '../vfs/store.ts';

/**
 * SQLSTATE classes and codes after which the same may be tried again (PostgreSQL manual, appendix A), and what the
 * system and the client library say of a connection.
 */
const UNAVAILABLE =
  /^(?:08|40|57P0|53000|53200|53300|55P03|57014|25006|CONNECT|ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOST|ENET|EAI_AGAIN|ENOTFOUND|ERR_STREAM)/;
const DISK_FULL = '53100';
export const UNIQUE_VIOLATION = '23505';

/** Turns whatever a client throws into a StoreError, its message one line. */
export function classify(problem: unknown): StoreError {
  if (problem instanceof StoreError) return problem;
  const code = codeOf(problem);
  const said = messageOf(problem).replace(/\s+/g, ' ').trim();
  const message = code === '' || said.includes(code) ? said : `${said} (${code})`.trim();
  return new StoreError(failureOf(code), message, { cause: problem });
}

function failureOf(code: string): StoreFailure {
  if (UNAVAILABLE.test(code)) return 'unavailable';
  return code === DISK_FULL ? 'full' : 'refused';
}

function messageOf(problem: unknown): string {
  // Of several addresses of one name; has no message of its own.
  if (problem instanceof AggregateError) return problem.errors.map(messageOf).join(', ');
  return problem instanceof Error ? problem.message : String(problem);
}

function codeOf(problem: unknown): string {
  if (typeof problem !== 'object' || problem === null || !('code' in problem)) return '';
  return String(problem.code);
}

/** Whether a rejected statement would have made a key a second time. */
export function isUniqueViolation(problem: unknown): boolean {
  return problem instanceof StoreError && codeOf(problem.cause) === UNIQUE_VIOLATION;
}
