/** Multiplies the rounds of random tests, for longer runs. */
const FACTOR = Number(process.env['TARBOX_TEST_ROUNDS'] ?? 1);
/** Another one gives other operations and other moments. */
const SEED = Number(process.env['TARBOX_TEST_SEED'] ?? 1);

/** So many seeds, or as many times more as TARBOX_TEST_ROUNDS says. */
export function roundSeeds(count: number): number[] {
  return Array.from({ length: Math.ceil(count * FACTOR) }, (_, round) => SEED * 1000 + round);
}
