import { hash } from 'node:crypto';
import type { ByteString } from '../vfs/store.ts';

/** SHA-256 as 32 characters of a byte each. Synchronous: 1.6 GB/s. */
export function sha256(data: Uint8Array): ByteString {
  return hash('sha256', data, 'buffer').toString('latin1');
}
