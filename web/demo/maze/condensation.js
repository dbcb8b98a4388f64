// The rows of one plan, recorded as they come, so that its condensing out of noise can be played
// and scrubbed. As run.js for one character, but for a batch of paths.

import { rollingTable, warmTable } from '../../../models/maze2d/planner.js';
import { levelAt, rowsOf } from '../levels.js';

/** @typedef {import('diffusion-forcing').Row} Row */

export class Condensation {
  /** @type {Row[]} */ rows = [];
  error = null;
  kept = 0; // tokens that are given: the present is in the latent
  /** @type {import('../../../models/maze2d/planner.js').Plan | null} */ plan = null;
  /** Rows behind the first. */
  planned;
  columns;
  #levelAt;
  #settings;

  /**
   * @param {{ length: number, schedule: string, steps: number, uncertainty: number, warm?: number }} settings
   */
  constructor(settings) {
    const { length, schedule, steps, uncertainty } = (this.#settings = settings);
    this.columns = length;
    const rolls = schedule === 'rolling';
    this.#expect(rolls ? steps : rowsOf(schedule, steps, uncertainty, length));
  }

  /** So many rows. They tell whether the plan starts from noise or goes on from the one before. */
  #expect(rows) {
    const { length, schedule, steps, uncertainty, warm } = this.#settings;
    this.planned = rows;
    const rolls = schedule === 'rolling';
    let table = null;
    if (rolls && rows <= steps) table = rollingTable(length, steps, uncertainty, rows);
    else if (rows === warm) table = warmTable(length, steps, warm);
    const whole = rolls ? 'pyramid' : schedule; // past way-points
    this.#levelAt = table
      ? (m, t) => table[m][t]
      : (m, t) => levelAt(whole, steps, uncertainty, m, t);
  }

  /** A plan past way-points has several legs: that to the next one follows. @param {Row} row */
  add(row) {
    if (row.row === 0) {
      this.rows = [];
      this.#expect(row.rows);
    }
    this.rows.push(own(row));
  }
  /** @param {import('../../../models/maze2d/planner.js').Plan} plan */
  finish(plan) {
    this.plan = plan;
  }
  get done() {
    return this.plan !== null;
  }
  /** Number of the last recorded row. */
  get last() {
    return this.rows.length - 1;
  }
  /** Level, 0 to 1, in a row that may still lie ahead. */
  level(m, t) {
    return (this.rows[m]?.levels[t] ?? this.#levelAt(m, t)) / this.#settings.steps;
  }

  /**
   * The paths at a position between two rows; it need not be whole.
   * @returns x, y of all points of all paths; 0 to 1 for each token of all paths
   */
  at(position) {
    const p = Math.max(0, Math.min(position, this.last));
    const a = this.rows[Math.floor(p)];
    const b = this.rows[Math.ceil(p)];
    const mix = p - Math.floor(p);
    const blend = (from, to) => Float32Array.from(from, (x, i) => x + (to[i] - x) * mix);
    return {
      tokens: blend(a.tokens, b.tokens),
      // In row 0 nothing was estimated yet.
      estimate: a.row ? blend(a.estimate, b.estimate) : b.estimate,
      levels: blend(a.levels, b.levels).map((level) => level / a.steps),
      batch: a.batch,
      points: a.columns * a.frameStack,
      perToken: a.frameStack,
      hasEstimate: b.row > 0,
    };
  }
}

// From a worker the arrays are copies and ours; in the calling thread views that the next row
// overwrites.
function own(row) {
  const copy = (a) => (a.buffer.byteLength === a.byteLength ? a : a.slice());
  const { levels, tokens, estimate } = row;
  return { ...row, levels: copy(levels), tokens: copy(tokens), estimate: copy(estimate) };
}
