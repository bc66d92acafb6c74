/** What has to be undone when the bench ends, however it ends. */
export class Cleanup {
  readonly #undos: { readonly what: string; readonly undo: () => Promise<void> }[] = [];

  /** Has `undo` carried out by `run`, before everything that was added earlier. `what` names it in a warning. */
  add(what: string, undo: () => Promise<void>): void {
    this.#undos.push({ what, undo });
  }

  /** Undoes everything, newest first. What fails is reported and leaves the rest alone. Safe to call again. */
  async run(): Promise<void> {
    for (let entry = this.#undos.pop(); entry !== undefined; entry = this.#undos.pop()) {
      try {
        await entry.undo();
      } catch (problem) {
        process.stderr.write(`could not clean up ${entry.what}: ${String(problem)}\n`);
      }
    }
  }
}
