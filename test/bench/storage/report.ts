import type { StorageResults } from './measure.ts';
import { CONTENT_TABLES, type TableSize, totalBytes } from './sizes.ts';

/** What the bytes of history should come to, as multiples of git's pack; and bytes of an edit. */
const MOST_CHUNKS = 1.25;
const MOST_OF_ALL = 2.5;
const MOST_EDIT_BYTES = 4096;

const PAGE_BYTES = 8192;

/** Bytes that a history needs, as lines of a table: what, bytes, per file version, against git's pack, goal. */
export function storageLines({
  history,
  versions,
  copies,
  gitPackBytes,
  stored,
  editBytes,
}: StorageResults): string[][] {
  const line = (name: string, bytes: number, most?: number): string[] => [
    name,
    Math.round(bytes).toLocaleString('en-US'),
    (bytes / copies.contents).toFixed(0),
    (bytes / gitPackBytes).toFixed(2),
    most === undefined ? '' : `${bytes / gitPackBytes <= most ? 'met' : 'MISSED'}: ≤ ${most} × git’s pack`,
  ];
  const content = stored.tables.filter(({ table }) => CONTENT_TABLES.includes(table));
  const metadata = stored.tables.filter(({ table }) => !CONTENT_TABLES.includes(table));
  const edit = `${editBytes < MOST_EDIT_BYTES ? 'met' : 'MISSED'}: < ${MOST_EDIT_BYTES} bytes`;
  return [
    [`${versions} versions, ${copies.contents} file versions (${history})`, 'bytes', 'each', '/git', 'goals'],
    line('a copy of each version', copies.bytes),
    line('each file version once, as it is', copies.contentBytes),
    line('git gc', gitPackBytes),
    line('bytes of chunks', stored.chunkBytes, MOST_CHUNKS),
    line('bytes of chunks and inline', stored.chunkBytes + stored.inlineBytes),
    ...content.flatMap((table) => tableLines(table, line)),
    line('tables of content', totalBytes(content)),
    ...metadata.flatMap((table) => tableLines(table, line)),
    line('tables of metadata', totalBytes(metadata)),
    line('all tables', totalBytes(stored.tables), MOST_OF_ALL),
    ['one line of 1 MB of text edited', editBytes.toFixed(0), '', '', edit],
  ];
}

/** Tables and indexes of one page are left out: they don't grow with history. */
function tableLines(size: TableSize, line: (name: string, bytes: number) => string[]): string[][] {
  const { table, rows, rowBytes, longBytes, indexes } = size;
  const parts: [name: string, bytes: number][] = [
    [`  ${table}, ${rows} rows`, rowBytes],
    [`  ${table}, TOAST`, longBytes],
    ...Object.entries(indexes).map(([name, bytes]): [string, number] => [`    ${name}`, bytes]),
  ];
  return parts.filter(([, bytes]) => bytes > PAGE_BYTES).map(([name, bytes]) => line(name, bytes));
}
