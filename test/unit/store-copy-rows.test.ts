import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CopyRows } from '../../src/store/copy-rows.ts';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');

function int4(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function int2(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

/** As PostgreSQL writes rows (manual, COPY, Binary Format). */
function written(rows: readonly (readonly (Buffer | null)[])[], extension = Buffer.alloc(0)): Buffer {
  const value = (bytes: Buffer | null) => (bytes === null ? [int4(-1)] : [int4(bytes.length), bytes]);
  return Buffer.concat([
    ...[SIGNATURE, int4(0), int4(extension.length), extension],
    ...rows.flatMap((row) => [int2(row.length), ...row.flatMap(value)]),
    int2(-1),
  ]);
}

const value = fc.oneof(
  fc.constant(null),
  fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
);
const rowLists = fc.array(fc.array(value, { maxLength: 4 }), { maxLength: 6 });

describe('the rows of a COPY', () => {
  it('are read from parts that are cut anywhere and change as soon as they’re taken', () => {
    fc.assert(
      fc.property(rowLists, fc.array(fc.nat(), { maxLength: 40 }), (list, cuts) => {
        const bytes = written(list);
        const places = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        const rows = new CopyRows();
        let from = 0;
        for (const place of places) {
          const part = Buffer.from(bytes.subarray(from, place));
          rows.take(part);
          part.fill(0xee);
          from = place;
        }
        expect(rows.rows()).toEqual(list);
      }),
    );
  });

  it('are read behind an extension of the header, which is skipped', () => {
    const rows = new CopyRows();
    rows.take(written([[Buffer.from('one')]], Buffer.from('something new')));
    expect(rows.rows()).toEqual([[Buffer.from('one')]]);
  });

  it('of a chunk’s size are each in memory of their own', () => {
    const rows = new CopyRows();
    rows.take(written([[Buffer.alloc(5000, 1)], [Buffer.alloc(5000, 2)]]));
    for (const [bytes] of rows.rows()) expect(bytes?.buffer.byteLength).toBe(5000);
  });

  it('are refused when their end is missing', () => {
    const bytes = written([[Buffer.from('one'), null]]);
    for (let end = 0; end < bytes.length; end++) {
      const rows = new CopyRows();
      rows.take(bytes.subarray(0, end));
      expect(() => rows.rows()).toThrow('broke off');
    }
  });

  it('are refused when they’re not in the binary format', () => {
    const rows = new CopyRows();
    rows.take(Buffer.from('one\ttwo\nthree\tfour and some more\n'));
    expect(() => rows.rows()).toThrow('binary format');
  });
});
