import type { Observed } from './observe.ts';
import { describeOperation, headOf } from './operation.ts';
import { Plan, type PlanOptions } from './plan.ts';
import type { Description, Touched, Tree } from './tree.ts';

/** Which prefixes of a plan give exactly the tree that was seen; the next operation may be there in part (`headOf`). */
export interface Match {
  /** Lengths of those prefixes: a run of neighbours, since some operations change nothing that can be seen. */
  readonly least: number;
  readonly most: number;
}

/** How many differences are told of. */
const SHOWN = 8;

/**
 * Compares what was seen with the tree after each of the first `longest` operations.
 *
 * @throws {Error} when it's none of them: with the nearest, and what differs from it.
 */
export function matchPrefix(options: PlanOptions, longest: number, seen: Observed): Match {
  const plan = new Plan(options);
  const wrong = new Set<string>();
  check(plan.tree, seen, 'all', wrong);
  const matching: number[] = [];
  let nearest = { length: 0, differences: wrong.size };
  for (;;) {
    if (wrong.size === 0) matching.push(plan.length);
    if (wrong.size < nearest.differences) nearest = { length: plan.length, differences: wrong.size };
    if (plan.length >= longest) break;
    const operation = plan.choose();
    const head = headOf(operation);
    if (head !== undefined) {
      check(plan.tree, seen, plan.tree.apply(head), wrong);
      if (wrong.size === 0) matching.push(plan.length);
    }
    check(plan.tree, seen, plan.apply(operation), wrong);
  }
  const [least] = matching;
  const most = matching.at(-1);
  if (least === undefined || most === undefined)
    throw new Error(
      `the tree is not the result of any prefix of the ${longest} operations; nearest is ${explain(options, nearest.length, seen)}`,
    );
  return { least, most };
}

/** What differs between the tree after `length` operations and what was seen; undefined when nothing does. */
export function differenceFrom(options: PlanOptions, length: number, seen: Observed): string | undefined {
  const plan = new Plan(options);
  plan.skipTo(length);
  const wrong = new Set<string>();
  check(plan.tree, seen, 'all', wrong);
  return wrong.size === 0 ? undefined : `the tree differs from ${explain(options, length, seen)}`;
}

function check(tree: Tree, seen: Observed, touched: Touched, wrong: Set<string>): void {
  if (touched === 'all') wrong.clear();
  for (const path of touched === 'all' ? new Set([...tree.paths(), ...seen.keys()]) : touched)
    if (isSame(tree.describe(path), seen.get(path))) wrong.delete(path);
    else wrong.add(path);
}

function isSame(expected: Description | undefined, found: Description | undefined): boolean {
  if (expected === undefined || found === undefined) return expected === found;
  if (expected.text !== found.text) return false;
  return expected.mtimeNs === undefined || expected.mtimeNs === found.mtimeNs;
}

function explain(options: PlanOptions, length: number, seen: Observed): string {
  const plan = new Plan(options);
  const last = plan.skipTo(length);
  const wrong = new Set<string>();
  check(plan.tree, seen, 'all', wrong);
  const lines = [...wrong].slice(0, SHOWN).map((path) => {
    const [expected, found] = [plan.tree.describe(path), seen.get(path)];
    return `  '${path}'\n    expected ${line(expected)}\n    found    ${line(found)}`;
  });
  return `that of ${length} (seed ${options.seed}, the last is: ${last === undefined ? 'none' : describeOperation(last)}), with ${wrong.size} paths that differ:\n${lines.join('\n')}`;
}

function line(description: Description | undefined): string {
  if (description === undefined) return 'nothing';
  const { text, mtimeNs } = description;
  return mtimeNs === undefined ? text : `${text} mtime=${mtimeNs}`;
}
