import { type Durability, isBarrier } from '../operation.ts';
import { machineMs, oplogWriter } from '../oplog.ts';
import { perform, undoHead } from '../perform.ts';
import { Plan, type PlanOptions } from '../plan.ts';
import type { Program } from './program.ts';

export interface LoadOptions {
  /** An absolute path; the tree of the plan is made in it. */
  readonly root: string;
  readonly plan: PlanOptions;
  /** How many operations have been carried out before. */
  readonly from: number;
  readonly oplog: string;
  readonly durability: Durability;
  /** Its pause after each operation. */
  readonly thinkMs: number;
}

/** Carries a plan out, one operation after the other, and logs each one that returned. */
export const load: Program<LoadOptions, number> = {
  async run({ root, plan: options, from, oplog, durability, thinkMs }, { system, stopping, ready }) {
    const plan = new Plan(options);
    plan.skipTo(from);
    const record = oplogWriter(oplog);
    ready();
    while (!(await stopping())) {
      const operation = plan.choose();
      if (plan.length === from) undoHead(system, root, operation);
      plan.apply(operation);
      const startedMs = machineMs();
      try {
        perform(system, root, operation);
      } catch (problem) {
        throw new Error(`operation ${plan.length} (${operation.kind}) failed`, { cause: problem });
      }
      const barrier = isBarrier(operation, durability);
      record({ length: plan.length, startedMs, returnedMs: machineMs(), barrier });
      if (thinkMs > 0) await new Promise((resolve) => setTimeout(resolve, thinkMs));
    }
    return plan.length;
  },
};
