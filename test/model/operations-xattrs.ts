/** Operations on extended attributes and access control lists, by path and by handle. */
import { randomAcl } from './acl.ts';
import type { Features } from './features.ts';
import type { Model, PathRef } from './model.ts';
import { existingPath, openHandle, printable } from './names.ts';
import { handleOf, type Outcome, outcome, pathOf, type Row, row, type Side } from './operation.ts';
import type { Random } from './random.ts';

/** A path, with or without the symlink at its end, or a handle. */
interface Place {
  readonly at?: PathRef;
  readonly follow: boolean;
  readonly handle?: number;
}

function randomPlace(random: Random, model: Model): Place {
  const handle = random.chance(0.25) ? openHandle(random, model, () => true) : undefined;
  if (handle !== undefined) return { handle, follow: true };
  return { at: existingPath(random, model), follow: random.chance(0.7) };
}

function placeOf(side: Side, place: Place): string | number {
  if (place.handle !== undefined) return handleOf(side, place.handle);
  if (place.at === undefined) throw new Error('an operation names neither a path nor a handle');
  return pathOf(side, place.at);
}

type Named = Place & { readonly name: string };
type SetArguments = Named & { readonly value: Buffer; readonly flags: number };

interface Namespace {
  readonly label: string;
  readonly needs: readonly (keyof Features)[];
  readonly names: readonly string[];
}

/**
 * Few names and short values: ext4 keeps all of an inode's attributes in one block of 4 KiB, and answers ENOSPC where
 * Tarbox still has room.
 */
const NAMESPACES: readonly Namespace[] = [
  {
    label: 'user',
    needs: ['userXattrs'],
    names: ['user.a', 'user.b', 'user.\xff\xfe', `user.${'n'.repeat(200)}`],
  },
  { label: 'trusted', needs: ['trustedXattrs'], names: ['trusted.a', 'trusted.overlay.opaque'] },
  { label: 'security', needs: ['securityXattrs'], names: ['security.tarbox', 'security.capability'] },
];

/** Names that no file system takes. */
const REFUSED = ['', 'user', 'user.', 'nothing.a', 'system.nothing', `user.${'n'.repeat(251)}`];

const VALUE_BYTES = [0, 1, 20, 100, 255] as const;

/** `struct vfs_cap_data` of version 2 (linux/capability.h): cap_net_raw, effective; the kernel checks its form. */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');

function randomName(random: Random, namespace: Namespace): string {
  return random.chance(0.06) ? random.pick(REFUSED) : random.pick(namespace.names);
}

function randomValue(random: Random, name: string): Buffer {
  if (name === 'security.capability') return random.chance(0.8) ? CAPABILITY : Buffer.from('no capability');
  const value = Buffer.alloc(random.pick(VALUE_BYTES));
  for (let at = 0; at < value.length; at++) value[at] = random.below(256);
  return value;
}

function namespaceOperations(namespace: Namespace): Row[] {
  const { label, needs } = namespace;
  const named = (random: Random, model: Model): Named => ({
    ...randomPlace(random, model),
    name: randomName(random, namespace),
  });
  return [
    row<SetArguments>(`setxattr ${label}`, {
      weight: 3,
      needs,
      generate: (random, model) => {
        const made = named(random, model);
        return { ...made, value: randomValue(random, made.name), flags: random.pick([0, 0, 0, 1, 2, 3, 4]) };
      },
      run: set,
    }),
    row<Named & { readonly size: number }>(`getxattr ${label}`, {
      weight: 1,
      needs,
      generate: (random, model) => ({ ...named(random, model), size: random.pick([0, 10, 256, 65_536]) }),
      run: get,
    }),
    row<Named>(`removexattr ${label}`, { weight: 1, needs, generate: named, run: remove }),
  ];
}

function set(side: Side, args: SetArguments): Outcome {
  return outcome(side.system.setxattr(placeOf(side, args), args.name, args.value, args.flags, args.follow));
}

function get(side: Side, args: Named & { readonly size: number }): Outcome {
  const into = Buffer.alloc(args.size);
  const length = side.system.getxattr(placeOf(side, args), args.name, into, args.follow);
  return args.size === 0 || length < 0 ? outcome(length) : outcome(length, String(length), into.subarray(0, length));
}

function remove(side: Side, args: Named): Outcome {
  return outcome(side.system.removexattr(placeOf(side, args), args.name, args.follow));
}

const LIST_MAX_BYTES = 65_536;

/** Names come in any order. */
const listxattr = row<Place & { readonly size: number }>('listxattr', {
  weight: 3,
  generate: (random, model) => ({ ...randomPlace(random, model), size: random.pick([0, 10, 1000, 65_536]) }),
  run: (side, args) => {
    const place = placeOf(side, args);
    const into = Buffer.alloc(args.size);
    const length = side.system.listxattr(place, into, args.follow);
    if (length < 0) return outcome(length);
    if (args.size === 0) {
      // Room for what could be listed; overlayfs counts names that it then hides.
      const needed = side.system.listxattr(place, Buffer.alloc(LIST_MAX_BYTES), args.follow);
      return outcome(0, length >= needed ? 'room enough' : `room for ${length} bytes of ${needed}`);
    }
    return outcome(length, xattrNames(into, length).map(printable).join(', '));
  },
});

/** The names in the first `length` bytes that listxattr(2) filled, sorted. */
export function xattrNames(list: Buffer, length: number): string[] {
  return list.toString('latin1', 0, length).split('\0').slice(0, -1).sort();
}

const ACL_NAMES = ['system.posix_acl_access', 'system.posix_acl_access', 'system.posix_acl_default'] as const;

function aclPlace(random: Random, model: Model): Place & { readonly name: string } {
  const name = random.pick(ACL_NAMES);
  if (name !== 'system.posix_acl_default') return { ...randomPlace(random, model), name };
  return { at: existingPath(random, model, 'directory'), follow: random.chance(0.7), name };
}

const aclOperations: readonly Row[] = [
  row<SetArguments>('set acl', {
    weight: 5,
    needs: ['acls'],
    generate: (random, model) => ({
      ...aclPlace(random, model),
      value: randomAcl(random),
      flags: random.pick([0, 0, 0, 1, 2]),
    }),
    run: set,
  }),
  row<Named & { readonly size: number }>('get acl', {
    weight: 2,
    needs: ['acls'],
    generate: (random, model) => ({ ...aclPlace(random, model), size: random.pick([0, 10, 1000]) }),
    run: get,
  }),
  row<Named>('remove acl', { weight: 2, needs: ['acls'], generate: aclPlace, run: remove }),
];

export const xattrOperations: readonly Row[] = [
  ...NAMESPACES.flatMap(namespaceOperations),
  listxattr,
  ...aclOperations,
];
