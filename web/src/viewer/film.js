// Frames that are pictures: a film, the noisy frames above and the estimate of the clean ones below,
// and under each token its level.
/** @import { Colours } from './colours.js' */
/** @import { Row } from '../types.js' */
/** @import { Moment } from './run.js' */
/** @import { View } from './kind.js' */
import { clear, make } from './canvas.js';

const [GAP, BAR, BETWEEN] = [6, 6, 18];

export class FilmPicture {
  wide = true;
  canvas = make('canvas', { role: 'img' });
  element = this.canvas;
  #view;
  #count;
  /** @type {[number, number]} */
  #range;
  #pixels = document.createElement('canvas');
  /** @type {{ x: number, y: number, w: number, h: number, token: number }[]} */
  #hits = [];

  /**
   * @param {View} view
   * @param {readonly { mean: number, std: number }[]} fields
   * @param {number} frames  that a sequence may have
   */
  constructor(view, fields, frames) {
    this.#view = view;
    this.#count = frames;
    this.#range = view.range ?? [0, 1];
    Object.assign(this.#pixels, { width: view.width, height: view.height });
  }

  get keys() {
    return [
      { mark: 'above', text: 'above: the frames as they are, noise and all' },
      { mark: 'below', text: "below: the network's estimate of the clean ones" },
      { mark: 'bar', text: 'the level of the token: full is clean' },
      { mark: 'given-bar', text: 'given: stays as it is' },
    ];
  }

  /**
   * Frames in a line of the film, lines, and the size of a frame.
   * @param {number} width
   * @param {number} count
   */
  #layout(width, count) {
    const { width: w, height: h } = this.#view;
    const least = Math.min(56, width / 4 - GAP);
    const across = Math.max(1, Math.min(count, Math.floor(width / (least + GAP))));
    // Lines of like length.
    const lines = Math.ceil(count / across);
    const even = Math.ceil(count / lines);
    const pitch = Math.min(220, width / even);
    const cell = pitch - GAP;
    const tall = (cell * h) / w;
    return { even, lines, pitch, cell, tall, line: 2 * tall + 8 + BAR + BETWEEN };
  }

  /**
   * @param {number} width
   * @param {number} [batch]
   * @param {number} [frames]
   */
  height(width, batch = 1, frames = this.#count) {
    const { lines, line } = this.#layout(width, frames);
    return batch * lines * line - BETWEEN + 2;
  }

  /** @param {Row} row */
  learn(row) {
    this.#count = row.columns * row.frameStack;
  }

  /**
   * @param {Moment} moment
   * @param {Colours} colours
   * @param {number} selected  token, or -1
   */
  draw(moment, colours, selected) {
    const { context, width } = clear(this.canvas);
    const { B, T, F, C, columns, levels, frames, known, tokens, estimate } = moment;
    const { even, lines, pitch, cell, tall, line } = this.#layout(width, T * F);
    context.imageSmoothingEnabled = false;
    this.#hits = [];
    for (let b = 0; b < B; b++)
      for (let n = 0; n < T * F; n++) {
        const [t, f] = [Math.floor(n / F), n % F];
        const i = b * columns + t;
        if (levels[i] > 1 || f >= frames[i]) continue;
        const x = (n % even) * pitch + GAP / 2;
        const y = (b * lines + Math.floor(n / even)) * line + 1;
        const at = (i * F + f) * C;
        this.#put(context, tokens.subarray(at, at + C), x, y, cell, tall);
        // A token that waits at pure noise has no estimate yet.
        if (levels[i] < 1)
          this.#put(context, estimate.subarray(at, at + C), x, y + tall + 3, cell, tall);
        else {
          context.fillStyle = colours.sheet;
          context.fillRect(x, y + tall + 3, cell, tall);
        }
        const bar = y + 2 * tall + 7;
        context.fillStyle = colours.noise;
        context.fillRect(x, bar, cell, BAR);
        context.fillStyle = known[t] ? colours.given : colours.ink;
        context.fillRect(x, bar, cell * (1 - levels[i]), BAR);
        context.lineWidth = t === selected ? 2 : 1;
        context.strokeStyle = t === selected ? colours.accent : colours.rule;
        context.strokeRect(x + 0.5, y - 0.5, cell - 1, 2 * tall + 4);
        this.#hits.push({ x, y, w: cell, h: line, token: t });
      }
  }

  /**
   * One picture. Values beyond the range are black and white.
   * @param {CanvasRenderingContext2D} context
   * @param {Float32Array} values (channels, height, width)
   * @param {number} x
   * @param {number} y
   * @param {number} w
   * @param {number} h
   */
  #put(context, values, x, y, w, h) {
    const { width, height, channels } = this.#view;
    const [black, white] = this.#range;
    const small = /** @type {CanvasRenderingContext2D} */ (this.#pixels.getContext('2d'));
    const image = small.createImageData(width, height);
    const size = width * height;
    for (let p = 0; p < size; p++) {
      for (let c = 0; c < 3; c++) {
        const value = values[(channels === 3 ? c : 0) * size + p];
        image.data[4 * p + c] = (255 * (value - black)) / (white - black);
      }
      image.data[4 * p + 3] = 255;
    }
    small.putImageData(image, 0, 0);
    context.drawImage(this.#pixels, x, y, w, h);
  }

  /** @param {PointerEvent} event */
  tokenAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = this.#hits.find((h) => x >= h.x && x < h.x + h.w && y >= h.y && y < h.y + h.h);
    return hit?.token ?? -1;
  }
}
