/** Access control lists as setxattr(2) takes them (linux/posix_acl_xattr.h). */
import type { Random } from './random.ts';

const TAGS = { owner: 0x01, user: 0x02, 'owning group': 0x04, group: 0x08, mask: 0x10, other: 0x20 } as const;
const VERSION = 2;
const NO_ID = 0xffff_ffff;

export interface AclEntry {
  readonly tag: keyof typeof TAGS;
  readonly permissions: number;
  readonly id?: number;
}

export function packAcl(entries: readonly AclEntry[]): Buffer {
  const packed = Buffer.alloc(4 + entries.length * 8);
  packed.writeUInt32LE(VERSION, 0);
  entries.forEach((entry, index) => {
    packed.writeUInt16LE(TAGS[entry.tag], 4 + index * 8);
    packed.writeUInt16LE(entry.permissions, 6 + index * 8);
    packed.writeUInt32LE(entry.id ?? NO_ID, 8 + index * 8);
  });
  return packed;
}

/** Mostly a valid list; sometimes one that lacks something. */
export function randomAcl(random: Random): Buffer {
  const permissions = () => random.pick([0, 1, 4, 5, 6, 7, 7]);
  const users: AclEntry[] = random
    .some([1000, 1001, 65_534], 0.4)
    .map((id) => ({ tag: 'user', id, permissions: permissions() }));
  const groups: AclEntry[] = random
    .some([1000, 1001, 2000], 0.3)
    .map((id) => ({ tag: 'group', id, permissions: permissions() }));
  const needsMask = users.length + groups.length > 0;
  const mask: AclEntry[] = needsMask || random.chance(0.2) ? [{ tag: 'mask', permissions: permissions() }] : [];
  const all: AclEntry[] = [
    { tag: 'owner', permissions: random.pick([6, 7, 7, permissions()]) },
    ...users,
    { tag: 'owning group', permissions: permissions() },
    ...groups,
    ...mask,
    { tag: 'other', permissions: permissions() },
  ];
  return packAcl(random.chance(0.04) ? all.filter(() => random.chance(0.8)) : all);
}
