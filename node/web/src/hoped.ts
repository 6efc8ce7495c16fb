// A value of the node's with what this page has asked for laid over it. Messages that were sampled before a change are
// still on their way when it is made: drawn as they come, a switch would fall back for a moment, and a second press in
// that moment would switch it the wrong way.
import { signal, type ReadonlySignal } from "@preact/signals";

/** How long after the node's answer an older message may still come. */
const STRAGGLERS_MS = 300;

/** How hopes `H` are laid over what the node said, `T`. */
interface Overlay<T, H> {
  none: H;
  both(before: H, next: H): H;
  over(said: T, hope: H): T;
}

export class Hoped<T, H> {
  private readonly drawn;
  private hope: H;
  private underWay = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private said: T,
    private readonly overlay: Overlay<T, H>,
  ) {
    this.drawn = signal(said);
    this.hope = overlay.none;
  }

  /** What to draw. */
  get shown(): ReadonlySignal<T> {
    return this.drawn;
  }

  /** The node's word. */
  hears(said: T): void {
    this.said = said;
    this.draw();
  }

  /** The node's word, made from the last one. */
  learns(change: (said: T) => T): void {
    this.hears(change(this.said));
  }

  /** Draws this until `request` has been answered, and what the node says by then after that. */
  hopes(hope: H, request: Promise<unknown>): void {
    clearTimeout(this.timer);
    this.hope = this.overlay.both(this.hope, hope);
    this.underWay += 1;
    this.draw();
    const answered = () => this.answered();
    request.then(answered, answered);
  }

  private answered(): void {
    this.underWay -= 1;
    if (this.underWay > 0) return;
    this.timer = setTimeout(() => {
      this.hope = this.overlay.none;
      this.draw();
    }, STRAGGLERS_MS);
  }

  private draw(): void {
    this.drawn.value = this.overlay.over(this.said, this.hope);
  }
}

/** Hopes for some fields of an object that may not be known yet. */
export function fields<T extends object>(): Overlay<T | null, Partial<T>> {
  return {
    none: {},
    both: (before, next) => ({ ...before, ...next }),
    over: (said, hope) => (said === null ? null : { ...said, ...hope }),
  };
}
