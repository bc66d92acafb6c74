import type { AuditFiles } from '../audit/files.ts';
import type { ControlDirectory, ControlRow } from './files.ts';

export interface AuditFilesParts {
  readonly audit: AuditFiles;
}

/** The rows of `audit/`. */
export function auditFiles({ audit }: AuditFilesParts): readonly ControlRow[] {
  return [
    {
      path: 'audit/recent',
      about: 'the newest operations, a line each',
      node: { file: { read: () => audit.recent() } },
    },
    {
      path: 'audit/query',
      about: 'write {"op","path","uid","since",…} or a path; read the operations that match',
      node: {
        file: { command: (text, _, signal) => audit.query(text, signal), interruptible: true },
      },
    },
    {
      path: 'audit/path',
      about: '<path>: the operations on one path, newest first',
      node: { directory: pathDirectory(audit, '') },
    },
    {
      path: 'audit/stream',
      about: 'blocks, and tells of each operation as it happens',
      node: { file: { openStream: () => audit.stream() } },
    },
    {
      path: 'audit/stats',
      about: 'operations of the last day by operation, user, command, path and hour',
      node: { file: { read: (signal) => audit.stats(signal), interruptible: true } },
    },
  ];
}

/** What there are operations of below a directory; `path` is this one's, '' or with a slash in front. */
function pathDirectory(audit: AuditFiles, path: string): ControlDirectory {
  return {
    list: () => audit.names(path),
    find: async (name) => {
      const below = `${path}/${name}`;
      const found = await audit.find(below);
      if (found === undefined) return undefined;
      return found.directory
        ? { directory: pathDirectory(audit, below) }
        : { file: { stream: (signal) => audit.operations(below, signal) } };
    },
  };
}
