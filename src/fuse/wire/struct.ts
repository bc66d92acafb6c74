/**
 * Little-endian C structs, declared once as a list of named fields. From one declaration come the layout
 * (checked when the module loads), the TypeScript type, a plain decoder for traces and tests, and a reader and
 * writer generated as straight-line code for the path that every request takes.
 *
 * The generated code goes through a `DataView` kept on the buffer: measured on Node 24 it reads 17 fields in 15 ns,
 * as fast as a `Uint32Array` (which needs aligned buffers), where composing bytes takes 37 ns and
 * `Buffer.readUInt32LE` 121 ns.
 */

/**
 * - `u8` `u16` `u32` `i32`: exact.
 * - `u64` `i64`: a JavaScript number, exact up to 2^53 and rounded beyond; identities that use all 64 bits are
 *   declared as two `u32` (low word first).
 * - `['bytes', n]`: n bytes without a value: padding, spares, and what is read by hand. Writers zero them.
 */
export type FieldType = ScalarType | readonly ['bytes', number];
export type ScalarType = 'u64' | 'i64' | 'u32' | 'i32' | 'u16' | 'u8';
type Declaration = { readonly [field: string]: FieldType };

/** A value of the struct: every field that isn't plain bytes, as a number. */
export type Fields<D extends Declaration> = {
  -readonly [K in keyof D as D[K] extends ScalarType ? K : never]: number;
};

/** The value type of a declared struct: `ValueOf<typeof inHeader>`. */
export type ValueOf<S extends { blank(): unknown }> = ReturnType<S['blank']>;

/**
 * Fills and returns one object that it owns: the next call overwrites it.
 * Throws RangeError when a field lies past the buffer's end; missing padding isn't noticed.
 */
export type Reader<T> = (buffer: Buffer, offset: number) => T;
/** Writes all `size` bytes, plain bytes as zeros. Throws RangeError past the buffer's end. */
export type Writer<T> = (buffer: Buffer, offset: number, value: Readonly<T>) => void;

/** A declared C struct. Immutable. */
export interface Struct<D extends Declaration> {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Byte offset of each field, plain bytes included. */
  readonly offsets: { readonly [K in keyof D]: number };
  /** A fresh object with every field. Throws RangeError past the buffer's end. */
  decode(buffer: Buffer, offset: number): Fields<D>;
  /** A fresh object with every field zero, to be filled and written many times. */
  blank(): Fields<D>;
  /** A new generated reader with an object of its own. */
  reader(): Reader<Fields<D>>;
  /** A new generated writer. */
  writer(): Writer<Fields<D>>;
}

/** Any struct, where its fields aren't known. */
export interface AnyStruct {
  readonly name: string;
  readonly size: number;
  readonly offsets: { readonly [field: string]: number };
  decode(buffer: Buffer, offset: number): { [field: string]: number };
}

const SIZE: { readonly [type in ScalarType]: number } = { u64: 8, i64: 8, u32: 4, i32: 4, u16: 2, u8: 1 };
const WORD = 4294967296;
const FIELD_NAME = /^[a-z][A-Za-z0-9]*$/;

/**
 * Declares a struct whose fields lie one after the other as written: padding must be declared too.
 *
 * @throws {Error} when a field isn't naturally aligned, or the fields don't add up to `sizeBytes`.
 */
export function struct<const D extends Declaration>(name: string, sizeBytes: number, fields: D): Struct<D> {
  const offsets = layout(name, sizeBytes, fields);
  const make = <F>(parameters: string, body: string): F =>
    // The source is built from the declaration alone, so the function it makes has the declared type.
    new Function('viewOf', `return function ${name}(${parameters}) {\n${body}}`)(viewOf) as F;
  const read = make<(buffer: Buffer, offset: number, into: Fields<D>) => Fields<D>>(
    'buffer, offset, into',
    readSource(fields, offsets, 'into'),
  );
  const makeBlank = make<() => Fields<D>>('', `return ${blankSource(fields)};\n`);
  return {
    name,
    size: sizeBytes,
    offsets,
    decode: (buffer, offset) => {
      const end = offset + sizeBytes;
      if (end > buffer.length) throw new RangeError(`${name} ends at byte ${end} of ${buffer.length}`);
      return read(buffer, offset, makeBlank());
    },
    blank: makeBlank,
    reader: () => readerOf<D>(name, fields, offsets),
    writer: () => make('buffer, offset, value', writeSource(fields, offsets)),
  };
}

/** A reader that owns its object in a closure, so that the engine sees one constant target. */
function readerOf<D extends Declaration>(name: string, fields: D, offsets: Offsets): Reader<Fields<D>> {
  const source = `const into = ${blankSource(fields)};
    return function read_${name}(buffer, offset) {\n${readSource(fields, offsets, 'into')}};`;
  // Built from the declaration alone, as above.
  return new Function('viewOf', source)(viewOf) as Reader<Fields<D>>;
}

type Offsets = { readonly [field: string]: number };

function layout<D extends Declaration>(
  name: string,
  sizeBytes: number,
  fields: D,
): { readonly [K in keyof D]: number } {
  const offsets: { [field: string]: number } = {};
  let at = 0;
  for (const [field, type] of Object.entries(fields)) {
    if (!FIELD_NAME.test(field)) throw new Error(`struct ${name}: '${field}' is not a field name`);
    const isScalar = typeof type === 'string';
    const size = isScalar ? SIZE[type] : type[1];
    if (isScalar && at % size !== 0) throw new Error(`struct ${name}: ${field} (${type}) is not aligned at byte ${at}`);
    offsets[field] = at;
    at += size;
  }
  if (at !== sizeBytes) throw new Error(`struct ${name}: its fields take ${at} bytes, declared are ${sizeBytes}`);
  // One offset was stored for every key of `fields`.
  return offsets as { readonly [K in keyof D]: number };
}

/** Where a buffer's view is kept; Buffers are never subclassed or frozen, so one hidden property is safe. */
const VIEW = Symbol('DataView of this buffer');

function viewOf(buffer: Buffer): DataView {
  const kept = buffer as Buffer & { [VIEW]?: DataView }; // the property is only ever set below
  kept[VIEW] ??= new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  return kept[VIEW];
}

const at = (offset: number): string => (offset === 0 ? 'offset' : `offset + ${offset}`);

const READ: { readonly [type in ScalarType]: (offset: number) => string } = {
  u8: (offset) => `view.getUint8(${at(offset)})`,
  u16: (offset) => `view.getUint16(${at(offset)}, true)`,
  u32: (offset) => `view.getUint32(${at(offset)}, true)`,
  i32: (offset) => `view.getInt32(${at(offset)}, true)`,
  u64: (offset) => `view.getUint32(${at(offset + 4)}, true) * ${WORD} + view.getUint32(${at(offset)}, true)`,
  i64: (offset) => `view.getInt32(${at(offset + 4)}, true) * ${WORD} + view.getUint32(${at(offset)}, true)`,
};

/** `DataView.setUint32` takes any number modulo 2^32, so the low word needs no mask and negative numbers work. */
const write64 = (offset: number, value: string): string =>
  `view.setUint32(${at(offset)}, ${value}, true); view.setUint32(${at(offset + 4)}, Math.floor(${value} / ${WORD}), true);`;
const WRITE: { readonly [type in ScalarType]: (offset: number, value: string) => string } = {
  u8: (offset, value) => `view.setUint8(${at(offset)}, ${value});`,
  u16: (offset, value) => `view.setUint16(${at(offset)}, ${value}, true);`,
  u32: (offset, value) => `view.setUint32(${at(offset)}, ${value}, true);`,
  i32: (offset, value) => `view.setInt32(${at(offset)}, ${value}, true);`,
  u64: write64,
  i64: write64,
};

function offsetIn(offsets: Offsets, field: string): number {
  const offset = offsets[field];
  if (offset === undefined) throw new Error(`no offset for ${field}`);
  return offset;
}

function blankSource(fields: Declaration): string {
  const names = Object.keys(fields).filter((field) => typeof fields[field] === 'string');
  return `{ ${names.map((field) => `${field}: 0`).join(', ')} }`;
}

function readSource(fields: Declaration, offsets: Offsets, target: string): string {
  const lines = ['const view = viewOf(buffer);'];
  for (const [field, type] of Object.entries(fields)) {
    if (typeof type === 'string') lines.push(`${target}.${field} = ${READ[type](offsetIn(offsets, field))};`);
  }
  return [...lines, `return ${target};`, ''].join('\n');
}

function writeSource(fields: Declaration, offsets: Offsets): string {
  const lines = ['const view = viewOf(buffer);'];
  for (const [field, type] of Object.entries(fields)) {
    const offset = offsetIn(offsets, field);
    lines.push(typeof type === 'string' ? WRITE[type](offset, `value.${field}`) : zeroSource(offset, type[1]));
  }
  return [...lines, ''].join('\n');
}

function zeroSource(offset: number, length: number): string {
  let source = '';
  for (let done = 0; done < length; ) {
    const wide = (offset + done) % 4 === 0 && length - done >= 4;
    source += wide ? WRITE.u32(offset + done, '0') : WRITE.u8(offset + done, '0');
    done += wide ? 4 : 1;
  }
  return source;
}
