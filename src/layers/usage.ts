import type { Ino, LayerId } from '../brand.ts';
import type { ByteString } from '../vfs/store.ts';
import type { Layers } from './layers.ts';
import type { ContentKey, UsageStore } from './port.ts';

export interface UsageParts {
  readonly store: UsageStore;
  readonly layers: Layers;
  /** Of the tree. */
  readonly totals: () => { readonly inodes: number; readonly bytes: number };
}

/** What is stored of all layers' content together. */
interface Stored {
  /** Content of all versions of all files, holes left out: what a copy of each would take. */
  versionBytes: number;
  /** Each content once, as it is; of that, what is in the rows of tiny files. */
  distinctBytes: number;
  inlineBytes: number;
  storedBytes: number;
  chunks: number;
  deltas: number;
  deltaRawBytes: number;
  deltaStoredBytes: number;
}

/** Rows that are looked at in one query: some 10 ms of the server's. */
const CHUNKS = 2000;
const ROWS = 500;
/** Adding up takes no more than this share of the time, however often somebody asks. */
const MOST_SHARE = 0.1;

const FIRST_KEY: ContentKey = { ino: 0 as Ino, segment: -1, layer: 0 as LayerId }; // before every row

/** The figures of `stats/usage`: made anew when asked for, unless they've just been made. */
export function usageOf({ store, layers, totals }: UsageParts): () => Promise<object> {
  let stored: Promise<Stored> | undefined;
  let goodUntilMs = Number.NEGATIVE_INFINITY;

  async function measure(): Promise<Stored> {
    const started = performance.now();
    const sum = await addUp(store);
    const ended = performance.now();
    goodUntilMs = ended + (ended - started) / MOST_SHARE;
    return sum;
  }

  function current(): Promise<Stored> {
    if (stored !== undefined && performance.now() < goodUntilMs) return stored;
    // Whoever asks meanwhile waits for the same.
    goodUntilMs = Number.POSITIVE_INFINITY;
    const measuring = measure();
    measuring.catch(() => {
      goodUntilMs = Number.NEGATIVE_INFINITY;
    });
    stored = measuring;
    return measuring;
  }

  return async () => {
    const pending = await store.unpacked();
    const sum = await current();
    const { inodes, bytes } = totals();
    return {
      tree: { files: inodes, bytes },
      layers: { count: layers.all.size, tags: layers.tags.size },
      content: {
        version_bytes: sum.versionBytes,
        distinct_bytes: sum.distinctBytes,
        stored_bytes: sum.storedBytes,
        inline_bytes: sum.inlineBytes,
        chunks: sum.chunks,
        dedup_ratio: ratio(sum.versionBytes, sum.distinctBytes),
        compression_ratio: ratio(sum.distinctBytes, sum.storedBytes),
      },
      packer: {
        pending,
        delta_chunks: sum.deltas,
        raw_bytes: sum.deltaRawBytes,
        stored_bytes: sum.deltaStoredBytes,
        ratio: ratio(sum.deltaRawBytes, sum.deltaStoredBytes),
      },
    };
  };
}

async function addUp(store: UsageStore): Promise<Stored> {
  const sum: Stored = {
    versionBytes: 0,
    distinctBytes: 0,
    inlineBytes: 0,
    storedBytes: 0,
    chunks: 0,
    deltas: 0,
    deltaRawBytes: 0,
    deltaStoredBytes: 0,
  };
  for (let after: ByteString | undefined = ''; after !== undefined; ) {
    const page = await store.chunks(after, CHUNKS);
    sum.chunks += page.chunks;
    sum.distinctBytes += page.rawBytes;
    sum.storedBytes += page.storedBytes;
    sum.deltas += page.deltas;
    sum.deltaRawBytes += page.deltaRawBytes;
    sum.deltaStoredBytes += page.deltaStoredBytes;
    after = page.last;
  }
  for (let after: ContentKey | undefined = FIRST_KEY; after !== undefined; ) {
    const page = await store.contents(after, ROWS);
    sum.versionBytes += page.bytes;
    sum.inlineBytes += page.inlineBytes;
    after = page.last;
  }
  sum.distinctBytes += sum.inlineBytes;
  sum.storedBytes += sum.inlineBytes;
  return sum;
}

/** How many times the one is the other, to two digits; 1 where there's nothing. */
function ratio(bytes: number, of: number): number {
  return of === 0 ? 1 : Math.round((bytes / of) * 100) / 100;
}
