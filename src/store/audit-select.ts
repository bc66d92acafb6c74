import { OPERATIONS } from '../audit/operations.ts';
import type { Count, Filter, Mark } from '../audit/port.ts';
import type { Event } from '../audit/record.ts';
import type { TenantId } from '../brand.ts';
import type { Client } from './connection.ts';

/** As long as what the indexes have of a path. */
const INDEXED_BYTES = 256;

/** What a path is, and what isn't: the text of a command only looks like one. */
const TARGET_IS_PATH = `op IN (${OPERATIONS.link.code}, ${OPERATIONS.rename.code}, ${OPERATIONS.copy.code})`;

/** A time in microseconds since 1970. */
export function timeOf(parameter: string): string {
  return `(timestamptz 'epoch' + ${parameter}::bigint * interval '1 microsecond')`;
}

interface EventRow {
  event: string;
  time_us: string;
  layer_id: string;
  ino: string;
  bytes: string;
  bytes_read: string;
  position: string;
  duration: string;
  uid: number;
  gid: number;
  pid: number;
  lines_added: number;
  lines_deleted: number;
  result: number;
  op: number;
  comm: Buffer | null;
  path: Buffer | null;
  target: Buffer | null;
}

function eventOf(row: EventRow): Event {
  return {
    event: Number(row.event),
    timeUs: Number(row.time_us),
    op: row.op,
    result: row.result,
    layer: Number(row.layer_id),
    ino: Number(row.ino),
    uid: Number(row.uid),
    gid: Number(row.gid),
    pid: row.pid,
    durationUs: Number(row.duration),
    bytes: Number(row.bytes),
    read: Number(row.bytes_read),
    position: Number(row.position),
    added: row.lines_added,
    deleted: row.lines_deleted,
    comm: row.comm,
    path: row.path,
    target: row.target,
  };
}

/** How a statement gets its values, all of which are numbers, lists of numbers, or bytes. */
interface Values {
  add(value: number | readonly number[] | Buffer, type: string): string;
}

/** As parameters: the statement is planned once, whatever they are. */
class Parameters implements Values {
  readonly all: (number | string | Buffer)[] = [];

  add(value: number | readonly number[] | Buffer, type: string): string {
    this.all.push(typeof value === 'number' || value instanceof Buffer ? value : `{${value.join()}}`);
    return `$${this.all.length}::${type}`;
  }
}

/** In the statement itself: it's planned for them. */
const literals: Values = {
  add(value, type) {
    if (value instanceof Buffer) return `decode('${value.toString('hex')}', 'hex')`;
    return typeof value === 'number' ? `(${Number(value)})::${type}` : `'{${value.map(Number).join()}}'::${type}`;
  },
};

/** A path alone leads to its events, whatever there are. */
function isOneShape(filter: Filter): boolean {
  const { path, sinceUs, newestFirst, ...others } = filter;
  return path !== undefined && Object.keys(others).length === 0;
}

export async function selectEvents(
  client: Client,
  tenantId: TenantId,
  filter: Filter,
  after: Mark | undefined,
  limit: number,
): Promise<Event[]> {
  const parameters = new Parameters();
  const values = isOneShape(filter) ? parameters : literals;
  const shared = conditions(values, tenantId, filter, after);
  const order = filter.newestFirst ? 'time DESC, event DESC' : 'time, event';
  const columns = `*, (extract(epoch FROM time) * 1000000)::bigint AS time_us`;
  const one = (more: readonly string[]) =>
    `(SELECT ${columns} FROM tarbox.audit WHERE ${[...shared, ...more].join(' AND ')} ORDER BY ${order} LIMIT ${limit})`;
  // Each by its own index; what both paths of an event match is told once.
  const byPath = () => pathConditions(values, filter, 'path');
  const either = () => {
    const byTarget = [...pathConditions(values, filter, 'target'), TARGET_IS_PATH];
    const both = `NOT coalesce(${byPath().join(' AND ')}, false)`;
    return `SELECT * FROM (${one(byPath())} UNION ALL ${one([...byTarget, both])}) AS found ORDER BY ${order} LIMIT ${limit}`;
  };
  const statement = filter.path === undefined && filter.prefix === undefined ? one([]) : either();
  const rows = await client.unsafe<EventRow[]>(statement, parameters.all, { prepare: values === parameters });
  return rows.map(eventOf);
}

function conditions(values: Values, tenantId: TenantId, filter: Filter, after: Mark | undefined): string[] {
  const { ops, uid, pid, comm, layer, result, sinceUs, untilUs, newestFirst } = filter;
  const found = [`tenant_id = ${values.add(tenantId, 'bigint')}`];
  const add = (
    value: number | readonly number[] | Buffer | undefined,
    type: string,
    condition: (parameter: string) => string,
  ) => {
    if (value !== undefined) found.push(condition(values.add(value, type)));
  };
  if (ops?.length === 1) add(ops[0], 'smallint', (parameter) => `op = ${parameter}`);
  else add(ops, 'smallint[]', (parameter) => `op = ANY (${parameter})`);
  add(uid, 'bigint', (parameter) => `uid = (${parameter})::oid`);
  add(pid, 'integer', (parameter) => `pid = ${parameter}`);
  add(comm, 'bytea', (parameter) => `comm = ${parameter}`);
  add(layer, 'bigint', (parameter) => `layer_id = ${parameter}`);
  if (result === -1) found.push('result <> 0');
  else add(result, 'smallint', (parameter) => `result = ${parameter}`);
  add(sinceUs, 'bigint', (parameter) => `time >= ${timeOf(parameter)}`);
  add(untilUs, 'bigint', (parameter) => `time < ${timeOf(parameter)}`);
  if (after !== undefined) {
    const time = timeOf(values.add(after.timeUs, 'bigint'));
    const than = newestFirst ? '<' : '>';
    found.push(`time ${than}= ${time}`, `(time, event) ${than} (${time}, ${values.add(after.event, 'bigint')})`);
  }
  return found;
}

/** An index has the start of a path. */
function pathConditions(values: Values, { path, prefix }: Filter, column: 'path' | 'target'): string[] {
  const start = `substring(${column}, 1, ${INDEXED_BYTES})`;
  if (path !== undefined)
    return [
      `${column} IS NOT NULL`,
      `${start} = ${values.add(path.subarray(0, INDEXED_BYTES), 'bytea')}`,
      `${column} = ${values.add(path, 'bytea')}`,
    ];
  if (prefix === undefined) return [];
  return [
    `${column} IS NOT NULL`,
    ...prefixConditions(values, start, prefix),
    ...(prefix.length > INDEXED_BYTES
      ? [`substring(${column}, 1, ${prefix.length}) = ${values.add(prefix, 'bytea')}`]
      : []),
  ];
}

function prefixConditions(values: Values, start: string, prefix: Buffer): string[] {
  const from = prefix.subarray(0, INDEXED_BYTES);
  const end = behind(from);
  return [
    `${start} >= ${values.add(from, 'bytea')}`,
    ...(end === undefined ? [] : [`${start} < ${values.add(end, 'bytea')}`]),
  ];
}

/** The first bytes that don't start with these, in order; undefined where there are none. */
function behind(prefix: Buffer): Buffer | undefined {
  for (let at = prefix.length - 1; at >= 0; at--)
    if (prefix[at] !== 0xff) return Buffer.concat([prefix.subarray(0, at), Buffer.from([(prefix[at] ?? 0) + 1])]);
  return undefined;
}

export async function selectFound(
  client: Client,
  tenantId: TenantId,
  path: Buffer,
): Promise<{ itself: boolean; below: boolean }> {
  const parameters = new Parameters();
  const tenant = `tenant_id = ${parameters.add(tenantId, 'bigint')}`;
  const exists = (column: 'path' | 'target', more: readonly string[]) =>
    `EXISTS (SELECT 1 FROM tarbox.audit WHERE ${[tenant, ...more, ...(column === 'target' ? [TARGET_IS_PATH] : [])].join(' AND ')})`;
  const either = (filter: Pick<Filter, 'path' | 'prefix'>) =>
    (['path', 'target'] as const)
      .map((column) => exists(column, pathConditions(parameters, { ...filter, newestFirst: true }, column)))
      .join(' OR ');
  const below = Buffer.concat([path, Buffer.from('/')]);
  const statement = `SELECT (${either({ path })}) AS itself, (${either({ prefix: below })}) AS below`;
  const [row] = await client.unsafe<{ itself: boolean; below: boolean }[]>(statement, parameters.all, {
    prepare: true,
  });
  return { itself: row?.itself ?? false, below: row?.below ?? false };
}

/**
 * Goes from one name to the next by the index, however many events each has (a loose index scan). What follows a name in
 * the index starts with it and a slash, or is another name.
 */
export async function selectNames(
  client: Client,
  tenantId: TenantId,
  directory: Buffer,
  limit: number,
): Promise<{ name: Buffer; directory: boolean }[]> {
  const names = new Map<string, { name: Buffer; directory: boolean }>();
  const lead = Buffer.concat([directory, Buffer.from('/')]);
  for (const column of ['path', 'target'] as const) {
    let from: Buffer = lead;
    while (names.size < limit) {
      const found = await nextPath(client, tenantId, column, lead, from);
      if (found === undefined) break;
      const rest = found.subarray(lead.length);
      const slash = rest.indexOf(47);
      const name = slash < 0 ? rest : rest.subarray(0, slash);
      const key = name.toString('latin1');
      // What the index has may end within a name.
      const isWhole = slash >= 0 || found.length < INDEXED_BYTES;
      if (name.length > 0 && isWhole)
        names.set(key, { name, directory: slash >= 0 || (names.get(key)?.directory ?? false) });
      const whole = Buffer.concat([lead, name]);
      // Behind a file's name comes what is in it, if it has been a directory, too.
      const next = behind(Buffer.concat([whole, Buffer.from('/')]));
      from = slash < 0 ? Buffer.concat([whole, Buffer.from([0])]) : (next ?? whole);
      if (slash >= 0 && next === undefined) break;
    }
  }
  return [...names.values()];
}

/** The first path from `from` on that starts with `lead`, as far as it's in the index. */
async function nextPath(
  client: Client,
  tenantId: TenantId,
  column: 'path' | 'target',
  lead: Buffer,
  from: Buffer,
): Promise<Buffer | undefined> {
  const parameters = new Parameters();
  const start = `substring(${column}, 1, ${INDEXED_BYTES})`;
  const tenant = `tenant_id = ${parameters.add(tenantId, 'bigint')}`;
  const more = column === 'target' ? [TARGET_IS_PATH] : [];
  const range = prefixConditions(parameters, start, lead);
  const where = [tenant, `${column} IS NOT NULL`, ...range, `${start} >= ${parameters.add(from, 'bytea')}`, ...more];
  const statement = `SELECT ${start} AS start FROM tarbox.audit WHERE ${where.join(' AND ')} ORDER BY ${start} LIMIT 1`;
  const [row] = await client.unsafe<{ start: Buffer }[]>(statement, parameters.all, { prepare: true });
  return row?.start;
}

interface CountRow {
  by: Count['by'];
  op: number | null;
  uid: number | null;
  comm: Buffer | null;
  prefix: Buffer | null;
  hour_us: string | null;
  events: string;
  failed: string;
}

/** The first name of a path, found in its first bytes only. */
const FIRST_NAME = `CASE WHEN position('\\x2f'::bytea IN substring(path, 2, 255)) > 0
  THEN substring(path, 1, position('\\x2f'::bytea IN substring(path, 2, 255))) ELSE substring(path, 1, 256) END`;

export async function selectCounts(client: Client, tenantId: TenantId, sinceUs: number): Promise<Count[]> {
  const rows = await client.unsafe<CountRow[]>(
    `SELECT CASE WHEN grouping(op) = 0 THEN 'op' WHEN grouping(uid) = 0 THEN 'uid' WHEN grouping(comm) = 0 THEN 'comm'
           WHEN grouping(prefix) = 0 THEN 'prefix' ELSE 'hour' END AS by,
         op, uid, comm, prefix, (extract(epoch FROM hour) * 1000000)::bigint AS hour_us,
         count(*) AS events, count(*) FILTER (WHERE result <> 0) AS failed
       FROM (SELECT op, uid, comm, result, ${FIRST_NAME} AS prefix, date_trunc('hour', time, 'UTC') AS hour
         FROM tarbox.audit WHERE tenant_id = $1 AND time >= ${timeOf('$2')}) AS events
       GROUP BY GROUPING SETS ((op), (uid), (comm), (prefix), (hour))
       ORDER BY 1, events DESC`,
    [tenantId, sinceUs],
  );
  return rows.map((row) => ({
    by: row.by,
    op: row.op,
    uid: row.uid === null ? null : Number(row.uid),
    comm: row.comm,
    prefix: row.prefix,
    hourUs: row.hour_us === null ? null : Number(row.hour_us),
    events: Number(row.events),
    failed: Number(row.failed),
  }));
}
