import type { LayerId } from '../brand.ts';
import type { ControlEntry, Soon } from './port.ts';
import type { MakeText } from './stream.ts';

/** What a command came to; what is read back as JSON. A failure is an FsError instead. */
export type Outcome = Readonly<Record<string, unknown>>;

/** A control file. */
export interface ControlFile {
  /** The text of the file, made when it's read; it ends in a newline. A command file without it reads as its last outcome. */
  readonly read?: (signal: AbortSignal) => Soon<string | Buffer>;
  /** Instead of `read`, where the text may be long: it's made as it's read, and can only be read from start to end. */
  readonly stream?: MakeText;
  /** The same for a text that begins when the file is opened, and has no end: any signal ends the wait for more. */
  readonly openStream?: () => MakeText;
  /**
   * Carries out one command, its trailing newline taken off. Its effect is durable when it resolves. `request`: the
   * number of the request that carries it, the same when it comes a second time. What it comes to may be the whole text
   * that is read back. `signal` aborts when nobody waits for it any more, of an interruptible one.
   *
   * @throws {FsError} the class of the refusal; nothing has changed then. Its `hint`, if any, says what to write instead.
   */
  readonly command?: (text: string, request: number, signal: AbortSignal) => Promise<Outcome | string>;
  /** The command changes nothing: it ends with who gave it. */
  readonly interruptible?: true;
}

/** A control directory whose names aren't fixed. Names are byte strings. */
export interface ControlDirectory {
  readonly list: () => Soon<readonly ControlEntry[]>;
  readonly find: (name: string) => Soon<ControlChild | undefined>;
  /** A file for a name that isn't there: what is written to it makes it. @throws {FsError} EINVAL */
  readonly create?: (name: string) => ControlFile;
  /** @throws {FsError} ENOENT */
  readonly remove?: (name: string, request: number) => Promise<void>;
}

export type ControlChild =
  | { readonly file: ControlFile }
  | { readonly directory: ControlDirectory }
  | { readonly snapshot: LayerId };

/** A row of the table that a workspace's `/.tarbox` is made of. */
export interface ControlRow {
  /** Below `/.tarbox`, such as `layers/current`. Directories on the way come by themselves. */
  readonly path: string;
  /** One line for `README`. */
  readonly about: string;
  readonly node: { readonly file: ControlFile } | { readonly directory: ControlDirectory };
}

/** JSON as control files give it: an object, over several lines for people. */
export function jsonText(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** A JSON array with one element a line, so that `jq` and `grep` both work. */
export function jsonLines(values: readonly object[]): string {
  return values.length === 0 ? '[]\n' : `[${values.map((value) => JSON.stringify(value)).join(',\n')}]\n`;
}
