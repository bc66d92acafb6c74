import { Levels } from '../../src/audit/levels.ts';
import { AUDIT_BYTES, AuditLog } from '../../src/audit/log.ts';
import { FULL } from '../../src/audit/operations.ts';

/** A log in memory of its own, at a level. Nothing in it is ever stored. */
export function memoryLog(level = FULL, memory = new ArrayBuffer(AUDIT_BYTES)): AuditLog {
  const log = new AuditLog({ memory, tenant: 1, nowMs: 1000, onRecord: () => {} });
  log.levels = new Levels(level, []);
  return log;
}
