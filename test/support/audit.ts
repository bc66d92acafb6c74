import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** An event as `audit/` tells of it. */
export interface ToldEvent {
  readonly time: string;
  readonly op: string;
  readonly path: string | null;
  readonly path_base64?: string;
  readonly target?: string | null;
  readonly result: string;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number | null;
  readonly comm: string | null;
  readonly tenant: string;
  readonly layer: string | number | null;
  readonly ino: number | null;
  readonly bytes: number | null;
  readonly bytes_read: number | null;
  readonly offset: number | null;
  readonly duration_us: number;
  readonly lines_added: number | null;
  readonly lines_deleted: number | null;
  readonly event: number;
}

/** Writes to `audit/query` of a mount, and reads the answer on the same handle. */
export async function askText(mount: string, query: object | string): Promise<string> {
  const file = await open(join(mount, '.tarbox/audit/query'), 'r+');
  try {
    await file.write(typeof query === 'string' ? query : JSON.stringify(query));
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** The events that a query finds, oldest first unless it says otherwise. */
export async function ask(mount: string, query: object): Promise<ToldEvent[]> {
  // The answer is an array of them.
  return JSON.parse(await askText(mount, { order: 'oldest', ...query })) as ToldEvent[];
}

/** What the last query that was written was refused with. */
export async function lastRefusal(mount: string): Promise<{ error: string; message: string; hint?: string }> {
  return JSON.parse(await readFile(join(mount, '.tarbox/audit/query'), 'utf8'));
}
