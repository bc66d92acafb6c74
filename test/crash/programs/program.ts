import type { Syscalls } from '../../model/syscalls.ts';

/** What a client program is given, and what it tells while it runs. */
export interface Run {
  readonly system: Syscalls;
  /** True once it's asked to end. Asked once in each round, after which the event loop has had a turn. */
  readonly stopping: () => Promise<boolean>;
  /** Tells that the first round is over: what the program does is under way. */
  readonly ready: () => void;
}

/** One client program: runs until it's asked to stop, and gives what it counted. Throws where it saw anything wrong. */
export interface Program<Options, Result> {
  run(options: Options, run: Run): Promise<Result>;
}
