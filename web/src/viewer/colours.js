// Colours of the style sheet for the canvases, which know no custom properties.

/** @typedef {[number, number, number]} Rgb */
/**
 * @typedef {object} Colours
 * @property {string} ink
 * @property {string} soft
 * @property {string} sheet
 * @property {string} noise
 * @property {string} rule
 * @property {string} dim
 * @property {string} accent
 * @property {string} given
 * @property {string[]} time  from the first frame to the last
 * @property {string[]} lines  of fields
 */

const single = /** @type {const} */ ([
  'ink',
  'soft',
  'sheet',
  'noise',
  'rule',
  'dim',
  'accent',
  'given',
]);
const indexed = (/** @type {string} */ name, /** @type {number} */ n) =>
  Array.from({ length: n }, (_, i) => `${name}-${i}`);

/** Asks the style sheet through an element whose colour it sets. */
export class Palette {
  #probe;

  /**
   * @param {HTMLElement} probe  has a transition of its colour, --ink, so that it tells when the
   *   page turns dark or light, whatever made it do so
   * @param {() => void} onChange
   */
  constructor(probe, onChange) {
    this.#probe = probe;
    this.colours = this.#read();
    probe.addEventListener('transitionend', () => {
      this.colours = this.#read();
      onChange();
    });
  }

  /** @returns {Colours} */
  #read() {
    const reader = this.#probe.appendChild(document.createElement('i'));
    const style = getComputedStyle(reader);
    const value = (/** @type {string} */ name) => {
      reader.style.color = `var(--${name})`;
      return style.color;
    };
    const colours = {
      .../** @type {any} */ (Object.fromEntries(single.map((name) => [name, value(name)]))),
      time: ramp(indexed('time', 3).map(value)),
      lines: indexed('line', 6).map(value),
    };
    reader.remove();
    return colours;
  }
}

/**
 * @param {string} colour  as getComputedStyle gives it: rgb(1, 2, 3) or color(srgb 0.1 0.2 0.3)
 * @returns {Rgb}
 */
export function rgb(colour) {
  const numbers = (colour.match(/[\d.]+(e-?\d+)?/g) ?? []).slice(0, 3).map(Number);
  const [r = 0, g = 0, b = 0] = colour.startsWith('color') ? numbers.map((x) => 255 * x) : numbers;
  return [r, g, b];
}

/**
 * @param {string} from
 * @param {string} to
 * @param {number} part  0 to 1
 */
export function mix(from, to, part) {
  const [a, b] = [rgb(from), rgb(to)];
  return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * part)).join(' ')})`;
}

/**
 * A ramp through three colours, in steps too small to be seen.
 * @param {string[]} stops
 */
function ramp([a, b, c]) {
  return Array.from({ length: 65 }, (_, i) => (i < 32 ? mix(a, b, i / 32) : mix(b, c, i / 32 - 1)));
}
