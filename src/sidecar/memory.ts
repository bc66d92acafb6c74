/**
 * Size of the local log for a limit on what may wait for its commit: the log holds the same bytes as requests, and
 * those of the commit under way with them.
 */
export function localLogBytes(dirtyLimitBytes: number): number {
  return dirtyLimitBytes;
}
