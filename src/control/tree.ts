import { FsError } from '../errno.ts';
import { type ControlFile, jsonText, type Outcome } from './files.ts';
import type { ControlAttributes, ControlEntry, ControlPort } from './port.ts';

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
  readonly name: string;
  readonly parent: number;
  /** Undefined for a directory. */
  readonly file: ControlFile | undefined;
  /** Nodes by name, for a directory. */
  readonly children: Map<string, number>;
  /** Of the last command. */
  outcome: Buffer;
}

/** An open control file. Its text is made at its first read, so that reading it in pieces gives one state. */
interface Handle {
  readonly node: Node;
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
/** A command is a line or a JSON object; more is a mistake, such as a file copied here. */
const COMMAND_MAX_BYTES = 64 * 1024;

/**
 * Makes the tree of control files from their table. Access is by mode and owner, which the kernel checks.
 * A command that fails leaves its reason as the outcome, too.
 */
export function controlTree(files: readonly ControlFile[], options: ControlTreeOptions): ControlPort {
  const nodes: Node[] = [];
  const handles = new Map<number, Handle>();
  let nextHandle = 1;

  const add = (name: string, parent: number, file: ControlFile | undefined): number => {
    const id = nodes.length;
    nodes.push({ name, parent, file, children: new Map(), outcome: outcomeText({ ok: true, command: null }) });
    if (id !== parent) nodeAt(parent).children.set(name, id);
    return id;
  };
  const nodeAt = (id: number): Node => {
    const node = nodes[id];
    if (node === undefined) throw new FsError('ESTALE', `there is no control file ${id}`);
    return node;
  };
  const handleAt = (id: number): Handle => {
    const handle = handles.get(id);
    if (handle === undefined) throw new FsError('ESTALE', 'this control file was opened before the daemon restarted');
    return handle;
  };

  add('', 0, undefined);
  for (const file of files) {
    const names = file.path.split('/');
    let at = 0;
    for (const [index, name] of names.entries()) {
      const isLast = index === names.length - 1;
      at = nodeAt(at).children.get(name) ?? add(name, at, isLast ? file : undefined);
    }
  }

  return {
    visible: options.visible,
    lookup(directory, name) {
      const node = nodeAt(directory);
      if (node.file !== undefined) throw new FsError('ENOTDIR', `${node.name} is not a directory`);
      return node.children.get(name);
    },
    parent: (id) => nodeAt(id).parent,
    list: (directory): readonly ControlEntry[] =>
      [...nodeAt(directory).children].map(([name, id]) => ({ id, name, directory: nodeAt(id).file === undefined })),
    attributes(id): ControlAttributes {
      const { file, children } = nodeAt(id);
      const allowed = CLASSES[options.access];
      const { uid, gid } = options.owner();
      const base = { uid, gid, timeMs: options.startedMs };
      if (file !== undefined) {
        const bits = READ_BITS | (file.command === undefined ? 0 : WRITE_BITS);
        return { ...base, mode: FILE_TYPE | (bits & allowed), nlink: 1 };
      }
      const directories = [...children.values()].filter((child) => nodeAt(child).file === undefined);
      return { ...base, mode: DIRECTORY_TYPE | (ENTER_BITS & allowed), nlink: 2 + directories.length };
    },
    open(id, access) {
      const node = nodeAt(id);
      if (node.file === undefined) throw new FsError('EISDIR', `${node.name} is a directory`);
      if (access.write && node.file.command === undefined)
        throw new FsError('EACCES', `${node.file.path} takes no commands`);
      const handle = nextHandle++;
      handles.set(handle, { node, text: undefined, base: 0, wrote: false, fresh: false });
      return handle;
    },
    async read(id, offset, size) {
      const handle = handleAt(id);
      if (handle.fresh) {
        handle.fresh = false;
        handle.base = offset;
      } else if (handle.text === undefined || offset <= handle.base) {
        // From the start, or from the start again (lseek, pread): what a file tells is as of now.
        if (!handle.wrote) handle.text = await textOf(handle.node);
        handle.base = Math.min(handle.base, offset);
      }
      const start = offset - handle.base;
      return handle.text?.subarray(start, start + size) ?? Buffer.alloc(0);
    },
    async write(id, bytes) {
      const handle = handleAt(id);
      const { file } = handle.node;
      if (file?.command === undefined) throw new FsError('EACCES', 'this control file takes no commands');
      try {
        const outcome = await file.command(commandText(bytes));
        handle.text = outcomeText({ ok: true, ...outcome });
        return bytes.length;
      } catch (problem) {
        handle.text = outcomeText(failureOutcome(problem));
        throw problem;
      } finally {
        handle.wrote = true;
        handle.fresh = true;
        if (handle.text !== undefined) handle.node.outcome = handle.text;
      }
    },
    release(id) {
      handles.delete(id);
    },
  };
}

async function textOf(node: Node): Promise<Buffer> {
  if (node.file?.read === undefined) return node.outcome;
  return Buffer.from(await node.file.read());
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
