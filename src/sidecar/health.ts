import type { JournalState } from '../journal/journal.ts';

/** What `/.tarbox/health` says in one word. */
export type HealthStatus = 'ok' | 'degraded' | 'readonly';

/** Collects, by its source, everything that isn't as it should be. */
export class Health {
  readonly #reasons = new Map<string, { status: HealthStatus; reason: string; since: Date }>();

  /** Records the state of one source; an `ok` takes its entry away. */
  set(source: string, status: HealthStatus, reason: string): void {
    if (status === 'ok') this.#reasons.delete(source);
    else this.#reasons.set(source, { status, reason, since: this.#reasons.get(source)?.since ?? new Date() });
  }

  setJournal(state: JournalState, reason: string): void {
    this.set('journal', state === 'lost' ? 'readonly' : state, reason);
  }

  report(): { status: HealthStatus; reasons: { source: string; reason: string; since: string }[] } {
    const all = [...this.#reasons];
    const status = all.some(([, entry]) => entry.status === 'readonly')
      ? 'readonly'
      : all.length > 0
        ? 'degraded'
        : 'ok';
    const reasons = all.map(([source, { reason, since }]) => ({ source, reason, since: since.toISOString() }));
    return { status, reasons };
  }
}
