import { ROOT_INO } from '../brand.ts';
import type { Device } from '../fuse/device.ts';
import type { Dispatcher } from '../fuse/dispatch.ts';
import { packIncEpoch, packInvalInode } from '../fuse/notify.ts';
import type { Session } from '../fuse/session.ts';
import type { Journal } from '../journal/journal.ts';
import type { LocalLog } from '../journal/log.ts';
import type { Logger } from '../log.ts';
import type { Workspace } from '../vfs/workspace.ts';

/** The parts of a daemon that goes on where another one ended. */
export interface RecoveryParts {
  readonly workspace: Workspace;
  readonly journal: Journal;
  readonly localLog: LocalLog;
  readonly dispatcher: Dispatcher;
  readonly session: Session;
  readonly device: Device;
  readonly log: Logger;
  /** Under which the tenant was taken. */
  readonly epoch: number;
  /** Whether the log has everything that isn't committed. */
  readonly continues: boolean;
}

/** How a recovery went: how many operations were carried out again, and what is left to do while requests are served. */
export interface Recovered {
  readonly replayed: number;
  readonly whileServing: () => Promise<void>;
}

/**
 * Goes on where the last daemon ended: its operations that weren't committed are carried out again from the log, so
 * nothing that the kernel has cached is wrong, and whoever waited for one of them gets the answer that there was. No
 * commit begins before that is done, so until then another daemon could do the same. Where the log doesn't continue
 * the last commit, the kernel forgets all it has cached, and what existed only there answers ESTALE.
 */
export async function recover(parts: RecoveryParts): Promise<Recovered> {
  const { workspace, journal, localLog, dispatcher, session } = parts;
  if (!parts.continues) return startOver(parts);
  const committed = workspace.sequence;
  localLog.hold();
  for (const record of localLog.recover())
    if (record.sequence <= committed) dispatcher.remember(record);
    else await dispatcher.replay(record);
  const replayed = workspace.sequence - committed;
  if (replayed > 0) journal.changed();
  const whileServing = async () => {
    // Then nobody is left who asked before.
    await session.drained();
    dispatcher.forgetAnswers();
    localLog.release();
  };
  return { replayed, whileServing };
}

async function startOver(parts: RecoveryParts): Promise<Recovered> {
  const { workspace, journal, localLog, session, log } = parts;
  log.warn('caches-dropped', { reason: 'the local log does not continue the last commit' });
  // Each lost operation may have made a file that the kernel still knows by its number: no other file may get that.
  workspace.nextIno += localLog.recover().length;
  workspace.touch(workspace.inode(ROOT_INO));
  workspace.mutated = false;
  await journal.sync();
  localLog.reset(parts.epoch);
  const message = Buffer.alloc(64);
  const failed = session.notify(message, packIncEpoch(message));
  if (failed < 0)
    throw new Error(`this kernel cannot drop its cached names (errno ${-failed}; Linux 6.16 and newer can)`);
  return { replayed: 0, whileServing: () => dropInodes(parts.device, workspace.nextIno) };
}

const NOTIFIED_AT_ONCE = 64;

/**
 * Has the kernel forget the attributes and pages of every inode below `endIno`, on other threads: for a page that is
 * being read, the kernel waits until its request is answered.
 */
async function dropInodes(device: Device, endIno: number): Promise<void> {
  for (let from: number = ROOT_INO; from < endIno; from += NOTIFIED_AT_ONCE) {
    const drops: Promise<number>[] = [];
    for (let ino = from; ino < Math.min(endIno, from + NOTIFIED_AT_ONCE); ino++) {
      const message = Buffer.alloc(64);
      drops.push(device.writeAway(message, packInvalInode(message, ino >>> 0, Math.floor(ino / 2 ** 32), 0, 0)));
    }
    await Promise.all(drops);
  }
}
