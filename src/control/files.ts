/** What a command came to; what is read back as JSON. A failure is an FsError instead. */
export type Outcome = Readonly<Record<string, unknown>>;

/** One control file: a row of the table that a workspace's `/.tarbox` is made of. */
export interface ControlFile {
  /** Below `/.tarbox`, such as `layers/current`. Directories come from the paths. */
  readonly path: string;
  /** One line for `README`. */
  readonly about: string;
  /** The text of the file, made when it's read; it ends in a newline. A command file reads as its last outcome. */
  readonly read?: () => string | Promise<string>;
  /**
   * Carries out one command, its trailing newline taken off. Its effect is durable when it resolves.
   *
   * @throws {FsError} the class of the refusal; nothing has changed then. Its `hint`, if any, says what to write instead.
   */
  readonly command?: (text: string) => Promise<Outcome>;
}

/** JSON as control files give it: an object, over several lines for people. */
export function jsonText(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
