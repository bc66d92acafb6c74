import { Random } from '../model/random.ts';

/**
 * One call that changes the tree, and reaches the sidecar as one request that does, or as two (`headOf`): what the tree
 * holds after a crash must be the result of a prefix of these. `fsync` changes nothing, and is the barrier for everything before it.
 * Paths are relative to the client's directory, whose own path is empty.
 */
export type Operation =
  | { readonly kind: 'create'; readonly path: string; readonly mode: number }
  | { readonly kind: 'mkdir'; readonly path: string }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'link'; readonly from: string; readonly path: string }
  | { readonly kind: 'unlink'; readonly path: string }
  | { readonly kind: 'rmdir'; readonly path: string }
  /** Replaces what `path` names, if anything. */
  | { readonly kind: 'rename'; readonly from: string; readonly path: string }
  | { readonly kind: 'exchange'; readonly from: string; readonly path: string }
  /** `appends`: the offset is left to the kernel (O_APPEND). `sync`: the call waits for the commit (O_SYNC). */
  | {
      readonly kind: 'write';
      readonly path: string;
      readonly offset: number;
      readonly appends: boolean;
      readonly length: number;
      readonly fill: number;
      /** Only so many of the bytes. */
      readonly keep?: number;
      readonly sync: boolean;
    }
  | { readonly kind: 'truncate'; readonly path: string; readonly size: number }
  /** Makes a hole. */
  | { readonly kind: 'punch'; readonly path: string; readonly offset: number; readonly length: number }
  | { readonly kind: 'copy'; readonly from: string; readonly path: string; readonly length: number }
  | { readonly kind: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly kind: 'chown'; readonly path: string; readonly uid: number; readonly gid: number }
  | { readonly kind: 'utimes'; readonly path: string; readonly mtimeNs: bigint }
  | { readonly kind: 'setxattr'; readonly path: string; readonly name: string; readonly value: string }
  | { readonly kind: 'removexattr'; readonly path: string; readonly name: string }
  | { readonly kind: 'fsync'; readonly path: string };

/** One in so many writes has bytes that don't compress. */
const NOISE_EVERY = 4;
const NOISE = new Uint32Array(256 * 1024);
const random = new Random(1);
for (let at = 0; at < NOISE.length; at++) NOISE[at] = random.next();

/** The bytes that a write with this `fill` writes, 512 KiB at most: no two fills give the same of more than a few. */
export function bytesOf(fill: number, length: number): Buffer {
  if (fill % NOISE_EVERY !== 0) return Buffer.alloc(length, `${fill} `);
  const bytes = Buffer.alloc(length);
  Buffer.from(NOISE.buffer).copy(bytes, 0, (fill * 4099) % (NOISE.byteLength / 2));
  bytes.write(`${fill} `);
  return bytes;
}

const PAGE_BYTES = 4096;

/**
 * What the first request does of a call that may be made of two: a write that starts inside of a page is sent up to
 * that page's end, and then the rest, where the page isn't cached whole (fuse_fill_write_pages).
 */
export function headOf(operation: Operation): Operation | undefined {
  if (operation.kind !== 'write') return undefined;
  const inPage = operation.offset % PAGE_BYTES;
  if (inPage === 0 || inPage + operation.length <= PAGE_BYTES) return undefined;
  return { ...operation, keep: PAGE_BYTES - inPage };
}

/** TARBOX_DURABILITY: what waits for the commit. */
export type Durability = 'relaxed' | 'close' | 'strict';

/** Whether the call's return says that everything before it is committed. */
export function isBarrier(operation: Operation, durability: Durability): boolean {
  if (durability === 'strict') return true;
  if (durability === 'close' && CLOSING.includes(operation.kind)) return true;
  return operation.kind === 'fsync' || (operation.kind === 'write' && operation.sync);
}

/** What opens a file and closes it. */
const CLOSING: readonly Operation['kind'][] = ['create', 'write', 'punch', 'copy', 'fsync'];

/** One line, for people. */
export function describeOperation(operation: Operation): string {
  const { kind, ...fields } = operation;
  const shown = Object.entries(fields).map(([name, value]) => `${name}=${value}`);
  return `${kind} ${shown.join(' ')}`;
}
