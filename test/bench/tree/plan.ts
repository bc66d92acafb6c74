import type { Random } from './random.ts';

/** Something that the tree holds; `path` is relative, and its directory comes before it. */
export type Entry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly bytes: number; readonly executable: boolean }
  | { readonly kind: 'licence'; readonly path: string; readonly licence: number }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

/** Different licence texts; packages share them. */
export const LICENCES = 5;

const MEDIAN_BYTES = 3000;
const SIGMA = 1.2;
const LARGEST_BYTES = 500_000;
/** One file in so many is a bundle of 100 KB and more. */
const BUNDLE_EVERY = 1000;
const MEDIAN_PACKAGE_FILES = 16;
const MOST_PACKAGE_FILES = 600;
const EXTENSIONS = ['.js', '.js', '.js', '.d.ts', '.js.map', '.json', '.mjs', '.md'];
const FOLDERS = ['lib', 'dist', 'src', 'test', 'internal', 'fp', 'locale', 'esm', 'types', 'plugins'];

/**
 * What a directory like an installed `node_modules` holds, with exactly so many regular files: packages, some below a
 * scope and some inside another package, with folders up to five deep, programs and the links to them.
 */
export function planTree(random: Random, word: () => string, files: number): Entry[] {
  const entries: Entry[] = [];
  const packages: string[] = [];
  const known = new Set<string>();
  let left = files;

  const addDirectory = (path: string): void => {
    if (path === '.' || known.has(path)) return;
    addDirectory(parentOf(path));
    known.add(path);
    entries.push({ kind: 'directory', path });
  };
  /** Adds a file unless all are there; its name gets a number where it's taken. */
  const addFile = (directory: string, name: string, bytes: number, executable = false): string | undefined => {
    if (left === 0) return undefined;
    const path = fresh(known, directory, name);
    addDirectory(directory);
    known.add(path);
    entries.push({ kind: 'file', path, bytes, executable });
    left--;
    return path;
  };
  const fileBytes = (): number => {
    if (random.integer(BUNDLE_EVERY) === 0) return 100_000 + random.integer(LARGEST_BYTES - 100_000);
    return Math.min(LARGEST_BYTES, Math.max(1, Math.round(random.logNormal(MEDIAN_BYTES, SIGMA))));
  };
  const addPackage = (root: string): void => {
    const folders = [root];
    const wanted = Math.min(MOST_PACKAGE_FILES, Math.ceil(random.logNormal(MEDIAN_PACKAGE_FILES, 1.1)));
    addFile(root, 'package.json', 400 + random.integer(1500));
    addFile(root, 'README.md', Math.min(60_000, Math.round(random.logNormal(4000, 1))));
    if (left > 0) {
      entries.push({ kind: 'licence', path: `${root}/LICENSE`, licence: random.integer(LICENCES) });
      left--;
    }
    for (let i = 0; i < wanted; i++) {
      if (random.next() < 0.12) {
        const folder = `${random.pick(folders)}/${random.pick(FOLDERS)}`;
        if (folder.split('/').length - root.split('/').length <= 5) folders.push(folder);
      }
      addFile(random.pick(folders), `${word()}${random.pick(EXTENSIONS)}`, fileBytes());
    }
    if (random.next() < 0.15) addProgram(root);
    packages.push(root);
  };
  const addProgram = (root: string): void => {
    const program = addFile(`${root}/bin`, 'cli.js', 200 + random.integer(4000), true);
    if (program === undefined) return;
    const path = fresh(known, 'node_modules/.bin', nameOf(root));
    addDirectory('node_modules/.bin');
    known.add(path);
    entries.push({ kind: 'symlink', path, target: `../${program.slice('node_modules/'.length)}` });
  };

  while (left > 0) {
    const inner = packages.length > 0 && random.next() < 0.2 ? random.pick(packages) : '';
    const above = inner !== '' && inner.split('/').length < 9 ? `${inner}/node_modules` : 'node_modules';
    const scope = random.next() < 0.25 ? `/@${word().slice(0, 5)}` : '';
    addPackage(fresh(known, `${above}${scope}`, word()));
  }
  return entries;
}

function fresh(known: ReadonlySet<string>, directory: string, name: string): string {
  let path = `${directory}/${name}`;
  const dot = name.indexOf('.', 1);
  for (let n = 2; known.has(path); n++)
    path = `${directory}/${dot < 0 ? `${name}-${n}` : `${name.slice(0, dot)}-${n}${name.slice(dot)}`}`;
  return path;
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : path.slice(0, slash);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
