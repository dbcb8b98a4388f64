// Random starts and goals, run unattended and not in real time: how often the ball gets there.

import { createMaze } from '../../../models/maze2d/environment.js';
import { drawPoint } from '../../../models/maze2d/layouts.js';
import { MersenneTwister } from '../../../models/maze2d/mersenne-twister.js';
import { Control } from './control.js';

/**
 * @typedef {object} Attempt
 * @property {import('../../../models/maze2d/layouts.js').Point} start
 * @property {import('../../../models/maze2d/layouts.js').Point} goal
 * @property {number} reached  step of the arrival; Infinity: not within an episode's length
 * @property {number} contacts  steps at a wall until then
 * @property {number[]} times  of its plans (ms)
 * @property {number[]} trail  x, y, at a wall
 */

/**
 * Pair e of a seed is the same for all options: that of episode e in models/maze2d/evaluate.js.
 * @param {import('diffusion-forcing').Model} model
 * @param {import('../../../models/maze2d/layouts.js').Layout} layout
 * @param {import('@mujoco/mujoco').MainModule} mujoco
 * @param {object} [options]
 * @param {number} [options.pairs]
 * @param {number} [options.seed]
 * @param {number} [options.delay]  steps that the ball moves on while a plan is made, as it does on
 *   the page
 * @param {import('./control.js').ControlOptions} [options.control]
 * @returns {AsyncGenerator<Attempt, void>}
 */
export async function* attempts(model, layout, mujoco, options = {}) {
  const { pairs = 50, seed = 1, delay = 10, control: controlOptions } = options;
  const maze = await createMaze(layout.name, { load: () => mujoco });
  let failure = null;
  const control = new Control(model, layout, controlOptions, {
    onError: (error) => (failure = error),
  });
  try {
    control.maze = maze;
    for (let e = 0; e < pairs; e++) {
      const random = new MersenneTwister([seed, e]);
      const start = maze.reset(random).slice();
      const goal = drawPoint(layout, random);
      control.begin({ start, goal });
      await control.replan();
      let waited = 0;
      while (control.reached === Infinity && control.steps < layout.steps) {
        control.step();
        if (!control.planning) waited = 0;
        else if (++waited > delay) await control.settled();
        if (failure) throw failure;
      }
      await control.settled();
      const { reached, contacts, times, trail } = control;
      yield { start, goal, reached, contacts, times, trail };
    }
  } finally {
    control.dispose();
    maze.dispose();
  }
}

/** Share of the attempts that arrived, steps of those, ms of a plan. @param {Attempt[]} attempts */
export function summarize(attempts) {
  const arrived = attempts.filter(({ reached }) => reached < Infinity);
  const times = attempts.flatMap((attempt) => attempt.times).sort((a, b) => a - b);
  return {
    count: attempts.length,
    arrived: arrived.length,
    steps: arrived.reduce((sum, { reached }) => sum + reached, 0) / arrived.length,
    ms: times[Math.floor(times.length / 2)],
  };
}
