import { createHash } from 'node:crypto';
import type { Ino } from '../../src/brand.ts';
import type {
  Batch,
  ByteString,
  Commits,
  DentryImage,
  DirectoryPage,
  InodeImage,
  Loads,
  SegmentImage,
} from '../../src/vfs/store.ts';

/** Storage in memory, with copies of all that it's given: what `Loads` and `Commits` promise, and nothing else. */
export class MemoryStore implements Loads, Commits {
  readonly #inodes = new Map<Ino, InodeImage>();
  readonly #dentries = new Map<string, DentryImage>();
  readonly #segments = new Map<string, SegmentImage>();
  readonly #chunks = new Map<ByteString, Buffer>();
  readonly batches: Batch[] = [];

  async putChunks(chunks: readonly Uint8Array[]): Promise<readonly ByteString[]> {
    return chunks.map((chunk) => {
      const hash = createHash('sha256').update(chunk).digest().toString('latin1');
      this.#chunks.set(hash, Buffer.from(chunk));
      return hash;
    });
  }

  async commit(batch: Batch): Promise<void> {
    this.batches.push(batch);
    for (const inode of batch.inodes) this.#inodes.set(inode.ino, { ...inode, xattrs: copyOf(inode.xattrs) });
    for (const ino of batch.removedInodes) this.#inodes.delete(ino);
    for (const dentry of batch.dentries) this.#dentries.set(`${dentry.parent}/${dentry.name}`, dentry);
    for (const { parent, name } of batch.removedDentries) this.#dentries.delete(`${parent}/${name}`);
    for (const { ino, index } of batch.removedSegments)
      for (const [key, segment] of this.#segments)
        if (segment.ino === ino && segment.index >= index) this.#segments.delete(key);
    for (const segment of batch.segments) {
      const missing = segment.chunks.find(({ hash }) => hash !== '' && !this.#chunks.has(hash));
      if (missing !== undefined) throw new Error('a batch refers to a chunk that is not stored');
      this.#segments.set(`${segment.ino}/${segment.index}`, { ...segment, inline: copyOf(segment.inline) });
    }
  }

  async inodes(inos: readonly Ino[]): Promise<readonly InodeImage[]> {
    return inos.flatMap((ino) => this.#inodes.get(ino) ?? []);
  }

  async directory(parent: Ino, after: number, limit: number): Promise<DirectoryPage> {
    const all = [...this.#dentries.values()].filter((dentry) => dentry.parent === parent && dentry.cookie > after);
    const dentries = all.sort((a, b) => a.cookie - b.cookie).slice(0, limit);
    const inodes = await this.inodes(dentries.map(({ ino }) => ino));
    return { dentries, inodes, complete: dentries.length < limit };
  }

  async name(parent: Ino, name: ByteString): Promise<{ dentry: DentryImage; inode: InodeImage } | undefined> {
    const dentry = this.#dentries.get(`${parent}/${name}`);
    const inode = dentry === undefined ? undefined : this.#inodes.get(dentry.ino);
    return dentry === undefined || inode === undefined ? undefined : { dentry, inode };
  }

  async namesOf(ino: Ino): Promise<readonly DentryImage[]> {
    return [...this.#dentries.values()].filter((dentry) => dentry.ino === ino);
  }

  async segments(ino: Ino, from: number, to: number): Promise<readonly SegmentImage[]> {
    const all = [...this.#segments.values()].filter((segment) => segment.ino === ino);
    return all.filter(({ index }) => index >= from && index < to).sort((a, b) => a.index - b.index);
  }

  async firstSegments(inos: readonly Ino[]): Promise<readonly SegmentImage[]> {
    return inos.flatMap((ino) => this.#segments.get(`${ino}/0`) ?? []);
  }

  async chunks(hashes: readonly ByteString[]): Promise<ReadonlyMap<ByteString, Buffer>> {
    return new Map(
      hashes.map((hash) => {
        const data = this.#chunks.get(hash);
        if (data === undefined) throw new Error('a chunk is missing');
        return [hash, Buffer.from(data)];
      }),
    );
  }

  async orphans(): Promise<readonly InodeImage[]> {
    return [...this.#inodes.values()].filter(({ nlink }) => nlink === 0);
  }
}

function copyOf(bytes: Uint8Array | null): Buffer | null {
  return bytes === null ? null : Buffer.from(bytes);
}
