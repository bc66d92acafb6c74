import { lister } from './lister.ts';
import { load } from './load.ts';
import { locker } from './locker.ts';
import { look } from './look.ts';
import { mapper } from './mapper.ts';
import { orphan } from './orphan.ts';
import { reader } from './reader.ts';
import { syncer } from './syncer.ts';

/** The client programs, by the name that starts them. */
export const PROGRAMS = { load, look, reader, mapper, orphan, lister, locker, syncer } as const;

export type ProgramName = keyof typeof PROGRAMS;
/** What a program is started with, and what it gives in the end. */
export type OptionsOf<Name extends ProgramName> = Parameters<(typeof PROGRAMS)[Name]['run']>[0];
export type ResultOf<Name extends ProgramName> = Awaited<ReturnType<(typeof PROGRAMS)[Name]['run']>>;
