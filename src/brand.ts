declare const brand: unique symbol;

/** A value of type `T` that can't be mixed up with another kind of `T`. Costs nothing at run time. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Inode number: 1 (the root) up to 2^44 - 1; never used twice within a tenant. */
export type Ino = Brand<number, 'Ino'>;

/** Layer number within a tenant, growing from 1 (`base`). */
export type LayerId = Brand<number, 'LayerId'>;

/** Key of a tenant in every table. */
export type TenantId = Brand<number, 'TenantId'>;

/** The lease's fence: grows by one each time the lease is taken. */
export type Epoch = Brand<number, 'Epoch'>;

/** Inode of every workspace's root directory. */
export const ROOT_INO = 1 as Ino; // the brand is a compile-time mark only
