/**
 * The byte strings of a statement, gathered into one parameter. This client library sends parameters as text, and the
 * server parses arrays of bytea slowly; one bytea and lists of places in it cost least.
 */
export class Blob {
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;

  /** Adds these; returns lists of their offsets (from 1, as `substring` counts) and lengths (-1 for null). */
  lists(values: readonly (Uint8Array | null)[]): [offsets: string, lengths: string] {
    const offsets: number[] = [];
    const lengths: number[] = [];
    for (const value of values) {
      offsets.push(this.#bytes + 1);
      lengths.push(value === null ? -1 : value.length);
      if (value === null) continue;
      this.#parts.push(value);
      this.#bytes += value.length;
    }
    return [`{${offsets.join()}}`, `{${lengths.join()}}`];
  }

  /** All of them, as the parameter. */
  concat(): Buffer {
    return Buffer.concat(this.#parts, this.#bytes);
  }
}

/** SQL for the bytes at a place in the blob. */
export function placeInBlob(blob: string, offset: string, length: string): string {
  return `CASE WHEN ${length} < 0 THEN NULL ELSE substring(${blob} FROM ${offset} FOR ${length}) END`;
}
