import type { ByteString } from './store.ts';

/** Extended attributes of one inode, by full name (`user.x`), in the order of their creation. */
export type Xattrs = Map<ByteString, Buffer>;

/** Limits of linux/limits.h. */
export const XATTR_NAME_MAX_BYTES = 255;
export const XATTR_VALUE_MAX_BYTES = 65_536;
/** All names and values of one inode together; more is ENOSPC, as in ext4. */
export const XATTR_TOTAL_MAX_BYTES = 256 * 1024;

const ENTRY_HEADER_BYTES = 6;

/** Bytes that `packXattrs` takes for these. */
export function packedXattrsBytes(xattrs: Xattrs): number {
  let bytes = 0;
  for (const [name, value] of xattrs) bytes += ENTRY_HEADER_BYTES + name.length + value.length;
  return bytes;
}

/** For each: name length (u16), value length (u32), both little-endian, name, value. */
export function packXattrs(xattrs: Xattrs): Buffer {
  const packed = Buffer.allocUnsafe(packedXattrsBytes(xattrs));
  let at = 0;
  for (const [name, value] of xattrs) {
    packed.writeUInt16LE(name.length, at);
    packed.writeUInt32LE(value.length, at + 2);
    packed.write(name, at + ENTRY_HEADER_BYTES, 'latin1');
    value.copy(packed, at + ENTRY_HEADER_BYTES + name.length);
    at += ENTRY_HEADER_BYTES + name.length + value.length;
  }
  return packed;
}

/** @throws {RangeError} when `packed` isn't what `packXattrs` made. */
export function unpackXattrs(packed: Uint8Array): Xattrs {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.length);
  const xattrs: Xattrs = new Map();
  let at = 0;
  while (at < bytes.length) {
    const nameEnd = at + ENTRY_HEADER_BYTES + bytes.readUInt16LE(at);
    const valueEnd = nameEnd + bytes.readUInt32LE(at + 2);
    if (valueEnd > bytes.length) throw new RangeError('packed extended attributes are cut short');
    xattrs.set(
      bytes.toString('latin1', at + ENTRY_HEADER_BYTES, nameEnd),
      Buffer.from(bytes.subarray(nameEnd, valueEnd)),
    );
    at = valueEnd;
  }
  return xattrs;
}
