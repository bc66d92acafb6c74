import { type Ino, ROOT_INO } from '../brand.ts';
import { fileType } from '../vfs/inode.ts';
import type { CheckedFile } from './port.ts';

/** Something that is wrong with a file, and what makes it right; without anything, it can't be repaired. */
export interface Finding {
  readonly ino: Ino;
  readonly problem: string;
  readonly set?: { readonly nlink?: number; readonly parent?: Ino; readonly allocated?: number };
  /** Its names say what type it is. */
  readonly setTypes?: true;
  /** Its names go. */
  readonly hideNames?: true;
  /** Its content in the layer goes. */
  readonly dropContent?: true;
}

/** Judges one file as of a layer. Pure. */
export function judge(file: CheckedFile): Finding[] {
  if (file.mode === undefined) return judgeAbsent(file);
  const type = file.mode & fileType.mask;
  return [
    ...(file.wrongTypes > 0
      ? [{ ino: file.ino, problem: 'a name says another type than it has', setTypes: true } as const]
      : []),
    ...(type === fileType.directory ? judgeDirectory(file) : judgeNames(file)),
    ...judgeContent(file, type),
  ];
}

function judgeAbsent({ ino, names, children, contentRows }: CheckedFile): Finding[] {
  const findings: Finding[] = [];
  if (names > 0 && children > 0)
    findings.push({ ino, problem: `the directory is missing; ${children} names in it are there` });
  else if (names > 0) findings.push({ ino, problem: 'the name stands for nothing', hideNames: true });
  else if (children > 0) findings.push({ ino, problem: `${children} names are in a directory that is not there` });
  // As long as it has names, someone may still put it back.
  if (contentRows > 0 && names === 0)
    findings.push({ ino, problem: 'there is content of a file that is not there', dropContent: true });
  return findings;
}

function judgeDirectory({ ino, nlink, parent, names, namedIn, children }: CheckedFile): Finding[] {
  const findings: Finding[] = [];
  const isRoot = ino === ROOT_INO;
  const expected = isRoot || nlink === 0 ? 0 : 1;
  if (names !== expected) findings.push({ ino, problem: `the directory has ${names} names` });
  const where = isRoot ? ROOT_INO : names === 1 ? namedIn : undefined;
  if (where !== undefined && parent !== where)
    findings.push({ ino, problem: `the directory takes inode ${parent} for its parent`, set: { parent: where } });
  const links = 2 + children;
  if (nlink !== links && (nlink > 0 || children > 0))
    findings.push({ ino, problem: `the directory has ${nlink} links for ${links}`, set: { nlink: links } });
  return findings;
}

function judgeNames({ ino, nlink, names, children }: CheckedFile): Finding[] {
  const findings: Finding[] = [];
  if (children > 0) findings.push({ ino, problem: `${children} names are in something that is no directory` });
  if (nlink === names) return findings;
  if (names === 0) findings.push({ ino, problem: `no name is left of ${nlink}` });
  else findings.push({ ino, problem: `the file has ${nlink} links for ${names} names`, set: { nlink: names } });
  return findings;
}

function judgeContent(file: CheckedFile, type: number): Finding[] {
  const { ino, size, allocated, targetBytes, heldBytes, contentEnd, contentRows } = file;
  const findings: Finding[] = [];
  if (type === fileType.symlink && size !== targetBytes)
    findings.push({ ino, problem: `the link has ${size} bytes, and its target ${targetBytes}` });
  if (type !== fileType.regular) {
    if (contentRows > 0) findings.push({ ino, problem: 'there is content of something that is no file' });
    return findings;
  }
  if (contentEnd > size) findings.push({ ino, problem: `the file has ${size} bytes, and content up to ${contentEnd}` });
  if (allocated !== heldBytes)
    findings.push({
      ino,
      problem: `the file is said to hold ${allocated} bytes, and holds ${heldBytes}`,
      set: { allocated: heldBytes },
    });
  return findings;
}
