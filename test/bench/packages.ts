import { existsSync } from 'node:fs';
import { run } from './program.ts';

interface Requirement {
  readonly package: string;
  /** A file that the package brings. */
  readonly file: string;
}

/** Debian packages the bench needs, and where each shows. */
const REQUIREMENTS: readonly Requirement[] = [
  { package: 'gcc', file: '/usr/bin/cc' },
  { package: 'libc6-dev', file: '/usr/include/stdio.h' },
  { package: 'pkg-config', file: '/usr/bin/pkg-config' },
  { package: 'fuse3', file: '/usr/bin/fusermount3' },
  { package: 'libfuse3-dev', file: '/usr/include/fuse3/fuse_lowlevel.h' },
  { package: 'bindfs', file: '/usr/bin/bindfs' },
  { package: 'e2fsprogs', file: '/sbin/mkfs.ext4' },
  { package: 'git', file: '/usr/bin/git' },
];

export function missingPackages(): string[] {
  return REQUIREMENTS.filter(({ file }) => !existsSync(file)).map((requirement) => requirement.package);
}

/** Installs Debian packages. @throws {Error} when apt-get fails. */
export async function installPackages(packages: readonly string[], signal: AbortSignal): Promise<void> {
  const environment = { DEBIAN_FRONTEND: 'noninteractive' };
  await run('apt-get', ['update'], { signal, environment });
  await run('apt-get', ['install', '-y', '--no-install-recommends', ...packages], { signal, environment });
}
