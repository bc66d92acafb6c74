/**
 * An event's bytes. From the moment that it's recorded an event is a row of PostgreSQL's binary COPY format (manual,
 * COPY, Binary Format): a count of fields, then each field's length and bytes, big-endian. So recording it is filling
 * in a template, and storing it is sending memory.
 */

/** The fields of known size, in order; `audit` of the schema has the same columns. -1 is none in `bytes` to `deleted`. */
const FIXED = [
  ['tenant', 8],
  ['event', 8],
  /** Microseconds since 2000, as PostgreSQL counts. */
  ['time', 8],
  ['layer', 8],
  ['ino', 8],
  ['bytes', 8],
  ['read', 8],
  ['position', 8],
  /** Microseconds. */
  ['duration', 8],
  ['uid', 4],
  ['gid', 4],
  /** 0 is one that can't be seen. */
  ['pid', 4],
  ['added', 4],
  ['deleted', 4],
  ['result', 2],
  ['op', 2],
] as const;

type FixedName = (typeof FIXED)[number][0];

/** After them: the command's name, the path, the other path. Null is none. */
const VARIABLE = 3;

function layout(): { readonly at: { readonly [name in FixedName]: number }; readonly end: number } {
  let position = 2;
  const at = FIXED.map(([name, size]) => {
    const entry = [name, position + 4] as const;
    position += 4 + size;
    return entry;
  });
  return { at: Object.fromEntries(at) as { [name in FixedName]: number }, end: position }; // one for each name
}

const { at: AT, end: FIXED_END } = layout();

const TEMPLATE = template();

function template(): Uint8Array {
  const bytes = Buffer.alloc(FIXED_END);
  bytes.writeInt16BE(FIXED.length + VARIABLE);
  for (const [name, size] of FIXED) bytes.writeInt32BE(size, AT[name] - 4);
  return bytes;
}

export const COMM_MAX_BYTES = 16;
/** PATH_MAX, with a slash in front. */
export const PATH_MAX_BYTES = 4097;
/** The largest event. */
export const EVENT_MAX_BYTES = FIXED_END + VARIABLE * 4 + COMM_MAX_BYTES + 2 * PATH_MAX_BYTES;

/** Between 1970 and 2000, in microseconds. */
const POSTGRES_EPOCH_US = 946_684_800_000_000;
const WORD = 4294967296;

/** Bytes that are put together from their end: of a path the last name is known first. */
export class Text {
  readonly bytes = Buffer.alloc(PATH_MAX_BYTES);
  /** The text is what follows; nothing follows where there's none. */
  start = PATH_MAX_BYTES;
  /** There is a text; it may be empty. */
  known = false;

  clear(): void {
    this.start = PATH_MAX_BYTES;
    this.known = false;
  }

  get length(): number {
    return this.known ? PATH_MAX_BYTES - this.start : 0;
  }

  /** Puts `/` and a name, one byte a character, in front. False when there's no room. */
  prepend(name: string): boolean {
    const at = this.start - name.length - 1;
    if (at < 0) return false;
    this.bytes[at] = 47;
    for (let index = 0; index < name.length; index++) this.bytes[at + 1 + index] = name.charCodeAt(index);
    this.start = at;
    return true;
  }

  /** Becomes these bytes, as many as there's room for. */
  set(bytes: Uint8Array): void {
    const count = Math.min(bytes.length, PATH_MAX_BYTES);
    this.start = PATH_MAX_BYTES - count;
    this.bytes.set(bytes.subarray(0, count), this.start);
    this.known = true;
  }
}

/** An event that is being put together. One is used again and again. */
export class Draft {
  op = 0;
  /** Microseconds since 1970. */
  timeUs = 0;
  durationUs = 0;
  layer = 0;
  ino = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** An errno; 0 is success. */
  result = 0;
  /** Read or written; of a close, written through the handle. */
  bytes = -1;
  /** Of a close: read through the handle. */
  read = -1;
  position = -1;
  added = -1;
  deleted = -1;
  readonly comm = Buffer.alloc(COMM_MAX_BYTES);
  /** 0 where it isn't known. */
  commBytes = 0;
  readonly path = new Text();
  readonly target = new Text();

  clear(): void {
    this.durationUs = 0;
    this.ino = 0;
    this.result = 0;
    this.bytes = -1;
    this.read = -1;
    this.position = -1;
    this.added = -1;
    this.deleted = -1;
    this.commBytes = 0;
    this.path.clear();
    this.target.clear();
  }

  /** Bytes of it when encoded. */
  get size(): number {
    return FIXED_END + VARIABLE * 4 + this.commBytes + this.path.length + this.target.length;
  }
}

function putInt64(view: DataView, at: number, value: number): void {
  view.setInt32(at, Math.floor(value / WORD));
  view.setUint32(at + 4, (value % WORD) >>> 0);
}

function getInt64(view: DataView, at: number): number {
  return view.getInt32(at) * WORD + view.getUint32(at + 4);
}

/** Writes an event; its size says how much room it takes. */
export function encode(draft: Draft, tenant: number, event: number, into: Buffer, view: DataView, at: number): void {
  into.set(TEMPLATE, at);
  putInt64(view, at + AT.tenant, tenant);
  putInt64(view, at + AT.event, event);
  putInt64(view, at + AT.time, draft.timeUs - POSTGRES_EPOCH_US);
  putInt64(view, at + AT.layer, draft.layer);
  putInt64(view, at + AT.ino, draft.ino);
  putInt64(view, at + AT.bytes, draft.bytes);
  putInt64(view, at + AT.read, draft.read);
  putInt64(view, at + AT.position, draft.position);
  putInt64(view, at + AT.duration, draft.durationUs);
  view.setUint32(at + AT.uid, draft.uid);
  view.setUint32(at + AT.gid, draft.gid);
  view.setInt32(at + AT.pid, draft.pid);
  view.setInt32(at + AT.added, draft.added);
  view.setInt32(at + AT.deleted, draft.deleted);
  view.setInt16(at + AT.result, draft.result);
  view.setInt16(at + AT.op, draft.op);
  let end = at + FIXED_END;
  view.setInt32(end, draft.commBytes === 0 ? -1 : draft.commBytes);
  end += 4;
  for (let index = 0; index < draft.commBytes; index++) into[end + index] = draft.comm[index] ?? 0;
  end = putText(draft.path, into, view, end + draft.commBytes);
  putText(draft.target, into, view, end);
}

function putText(text: Text, into: Buffer, view: DataView, at: number): number {
  const { length } = text;
  view.setInt32(at, text.known ? length : -1);
  if (length > 0) text.bytes.copy(into, at + 4, text.start);
  return at + 4 + length;
}

/** Fills in what was counted after the event was recorded. */
export function patchLines(view: DataView, at: number, added: number, deleted: number): void {
  view.setInt32(at + AT.added, added);
  view.setInt32(at + AT.deleted, deleted);
}

/** The event's number, from its bytes. */
export function eventAt(view: DataView, at: number): number {
  return getInt64(view, at + AT.event);
}

/** Its time, in microseconds since 1970. */
export function timeAt(view: DataView, at: number): number {
  return getInt64(view, at + AT.time) + POSTGRES_EPOCH_US;
}

/** An event as it is told of. */
export interface Event {
  /** Grows from one to the next; says nothing else. */
  readonly event: number;
  /** Microseconds since 1970. */
  readonly timeUs: number;
  readonly op: number;
  readonly result: number;
  /** 0 where there's none. */
  readonly layer: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly durationUs: number;
  /** From here on, -1 where there's none. */
  readonly bytes: number;
  readonly read: number;
  readonly position: number;
  readonly added: number;
  readonly deleted: number;
  readonly comm: Buffer | null;
  readonly path: Buffer | null;
  readonly target: Buffer | null;
}

/** Reads an event back; its bytes are copied. */
export function decode(bytes: Buffer, view: DataView, at: number): Event {
  let end = at + FIXED_END;
  const text = (): Buffer | null => {
    const length = view.getInt32(end);
    const found = length < 0 ? null : Buffer.from(bytes.subarray(end + 4, end + 4 + length));
    end += 4 + Math.max(0, length);
    return found;
  };
  return {
    event: eventAt(view, at),
    timeUs: timeAt(view, at),
    op: view.getInt16(at + AT.op),
    result: view.getInt16(at + AT.result),
    layer: getInt64(view, at + AT.layer),
    ino: getInt64(view, at + AT.ino),
    uid: view.getUint32(at + AT.uid),
    gid: view.getUint32(at + AT.gid),
    pid: view.getInt32(at + AT.pid),
    durationUs: getInt64(view, at + AT.duration),
    bytes: getInt64(view, at + AT.bytes),
    read: getInt64(view, at + AT.read),
    position: getInt64(view, at + AT.position),
    added: view.getInt32(at + AT.added),
    deleted: view.getInt32(at + AT.deleted),
    comm: text(),
    path: text(),
    target: text(),
  };
}
