/** Multiplies the rounds of random tests, for longer runs. */
const FACTOR = Number(process.env['TARBOX_TEST_ROUNDS'] ?? 1);
/** Another one gives other operations and other moments. */
const SEED = Number(process.env['TARBOX_TEST_SEED'] ?? 1);

/** The numbers of so many rounds, or of as many times more as TARBOX_TEST_ROUNDS says. */
export function rounds(count: number): number[] {
  return Array.from({ length: Math.ceil(count * FACTOR) }, (_, round) => round);
}

/** The seed of one part of the tests, in this run of them (TARBOX_TEST_SEED). */
export function seedOf(part: number): number {
  return SEED * 1000 + part;
}
