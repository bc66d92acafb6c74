/** Whether two files look alike, and whether their times moved alike since they were last looked at. */
import { fileType, GROUP_EXECUTE, SETGID, SETUID } from '../../src/vfs/inode.ts';
import type { Features } from './features.ts';
import type { Attributes } from './syscalls.ts';

/** Something that isn't alike. `field` says what, in few words that don't name the file. */
export interface Difference {
  readonly field: string;
  readonly text: string;
}

interface Times {
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** A file as it was when both sides were last looked at. */
interface Sighting {
  readonly reference: Times;
  readonly target: Times;
  /** When that was. */
  readonly atNs: bigint;
}

/**
 * Where time stamps aren't fine (features.ts), the kernel takes them from its last tick, of 10 ms at most (CONFIG_HZ):
 * a change right after a look may then not move them.
 */
const TICK_NS = 10_000_000n;
/** What two stamps of one operation may lie apart, if it was held up in between; far from every time that is set. */
const TOGETHER_NS = 120_000_000_000n;

const STAMPS = ['mtimeNs', 'ctimeNs'] as const;

/**
 * Whether a difference in mode is one that comes from what the kernel tells a FUSE server, and the files differ in
 * nothing else of their mode:
 * - Writing, truncating and chown take setgid away from a file whose group may execute it. Where the group may not, Linux
 *   does so too since 6.2, unless the caller is in the group (setattr_should_drop_sgid); a server isn't told the caller's
 *   groups and keeps it (FUSE_HANDLE_KILLPRIV_V2 in linux/fuse.h).
 * - Before root writes to a file with capabilities, the kernel removes those and sends a SETATTR of nothing
 *   (file_remove_privs), as it does for chown(2) that names no owner. That takes setuid and setgid away; the write doesn't.
 */
export function isUntoldMode(reference: Attributes, target: Attributes, hadCapabilities: boolean): boolean {
  if ((reference.mode & fileType.mask) !== fileType.regular || reference.mode === target.mode) return false;
  const groupExecutes = (reference.mode & GROUP_EXECUTE) !== 0;
  if (!groupExecutes && target.mode === (reference.mode | SETGID)) return true;
  return hadCapabilities && target.mode === (reference.mode & ~(groupExecutes ? SETUID | SETGID : SETUID));
}

/** Remembers how every file looked on both sides. */
export class Sightings {
  readonly #features: Features;
  readonly #targetIsFine: boolean;
  readonly #seen = new Map<string, Sighting>();
  /** Which inodes of the reference and of the target are the same file. */
  readonly #targetOf = new Map<number, number>();
  readonly #referenceOf = new Map<number, number>();

  constructor(features: Features, targetIsFine: boolean) {
    this.#features = features;
    this.#targetIsFine = targetIsFine;
  }

  /** Inode numbers are given again once their file is gone: what was the same file then needn't be now. */
  forgetIdentities(): void {
    this.#targetOf.clear();
    this.#referenceOf.clear();
  }

  /** What differs between two files, now and since they were last compared. */
  compare(reference: Attributes, target: Attributes): Difference[] {
    const differences = [...this.#compareNow(reference, target)];
    const key = `${reference.ino}:${reference.btimeNs}:${target.ino}`;
    const before = this.#seen.get(key);
    for (const stamp of STAMPS) {
      const difference =
        before === undefined ? together(stamp, reference, target) : this.#moved(stamp, before, reference, target);
      if (difference !== undefined) differences.push(difference);
    }
    this.#seen.set(key, { reference, target, atNs: BigInt(Date.now()) * 1_000_000n });
    return differences;
  }

  #compareNow(reference: Attributes, target: Attributes): Difference[] {
    const differences: Difference[] = [];
    const add = (field: string, one: number | string, other: number | string) => {
      if (one !== other) differences.push({ field, text: `${field}: ${one} in the reference, ${other} in the target` });
    };
    const isDirectory = (reference.mode & fileType.mask) === fileType.directory;
    add('type and mode', reference.mode.toString(8), target.mode.toString(8));
    add('owner', reference.uid, target.uid);
    add('group', reference.gid, target.gid);
    add('device number', reference.rdev, target.rdev);
    if (this.#features.directoryLinks || !isDirectory) add('link count', reference.nlink, target.nlink);
    // What a directory takes up is the file system's own affair (stat(2)).
    if (!isDirectory) add('size', reference.size, target.size);
    return differences;
  }

  /** Two names are one file on both sides or on neither. */
  compareIdentity(reference: Attributes, target: Attributes): Difference[] {
    const [other, one] = [this.#targetOf.get(reference.ino), this.#referenceOf.get(target.ino)];
    this.#targetOf.set(reference.ino, target.ino);
    this.#referenceOf.set(target.ino, reference.ino);
    if ((other ?? target.ino) === target.ino && (one ?? reference.ino) === reference.ino) return [];
    const text = `identity: inode ${reference.ino} of the reference is ${target.ino} in the target and was ${other}; that was ${one}`;
    return [{ field: 'identity', text }];
  }

  #moved(stamp: keyof Times, before: Sighting, reference: Times, target: Times): Difference | undefined {
    const referenceMoved = reference[stamp] !== before.reference[stamp];
    const targetMoved = target[stamp] !== before.target[stamp];
    if (referenceMoved && targetMoved) return together(stamp, reference, target);
    if (referenceMoved === targetMoved) return undefined;
    const [stays, isFine] = referenceMoved ? [target, this.#targetIsFine] : [reference, this.#features.fineTimes];
    if (!isFine && stays[stamp] >= before.atNs - TICK_NS) return undefined;
    const who = referenceMoved ? 'only the reference' : 'only the target';
    return { field: `${nameOf(stamp)} moved`, text: `${nameOf(stamp)} moved in ${who}` };
  }
}

/** Times that were set are equal, times that just passed lie close together. */
function together(stamp: keyof Times, reference: Times, target: Times): Difference | undefined {
  const apart = reference[stamp] - target[stamp];
  if (apart > -TOGETHER_NS && apart < TOGETHER_NS) return undefined;
  const name = nameOf(stamp);
  return { field: name, text: `${name}: ${reference[stamp]} ns in the reference, ${target[stamp]} ns in the target` };
}

function nameOf(stamp: keyof Times): string {
  return stamp === 'mtimeNs' ? 'mtime' : 'ctime';
}

/** What stat(2) found, in few words. */
export function presence(found: Attributes | number): string {
  return typeof found === 'number' ? `errno ${-found}` : `0${found.mode.toString(8)}`;
}
