import type { Ino } from '../brand.ts';

/** Counts the handles that are open on each file, by the view of it that they were opened in. */
export class OpenHandles {
  readonly #counts = new Map<number | string, number>();
  /** An earlier daemon gave out handles that weren't counted here: any file may be open. */
  uncounted = false;

  opened(view: number, ino: Ino): void {
    const key = keyOf(view, ino);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  closed(view: number, ino: Ino): void {
    const key = keyOf(view, ino);
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }

  /** Whether a handle on any view of the file may be open. */
  isOpenAnywhere(ino: Ino): boolean {
    if (this.uncounted || this.#counts.has(ino)) return true;
    for (const key of this.#counts.keys()) if (typeof key === 'string' && key.endsWith(`/${ino}`)) return true;
    return false;
  }

  /** Whether a handle on that view of the file may be open. */
  isOpen(view: number, ino: Ino): boolean {
    return this.uncounted || this.#counts.has(keyOf(view, ino));
  }
}

/** Most files have never been changed by a switch, and so have view 0. */
function keyOf(view: number, ino: Ino): number | string {
  return view === 0 ? ino : `${view}/${ino}`;
}
