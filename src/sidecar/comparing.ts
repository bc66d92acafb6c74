import { Diffs } from '../layers/diff.ts';
import { DiffThreads } from '../layers/diff-threads.ts';
import { Histories } from '../layers/history.ts';
import type { Layers } from '../layers/layers.ts';
import type { VersionStore } from '../layers/port.ts';
import type { TenantStore } from '../store/store.ts';
import type { Workspace } from '../vfs/workspace.ts';
import { patiently } from './layering.ts';

export interface ComparingParts {
  readonly store: TenantStore;
  readonly layers: Layers;
  readonly workspace: Workspace;
  readonly now: () => number;
  readonly takeKernelPages: () => Promise<void>;
  readonly commit: () => Promise<void>;
}

/** What compares layers, and versions of files. */
export interface Comparing {
  readonly diffs: Diffs;
  readonly histories: Histories;
}

export function comparing({ store, layers, workspace, now, takeKernelPages, commit }: ComparingParts): Comparing {
  const { versions } = store;
  const patient: VersionStore = {
    atOneMoment: (work) => patiently(() => versions.atOneMoment(work)),
    chunks: (hashes) => patiently(() => versions.chunks(hashes)),
  };
  const parts = {
    store: patient,
    layers,
    threads: new DiffThreads(),
    chunks: { load: patient.chunks, cached: (hash: string) => workspace.chunks.peek(hash) },
    settle: async () => {
      await takeKernelPages();
      await commit();
    },
  };
  return {
    diffs: new Diffs({ ...parts, sequence: () => workspace.sequence }),
    histories: new Histories({ ...parts, now }),
  };
}
