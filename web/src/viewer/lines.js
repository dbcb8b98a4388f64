// Numeric fields over time: a line for each, in as many panels as they have scales. The background
// tells how noisy each token is.
/** @import { Colours } from './colours.js' */
/** @import { Field, Row } from '../types.js' */
/** @import { Moment } from './run.js' */
/** @import { Range } from './scale.js' */
/** @import { View } from './kind.js' */
import { clear, make } from './canvas.js';
import { groupByScale, include, ticks, usual, writeTick } from './scale.js';

/** Room beside the plot, as in the style sheet: the level table below has the same. */
const [LEFT, RIGHT] = [52, 8];
const [TOP, BOTTOM, BETWEEN] = [8, 22, 14];

export class LinesPicture {
  wide = true;
  canvas = make('canvas', { role: 'img' });
  element = this.canvas;
  #view;
  #fields;
  /** Places in view.fields that share an axis. */
  #panels;
  /** @type {Range[]} */
  #ranges;
  #columns = 1;

  /**
   * @param {View} view
   * @param {readonly Field[]} fields
   */
  constructor(view, fields) {
    this.#view = view;
    this.#fields = view.fields.map((i) => fields[i]);
    this.#panels = groupByScale(this.#fields);
    this.#ranges = this.#panels.map((panel) => {
      const range = { low: Infinity, high: -Infinity };
      for (const i of panel) {
        const { low, high } = usual(this.#fields[i]);
        include(range, low);
        include(range, high);
      }
      return range;
    });
  }

  get keys() {
    return [
      ...this.#fields.map(({ name }, i) => ({ mark: `line-${i % 6}`, text: name })),
      { mark: 'dots', text: 'the tokens as they are, noise and all; the ground tells how noisy' },
      { mark: 'dashes', text: "the network's estimate of the clean ones" },
      { mark: 'given-bar', text: 'given: stays as it is' },
    ];
  }

  /** @param {number} width */
  height(width) {
    const one = Math.max(110, Math.min(260, width * 0.34) / Math.min(2, this.#panels.length));
    return TOP + BOTTOM + this.#panels.length * (one + BETWEEN) - BETWEEN;
  }

  /** @param {Row} row */
  learn({ levels, tokens, frameStack: F, fields: C }) {
    levels.forEach((level, i) => {
      if (level !== 0) return;
      this.#panels.forEach((panel, p) => {
        for (const place of panel)
          for (let f = 0; f < F; f++)
            include(this.#ranges[p], tokens[(i * F + f) * C + this.#view.fields[place]]);
      });
    });
  }

  /**
   * @param {Moment} moment
   * @param {Colours} colours
   * @param {number} selected  token, or -1
   */
  draw(moment, colours, selected) {
    const { context, width, height } = clear(this.canvas);
    const { B, T, F, C, columns, levels, frames, known } = moment;
    this.#columns = T;
    const plot = width - LEFT - RIGHT;
    const n = this.#panels.length;
    const tall = (height - TOP - BOTTOM - (n - 1) * BETWEEN) / n;
    const cell = plot / T;
    const x = (/** @type {number} */ frame) => LEFT + ((frame + 0.5) / F) * cell;

    this.#panels.forEach((panel, p) => {
      const top = TOP + p * (tall + BETWEEN);
      const range = this.#ranges[p];
      const pad = 0.03 * (range.high - range.low);
      const y = (/** @type {number} */ value) =>
        top + ((range.high + pad - value) / (range.high - range.low + 2 * pad)) * tall;

      context.fillStyle = colours.sheet;
      context.fillRect(LEFT, top, plot, tall);
      for (let t = 0; t < T; t++) {
        const level = Math.min(...Array.from({ length: B }, (_, b) => levels[b * columns + t]));
        if (level > 1) continue;
        context.globalAlpha = level * 0.75;
        context.fillStyle = colours.noise;
        context.fillRect(LEFT + t * cell, top, cell + 0.5, tall);
        context.globalAlpha = 1;
        context.fillStyle = known[t] ? colours.given : colours.accent;
        if (known[t] || t === selected) context.fillRect(LEFT + t * cell, top + tall - 3, cell, 3);
        if (t !== selected) continue;
        context.globalAlpha = 0.1;
        context.fillRect(LEFT + t * cell, top, cell, tall);
        context.globalAlpha = 1;
      }
      context.strokeStyle = colours.rule;
      context.fillStyle = colours.soft;
      context.lineWidth = 1;
      context.textAlign = 'right';
      context.textBaseline = 'middle';
      for (const tick of ticks(range, tall > 150 ? 6 : 4)) {
        const at = Math.round(y(tick)) + 0.5;
        context.beginPath();
        context.moveTo(LEFT, at);
        context.lineTo(LEFT + plot, at);
        context.stroke();
        context.fillText(writeTick(tick), LEFT - 8, at);
      }

      context.save();
      context.beginPath();
      context.rect(LEFT, top, plot, tall);
      context.clip();
      for (const place of panel)
        for (let b = 0; b < B; b++) {
          /** @param {Float32Array} values */
          const points = (values) => {
            const out = [];
            for (let t = 0; t < T; t++) {
              const i = b * columns + t;
              for (let f = 0; f < frames[i] && levels[i] <= 1; f++) {
                const value = values[(i * F + f) * C + this.#view.fields[place]];
                out.push({ x: x(t * F + f), y: y(value), noise: levels[i], token: t });
              }
            }
            return out;
          };
          const style = { colour: colours.lines[place % 6], strength: B ** -0.4 };
          drawLine(context, points(moment.tokens), points(moment.estimate), style, cell / F);
        }
      context.restore();
    });

    context.fillStyle = colours.soft;
    context.textAlign = 'right';
    context.textBaseline = 'top';
    context.fillText('frame', LEFT - 8, height - BOTTOM + 6);
    context.textAlign = 'center';
    // Every so many frames, at whole steps.
    const [, second = 1] = ticks({ low: 0, high: T * F }, Math.max(2, plot / 60));
    const every = Math.max(1, Math.round(second));
    for (let number = every; number <= T * F; number += every)
      context.fillText(String(number), x(number - 1), height - BOTTOM + 6);
    const { unit } = this.#view;
    if (!unit) return;
    context.save();
    context.translate(12, height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(unit, 0, -6);
    context.restore();
  }

  /** @param {PointerEvent} event */
  tokenAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    return part >= 0 && part < 1 ? Math.floor(part * this.#columns) : -1;
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ x: number, y: number, noise: number, token: number }[]} state
 * @param {{ x: number, y: number, noise: number, token: number }[]} guess
 * @param {{ colour: string, strength: number }} style
 * @param {number} room  from one frame to the next
 */
function drawLine(context, state, guess, { colour, strength }, room) {
  const segment = (/** @type {typeof state} */ points, /** @type {number} */ i) => {
    context.beginPath();
    context.moveTo(points[i - 1].x, points[i - 1].y);
    context.lineTo(points[i].x, points[i].y);
    context.stroke();
  };
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  for (let i = 1; i < state.length; i++) {
    context.globalAlpha = strength * (1 - Math.max(state[i].noise, state[i - 1].noise)) ** 2;
    if (context.globalAlpha > 0.02) segment(state, i);
  }
  const radius = Math.max(1.2, Math.min(3.2, room / 4));
  for (const { x, y, noise } of state) {
    context.globalAlpha = strength * (0.25 + 0.75 * (1 - noise) ** 1.5);
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fill();
  }
  context.lineWidth = 1.4;
  context.setLineDash([4, 4]);
  for (let i = 1; i < guess.length; i++) {
    const { noise } = guess[i];
    if (noise >= 1 || guess[i - 1].noise >= 1) continue;
    context.globalAlpha = strength * 0.95 * Math.min(1, noise * 5);
    // The dashes run on from segment to segment.
    context.lineDashOffset = guess[i - 1].x;
    if (context.globalAlpha > 0.02) segment(guess, i);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}
