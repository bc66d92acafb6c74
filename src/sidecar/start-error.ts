/** A problem that a person has to solve; its message is the one line that says how. */
export class StartError extends Error {
  override readonly name = 'StartError';
}
