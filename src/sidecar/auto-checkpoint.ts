import type { Config } from '../config/config.ts';
import type { Layers } from '../layers/layers.ts';
import type { Logger } from '../log.ts';

/** Takes a checkpoint once an interval where something has changed, while that is asked for. */
export class AutoCheckpoints {
  readonly #layers: Layers;
  readonly #log: Logger;
  #intervalMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(layers: Layers, log: Logger) {
    this.#layers = layers;
    this.#log = log;
  }

  /** From now on; an interval that stays what it was goes on. */
  configure({ autoCheckpoint, checkpointIntervalMs }: Config['layer']): void {
    const intervalMs = autoCheckpoint ? checkpointIntervalMs : undefined;
    if (intervalMs === this.#intervalMs) return;
    this.stop();
    this.#intervalMs = intervalMs;
    this.#wait();
  }

  #wait(): void {
    if (this.#intervalMs === undefined) return;
    this.#timer = setTimeout(() => {
      const timer = this.#timer;
      void this.#keep().then(() => {
        if (timer === this.#timer) this.#wait();
      });
    }, this.#intervalMs).unref();
  }

  async #keep(): Promise<void> {
    try {
      const name = await this.#layers.keepChanges();
      if (name !== undefined) this.#log.info('auto-checkpoint', { name });
    } catch (problem) {
      this.#log.warn('auto-checkpoint-failed', { problem });
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#intervalMs = undefined;
  }
}
