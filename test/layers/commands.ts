import { closeSync, constants, openSync, readFileSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** What a command file gives when it's read. */
export interface Outcome {
  readonly ok: boolean;
  readonly error?: string;
  readonly message?: string;
  readonly hint?: string;
  readonly layer?: string;
  readonly id?: number;
  readonly sealed?: string;
  readonly dropped?: string;
  readonly [key: string]: unknown;
}

/** A line of `layers/list`. */
export interface ListedLayer {
  readonly id: number;
  readonly name: string;
  readonly parent: string | null;
  readonly description?: string;
  readonly created_at: string;
  readonly frozen: boolean;
  readonly frozen_at?: string;
  readonly inodes: number;
  readonly bytes: number;
  readonly tags: readonly string[];
}

/** What a write to a control file came to: the errno's name when it failed, and the outcome on the same handle. */
export interface Written {
  readonly errno: string | undefined;
  readonly outcome: Outcome;
}

/** A command was refused where none may. */
export class Refused extends Error {
  override readonly name = 'Refused';
  readonly outcome: Outcome;

  constructor(file: string, outcome: Outcome) {
    super(`${file}: ${JSON.stringify(outcome)}`);
    this.outcome = outcome;
  }
}

const MOST_BYTES = 1 << 20;

/** A workspace's control files, as a program uses them. */
export class Commands {
  readonly mount: string;

  constructor(mount: string) {
    this.mount = mount;
  }

  path(file: string): string {
    return join(this.mount, '.tarbox', file);
  }

  /** The tree of a frozen layer. */
  snapshot(layer: string): string {
    return this.path(`snapshots/${layer}`);
  }

  /** Writes a command and reads its outcome on the same handle. */
  write(file: string, command: string | object): Written {
    const text = typeof command === 'string' ? command : JSON.stringify(command);
    const handle = openSync(this.path(file), constants.O_RDWR | constants.O_CREAT);
    let errno: string | undefined;
    try {
      try {
        writeSync(handle, `${text}\n`);
      } catch (problem) {
        errno = (problem as NodeJS.ErrnoException).code; // node:fs throws system errors
      }
      const bytes = Buffer.alloc(MOST_BYTES);
      const length = readSync(handle, bytes, 0, MOST_BYTES, 0);
      return { errno, outcome: JSON.parse(bytes.toString('utf8', 0, length)) };
    } finally {
      closeSync(handle);
    }
  }

  /** @throws {Refused} */
  run(file: string, command: string | object): Outcome {
    const { errno, outcome } = this.write(file, command);
    if (errno !== undefined || !outcome.ok) throw new Refused(file, outcome);
    return outcome;
  }

  checkpoint(name: string, more: object = {}): Outcome {
    return this.run('layers/new', { name, ...more });
  }

  switchTo(layer: string): Outcome {
    return this.run('layers/switch', layer);
  }

  drop(layer: string, force = false): Outcome {
    return this.run('layers/drop', { layer, force });
  }

  squash(from: string, to: string, name: string): Outcome {
    return this.run('layers/squash', { from, to, name });
  }

  flush(): void {
    this.run('control/flush', 'all');
  }

  read(file: string): string {
    return readFileSync(this.path(file), 'utf8');
  }

  list(): ListedLayer[] {
    return JSON.parse(this.read('layers/list'));
  }

  names(): string[] {
    return this.list().map(({ name }) => name);
  }

  layer(name: string): ListedLayer {
    const found = this.list().find((layer) => layer.name === name);
    if (found === undefined) throw new Error(`there is no layer '${name}'`);
    return found;
  }

  /** The layer that the tree shows. */
  current(): ListedLayer & { readonly modified: boolean; readonly working: ListedLayer } {
    return JSON.parse(this.read('layers/current'));
  }

  removeTag(tag: string): void {
    unlinkSync(this.path(`layers/tags/${tag}`));
  }
}
