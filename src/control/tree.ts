import { FsError } from '../errno.ts';
import {
  type ControlChild,
  type ControlDirectory,
  type ControlFile,
  type ControlRow,
  jsonText,
  type Outcome,
} from './files.ts';
import type { ControlAttributes, ControlEntry, ControlPort, ControlTarget, Soon } from './port.ts';
import { TextStream } from './stream.ts';

/** Who may use the control files beside root: the workspace's owner, its group too, or everyone. */
export type ControlAccess = 'owner' | 'group' | 'all';

export interface ControlTreeOptions {
  readonly access: ControlAccess;
  /** Whether a listing of the workspace's root names `.tarbox`. */
  readonly visible: boolean;
  /** Owner and group of the workspace's root, which are the control files' too. */
  readonly owner: () => { readonly uid: number; readonly gid: number };
  readonly startedMs: number;
}

interface Node {
  readonly id: number;
  readonly name: string;
  readonly parent: number;
  readonly is: { readonly file: ControlFile } | { readonly directory: ControlDirectory };
  /** Nodes by name. */
  readonly children: Map<string, number>;
  /** A row of the table, or on the way to one. */
  readonly fixed: boolean;
  lookups: number;
  /** Of the last command. */
  outcome: Buffer;
}

/** An open control file. Its text is made at its first read, so that reading it in pieces gives one state. */
interface Handle {
  /** Where it isn't made at once, nor held. */
  readonly stream: TextStream | undefined;
  text: Buffer | undefined;
  /** Offset at which `text` starts: a command's outcome is read from wherever the handle stands. */
  base: number;
  /** A command was written on this handle, whose outcome is what it reads. */
  wrote: boolean;
  /** That outcome has not been read yet. */
  fresh: boolean;
}

const DIRECTORY_TYPE = 0o040000;
const FILE_TYPE = 0o100000;
/** Permission bits of class `all`, by which class may use the tree. */
const CLASSES: { readonly [access in ControlAccess]: number } = { owner: 0o700, group: 0o770, all: 0o777 };
const READ_BITS = 0o444;
const WRITE_BITS = 0o222;
const ENTER_BITS = 0o555;
/** More than can be opened in a millisecond; the numbers stay exact until 2248. */
const HANDLES_PER_MS = 1024;
/** A command is a line or a JSON object; more is a mistake, such as a file copied here. */
const COMMAND_MAX_BYTES = 64 * 1024;

/**
 * The tree of control files. Access is by mode and owner, which the kernel checks. A command that fails leaves its
 * reason as the outcome, too.
 */
class ControlTree implements ControlPort {
  readonly visible: boolean;
  readonly #options: ControlTreeOptions;
  readonly #nodes = new Map<number, Node>();
  readonly #handles = new Map<number, Handle>();
  #nextId = 0;
  /** Above every handle of an earlier daemon, whose programs may still use theirs. */
  #nextHandle: number;

  constructor(rows: readonly ControlRow[], options: ControlTreeOptions) {
    this.#options = options;
    this.#nextHandle = Math.floor(options.startedMs) * HANDLES_PER_MS;
    this.visible = options.visible;
    this.#add('', 0, { directory: this.#fixedDirectory(0) }, true);
    for (const { path, node } of rows) {
      const names = path.split('/');
      const last = names.pop() ?? '';
      let at = 0;
      for (const name of names)
        at =
          this.#node(at).children.get(name) ??
          this.#add(name, at, { directory: this.#fixedDirectory(this.#nextId) }, true);
      this.#add(last, at, node, true);
    }
  }

  #add(name: string, parent: number, is: Node['is'], fixed: boolean): number {
    const id = this.#nextId++;
    const outcome = outcomeText({ ok: true, command: null });
    this.#nodes.set(id, { id, name, parent, is, children: new Map(), fixed, lookups: 0, outcome });
    if (id !== parent) this.#node(parent).children.set(name, id);
    return id;
  }

  /** A directory that holds what the table says. */
  #fixedDirectory(id: number): ControlDirectory {
    return {
      list: () =>
        [...this.#node(id).children].map(([name, child]) => ({
          name,
          directory: 'directory' in this.#node(child).is,
          node: child,
        })),
      find: () => undefined, // its children are nodes already
    };
  }

  #node(id: number): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new FsError('ESTALE', `there is no control file ${id}`);
    return node;
  }

  #directory(id: number): ControlDirectory {
    const { is, name } = this.#node(id);
    if (!('directory' in is)) throw new FsError('ENOTDIR', `${name} is not a directory`);
    return is.directory;
  }

  #file(id: number): ControlFile {
    const { is, name } = this.#node(id);
    if (!('file' in is)) throw new FsError('EISDIR', `${name} is a directory`);
    return is.file;
  }

  lookup(directory: number, name: string): Soon<ControlTarget | undefined> {
    const node = this.#node(directory);
    const known = node.children.get(name);
    if (known !== undefined && this.#node(known).fixed) return { node: known };
    const found = this.#directory(directory).find(name);
    return found instanceof Promise
      ? found.then((child) => this.#target(directory, name, child))
      : this.#target(directory, name, found);
  }

  #target(directory: number, name: string, child: ControlChild | undefined): ControlTarget | undefined {
    if (child === undefined) return undefined;
    if ('snapshot' in child) return child;
    const known = this.#nodes.get(this.#node(directory).children.get(name) ?? -1);
    const sameKind = known !== undefined && 'file' in known.is === 'file' in child;
    const id = sameKind ? known.id : this.#add(name, directory, child, false);
    this.#node(id).lookups++;
    return { node: id };
  }

  forget(id: number, count: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined || node.fixed) return;
    node.lookups -= count;
    if (node.lookups > 0) return;
    this.#nodes.delete(id);
    const siblings = this.#nodes.get(node.parent)?.children;
    if (siblings?.get(node.name) === id) siblings.delete(node.name);
  }

  parent(id: number): number {
    return this.#node(id).parent;
  }

  names(id: number): string[] {
    const names: string[] = [];
    for (let at = this.#nodes.get(id); at !== undefined && at.id !== 0; at = this.#nodes.get(at.parent))
      names.unshift(at.name);
    return names;
  }

  list(directory: number): Soon<readonly ControlEntry[]> {
    return this.#directory(directory).list();
  }

  attributes(id: number): ControlAttributes {
    const { is, children } = this.#node(id);
    const allowed = CLASSES[this.#options.access];
    const { uid, gid } = this.#options.owner();
    const base = { uid, gid, timeMs: this.#options.startedMs };
    if ('file' in is) {
      const bits = READ_BITS | (is.file.command === undefined ? 0 : WRITE_BITS);
      return { ...base, mode: FILE_TYPE | (bits & allowed), nlink: 1 };
    }
    const bits = ENTER_BITS | (is.directory.create === undefined ? 0 : WRITE_BITS);
    const directories = [...children.values()].filter((child) => 'directory' in this.#node(child).is);
    return { ...base, mode: DIRECTORY_TYPE | (bits & allowed), nlink: 2 + directories.length };
  }

  create(directory: number, name: string): number {
    const { create } = this.#directory(directory);
    if (create === undefined) throw new FsError('EPERM', 'no files can be made here');
    const id = this.#add(name, directory, { file: create(name) }, false);
    this.#node(id).lookups++;
    return id;
  }

  async remove(directory: number, name: string, request: number): Promise<void> {
    const { remove } = this.#directory(directory);
    if (remove === undefined) throw new FsError('EPERM', 'nothing can be removed here');
    await remove(name, request);
  }

  open(id: number, access: { readonly write: boolean }): number {
    const file = this.#file(id);
    if (access.write && file.command === undefined)
      throw new FsError('EACCES', `${this.#node(id).name} takes no commands`);
    const handle = this.#nextHandle++;
    this.#handles.set(handle, newHandle(file));
    return handle;
  }

  isStream(id: number): boolean {
    const { stream, openStream } = this.#file(id);
    return stream !== undefined || openStream !== undefined;
  }

  isEndless(id: number): boolean {
    return this.#file(id).openStream !== undefined;
  }

  /** A handle that an earlier daemon gave out is as good as a new one. */
  #handle(id: number, number: number): Handle {
    let handle = this.#handles.get(number);
    if (handle === undefined) {
      handle = newHandle(this.#file(id));
      this.#handles.set(number, handle);
    }
    return handle;
  }

  isInterruptible(id: number): boolean {
    return this.#file(id).interruptible === true;
  }

  async read(id: number, number: number, offset: number, size: number, signal: AbortSignal): Promise<Buffer> {
    const node = this.#node(id);
    const handle = this.#handle(id, number);
    if (handle.stream !== undefined) return handle.stream.read(offset, size);
    if (handle.fresh) {
      handle.fresh = false;
      handle.base = offset;
    } else if (handle.text === undefined || offset <= handle.base) {
      // From the start, or from the start again (lseek, pread): what a file tells is as of now.
      if (!handle.wrote) handle.text = await textOf(node, this.#file(id), signal);
      handle.base = Math.min(handle.base, offset);
    }
    const start = offset - handle.base;
    return handle.text?.subarray(start, start + size) ?? Buffer.alloc(0);
  }

  async write(id: number, number: number, bytes: Buffer, request: number, signal: AbortSignal): Promise<number> {
    const node = this.#node(id);
    const handle = this.#handle(id, number);
    const { command } = this.#file(id);
    if (command === undefined) throw new FsError('EACCES', 'this control file takes no commands');
    const finish = (text: Buffer) => {
      handle.text = text;
      handle.wrote = true;
      handle.fresh = true;
      node.outcome = handle.text;
    };
    try {
      const outcome = await command(commandText(bytes), request, signal);
      finish(typeof outcome === 'string' ? Buffer.from(outcome) : outcomeText({ ok: true, ...outcome }));
    } catch (problem) {
      finish(outcomeText(failureOutcome(problem)));
      throw problem;
    }
    return bytes.length;
  }

  release(handle: number): void {
    this.#handles.get(handle)?.stream?.close();
    this.#handles.delete(handle);
  }
}

/** Makes the tree of control files from their table. */
export function controlTree(rows: readonly ControlRow[], options: ControlTreeOptions): ControlPort {
  return new ControlTree(rows, options);
}

function newHandle({ stream, openStream }: ControlFile): Handle {
  const make = openStream?.() ?? stream;
  return { stream: make && new TextStream(make), text: undefined, base: 0, wrote: false, fresh: false };
}

async function textOf(node: Node, file: ControlFile, signal: AbortSignal): Promise<Buffer> {
  if (file.read === undefined) return node.outcome;
  const text = await file.read(signal);
  return typeof text === 'string' ? Buffer.from(text) : text;
}

/** @throws {FsError} EINVAL when it isn't a line of text or JSON */
function commandText(bytes: Buffer): string {
  if (bytes.length > COMMAND_MAX_BYTES)
    throw new FsError('EINVAL', `a command may have ${COMMAND_MAX_BYTES} bytes at most, this one has ${bytes.length}`);
  const text = bytes.toString('utf8');
  if (!Buffer.from(text).equals(bytes) || text.includes('\0')) throw new FsError('EINVAL', 'a command is UTF-8 text');
  return text.replace(/\r?\n$/, '');
}

function outcomeText(outcome: Outcome): Buffer {
  return Buffer.from(jsonText(outcome));
}

function failureOutcome(problem: unknown): Outcome {
  if (!(problem instanceof FsError))
    return { ok: false, error: 'EIO', message: 'the command failed; the log says why' };
  const hint = problem.hint === undefined ? {} : { hint: problem.hint };
  return { ok: false, error: problem.code, message: problem.message, ...hint };
}
