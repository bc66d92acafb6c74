import { StoreError } from '../vfs/store.ts';

const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1000;

/**
 * Tries until the database is there.
 *
 * @throws what `work` throws, other than {StoreError} `unavailable`
 */
export async function whenAvailable<T>(
  work: () => Promise<T>,
  onAway: (problem: StoreError) => void = () => {},
): Promise<T> {
  for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)) {
    try {
      return await work();
    } catch (problem) {
      if (!(problem instanceof StoreError) || problem.failure !== 'unavailable') throw problem;
      onAway(problem);
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}
