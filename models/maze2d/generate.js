// D4RL's data: one endless episode in which the controller goes from goal to goal.

/** @import { Maze } from './environment.js' */
/** @import { Random } from './mersenne-twister.js' */
import { WaypointController } from './controller.js';
import { clip } from './environment.js';
import { drawPoint } from './layouts.js';

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
 * What a frame of the training data holds. An action stands beside the observation that it leads to,
 * as the paper's planner pairs them.
 */
export const fields = ['x', 'y', 'vx', 'vy', 'ax', 'ay'];

/**
 * The frames of a trajectory in parts of frames x fields numbers, in one array that is used again.
 * @param {Maze} maze
 * @param {Random} random
 * @param {number} count frames
 * @param {number} [part] frames of a part
 */
export function* frames(maze, random, count, part = 10_000) {
  const values = new Float32Array(fields.length * Math.min(part, count));
  const source = rows(maze, random);
  const action = source.next().value.action.slice();
  for (let done = 0; done < count; done += part) {
    const n = Math.min(part, count - done);
    for (let f = 0; f < n; f++) {
      const row = source.next().value;
      values.set(row.observation, f * fields.length);
      values.set(action, f * fields.length + 4);
      action.set(row.action);
    }
    yield values.subarray(0, n * fields.length);
  }
}
