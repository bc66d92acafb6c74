/** Byte arrays one behind the other, in one piece of memory that can be handed to another thread without a copy. */
export interface Batch {
  readonly lengths: readonly number[];
  readonly bytes: ArrayBuffer;
}

/** Copies the parts into a new batch. */
export function batchOf(parts: readonly Uint8Array[]): Batch {
  const lengths = parts.map((part) => part.length);
  const bytes = new Uint8Array(lengths.reduce((total, length) => total + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { lengths, bytes: bytes.buffer };
}

/** The parts of a batch, which share its memory. */
export function partsOf({ lengths, bytes }: Batch): Buffer[] {
  let at = 0;
  return lengths.map((length) => {
    const part = Buffer.from(bytes, at, length);
    at += length;
    return part;
  });
}
