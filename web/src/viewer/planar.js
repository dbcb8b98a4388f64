// Frames that are points in a plane: a path with a dot for each frame, and pen strokes.
/** @import { Colours } from './colours.js' */
/** @import { Field, Row } from '../types.js' */
/** @import { Moment } from './run.js' */
/** @import { Range } from './scale.js' */
/** @import { View } from './kind.js' */
import { clear, make } from './canvas.js';
import { mix } from './colours.js';
import { include, sameUnit, ticks, usual, writeTick } from './scale.js';

/** Pixels across the mist. */
const MIST = 144;

/**
 * @typedef {object} Point
 * @property {number} x  data units
 * @property {number} y
 * @property {number} token
 * @property {number} frame  of the sequence
 * @property {number} noise  level of its token, 0 to 1
 * @property {boolean} lifted  the pen leaves the paper behind it
 */

/**
 * The frames of a sequence that are there, as points.
 * @param {View} view
 * @param {Pick<Moment, 'columns' | 'F' | 'C' | 'frames'> & { levels: ArrayLike<number> }} moment
 * @param {Float32Array} values
 * @param {number} b  sequence
 * @param {number} top  level of pure noise
 * @param {(pen: number) => boolean} isLifted
 * @returns {Point[]}
 */
function trace(view, { columns, F, C, frames, levels }, values, b, top, isLifted) {
  /** @type {Point[]} */
  const points = [];
  let [x, y] = [0, 0];
  for (let t = 0; t < columns; t++) {
    const i = b * columns + t;
    if (levels[i] > top) break;
    for (let f = 0; f < frames[i]; f++) {
      const at = (i * F + f) * C;
      [x, y] = view.relative
        ? [x + values[at + view.x], y + values[at + view.y]]
        : [values[at + view.x], values[at + view.y]];
      const lifted = view.pen >= 0 && isLifted(values[at + view.pen]);
      points.push({ x, y, token: t, frame: t * F + f, noise: levels[i] / top, lifted });
    }
  }
  return points;
}

export class PlanarPicture {
  wide = false;
  canvas = make('canvas', { role: 'img' });
  element = this.canvas;
  /** @type {Range} */
  #x;
  /** @type {Range} */
  #y;
  /** Where the points of the last drawing are. @type {{ x: number, y: number, token: number }[]} */
  #hits = [];
  #mist = make('canvas');
  #view;
  #fields;
  /** @type {(pen: number) => boolean} */
  #isLifted;

  /**
   * @param {View} view
   * @param {readonly Field[]} fields
   * @param {number} frames  that a sequence may have
   */
  constructor(view, fields, frames) {
    this.#view = view;
    this.#fields = fields;
    const pen = fields[view.pen];
    this.#isLifted = pen ? (value) => value > pen.threshold : () => false;
    const range = (/** @type {Field} */ field) =>
      view.relative
        ? { low: -1.3 * field.std * frames ** 0.5, high: 1.3 * field.std * frames ** 0.5 }
        : usual(field);
    this.#x = range(fields[view.x]);
    this.#y = range(fields[view.y]);
  }

  get keys() {
    const known = { mark: 'given', text: 'given: stays as it is' };
    const guess = { mark: 'guess', text: 'what the network takes them for: its clean estimate' };
    return this.#view.kind === 'strokes'
      ? [{ mark: 'ink', text: 'the tokens as they are, noise and all' }, guess, known]
      : [
          { mark: 'time', text: 'the frames as they are, from first to last; blurred: noisy' },
          guess,
          known,
        ];
  }

  /**
   * Makes room for what has become clean.
   * @param {Row} row
   */
  learn(row) {
    const moment = { ...row, F: row.frameStack, C: row.fields };
    for (let b = 0; b < row.batch; b++)
      for (const point of trace(this.#view, moment, row.tokens, b, row.steps, this.#isLifted)) {
        if (point.noise > 0) continue;
        include(this.#x, point.x);
        include(this.#y, point.y);
      }
  }

  /**
   * @param {Moment} moment
   * @param {Colours} colours
   * @param {number} selected  token, or -1
   */
  draw(moment, colours, selected) {
    const { context, width, height } = clear(this.canvas);
    const view = this.#view;
    this.#hits = [];
    // Strokes of several sequences would hide each other: a sheet for each. Paths share one.
    const across = view.kind === 'strokes' ? Math.ceil(Math.sqrt(moment.B)) : 1;
    const [w, h] = [width / across, height / across];
    const sequences = Array.from({ length: moment.B }, (_, b) => {
      const sheet = view.kind === 'strokes' ? b : 0;
      const box = { left: (sheet % across) * w, top: Math.floor(sheet / across) * h, w, h };
      const place = this.#place(box);
      const points = (/** @type {Float32Array} */ values) =>
        trace(view, moment, values, b, 1, this.#isLifted).map((point) => ({
          ...point,
          ...place(point),
        }));
      const state = points(moment.tokens);
      const guess = points(moment.estimate).filter(({ noise }) => noise < 1);
      this.#hits.push(...state.filter(({ noise }) => noise < 1), ...guess);
      return { box, state, guess };
    });
    const faint = (/** @type {Point} */ { token }) => selected >= 0 && token !== selected;
    if (view.kind === 'strokes') {
      const brush = Math.max(1.5, Math.min(w, h) / 30);
      const tone = (/** @type {Point} */ point) =>
        moment.known[point.token] ? colours.given : faint(point) ? colours.dim : colours.ink;
      const pieces = sequences.flatMap(({ state }) => piecesOf(state));
      this.#drawMist(context, width, height, pieces, tone, brush);
      drawInk(context, pieces, tone, brush, colours);
      for (const { box, guess } of sequences) {
        if (across > 1) this.#frame(context, box, colours);
        const first = new Set(cut(guess).map((stroke) => stroke[0]));
        drawGuess(context, guess, colours, selected, (i) => !first.has(guess[i]));
      }
    } else {
      this.#axes(context, sequences[0].box, colours);
      for (const { state, guess } of sequences)
        drawPath(context, state, guess, moment, colours, selected);
    }
  }

  /**
   * The mist around noisy tokens: it widens and thins with the level. Drawn small and enlarged: soft
   * and cheap.
   * @param {CanvasRenderingContext2D} context
   * @param {number} width
   * @param {number} height
   * @param {Piece[]} pieces
   * @param {(point: Point) => string} tone
   * @param {number} brush
   */
  #drawMist(context, width, height, pieces, tone, brush) {
    const scale = MIST / width;
    Object.assign(this.#mist, { width: MIST, height: Math.ceil(height * scale) });
    const mist = /** @type {CanvasRenderingContext2D} */ (this.#mist.getContext('2d'));
    mist.setTransform(scale, 0, 0, scale, 0, 0);
    mist.lineCap = mist.lineJoin = 'round';
    for (const piece of pieces) {
      const { noise } = piece.point;
      if (noise < 0.01) continue;
      mist.strokeStyle = tone(piece.point);
      mist.globalAlpha = 0.05 * Math.min(1, 4 * noise) * (1.1 - noise);
      for (let ring = 1; ring <= 4; ring++) {
        mist.lineWidth = brush * (0.6 + 0.9 * ring * noise);
        stroke(mist, piece);
      }
    }
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.#mist, 0, 0, width, this.#mist.height / scale);
  }

  /**
   * From data units to a box of the canvas, a unit as long in both directions.
   * @param {{ left: number, top: number, w: number, h: number }} box
   */
  #place({ left, top, w, h }) {
    const [x, y] = sameUnit(this.#x, this.#y, w * 0.94, h * 0.94);
    const { down } = this.#view;
    const unit = (w * 0.94) / (x.high - x.low);
    return (/** @type {{ x: number, y: number }} */ point) => ({
      x: left + w * 0.03 + (point.x - x.low) * unit,
      y: top + h * 0.03 + (down ? point.y - y.low : y.high - point.y) * unit,
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {{ left: number, top: number, w: number, h: number }} box
   * @param {Colours} colours
   */
  #frame(context, { left, top, w, h }, colours) {
    context.strokeStyle = colours.rule;
    context.lineWidth = 1;
    context.strokeRect(left, top, w, h);
  }

  /**
   * A grid with numbers in data units, and the names of the two fields.
   * @param {CanvasRenderingContext2D} context
   * @param {{ left: number, top: number, w: number, h: number }} box
   * @param {Colours} colours
   */
  #axes(context, box, colours) {
    const { w, h } = box;
    const place = this.#place(box);
    const [x, y] = sameUnit(this.#x, this.#y, w, h);
    context.strokeStyle = colours.rule;
    context.fillStyle = colours.soft;
    const across = ticks(x, 6).map((tick) => ({
      at: Math.round(place({ x: tick, y: 0 }).x) + 0.5,
      text: writeTick(tick),
    }));
    const up = ticks(y, 6).map((tick) => ({
      at: Math.round(place({ x: 0, y: tick }).y) + 0.5,
      text: writeTick(tick),
    }));
    context.lineWidth = 1;
    for (const { at } of across) line(context, at, 0, at, h);
    for (const { at } of up) line(context, 0, at, w, at);
    // Numbers stand on the lines, so they keep the ground around them free.
    context.lineWidth = 4;
    context.strokeStyle = colours.sheet;
    const write = (
      /** @type {string} */ text,
      /** @type {number} */ left,
      /** @type {number} */ top,
    ) => {
      context.strokeText(text, left, top);
      context.fillText(text, left, top);
    };
    context.textAlign = 'center';
    context.textBaseline = 'bottom';
    for (const { at, text } of across) if (at > 24 && at < w - 70) write(text, at, h - 4);
    context.textAlign = 'left';
    context.textBaseline = 'middle';
    for (const { at, text } of up) if (at > 34 && at < h - 24) write(text, 5, at);
    const unit = this.#view.unit && ` (${this.#view.unit})`;
    const name = (/** @type {number} */ field) => this.#fields[field].name + unit;
    context.fillStyle = colours.ink;
    context.textAlign = 'right';
    context.textBaseline = 'bottom';
    write(`${name(this.#view.x)} →`, w - 6, h - 4);
    context.textAlign = 'left';
    context.textBaseline = 'top';
    write(`${this.#view.down ? '↓' : '↑'} ${name(this.#view.y)}`, 6, 7);
  }

  /**
   * Token whose frames lie under a pointer event, or -1.
   * @param {PointerEvent} event
   */
  tokenAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [least, token] = [28, -1];
    for (const hit of this.#hits) {
      const way = Math.hypot(hit.x - x, hit.y - y);
      if (way < least) [least, token] = [way, hit.token];
    }
    return token;
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x0
 * @param {number} y0
 * @param {number} x1
 * @param {number} y1
 */
function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} state  canvas units
 * @param {Point[]} guess
 * @param {Moment} moment
 * @param {Colours} colours
 * @param {number} selected
 */
function drawPath(context, state, guess, { T, F, known, B }, colours, selected) {
  const last = Math.max(1, T * F - 1);
  const size = Math.max(1.6, Math.min(4, 40 / Math.sqrt(state.length || 1))) / B ** 0.2;
  const faint = (/** @type {Point} */ p) => (selected >= 0 && p.token !== selected ? 0.35 : 1);
  const colour = (/** @type {Point} */ p) =>
    colours.time[Math.round((p.frame / last) * (colours.time.length - 1))];

  context.lineWidth = 1.6;
  for (let i = 1; i < state.length; i++) {
    const [a, b] = [state[i - 1], state[i]];
    context.globalAlpha = (1 - Math.max(a.noise, b.noise)) ** 2 * 0.8 * faint(b);
    if (context.globalAlpha < 0.02) continue;
    context.strokeStyle = colour(b);
    line(context, a.x, a.y, b.x, b.y);
  }
  // The noisiest first, so that what is clean lies on top.
  for (const point of [...state].sort((a, b) => b.noise - a.noise)) {
    const { x, y, noise, token } = point;
    const tone = colour(point);
    const halo = 0.055 * Math.min(1, 3 * noise) * (1.5 - noise);
    for (const [radius, alpha] of [
      ...[4.4, 3.5, 2.7, 2, 1.4].map((wide) => [1 + wide * noise, halo]),
      [1, 0.9 * (1 - noise) ** 1.5 + 0.1],
    ]) {
      context.globalAlpha = alpha * faint(point);
      context.fillStyle = tone;
      disc(context, x, y, size * radius);
    }
    context.globalAlpha = faint(point);
    if (known[token] || token === selected) {
      context.strokeStyle = token === selected ? colours.accent : colours.given;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, size + 3, 0, 7);
      context.stroke();
    }
  }
  drawGuess(context, guess, colours, selected, (i) => guess[i].frame === guess[i - 1].frame + 1);
  for (const point of guess) {
    context.globalAlpha = guessAlpha(point) * faint(point);
    context.fillStyle = colours.accent;
    disc(context, point.x, point.y, size * 0.45);
  }
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 */
function disc(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

/**
 * The estimate is worth seeing while the token is noisy.
 * @param {Point} point
 */
const guessAlpha = ({ noise }) => 0.85 * Math.min(1, noise * 5);

/**
 * The thin line of the estimate.
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} guess
 * @param {Colours} colours
 * @param {number} selected
 * @param {(i: number) => boolean} joins  is point i joined to the one before?
 */
function drawGuess(context, guess, colours, selected, joins) {
  context.strokeStyle = colours.accent;
  for (let i = 1; i < guess.length; i++) {
    if (!joins(i)) continue;
    const [a, b] = [guess[i - 1], guess[i]];
    context.globalAlpha = guessAlpha(b) * (selected >= 0 && b.token !== selected ? 0.4 : 1);
    context.lineWidth = b.token === selected ? 2.2 : 1.3;
    if (context.globalAlpha > 0.02) line(context, a.x, a.y, b.x, b.y);
  }
  context.globalAlpha = 1;
}

/**
 * A turn sharper than 60 degrees is meant.
 * @param {Point} a
 * @param {Point} b
 * @param {Point} c
 */
function isCorner(a, b, c) {
  const [ux, uy, vx, vy] = [b.x - a.x, b.y - a.y, c.x - b.x, c.y - b.y];
  return ux * vx + uy * vy < 0.5 * Math.hypot(ux, uy) * Math.hypot(vx, vy);
}

/**
 * A point of a stroke and the smooth way through it: from the middle before it to the middle behind
 * it.
 * @typedef {{ before?: Point, point: Point, after?: Point }} Piece
 */

/**
 * @param {Point[]} points
 * @returns {Piece[]}
 */
function piecesOf(points) {
  return cut(points).flatMap((stroke) =>
    stroke.map((point, i) => ({ before: stroke[i - 1], point, after: stroke[i + 1] })),
  );
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Piece} piece
 */
function stroke(context, { before, point, after }) {
  const middle = (/** @type {Point} */ other) => [(other.x + point.x) / 2, (other.y + point.y) / 2];
  const [x, y] = after ? middle(after) : [point.x, point.y];
  const [fromX, fromY] = before ? middle(before) : [point.x, point.y];
  context.beginPath();
  context.moveTo(fromX, fromY);
  if (before && after && isCorner(before, point, after)) {
    context.lineTo(point.x, point.y);
    context.lineTo(x, y);
  } else context.quadraticCurveTo(point.x, point.y, x, y);
  context.stroke();
}

/**
 * Ink is mixed with the paper, not laid over it, so that nothing darkens where pieces overlap.
 * @param {CanvasRenderingContext2D} context
 * @param {Piece[]} pieces  canvas units
 * @param {(point: Point) => string} tone
 * @param {number} brush
 * @param {Colours} colours
 */
function drawInk(context, pieces, tone, brush, colours) {
  for (const piece of [...pieces].sort((a, b) => b.point.noise - a.point.noise)) {
    const { noise } = piece.point;
    const dense = (1 - noise) ** 2;
    if (dense < 0.02) continue;
    context.strokeStyle = mix(colours.sheet, tone(piece.point), dense);
    context.lineWidth = brush * (1 - 0.45 * noise);
    stroke(context, piece);
  }
}

/**
 * Strokes end where the pen is lifted, and where a point is missing.
 * @param {Point[]} points
 */
function cut(points) {
  /** @type {Point[][]} */
  const strokes = [];
  points.forEach((point, i) => {
    const before = points[i - 1];
    if (!before || before.lifted || point.token > before.token + 1) strokes.push([]);
    strokes[strokes.length - 1].push(point);
  });
  return strokes;
}
