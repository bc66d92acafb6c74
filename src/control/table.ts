import { type ControlFile, jsonText } from './files.ts';
import { type FlushParts, flush } from './flush.ts';

/** What the control files tell of and act on. */
export interface ControlParts {
  readonly version: () => object;
  readonly health: () => object;
  readonly config: () => object;
  readonly currentLayer: () => Promise<object>;
  readonly flush: FlushParts;
}

/** Every control file there is. */
export function controlFiles(parts: ControlParts): readonly ControlFile[] {
  const files: readonly ControlFile[] = [
    {
      path: 'version',
      about: 'versions of Tarbox, the FUSE protocol, the database',
      read: () => jsonText(parts.version()),
    },
    {
      path: 'health',
      about: '"status": "ok", "degraded" or "readonly", and the reasons',
      read: () => jsonText(parts.health()),
    },
    {
      path: 'config',
      about: 'the configuration in force, secrets left out',
      read: () => jsonText(parts.config()),
    },
    {
      path: 'layers/current',
      about: 'the layer that the tree shows',
      read: async () => jsonText(await parts.currentLayer()),
    },
    {
      path: 'control/flush',
      about: 'write all, metadata or chunks: commit everything, then drop what is only cached',
      command: (text) => flush(parts.flush, text),
    },
  ];
  const readme: ControlFile = {
    path: 'README',
    about: 'this page',
    read: () => readmeText([readme, ...files]),
  };
  return [readme, ...files];
}

/** The table in short, with examples that can be pasted into a shell in the workspace's root. */
function readmeText(files: readonly ControlFile[]): string {
  const widest = Math.max(...files.map(({ path }) => path.length));
  const rows = files.map(({ path, about, command }) => `  ${path.padEnd(widest)}  ${command ? 'rw' : 'r '}  ${about}`);
  return `This workspace is kept in PostgreSQL by Tarbox. Its control files are in .tarbox, which no listing shows.

Read a file to ask, write a line to it to command:

  cat .tarbox/health
  echo all > .tarbox/control/flush && cat .tarbox/control/flush

${rows.join('\n')}

A write is one command. When it succeeds, the command has taken effect and is durable. When it fails, nothing has
changed, and reading the file says why. To be sure to read the outcome of your own command, read it on the same handle:

  exec 8<>.tarbox/control/flush; echo all >&8; cat <&8

"fsync" of any file or directory (sync FILE) returns once everything written before it is in PostgreSQL.
`;
}
