import { type Ino, type LayerId, ROOT_INO } from '../brand.ts';
import { FsError } from '../errno.ts';
import { type ByteString, type Place, StoreError } from '../vfs/store.ts';
import { Findings } from './fsck-findings.ts';
import { judge } from './fsck-judge.ts';
import type { Layers } from './layers.ts';
import {
  type CheckStore,
  type ContentKey,
  FIRST_CONTENT,
  type LayerRecord,
  type RepairStore,
  type StoredTenant,
} from './port.ts';
import { placeOf } from './tree.ts';

export interface CheckerParts {
  readonly store: CheckStore & RepairStore;
  readonly layers: Layers;
  /** Commits what has been done so far. @throws {FsError} */
  readonly commit: () => Promise<void>;
  /** Tries until the database is there. */
  readonly whenAvailable: <T>(work: () => Promise<T>) => Promise<T>;
}

/** A problem, in words. */
export interface Problem {
  /** Undefined for one that is of no layer. */
  readonly layer: string | undefined;
  readonly path: string | undefined;
  readonly problem: string;
}

/** How much was looked at. */
export interface Counts {
  layers: number;
  files: number;
  references: number;
  chunks: number;
  bytes: number;
}

export interface Checked extends Readonly<Counts> {
  readonly problemCount: number;
  /** The first of them, and whether they were repaired. */
  readonly problems: readonly (Problem & { readonly repaired: boolean })[];
  readonly repairedCount: number;
}

const FILES = 500;
const REFERENCES = 1000;
const CHUNKS = 64;
const CHAINS = 1000;
const BAD_COOKIES = 100;
const NAMES = 500;
/** What is repaired may show what else is wrong: a name less is a link less. */
const MAX_PASSES = 4;

/**
 * Checks the stored tree of every layer, as it's committed at one moment, while the workspace is in use. A layer is
 * judged by what it changes: a tree is right when the one below is and every file that differs is.
 */
export class Checker {
  readonly #parts: CheckerParts;
  #stopped = false;

  constructor(parts: CheckerParts) {
    this.#parts = parts;
  }

  /** Ends what is under way after its step, and lets nothing more begin. */
  stop(): void {
    this.#stopped = true;
  }

  /** @throws {FsError} EROFS, ENOSPC, EIO */
  async check(repair: boolean): Promise<Checked> {
    await this.#parts.commit();
    const first = await this.#pass();
    let last = first;
    for (let pass = 1; repair && last.hasRepairs && pass < MAX_PASSES; pass++) {
      await this.#repair(last);
      last = await this.#pass();
    }
    const left = new Set(last.problems.map(textOf));
    const problems = first.problems.map((problem) => ({ ...problem, repaired: !left.has(textOf(problem)) }));
    const repairedCount = repair ? Math.max(0, first.problemCount - last.problemCount) : 0;
    return { ...first.counts, problemCount: first.problemCount, problems, repairedCount };
  }

  /** One look at everything; begun anew when the database goes away. */
  async #pass(): Promise<Findings> {
    const { store, whenAvailable } = this.#parts;
    try {
      return await whenAvailable(async () => {
        this.#requireGoing();
        await store.begin();
        return await this.#look();
      });
    } catch (problem) {
      throw problem instanceof StoreError ? refusal(problem) : problem;
    } finally {
      await store.end().catch(() => {}); // the moment is over in any case
    }
  }

  #requireGoing(): void {
    if (this.#stopped) throw new FsError('EIO', 'stopped before all of it was done');
  }

  async #look(): Promise<Findings> {
    const { store } = this.#parts;
    const tenant = await store.tenant();
    const findings = new Findings(store, tenant);
    checkTenant(tenant, findings);
    await this.#checkReferences(await this.#checkChunks(findings), findings);
    await this.#checkChains(findings);
    const totals = new Map<LayerId, Totals>();
    for (const layer of tenant.layers) {
      if (findings.isWhole(layer.id)) await this.#checkLayer(layer, tenant, findings, totals);
    }
    for (const layer of await store.lostLayers())
      findings.add(
        undefined,
        undefined,
        `there are rows of layer ${layer}, which does not exist; control/gc removes them`,
      );
    return await findings.withPaths();
  }

  async #checkChunks(findings: Findings): Promise<readonly ByteString[]> {
    const damaged: ByteString[] = [];
    for (let after: ByteString | undefined = ''; after !== undefined; ) {
      this.#requireGoing();
      const page = await this.#parts.store.chunks(after, CHUNKS);
      findings.counts.chunks += page.chunks;
      findings.counts.bytes += page.bytes;
      damaged.push(...page.damaged);
      after = page.last;
    }
    return damaged;
  }

  async #checkChains(findings: Findings): Promise<void> {
    for (let after: ByteString | undefined = ''; after !== undefined; ) {
      this.#requireGoing();
      const page = await this.#parts.store.chains(after, CHAINS);
      for (const { hash, problem } of page.bad)
        findings.add(undefined, undefined, `chunk ${Buffer.from(hash, 'latin1').toString('hex')}: ${problem}`);
      after = page.last;
    }
  }

  async #checkReferences(damaged: readonly ByteString[], findings: Findings): Promise<void> {
    for (let after: ContentKey | undefined = FIRST_CONTENT; after !== undefined; ) {
      this.#requireGoing();
      const page = await this.#parts.store.references(after, REFERENCES, damaged);
      findings.counts.references += page.rows;
      for (const { ino, layer, segment, problem } of page.bad)
        findings.addFile(layer, ino, `part ${segment} of its content is ${problem}`);
      after = page.last;
    }
  }

  async #checkLayer(
    layer: LayerRecord,
    tenant: StoredTenant,
    findings: Findings,
    totals: Map<LayerId, Totals>,
  ): Promise<void> {
    const { store } = this.#parts;
    const place = placeOf(findings.layers, layer.id);
    await store.gather(place);
    const directories = await this.#checkFiles(place, findings);
    await this.#checkReach(place, directories, findings);
    for (const { parent, name } of await store.badCookies(place, tenant.nextCookie, BAD_COOKIES))
      findings.addName(layer.id, parent, name, 'its place in the listing is wrong');
    await this.#checkTotals(layer, place, tenant, findings, totals);
    findings.counts.layers++;
  }

  /** Resolves to the directories among the files, each with the one that it's in. */
  async #checkFiles(place: Place, findings: Findings): Promise<Map<Ino, Ino>> {
    const directories = new Map<Ino, Ino>();
    for (let after = 0 as Ino; ; ) {
      this.#requireGoing();
      const files = await this.#parts.store.files(place, after, FILES);
      for (const file of files) {
        for (const finding of judge(file)) findings.addFinding(place, finding);
        const { ino, mode, names, namedIn } = file;
        if (mode !== undefined && names === 1 && namedIn !== undefined && isDirectory(mode))
          directories.set(ino, namedIn);
      }
      findings.counts.files += files.length;
      const last = files[files.length - 1];
      if (last === undefined) return directories;
      after = last.ino;
    }
  }

  /** Whether each of these directories leads up to the root. */
  async #checkReach(place: Place, directories: ReadonlyMap<Ino, Ino>, findings: Findings): Promise<void> {
    const parents = new Map<Ino, Ino | undefined>(directories);
    for (let unknown = unknownIn(parents); unknown.length > 0; unknown = unknownIn(parents))
      for (let from = 0; from < unknown.length; from += NAMES) {
        const some = unknown.slice(from, from + NAMES);
        const named = new Map((await this.#parts.store.namesOf(place, some)).map(({ ino, parent }) => [ino, parent]));
        for (const ino of some) parents.set(ino, named.get(ino));
      }
    const fine = new Set<Ino>([ROOT_INO]);
    for (const ino of directories.keys())
      if (leadsInCircles(ino, parents, fine)) findings.addFile(place.layer, ino, 'the directory is below itself');
  }

  async #checkTotals(
    layer: LayerRecord,
    place: Place,
    tenant: StoredTenant,
    findings: Findings,
    totals: Map<LayerId, Totals>,
  ): Promise<void> {
    const below = layer.parent === undefined ? { bytes: 0, inodes: 0 } : totals.get(layer.parent);
    const own = await this.#parts.store.totals(place);
    const bytes = (below?.bytes ?? 0) + own.bytes;
    const inodes = (below?.inodes ?? 0) + own.inodes;
    totals.set(layer.id, { bytes, inodes });
    const working = layer.id === tenant.working;
    const stored = working ? tenant : layer;
    if (stored.usedBytes !== bytes || stored.usedInodes !== inodes) {
      const said = `${stored.usedInodes} files with ${stored.usedBytes} bytes`;
      findings.add(layer.id, undefined, `the totals say ${said}, and there are ${inodes} with ${bytes}`);
      findings.totals.push({ layer: layer.id, working, bytes, inodes });
    }
    if (working) findings.workingTotals = { usedBytes: bytes, usedInodes: inodes };
    if (working && own.lastInoBelow >= layer.firstIno)
      findings.add(
        layer.id,
        undefined,
        `inode ${own.lastInoBelow} is older than the layer, which begins at ${layer.firstIno}`,
      );
  }

  async #repair(findings: Findings): Promise<void> {
    const { store, layers, whenAvailable } = this.#parts;
    const repairs = findings.repairs();
    const inos = [
      ...new Set([...repairs.inodes, ...repairs.types].map(({ ino }) => ino)),
      ...repairs.names.map(({ parent }) => parent),
    ];
    try {
      await layers.rewrite(inos, findings.workingTotals, () => whenAvailable(() => store.repair(repairs)));
    } catch (problem) {
      throw problem instanceof StoreError ? refusal(problem) : problem;
    }
  }
}

interface Totals {
  readonly bytes: number;
  readonly inodes: number;
}

function textOf({ layer, path, problem }: Problem): string {
  return JSON.stringify([layer, path, problem]);
}

function refusal(problem: StoreError): FsError {
  const codes = { unavailable: 'EIO', refused: 'EIO', full: 'ENOSPC', 'lease-lost': 'EROFS' } as const;
  return new FsError(codes[problem.failure], problem.message, { cause: problem });
}

const DIRECTORY_MODE = 0o040000;
const TYPE_MASK = 0o170000;

function isDirectory(mode: number): boolean {
  return (mode & TYPE_MASK) === DIRECTORY_MODE;
}

/** Parents of which it isn't known yet where they are. */
function unknownIn(parents: ReadonlyMap<Ino, Ino | undefined>): Ino[] {
  const unknown = new Set<Ino>();
  for (const parent of parents.values())
    if (parent !== undefined && parent !== ROOT_INO && !parents.has(parent)) unknown.add(parent);
  return [...unknown];
}

/** Adds to `fine` what is found to be. */
function leadsInCircles(ino: Ino, parents: ReadonlyMap<Ino, Ino | undefined>, fine: Set<Ino>): boolean {
  const way: Ino[] = [];
  const seen = new Set<Ino>();
  for (let at: Ino | undefined = ino; at !== undefined && !fine.has(at); at = parents.get(at)) {
    if (seen.has(at)) return true;
    seen.add(at);
    way.push(at);
  }
  for (const each of way) fine.add(each);
  return false;
}

/** The numbers and the layers themselves. */
function checkTenant(tenant: StoredTenant, findings: Findings): void {
  const { layers, tags, working, nextLayer, nextIno, nextCookie, lastIno, lastCookie } = tenant;
  const add = (problem: string, layer?: LayerId) => findings.add(layer, undefined, problem);
  if (!findings.layers.has(working)) add(`the working layer, ${working}, does not exist`);
  if (layers.some(({ id }) => id >= nextLayer)) add(`the next layer would be ${nextLayer}, which is taken`);
  if (lastIno >= nextIno) add(`the next inode would be ${nextIno}, and ${lastIno} is taken`);
  if (lastCookie >= nextCookie) add(`the next name would be number ${nextCookie}, and ${lastCookie} is taken`);
  for (const { id, parent, name, frozenAt } of layers) {
    if (parent === undefined && id !== layers[0]?.id) add('it builds on nothing', id);
    if (parent !== undefined && !findings.layers.has(parent))
      add(`it builds on layer ${parent}, which does not exist`, id);
    if (parent !== undefined && parent >= id) add(`it builds on layer ${parent}, which is not older`, id);
    if ((id === working) !== (name === undefined) || (id === working) !== (frozenAt === undefined))
      add(id === working ? 'it takes writes and is frozen' : 'it is not frozen', id);
    if (parent === working) add('it builds on the working layer', id);
  }
  for (const [tag, layer] of tags) {
    const target = findings.layers.get(layer);
    if (target === undefined || layer === working) findings.addTag(tag, `the tag '${tag}' points at no layer`);
    else if (layers.some(({ name }) => name === tag)) findings.addTag(tag, `the tag '${tag}' has the name of a layer`);
  }
}
