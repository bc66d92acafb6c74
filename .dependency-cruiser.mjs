/** Imports go one way only; src/README.md draws it. */

/** What a folder of src/ may import from other folders of src/, as regular expressions of paths. */
const MAY_IMPORT = {
  'fuse/wire': [],
  content: ['vfs/store'],
  vfs: ['errno', 'brand', 'clock'],
  journal: ['vfs', 'errno', 'brand', 'pause'],
  audit: ['vfs', 'errno', 'brand', 'clock', 'pause'],
  store: ['vfs/store', 'layers/port', 'audit', 'content', 'errno', 'brand', 'within'],
  layers: ['vfs', 'content', 'errno', 'brand'],
  control: ['vfs', 'layers', 'audit', 'native/rule', 'errno', 'brand'],
  fuse: ['vfs', 'audit', 'control/port', 'errno', 'brand', 'clock', 'histogram'],
  native: ['fuse/libc', 'fuse/device', 'fuse/placeholders', 'fuse/reply', 'log', 'errno'],
  config: ['log', 'errno', 'audit', 'native/rule'],
  embedded: ['log'],
};

const folders = Object.keys(MAY_IMPORT);

export default {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'no-orphans-resolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'only-store-knows-postgres',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/store/' },
      to: { path: 'node_modules/postgres/' },
    },
    {
      name: 'src-is-free-of-tests',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^test/' },
    },
    ...folders.map((folder) => ({
      name: `${folder.replace('/', '-')}-imports`,
      severity: 'error',
      from: {
        path: `^src/${folder}/`,
        // A folder inside another one has its own rule.
        pathNot: folders.filter((other) => other.startsWith(`${folder}/`)).map((other) => `^src/${other}/`),
      },
      to: { path: '^src/', pathNot: [folder, ...MAY_IMPORT[folder]].map((allowed) => `^src/${allowed}[./]`) },
    })),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
