/** Names and paths that the generator chooses from. Byte strings: one character a byte. */
import { HANDLE_SLOTS, type HandleInfo, type Hint, type Model, type PathRef, ROOT_SLOT } from './model.ts';
import type { Random } from './random.ts';

const PLAIN = 'abcdefghijklmnopqrstuvwx'.split('');

/** Names that programs and file systems have stumbled over. */
const UNUSUAL = [
  ' ',
  '-rf',
  '.hidden',
  '...',
  '..a',
  'new\nline',
  'tab\there',
  '\x01\x02\x7f',
  '\xff\xfe\x80',
  'caf\xc3\xa9',
  'cafe\xcc\x81',
  '\xed\xa0\x80',
  '*?[a]{b}',
  '"\'\\`$(x)',
  'A',
  'a.',
  '.tarbox',
  'x'.repeat(255),
  `${'y'.repeat(254)}\xff`,
  '\xe2\x82\xac'.repeat(85),
];

const TOO_LONG = ['z'.repeat(256), 'z'.repeat(1000), `${'z'.repeat(255)}\xff`];

/** Some things are chosen more often than others, so that much happens to them. */
const FAVOURITE_EACH = 7;
const MAX_DEPTH = 8;
const MAX_PATH_BYTES = 2500;
const PATH_MAX = 4096;

/** A name for something new; the pool is small, so that names meet. */
function newName(random: Random): string {
  return random.weighted<() => string>([
    [80, () => random.pick(PLAIN)],
    [18, () => random.pick(UNUSUAL)],
    [1, () => random.pick(TOO_LONG)],
    [1, () => random.pick(['.', '..'])],
  ])();
}

/**
 * `..` leads nowhere outside the tree: it's only put behind what was made as a directory below the root. (A directory
 * that has become a symlink since can lead one level up, to where the guard directories are.)
 */
function decoration(random: Random, model: Model, slot: number): Partial<PathRef> {
  const isBelowRoot = slot !== ROOT_SLOT && model.slot(slot)?.hint === 'directory';
  return random.weighted<Partial<PathRef>>([
    [6, { behind: '/' }],
    [3, { behind: '/.' }],
    [3, isBelowRoot ? { behind: '/..' } : { behind: '//' }],
    [2, { before: './/' }],
    [1, { behind: '/nothing' }],
    [1, { behind: '/nothing/deeper' }],
    [1, { padTo: PATH_MAX - 1 }],
    [1, { padTo: PATH_MAX }],
    [1, { padTo: PATH_MAX + 1 }],
    [1, { empty: true }],
  ]);
}

function slotOf(random: Random, model: Model, hints: readonly Hint[]): number {
  if (model.gone.length > 0 && random.chance(0.04)) return random.pick(model.gone);
  const matching = random.chance(0.06) ? model.live() : model.live(...hints);
  const choices = matching.filter((slot) => slot !== ROOT_SLOT);
  if (choices.length === 0 || random.chance(0.01)) return ROOT_SLOT;
  const favourites = choices.filter((slot) => slot % FAVOURITE_EACH === 0);
  return random.pick(favourites.length > 0 && random.chance(0.4) ? favourites : choices);
}

/** A path that mostly leads to something of these kinds (of any, when none is named). */
export function existingPath(random: Random, model: Model, ...hints: readonly Hint[]): PathRef {
  const slot = slotOf(random, model, hints);
  return random.chance(0.08) ? { slot, ...decoration(random, model, slot) } : { slot };
}

/** A path for something new, mostly in a directory. */
export function newPath(random: Random, model: Model): PathRef {
  const parents = random.chance(0.06) ? model.live() : model.live('directory');
  const roomy = parents.filter((slot) => hasRoom(model.slot(slot)?.path ?? ''));
  const stale = model.gone.length > 0 && random.chance(0.03);
  const slot = stale ? random.pick(model.gone) : random.chance(0.2) ? ROOT_SLOT : random.pick([ROOT_SLOT, ...roomy]);
  const ref = { slot, below: newName(random) };
  if (!random.chance(0.03)) return ref;
  return { ...ref, ...random.pick([{ behind: '/' }, { behind: '/.' }, { before: './' }, { padTo: PATH_MAX - 1 }]) };
}

function hasRoom(path: string): boolean {
  return path.split('/').length < MAX_DEPTH && path.length < MAX_PATH_BYTES;
}

/** An open handle, of those that `fits` accepts. */
export function openHandle(random: Random, model: Model, fits: (info: HandleInfo) => boolean): number | undefined {
  const choices = [...model.handles].filter(([, info]) => fits(info)).map(([slot]) => slot);
  return choices.length === 0 ? undefined : random.pick(choices);
}

/** A slot for a new handle, free if there is one; who is in it is closed first. */
export function handleSlot(random: Random, model: Model): number {
  for (let slot = 0; slot < HANDLE_SLOTS; slot++) if (!model.handles.has(slot)) return slot;
  return random.below(HANDLE_SLOTS);
}

/** A name's bytes for people: what isn't printable ASCII as an escape, long runs shortened. */
export function printable(bytes: string): string {
  const shown = JSON.stringify(bytes).replace(/[\x7f-\xff]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`);
  return shown.replace(/((.{1,12}?)\2{19,})/g, (run: string, all: string, unit: string) =>
    run === all ? `${unit}{×${all.length / unit.length}}` : run,
  );
}
