/** A wait that can be cut short; one at a time. */
export class Pause {
  #end: (() => void) | undefined;

  /** Resolves after `delayMs`, or as soon as `end` is called. */
  for(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  end(): void {
    this.#end?.();
  }
}
