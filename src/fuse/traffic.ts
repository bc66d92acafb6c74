import { Histogram } from '../histogram.ts';
import { OPCODE } from './wire/operations.ts';

/** More than there are opcodes. Number 0 stands for all that control files are asked. */
const SERIES = 64;
export const CONTROL_SERIES = 0;
/** Bytes of a WRITE before its data. */
const WRITE_HEADER_BYTES = 80;

/** What the kernel has asked so far, by opcode, and how long the answers took: from being read to being answered. */
export class Traffic {
  readonly durations = new Histogram(SERIES);
  readonly #failures = new Float64Array(SERIES);
  /** Requests that had to wait for a load: of names, attributes or listings; of content. */
  metadataMisses = 0;
  chunkMisses = 0;
  readBytes = 0;
  writtenBytes = 0;

  /** `result`: bytes of the answer, or a negative errno. */
  record(series: number, ms: number, result: number, requestBytes: number): void {
    this.durations.record(series, ms);
    if (result < 0) this.#failures[series] = (this.#failures[series] ?? 0) + 1;
    else if (series === OPCODE.READ) this.readBytes += result;
    else if (series === OPCODE.WRITE) this.writtenBytes += requestBytes - WRITE_HEADER_BYTES;
  }

  failures(series: number): number {
    return this.#failures[series] ?? 0;
  }

  /** The series that anything was counted in. */
  seen(): number[] {
    return [...this.durations.counts().keys()].filter((series) => this.durations.of(series).count > 0);
  }
}
