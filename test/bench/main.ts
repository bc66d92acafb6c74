/**
 * Measures Tarbox beside a plain directory and two other FUSE filesystems, with the same workloads, interleaved in
 * one run. Prints a table; nothing fails because it is slow. Needs root (mounts, dropping caches).
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchAudit } from './audit.ts';
import { buildPrograms } from './build.ts';
import { Cleanup } from './cleanup.ts';
import { openDisk } from './disk.ts';
import { type LayerResults, measureLayers } from './layers/measure.ts';
import { describeMachine } from './machine.ts';
import { type Options, parseOptions, USAGE } from './options.ts';
import { installPackages, missingPackages } from './packages.ts';
import { report } from './report.ts';
import { ResidentSampler } from './resident.ts';
import type { Results, Sample } from './results.ts';
import { type RunnerParts, runSuite } from './runner.ts';
import { measureStorage } from './storage/measure.ts';
import { TARGETS } from './targets/all.ts';
import type { Target, TargetKind } from './targets/target.ts';
import { type Archive, makeArchive } from './tree/archive.ts';
import { chooseSuites } from './workloads/all.ts';

const interrupted = new AbortController();
const cleanup = new Cleanup();

async function bench(options: Options): Promise<Results> {
  const { signal } = interrupted;
  if (options.install && missingPackages().length > 0) await installPackages(missingPackages(), signal);
  const work = mkdtempSync(join(tmpdir(), 'tarbox-bench-'));
  cleanup.add(work, async () => rmSync(work, { recursive: true, force: true }));
  chmodSync(work, 0o755); // the embedded server runs as nobody
  const disk = await openDisk(options.disk, work, signal, cleanup);
  const machine = describeMachine(disk.description);
  const programs = await buildPrograms(work, signal);
  const { kinds, missing } = chooseTargets(options);
  const targets: Target[] = [];
  for (const kind of kinds) targets.push(await startTarget(kind, disk.directory));
  const sampler = new ResidentSampler(targets);
  const suites = chooseSuites(options);
  const isSubject = (name: string): boolean => kinds.some((kind) => kind.subject && kind.name === name);
  const archive = archives(work, options.treeFiles);
  const parts: RunnerParts = { programs, sampler, signal, archive, onSamples: progress };
  const samples: Sample[] = [];
  for (const suite of suites) {
    const its = targets.filter(({ name }) => name === 'plain' || suite.opponents.includes(name) || isSubject(name));
    if (its.length > 0) samples.push(...(await runSuite(suite, its, options.rounds, parts)));
  }
  sampler.sample();
  sampler.stop();
  const layers: LayerResults[] = [];
  const sizes = options.only.test('layers') && kinds.some(({ subject }) => subject) ? options.layerFiles : [];
  for (const files of sizes) layers.push(await measureLayers(files, { disk: disk.directory, signal, cleanup }));
  const withStorage = options.only.test('storage') && kinds.some(({ subject }) => subject);
  const { versions } = options;
  return {
    machine,
    options,
    targets: targets.map(({ name, description }) => ({ name, description, subject: isSubject(name) })),
    missing,
    rows: suites.flatMap(({ steps }) => steps).flatMap(({ rows }) => rows),
    samples,
    resident: sampler.results(),
    layers,
    storage: withStorage ? await measureStorage({ versions, work, signal, cleanup }) : undefined,
  };
}

/** @throws {Error} when a name isn't one of a target. */
function chooseTargets({ targets }: Options): { kinds: TargetKind[]; missing: Results['missing'] } {
  const unknown = targets?.find((name) => !TARGETS.some((kind) => kind.name === name));
  if (unknown !== undefined) throw new Error(`there is no target ${unknown}`);
  const wanted = TARGETS.filter(({ name }) => targets === undefined || targets.includes(name));
  const missing = wanted.map((kind) => ({ name: kind.name, reason: kind.missing() }));
  return {
    kinds: wanted.filter((kind) => kind.missing() === undefined),
    missing: missing.flatMap(({ name, reason }) => (reason === undefined ? [] : [{ name, reason }])),
  };
}

async function startTarget(kind: TargetKind, disk: string): Promise<Target> {
  const directory = join(disk, kind.name);
  mkdirSync(directory);
  const target = await kind.start({ directory, signal: interrupted.signal });
  cleanup.add(kind.name, () => target.stop());
  return target;
}

/** The archive of each round, made when first asked for. */
function archives(work: string, files: number): (round: number) => Promise<Archive> {
  const made = new Map<number, Promise<Archive>>();
  return (round) => {
    const known = made.get(round) ?? makeArchive(work, files, round + 1, interrupted.signal);
    made.set(round, known);
    return known;
  };
}

function progress(samples: readonly Sample[]): void {
  for (const { row, unit, target, round, value, processor, failure } of samples) {
    const used = Object.entries(processor).map(([role, seconds]) => `${role} ${seconds} s`);
    const figure =
      value === undefined ? `failed: ${failure}` : [`${Number(value.toPrecision(4))} ${unit}`, ...used].join(', ');
    process.stderr.write(`${row}, round ${round + 1}, ${target}: ${figure}\n`);
  }
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  if (process.getuid?.() !== 0) throw new Error('the bench mounts filesystems and drops caches: run it as root');
  if (options.audit !== undefined) {
    for (const { name, unit, value } of await benchAudit(options.audit, cleanup))
      process.stdout.write(`${name}: ${Number(value.toPrecision(4))} ${unit}\n`);
    return 0;
  }
  const results = await bench(options);
  process.stdout.write(`${report(results)}\n`);
  if (options.json !== undefined) {
    // A regular expression has no JSON of its own.
    const plain = { ...results, options: { ...options, only: options.only.source } };
    writeFileSync(options.json, `${JSON.stringify(plain, undefined, 2)}\n`);
  }
  return 0;
}

for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort(new Error(name)));

try {
  process.exitCode = await main();
} catch (problem) {
  const stopped = interrupted.signal.aborted;
  process.stderr.write(stopped ? 'interrupted; cleaning up\n' : `${String(problem)}\n`);
  process.exitCode = stopped ? 130 : 1;
} finally {
  await cleanup.run();
}
