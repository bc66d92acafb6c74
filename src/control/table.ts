import { type AuditFilesParts, auditFiles } from './audit.ts';
import { type DiffFilesParts, diffFiles } from './diff.ts';
import { type ControlRow, jsonText } from './files.ts';
import { type FlushParts, flush } from './flush.ts';
import { type CheckFilesParts, checkFiles } from './fsck.ts';
import { type GarbageFilesParts, garbageFiles } from './gc.ts';
import { type HistoryFilesParts, historyFiles } from './history.ts';
import { type LayerFilesParts, layerFiles } from './layers.ts';
import { type NativeFilesParts, nativeFiles } from './native.ts';
import { type StatsFilesParts, statsFiles } from './stats.ts';
import { type UsageFilesParts, usageFiles } from './usage.ts';

/** What the control files tell of and act on. */
export interface ControlParts
  extends LayerFilesParts,
    DiffFilesParts,
    HistoryFilesParts,
    AuditFilesParts,
    GarbageFilesParts,
    CheckFilesParts,
    NativeFilesParts,
    StatsFilesParts,
    UsageFilesParts {
  readonly version: () => object;
  readonly health: () => object;
  readonly config: () => object;
  readonly flush: FlushParts;
}

/** Every control file there is. */
export function controlFiles(parts: ControlParts): readonly ControlRow[] {
  const rows: readonly ControlRow[] = [
    {
      path: 'version',
      about: 'versions of Tarbox, the FUSE protocol and Node',
      node: { file: { read: () => jsonText(parts.version()) } },
    },
    {
      path: 'health',
      about: '"status": "ok", "degraded" or "readonly", and the reasons',
      node: { file: { read: () => jsonText(parts.health()) } },
    },
    {
      path: 'config',
      about: 'the configuration in force, secrets left out',
      node: { file: { read: () => jsonText(parts.config()) } },
    },
    ...layerFiles(parts),
    ...diffFiles(parts),
    ...historyFiles(parts),
    ...statsFiles(parts),
    ...nativeFiles(parts),
    ...auditFiles(parts),
    {
      path: 'control/flush',
      about: 'write all, metadata or chunks: commit everything, then drop what is only cached',
      node: { file: { command: (text) => flush(parts.flush, text) } },
    },
    ...usageFiles(parts),
    ...garbageFiles(parts),
    ...checkFiles(parts),
  ];
  const readme: ControlRow = {
    path: 'README',
    about: 'this page',
    node: { file: { read: () => readmeText([readme, ...rows]) } },
  };
  return [readme, ...rows];
}

function accessOf({ node }: ControlRow): string {
  if ('directory' in node) return node.directory.create === undefined ? 'r/' : 'rw/';
  return node.file.command === undefined ? 'r' : 'rw';
}

/** The table in short, with examples that can be pasted into a shell in the workspace's root. */
function readmeText(rows: readonly ControlRow[]): string {
  const widest = Math.max(...rows.map(({ path }) => path.length));
  const table = rows.map((row) => `  ${row.path.padEnd(widest)}  ${accessOf(row).padEnd(3)}  ${row.about}`);
  return `This workspace is kept in PostgreSQL by Tarbox. Its control files are in .tarbox, which no listing shows.

Read a file to ask, write a line to it to command:

  echo before-the-upgrade > .tarbox/layers/new         # a checkpoint
  echo before-the-upgrade > .tarbox/layers/switch      # back to it; what is in no checkpoint is kept, too
  cat .tarbox/layers/tree
  cat .tarbox/diff/current..working/patch              # what has changed since, for git apply or patch -p1
  diff -r .tarbox/snapshots/before-the-upgrade .       # the tree as it was is a directory
  tail .tarbox/audit/recent                            # who did what
  cat .tarbox/health

${table.join('\n')}

A write is one command. When it succeeds, the command has taken effect and is durable. When it fails, nothing has
changed, and reading the file says why. To be sure to read the outcome of your own command, read it on the same handle:

  exec 8<>.tarbox/layers/new; echo after-the-upgrade >&8; cat <&8

"fsync" of any file or directory (sync FILE) returns once everything written before it is in PostgreSQL.
`;
}
