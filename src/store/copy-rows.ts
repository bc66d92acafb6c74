/** COPY's binary format starts with this (PostgreSQL manual, COPY, File Formats); flags and an extension follow. */
export const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');

const HEADER_BYTES = SIGNATURE.length + 8;

/** Takes the bytes of a COPY … TO STDOUT (FORMAT binary) as they come, in parts of any size; each is copied once. */
export class CopyRows {
  readonly #rows: (Buffer | null)[][] = [];
  readonly #number = Buffer.alloc(4);
  #row: (Buffer | null)[] = [];
  #fieldsLeft = 0;
  #awaits: 'header' | 'extension' | 'fields' | 'length' | 'value' | 'nothing' = 'header';
  /** Where what it awaits goes, and how much of it is there. */
  #target: Buffer = Buffer.alloc(HEADER_BYTES);
  #filled = 0;
  #problem: Error | undefined;

  take(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length && this.#awaits !== 'nothing') {
      const taken = bytes.copy(this.#target, this.#filled, at);
      at += taken;
      this.#filled += taken;
      if (this.#filled === this.#target.length) this.#goOn();
    }
  }

  /** The rows, once all bytes have come; each value in a buffer of its own. @throws {Error} when they're not rows */
  rows(): (Buffer | null)[][] {
    if (this.#problem !== undefined) throw this.#problem;
    if (this.#awaits !== 'nothing') throw new Error('COPY broke off its answer');
    return this.#rows;
  }

  #goOn(): void {
    switch (this.#awaits) {
      case 'header': {
        if (!this.#target.subarray(0, SIGNATURE.length).equals(SIGNATURE)) {
          this.#problem = new Error('COPY did not answer in its binary format');
          this.#awaits = 'nothing';
          return;
        }
        const extensionBytes = this.#target.readInt32BE(HEADER_BYTES - 4);
        if (extensionBytes > 0) this.#await('extension', Buffer.alloc(extensionBytes));
        else this.#awaitNumber('fields', 2);
        return;
      }
      case 'extension':
        this.#awaitNumber('fields', 2);
        return;
      case 'fields':
        this.#startRow(this.#number.readInt16BE(0));
        return;
      case 'length': {
        const length = this.#number.readInt32BE(0);
        if (length <= 0) this.#put(length < 0 ? null : Buffer.alloc(0));
        else this.#await('value', length < 64 ? Buffer.allocUnsafe(length) : Buffer.allocUnsafeSlow(length));
        return;
      }
      case 'value':
        this.#put(this.#target);
        return;
      case 'nothing':
        return;
    }
  }

  #startRow(fields: number): void {
    if (fields < 0) {
      this.#awaits = 'nothing';
      return;
    }
    this.#row = [];
    this.#fieldsLeft = fields;
    this.#next();
  }

  #put(value: Buffer | null): void {
    this.#row.push(value);
    this.#fieldsLeft--;
    this.#next();
  }

  #next(): void {
    if (this.#fieldsLeft > 0) {
      this.#awaitNumber('length', 4);
      return;
    }
    this.#rows.push(this.#row);
    this.#awaitNumber('fields', 2);
  }

  #awaitNumber(what: 'fields' | 'length', bytes: number): void {
    this.#await(what, this.#number.subarray(0, bytes));
  }

  #await(what: 'extension' | 'fields' | 'length' | 'value', target: Buffer): void {
    this.#awaits = what;
    this.#target = target;
    this.#filled = 0;
  }
}
