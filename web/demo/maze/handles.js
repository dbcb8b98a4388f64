// What can be taken hold of on the map: buttons without looks above the drawing, for mouse, finger
// and keyboard alike.

/**
 * @typedef {object} Handle
 * @property {string} id
 * @property {ArrayLike<number>} at
 * @property {string} label
 * @property {(point: number[]) => void} move  while it is dragged, or by arrow keys
 * @property {() => void} [drop]  it was let go, or an arrow key moved it
 * @property {() => void} [grab]
 * @property {() => void} [tap]  pressed and let go without a move
 * @property {(by: number) => void} [grow]  + and - keys
 * @property {() => void} [remove]  Delete key
 * @property {number} [radius]  in cells; no handle is smaller than a finger
 */

/** Ways of the arrow keys, x down and y to the right. */
export const arrows = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

export class Handles {
  /** @type {Map<string, { element: HTMLButtonElement, handle: Handle }>} */
  #all = new Map();

  /** @param {HTMLElement} container @param {import('./map.js').MapView} view */
  constructor(container, view) {
    this.container = container;
    this.view = view;
  }

  /** Shows these, in this order; those with a known id stay the elements that they are. @param {Handle[]} handles */
  set(handles) {
    const ids = new Set(handles.map(({ id }) => id));
    for (const [id, { element }] of this.#all)
      if (!ids.has(id)) {
        element.remove();
        this.#all.delete(id);
      }
    for (const handle of handles) {
      const known = this.#all.get(handle.id) ?? { element: this.#make(handle.id), handle };
      known.handle = handle;
      this.#all.set(handle.id, known);
      this.#place(known);
    }
  }

  /** Moves one to where its thing is by now. */
  follow(id, at) {
    const known = this.#all.get(id);
    if (!known) return;
    known.handle.at = at;
    this.#place(known, false);
  }

  #place({ element, handle }, named = true) {
    const [left, top] = this.view.partOf(handle.at);
    element.style.left = `${100 * left}%`;
    element.style.top = `${100 * top}%`;
    if (!named) return;
    element.style.setProperty(
      '--size',
      `${(200 * (handle.radius ?? 0)) / this.view.bounds.width}cqw`,
    );
    element.setAttribute('aria-label', handle.label);
    element.title = handle.label;
  }

  #make(id) {
    const element = document.createElement('button');
    element.type = 'button';
    element.className = 'handle';
    element.dataset.id = id;
    let from = null; // where it was taken hold of
    let offset = null; // from there to the thing
    let moved = false;
    const handle = () => this.#all.get(id).handle;
    element.addEventListener('pointerdown', (event) => {
      if (event.button) return;
      element.setPointerCapture(event.pointerId);
      const point = this.view.pointAt(event);
      const { at } = handle();
      from = point;
      offset = [at[0] - point[0], at[1] - point[1]];
      moved = false;
      handle().grab?.();
    });
    element.addEventListener('pointermove', (event) => {
      if (!from) return;
      const point = this.view.pointAt(event);
      moved ||= Math.hypot(point[0] - from[0], point[1] - from[1]) > 0.08;
      if (moved) handle().move([point[0] + offset[0], point[1] + offset[1]]);
    });
    const end = () => {
      if (!from) return;
      from = null;
      if (moved) handle().drop?.();
      else (handle().tap ?? handle().drop)?.();
    };
    element.addEventListener('pointerup', end);
    element.addEventListener('pointercancel', end);
    element.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { at, move, drop, remove, grow } = handle();
      const arrow = arrows[event.key];
      if (arrow) {
        const step = event.shiftKey ? 1 : 0.25;
        move([at[0] + step * arrow[0], at[1] + step * arrow[1]]);
        drop?.();
      } else if (remove && (event.key === 'Delete' || event.key === 'Backspace')) remove();
      else if (grow && (event.key === '+' || event.key === '-')) grow(event.key === '+' ? 1 : -1);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.container.append(element);
    return element;
  }
}
