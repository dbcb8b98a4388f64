// D4RL's data: one endless episode in which the controller goes from goal to goal.

/** @import { Maze } from './environment.js' */
/** @import { Layout, Point } from './layouts.js' */
/** @import { Random } from './mersenne-twister.js' */
import { WaypointController } from './controller.js';
import { clip } from './environment.js';
import { drawPoint, layouts } from './layouts.js';

/** What the published v1 files were made with: the script's option that blurs the controller's actions. */
const noise = 0.5;

/**
 * One row of the data. The same object every time, with other numbers.
 * @typedef {object} Row
 * @property {Float64Array} observation x, y, vx, vy
 * @property {Float64Array} action as executed: noisy, -1 .. 1. Leads to the next row's observation,
 *   but for the row after the last one of a goal
 * @property {[number, number]} goal
 * @property {boolean} last a new goal is drawn behind this row
 */

/**
 * The rows, without end. The ball is never put back. As in D4RL's script the controller does not see
 * the step that ends a goal: the first row of a goal repeats the observation of the row before, while
 * the ball moves on.
 * @param {Maze} maze the generator's own while it runs
 * @param {Random} random
 * @returns {Generator<Row, never>}
 */
export function* rows(maze, random) {
  const controller = new WaypointController(maze.layout, random);
  /** @type {Row} */
  const row = {
    observation: new Float64Array(4),
    action: new Float64Array(2),
    goal: drawPoint(maze.layout, random),
    last: false,
  };
  row.observation.set(maze.reset(random));
  for (let steps = 0; ; steps++) {
    controller.act(row.observation, row.goal);
    for (let k = 0; k < 2; k++)
      row.action[k] = clip(controller.action[k] + noise * random.normal(), 1);
    row.last = controller.solved || steps >= maze.layout.steps;
    yield row;
    maze.step(row.action);
    if (row.last) {
      row.goal = drawPoint(maze.layout, random);
      steps = -1;
    } else row.observation.set(maze.observation);
  }
}

/**
 * What sequences hold, by what a planner does with its plan.
 *   path    the positions of every fourth frame, for a tracker that follows them
 *   states  everything, to execute the actions as they are diffused. An action stands beside the
 *           observation that it leads to, as the paper's planner pairs them: the first one of a
 *           plan is the one to take now
 * A value stands for `stride` frames. `columns` are those of `sequences`.
 */
export const forms = {
  path: { fields: ['x', 'y'], columns: [0, 1], stride: 4, frames: 512 },
  states: {
    fields: ['x', 'y', 'vx', 'vy', 'ax', 'ay'],
    columns: [0, 1, 2, 3, 4, 5],
    stride: 1,
    frames: 384,
  },
};

/** What a sequence starts from: the observation, and which maze it is (1, the others 0). */
export const startFields = ['x', 'y', 'vx', 'vy', ...Object.keys(layouts)];

/**
 * The numbers of startFields.
 * @param {Layout} layout
 * @param {Point} observation
 */
export const startOf = (layout, observation) =>
  Float32Array.from(startFields, (name, k) => (k < 4 ? observation[k] : +(name === layout.name)));

/**
 * The trajectory cut into sequences, one behind the other: the last frame of one is the start of the
 * next. The same arrays every time, with other numbers.
 * @param {Maze} maze
 * @param {Random} random
 * @param {number} count
 * @param {number} frames of a sequence, behind its start
 * @returns {Generator<{ start: Float32Array, frames: Float32Array }>} frames: x, y, vx, vy, ax, ay
 */
export function* sequences(maze, random, count, frames) {
  const sequence = { start: new Float32Array(), frames: new Float32Array(6 * frames) };
  const source = rows(maze, random);
  let row = source.next().value;
  for (let n = 0; n < count; n++) {
    sequence.start = startOf(maze.layout, row.observation);
    for (let f = 0; f < frames; f++) {
      sequence.frames.set(row.action, 6 * f + 4);
      row = source.next().value;
      sequence.frames.set(row.observation, 6 * f);
    }
    yield sequence;
  }
}
