import { parseArgs } from 'node:util';
import type { DiskChoice } from './disk.ts';

export interface Options {
  /** Only rows whose name matches, and what they build on. */
  readonly only: RegExp;
  /** Repetitions of each workload on each target. */
  readonly rounds: number;
  /** Names of targets; undefined for all. */
  readonly targets: readonly string[] | undefined;
  /** Files in the tree of the tree workloads. */
  readonly treeFiles: number;
  /** Size of the file of the sequential workloads. */
  readonly streamMib: number;
  /** Files in the workspaces in which layers are measured, one after the other. */
  readonly layerFiles: readonly number[];
  /** Directory of versions whose storage is measured; undefined for the project's own commits. */
  readonly versions: string | undefined;
  readonly disk: DiskChoice;
  /** File that receives the results as JSON. */
  readonly json: string | undefined;
  /** Instead of all else, the audit log with so many events; undefined for not. */
  readonly audit: number | undefined;
  /** Install the Debian packages that are missing. */
  readonly install: boolean;
}

export const USAGE = `node test/bench/main.ts [options], or make bench BENCH='[options]'
  --only REGEX       only the rows whose name matches, and what they build on
  --rounds N         repetitions of each workload on each target (3)
  --targets A,B      of plain, passthrough_ll, bindfs, tarbox (all)
  --tree-files N     files in the tree (25000)
  --stream-mib N     size of the sequential file (512)
  --layer-files A,B  files in the workspaces in which layers are measured (10000,100000)
  --versions DIR     measure how history is stored with what is in there: each directory in it is a version, and each
                     tar archive (the project's own commits)
  --disk CHOICE      where the targets store: local (below the temporary directory), image (a fresh ext4 in a file
                     there), or auto: an image where the local one is an ext4 without a journal (auto)
  --audit N          only the audit log: stores N events over ninety days, and asks for some
  --json FILE        write all samples and medians there
  --install          install missing Debian packages with apt-get
  --help             this text
`;

/** Reads the command line. @throws {Error} one line, when it makes no sense. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: '' },
      rounds: { type: 'string', default: '3' },
      targets: { type: 'string' },
      'tree-files': { type: 'string', default: '25000' },
      'stream-mib': { type: 'string', default: '512' },
      'layer-files': { type: 'string', default: '10000,100000' },
      versions: { type: 'string' },
      disk: { type: 'string', default: 'auto' },
      json: { type: 'string' },
      audit: { type: 'string' },
      install: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  return {
    only: new RegExp(values.only, 'i'),
    rounds: positive('--rounds', values.rounds),
    targets: values.targets?.split(',').filter((name) => name !== ''),
    treeFiles: positive('--tree-files', values['tree-files']),
    streamMib: positive('--stream-mib', values['stream-mib']),
    layerFiles: values['layer-files'].split(',').map((files) => positive('--layer-files', files)),
    versions: values.versions,
    disk: diskChoice(values.disk),
    json: values.json,
    audit: values.audit === undefined ? undefined : positive('--audit', values.audit),
    install: values.install,
  };
}

function positive(option: string, text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Error(`${option} is ${text}: give a whole number of at least 1`);
  return Number(text);
}

function diskChoice(text: string): DiskChoice {
  if (text === 'auto' || text === 'local' || text === 'image') return text;
  throw new Error(`--disk is ${text}: give auto, local or image`);
}
