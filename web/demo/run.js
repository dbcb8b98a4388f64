// A run: the rows of one walk down a level table, recorded as they come, so that they can be
// played, stepped through and scrubbed. A live run is filled from a sampler; the recording that the
// page opens with is filled at once.

import { SHEET } from './ink.js';
import { levelAt, rowsOf } from './levels.js';

/** @typedef {import('../src/types.js').Row} Row */

/**
 * The state at a position between two rows.
 * @typedef {object} Moment
 * @property {number} position  in rows; need not be whole
 * @property {Float32Array} levels  (T) 0 clean to 1 pure noise; above 1: behind the end of the
 *   sequence
 * @property {Float32Array} tokens  (T, F, C)
 * @property {Float32Array} estimate  (T, F, C)
 * @property {Int32Array} frames  (T) frames present
 * @property {Run} run
 */

export class Run {
  /** @type {Row[]} */ rows = [];
  done = false;
  error = null;
  live = false;
  ms = 0; // of a row, on average

  /**
   * settings: schedule, steps, uncertainty, eta, seed, sequence, ink; T columns at most, F frames,
   * C fields.
   */
  constructor(settings, { T, F, C }) {
    this.settings = settings;
    this.S = settings.steps;
    Object.assign(this, { T, F, C });
    this.kept = settings.ink ? Math.ceil(settings.ink.length / (F * C)) : 0;
    this.planned = rowsOf(settings.schedule, this.S, settings.uncertainty, T - this.kept);
  }

  add(row) {
    this.rows.push(row);
    if (row.row > 0) this.ms += (row.ms - this.ms) / row.row;
    this.planned = Math.max(row.rows, row.row);
    if (row.done) this.finish();
  }
  finish() {
    this.done = true;
    this.planned = this.last;
  }
  /** Number of the last recorded row. */
  get last() {
    return this.rows.length - 1;
  }
  /** Tokens of the sequence if known by now, else -1. */
  get length() {
    return this.rows.length ? this.rows[this.last].lengths[0] : -1;
  }
  /** Columns worth drawing. */
  get columns() {
    return this.length > 0 ? this.length : this.T;
  }
  /** Level, 0 to 1, in a row that may still lie ahead. */
  level(m, t) {
    if (m < this.rows.length) return this.rows[m].levels[t] / this.S;
    if (t < this.kept) return 0;
    const { schedule, uncertainty } = this.settings;
    return levelAt(schedule, this.S, uncertainty, m, t - this.kept) / this.S;
  }

  /** Samples the rows. Ends quietly when `signal` aborts; what else goes wrong is in `error`. */
  async fill(model, signal) {
    const { ink, ...options } = this.settings;
    let sampler;
    try {
      sampler = model.sampler(options);
      if (ink)
        sampler.keep(
          0,
          ink.map((value, i) => (i % 3 === 2 ? value : value - SHEET / 2)),
        );
      this.add(keepRow(await sampler.state()));
      for await (const row of sampler.iterate({ signal })) this.add(keepRow(row));
      this.finish();
    } catch (error) {
      if (!signal.aborted) this.error = error;
    } finally {
      sampler?.dispose();
    }
  }

  /** Strokes of the last recorded row. */
  strokes() {
    const { tokens, frames } = this.rows[this.last];
    let count = 0;
    for (let t = 0; t < this.columns; t++)
      for (let f = 0; f < frames[t]; f++) if (tokens[(t * this.F + f) * this.C + 2] > 0.5) count++;
    return count;
  }

  /**
   * The tokens up to this one as ink, from the last recorded row; null if nothing would be left to
   * sample.
   */
  inkUpTo(token) {
    if (!this.done || token < 0 || token >= this.columns - 1) return null;
    const { tokens } = this.rows[this.last];
    return Array.from(tokens.subarray(0, (token + 1) * this.F * this.C), (value, i) =>
      i % 3 === 2 ? Number(value > 0.5) : Math.round(value + SHEET / 2),
    );
  }

  /** @returns {Moment} */
  at(position) {
    const p = Math.max(0, Math.min(position, this.last));
    const a = this.rows[Math.floor(p)];
    const b = this.rows[Math.ceil(p)];
    const mix = p - Math.floor(p);
    const { T, F, C, S } = this;
    const out = (this.moment ??= {
      run: this,
      levels: new Float32Array(T),
      tokens: new Float32Array(T * F * C),
      estimate: new Float32Array(T * F * C),
    });
    out.position = p;
    out.frames = b.frames;
    for (let t = 0; t < T; t++) {
      const from = a.levels[t];
      const to = b.levels[t];
      out.levels[t] = (to > S ? to : from + (to - from) * mix) / S;
      for (let i = t * F * C; i < (t + 1) * F * C; i++) {
        out.tokens[i] = a.tokens[i] + (b.tokens[i] - a.tokens[i]) * mix;
        // A token that waits at pure noise has no estimate yet.
        const guess = from < S ? a.estimate[i] : b.estimate[i];
        out.estimate[i] = guess + (b.estimate[i] - guess) * mix;
      }
    }
    return /** @type {Moment} */ (out);
  }
}

/** What a run needs to know of a model. */
export const shapeOf = ({ defaults, frameStack, fields }) => ({
  T: defaults.maxLength,
  F: frameStack,
  C: fields.length,
});

// From a worker the arrays are copies and ours; in-thread they are views that the next row
// overwrites.
function keepRow(row) {
  const own = (a) => (a.buffer.byteLength === a.byteLength ? a : a.slice());
  const { levels, tokens, estimate, frames, lengths } = row;
  return {
    ...row,
    levels: own(levels),
    tokens: own(tokens),
    estimate: own(estimate),
    frames: own(frames),
    lengths: own(lengths),
  };
}
