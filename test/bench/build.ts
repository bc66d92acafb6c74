import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { run } from './program.ts';

/** The programs that the bench compiles, as paths. */
export interface Programs {
  readonly micro: string;
  readonly stream: string;
}

/** Compiles the clients into `directory`. @throws {Error} with the compiler's messages. */
export async function buildPrograms(directory: string, signal: AbortSignal): Promise<Programs> {
  const build = async (name: string): Promise<string> => {
    const program = join(directory, name);
    await run('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, `${name}.c`)], { signal });
    return program;
  };
  return { micro: await build('micro'), stream: await build('stream') };
}

/** Where Debian's libfuse3-dev keeps the example; dpkg may be told to leave documentation out. */
const EXAMPLE = '/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c';

/** Why passthrough_ll can't be built here; undefined when it can. */
export function passthroughMissing(): string | undefined {
  if (existsSync(EXAMPLE) || existsSync(`${EXAMPLE}.gz`)) return undefined;
  return `${EXAMPLE} (package libfuse3-dev)`;
}

/** Compiles libfuse's passthrough_ll as its own comment says. @throws {Error} with the compiler's messages. */
export async function buildPassthrough(directory: string, signal: AbortSignal): Promise<string> {
  const packed = !existsSync(EXAMPLE);
  const bytes = await readFile(packed ? `${EXAMPLE}.gz` : EXAMPLE);
  const source = join(directory, 'passthrough_ll.c');
  await writeFile(source, packed ? gunzipSync(bytes) : bytes);
  // It includes a header that lies beside it.
  const header = join(EXAMPLE, '..', 'passthrough_helpers.h');
  const program = join(directory, 'passthrough_ll');
  const { stdout } = await run('pkg-config', ['fuse3', '--cflags', '--libs'], { signal });
  await writeFile(
    join(directory, 'passthrough_helpers.h'),
    existsSync(header) ? await readFile(header) : gunzipSync(await readFile(`${header}.gz`)),
  );
  await run('cc', ['-O2', '-o', program, source, ...stdout.trim().split(/\s+/)], { signal });
  return program;
}
