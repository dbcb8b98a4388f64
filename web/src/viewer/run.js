// A run: the rows of one walk down a level table, recorded as they come, so that they can be played,
// stepped through and scrubbed.
/** @import { Model, Row, SamplerOptions } from '../types.js' */
import { conditionRows } from './settings.js';

/** What a recording may take. Beyond it every second row is let go, again and again. */
const MOST_BYTES = 64e6;

/** More numbers than this are not blended between rows: they are pictures, and it would take long. */
const MOST_BLENDED = 1 << 15;

/**
 * The sequences at a position between two rows.
 * @typedef {object} Moment
 * @property {number} B  sequences
 * @property {number} T  tokens worth drawing
 * @property {number} columns  tokens that the arrays have room for: (B, columns, F, C)
 * @property {number} F  frames per token
 * @property {number} C  fields per frame
 * @property {number} position  in rows, need not be whole
 * @property {Float32Array} levels  (B, columns) 0 clean to 1 pure noise; above 1: behind the end
 * @property {Float32Array} tokens  (B, columns, F, C), data units
 * @property {Float32Array} estimate  the same shape
 * @property {Int32Array} frames  (B, columns) frames present
 * @property {Int32Array} whole  (B, columns) level in the row before or at the position, 0 to S
 * @property {boolean[]} known  (columns) tokens that were given
 */

/**
 * What is given to a run beside its settings.
 * @typedef {object} Given
 * @property {[number, any][]} keep  frames by their first token
 * @property {any} condition  JSON, or null: zeros
 * @property {any} observation  JSON, or null: what `start` says
 */

export class Run {
  /** @type {Row[]} */
  rows = [];
  done = false;
  /** @type {unknown} */
  error = null;
  /** Of a row, on average. */
  ms = 0;
  /** Every so many rows one is kept. */
  stride = 1;
  /** Rows to do, as far as is known. */
  planned = 1;
  /** @type {boolean[]} */
  known = [];
  /** Levels of the rows to come, (rows, tokens not known). @type {Int32Array} */
  #plan = new Int32Array();
  #planColumns = 1;
  /** @type {Partial<Moment>} */
  #moment = {};

  /** @param {number} steps S */
  constructor(steps) {
    this.steps = steps;
  }

  /**
   * Samples all rows. Ends quietly when `signal` aborts; what else goes wrong is in `error`.
   * @param {Model} model
   * @param {SamplerOptions} options
   * @param {Given} given
   * @param {AbortSignal} signal
   * @param {(row: Row) => void} onRow  after each recorded row
   */
  async fill(model, options, { keep, condition, observation }, signal, onRow) {
    let sampler;
    try {
      sampler = model.sampler(options);
      const { columns } = await sampler.ready();
      for (const [token, frames] of keep) sampler.keep(token, frames);
      if (model.conditionSize) {
        const zeros = Array.from({ length: model.conditionSize }, () => 0);
        sampler.condition(0, conditionRows(condition ?? zeros, model.conditionSize, columns));
      }
      if (observation) sampler.observe(observation);
      const start = await sampler.state();
      await this.#makePlan(model, start, options);
      this.#add(start);
      onRow(start);
      for await (const row of sampler.iterate({ signal })) {
        this.#add(row);
        onRow(row);
      }
      this.done = true;
    } catch (error) {
      if (!signal.aborted) this.error = error;
    } finally {
      sampler?.dispose();
    }
  }

  /**
   * @param {Model} model
   * @param {Row} start
   * @param {SamplerOptions} options
   */
  async #makePlan(model, { levels, columns }, options) {
    this.known = Array.from(levels.subarray(0, columns), (level) => level === 0);
    this.#planColumns = Math.max(1, this.known.filter((known) => !known).length);
    const { schedule, steps, uncertainty } = { ...model.defaults, ...options };
    const length = this.#planColumns;
    this.#plan = (await model.levelTable({ schedule, length, steps, uncertainty })).levels;
  }

  /** @param {Row} row */
  #add(row) {
    if (row.row > 0) this.ms += (row.ms - this.ms) / row.row;
    this.planned = Math.max(row.rows, row.row);
    if (row.done) this.planned = row.row;
    if (row.row % this.stride && !row.done) return;
    this.rows.push(keepRow(row));
    const bytes = 8 * row.tokens.length * this.rows.length;
    if (bytes > MOST_BYTES && this.rows.length > 16) {
      this.stride *= 2;
      const { stride } = this;
      this.rows = this.rows.filter((kept) => kept.done || kept.row % stride === 0);
    }
  }

  /** The newest recorded row: its number, -1 if there is none. */
  get last() {
    return this.rows.at(-1)?.row ?? -1;
  }

  /** Tokens worth drawing: those of the longest sequence, once the lengths are known. */
  get columns() {
    const newest = this.rows.at(-1);
    if (!newest) return 1;
    const lengths = Array.from(newest.lengths);
    return lengths.every((length) => length >= 0)
      ? Math.max(1, ...lengths, this.known.lastIndexOf(true) + 1)
      : newest.columns;
  }

  /**
   * The recorded row at or before a position.
   * @param {number} position
   */
  rowAt(position) {
    return this.rows[this.#index(position)];
  }

  /** @param {number} position */
  #index(position) {
    const { rows, stride } = this;
    const guess = Math.min(rows.length - 1, Math.max(0, Math.floor(position / stride + 1e-9)));
    return rows[guess].row > position + 1e-9 ? Math.max(0, guess - 1) : guess;
  }

  /**
   * Level, 0 to 1, of a token in a row that may still lie ahead; above 1: behind the end. Of several
   * sequences the one counts that still has the token.
   * @param {number} m
   * @param {number} t
   */
  level(m, t) {
    if (m <= this.last) {
      const { levels, columns, batch } = this.rows[this.#index(m)];
      let least = levels[t];
      for (let b = 1; b < batch; b++) least = Math.min(least, levels[b * columns + t]);
      return least / this.steps;
    }
    if (this.known[t]) return 0;
    let column = 0;
    for (let i = 0; i < t; i++) if (!this.known[i]) column++;
    return (this.#plan[m * this.#planColumns + column] ?? 0) / this.steps;
  }

  /**
   * @param {number} position
   * @param {boolean} blend  between rows
   * @returns {Moment}
   */
  at(position, blend) {
    const p = Math.max(0, Math.min(position, this.last));
    const i = this.#index(p);
    const a = this.rows[i];
    const b = this.rows[Math.min(i + 1, this.rows.length - 1)];
    const { batch: B, columns, frameStack: F, fields: C } = a;
    const small = a.tokens.length <= MOST_BLENDED;
    const mix = blend && small && b !== a ? (p - a.row) / (b.row - a.row) : 0;
    const m = /** @type {Moment} */ (this.#moment);
    Object.assign(m, { B, T: this.columns, columns, F, C, position: p, known: this.known });
    m.whole = a.levels;
    m.frames = mix > 0 ? b.frames : a.frames;
    if (m.levels?.length !== B * columns) m.levels = new Float32Array(B * columns);
    const S = this.steps;
    for (let t = 0; t < B * columns; t++) {
      const [from, to] = [a.levels[t], b.levels[t]];
      m.levels[t] = (to > S && mix > 0 ? to : from + (to - from) * mix) / S;
    }
    if (mix === 0) {
      m.tokens = a.tokens;
      m.estimate = a.estimate;
      this.#blended = null;
      return m;
    }
    const size = a.tokens.length;
    this.#blended ??= { tokens: new Float32Array(size), estimate: new Float32Array(size) };
    Object.assign(m, this.#blended);
    const one = F * C;
    for (let k = 0; k < size; k++) {
      m.tokens[k] = a.tokens[k] + (b.tokens[k] - a.tokens[k]) * mix;
      // A token that waits at pure noise has no estimate yet.
      const guess = a.levels[(k / one) | 0] < S ? a.estimate[k] : b.estimate[k];
      m.estimate[k] = guess + (b.estimate[k] - guess) * mix;
    }
    return m;
  }

  /** @type {{ tokens: Float32Array, estimate: Float32Array } | null} */
  #blended = null;
}

/**
 * From a worker the arrays are copies and ours; in-thread they are views that the next row
 * overwrites.
 * @param {Row} row
 * @returns {Row}
 */
function keepRow(row) {
  const own = (/** @type {any} */ a) => (a.buffer.byteLength === a.byteLength ? a : a.slice());
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
