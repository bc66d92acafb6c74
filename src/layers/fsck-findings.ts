import { type Ino, type LayerId, ROOT_INO } from '../brand.ts';
import type { ByteString, Place } from '../vfs/store.ts';
import type { Counts, Problem } from './fsck.ts';
import type { Finding } from './fsck-judge.ts';
import type { CheckStore, LayerRecord, NameOf, Repairs, StoredTenant } from './port.ts';
import { placeOf } from './tree.ts';

/** Problems that are told of one by one. */
const MAX_TOLD = 200;
/** Repairs of a pass; the next one finds the rest. */
const MAX_REPAIRS = 10_000;

interface Found {
  readonly layer: LayerId | undefined;
  /** What the path leads to, or the directory and the name that it ends in. */
  readonly at: { readonly ino: Ino } | { readonly parent: Ino; readonly name: ByteString } | undefined;
  readonly problem: string;
}

/** What a pass has found. */
export class Findings {
  readonly counts: Counts = { layers: 0, files: 0, references: 0, chunks: 0, bytes: 0 };
  readonly layers: ReadonlyMap<LayerId, LayerRecord>;
  readonly totals: Repairs['totals'][number][] = [];
  /** Those of the tree, as they ought to be. */
  workingTotals: { readonly usedBytes: number; readonly usedInodes: number };
  problemCount = 0;
  problems: readonly Problem[] = [];
  readonly #store: CheckStore;
  readonly #found: Found[] = [];
  readonly #findings: { readonly place: Place; readonly finding: Finding }[] = [];
  readonly #tags: string[] = [];
  readonly #hidden: (NameOf & { readonly layer: LayerId })[] = [];

  constructor(store: CheckStore, { layers, usedBytes, usedInodes }: StoredTenant) {
    this.#store = store;
    this.layers = new Map(layers.map((layer) => [layer.id, layer]));
    this.workingTotals = { usedBytes, usedInodes };
  }

  /** Whether a layer is there, and everything that it builds on. */
  isWhole(layer: LayerId): boolean {
    const seen = new Set<LayerId>();
    for (let at: LayerId | undefined = layer; at !== undefined; ) {
      const record = this.layers.get(at);
      if (record === undefined || seen.has(at)) return false;
      seen.add(at);
      at = record.parent;
    }
    return true;
  }

  get hasRepairs(): boolean {
    return this.#findings.length + this.totals.length + this.#tags.length > 0;
  }

  add(layer: LayerId | undefined, at: Found['at'], problem: string): void {
    this.problemCount++;
    if (this.#found.length < MAX_TOLD) this.#found.push({ layer, at, problem });
  }

  addFile(layer: LayerId, ino: Ino, problem: string): void {
    this.add(layer, { ino }, problem);
  }

  addName(layer: LayerId, parent: Ino, name: ByteString, problem: string): void {
    this.add(layer, { parent, name }, problem);
  }

  addTag(tag: string, problem: string): void {
    this.add(undefined, undefined, problem);
    this.#tags.push(tag);
  }

  addFinding(place: Place, finding: Finding): void {
    this.addFile(place.layer, finding.ino, finding.problem);
    const { set, setTypes, hideNames, dropContent } = finding;
    if ((set ?? setTypes ?? hideNames ?? dropContent) !== undefined && this.#findings.length < MAX_REPAIRS)
      this.#findings.push({ place, finding });
  }

  /** Finds out what has to be known while the moment lasts: where problems are, and which names are to go. */
  async withPaths(): Promise<this> {
    const problems: Problem[] = [];
    for (const { layer, at, problem } of this.#found) {
      const record = layer === undefined ? undefined : this.layers.get(layer);
      const name = layer === undefined ? undefined : record === undefined ? `${layer}` : (record.name ?? 'working');
      const path = layer === undefined || at === undefined ? undefined : await this.#pathOf(layer, at);
      problems.push({ layer: name, path, problem });
    }
    this.problems = problems;
    for (const { place, finding } of this.#findings)
      if (finding.hideNames)
        for (const { parent, name } of await this.#store.namesOf(place, [finding.ino]))
          this.#hidden.push({ parent, name, layer: place.layer });
    return this;
  }

  async #pathOf(layer: LayerId, at: NonNullable<Found['at']>): Promise<string> {
    if ('ino' in at && at.ino === ROOT_INO) return '/';
    if (!this.isWhole(layer)) return 'ino' in at ? `inode ${at.ino}` : textOf(at.name);
    const place = placeOf(this.layers, layer);
    const names: string[] = 'name' in at ? [textOf(at.name)] : [];
    const seen = new Set<Ino>();
    let ino = 'ino' in at ? at.ino : at.parent;
    while (ino !== ROOT_INO && !seen.has(ino)) {
      seen.add(ino);
      // Of several names always the same one.
      const [named] = [...(await this.#store.namesOf(place, [ino]))].sort(byPlace);
      if (named === undefined) return [`inode ${ino}`, ...names].join('/');
      names.unshift(textOf(named.name));
      ino = named.parent;
    }
    // It may lead in circles.
    return `${ino === ROOT_INO ? '' : '…'}/${names.join('/')}`;
  }

  repairs(): Repairs {
    return {
      inodes: this.#findings.flatMap(({ place, finding: { ino, set } }) =>
        set === undefined ? [] : [{ ino, place, nlink: set.nlink, parent: set.parent, allocated: set.allocated }],
      ),
      types: this.#findings.flatMap(({ place, finding: { ino, setTypes } }) => (setTypes ? [{ ino, place }] : [])),
      contents: this.#findings.flatMap(({ place: { layer }, finding: { ino, dropContent } }) =>
        dropContent ? [{ ino, layer }] : [],
      ),
      names: this.#hidden,
      totals: this.totals,
      tags: this.#tags,
    };
  }
}

function byPlace(one: NameOf, other: NameOf): number {
  if (one.parent !== other.parent) return one.parent - other.parent;
  return one.name < other.name ? -1 : 1;
}

/** A name for people; what isn't UTF-8 in it can't be shown. */
function textOf(name: ByteString): string {
  return Buffer.from(name, 'latin1').toString('utf8');
}
