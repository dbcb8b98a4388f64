// Pointing at the map itself: a click, a disc that is drawn out, and a cross that arrow keys move.

import { arrows } from './handles.js';

/** Of an obstacle that is not drawn out, and the least that is. */
const sizes = { default: 0.4, least: 0.1 };

export class Pointing {
  /** A disc in the making: x, y, radius. @type {number[] | null} */ drawn = null;
  /** Where the keyboard points. @type {number[] | null} */ cross = null;
  #from = null;

  /**
   * @param {import('./map.js').MapView} view
   * @param {object} options
   * @param {() => boolean} options.draws  does a press draw a disc?
   * @param {() => number[]} options.origin  where the cross starts
   * @param {(point: number[], radius: number) => void} options.act
   * @param {(isSpoken: boolean) => void} options.changed  something is to be drawn, and the cross to be told
   */
  constructor(view, { draws, origin, act, changed }) {
    const { canvas } = view;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button || !draws()) return;
      canvas.setPointerCapture(event.pointerId);
      this.#from = view.pointAt(event);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!this.#from) return;
      const to = view.pointAt(event);
      const radius = Math.hypot(to[0] - this.#from[0], to[1] - this.#from[1]);
      this.drawn = radius > sizes.least ? [...this.#from, radius] : null;
      changed(false);
    });
    canvas.addEventListener('pointerup', () => {
      if (!this.#from) return;
      const [point, radius] = [this.#from, this.drawn?.[2] ?? sizes.default];
      this.#from = this.drawn = null;
      act(point, radius);
    });
    canvas.addEventListener('pointercancel', () => {
      this.#from = this.drawn = null;
      changed(false);
    });
    canvas.addEventListener('click', (event) => {
      if (!draws()) act(view.pointAt(event), sizes.default);
    });
    canvas.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrow = arrows[event.key];
      if (arrow) {
        const step = event.shiftKey ? 1 : 0.25;
        const { x, y, width, height } = view.bounds;
        const [a, b] = this.cross ?? origin();
        this.cross = [
          Math.min(x + height, Math.max(x, a + step * arrow[0])),
          Math.min(y + width, Math.max(y, b + step * arrow[1])),
        ];
        changed(true);
      } else if (event.key === 'Enter' && this.cross) act(this.cross, sizes.default);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    canvas.addEventListener('blur', () => {
      this.cross = null;
      changed(false);
    });
  }
}
