// The data's means and spreads beside those of D4RL's published files.

/** @import { MazeName } from './layouts.js' */
/** @import { Maze } from './environment.js' */
/** @import { Random } from './mersenne-twister.js' */
import { rows } from './generate.js';
import { sparseReward } from './layouts.js';

/** Names and order of the statistics. */
export const names = [
  ...['mean x', 'mean y', 'std x', 'std y', 'std vx', 'std vy'],
  ...['action mean x', 'action mean y', 'action std x', 'action std y', 'reward mean'],
];

/**
 * Of the published files (maze2d-*-sparse-v1): the normalisation constants of the Diffusion Forcing
 * repository, and the number of rows they are thought to have.
 * @type {Record<MazeName, { rows: number, values: number[] }>}
 */
export const published = {
  umaze: {
    rows: 1e6,
    values: [
      ...[1.9327888, 2.3744664, 0.89972174, 0.7093159, 2.2128615, 2.468173],
      ...[0.00153824, 0.00433588, 0.7043469, 0.7506248, 0.081254],
    ],
  },
  medium: {
    rows: 2e6,
    values: [
      ...[3.5092521, 3.4765592, 1.3371079, 1.52102, 2.3407657, 2.3693702],
      ...[0.00123821, 0.00124745, 0.73977315, 0.7459419, 0.0236665],
    ],
  },
  large: {
    rows: 4e6,
    values: [
      ...[3.7296331, 5.3047247, 1.8070312, 2.5687592, 2.4368455, 2.6493697],
      ...[0.00100675, 0.00078245, 0.72493, 0.7394606, 0.0089225],
    ],
  },
};

/**
 * How much the statistics of a million rows differ from seed to seed (standard deviation over 32
 * seeds: `check.mjs --seeds 32`). Goals follow one another slowly: the rows are not independent.
 * @type {Record<MazeName, number[]>}
 */
export const spreads = {
  umaze: [
    0.0064, 0.0038, 0.00079, 0.0019, 0.0064, 0.0065, 0.00013, 0.00014, 0.0008, 0.00067, 0.0016,
  ],
  medium: [
    0.016, 0.016, 0.0057, 0.0049, 0.0052, 0.004, 0.00012, 0.00011, 0.00057, 0.00063, 0.00097,
  ],
  large: [0.024, 0.047, 0.0085, 0.012, 0.0059, 0.0067, 0.00011, 0.00011, 0.00058, 0.00062, 0.00079],
};

/**
 * @param {Maze} maze
 * @param {Random} random
 * @param {number} count rows
 */
export function statistics(maze, random, count) {
  const sums = new Float64Array(6);
  const squares = new Float64Array(6);
  const values = new Float64Array(6);
  let rewards = 0;
  let goals = 0;
  const source = rows(maze, random);
  for (let n = 0; n < count; n++) {
    const { observation, action, last } = source.next().value;
    values.set(observation);
    values.set(action, 4);
    for (let k = 0; k < 6; k++) {
      sums[k] += values[k];
      squares[k] += values[k] ** 2;
    }
    // The published rewards are those of the layout's own goal and of the row's own observation.
    rewards += sparseReward(observation, maze.layout.goal);
    goals += Number(last);
  }
  const mean = sums.map((sum) => sum / count);
  const std = squares.map((square, k) => Math.sqrt(square / count - mean[k] ** 2));
  return {
    values: [...mean.slice(0, 2), ...std.slice(0, 4), ...mean.slice(4), ...std.slice(4)].concat(
      rewards / count,
    ),
    goals,
  };
}

/**
 * How many standard deviations a run of our own lies from the published file, both being random.
 * @param {MazeName} name
 * @param {number[]} values of `count` rows
 * @param {number} count
 */
export function deviations(name, values, count) {
  const both = Math.sqrt(1e6 / count + 1e6 / published[name].rows);
  return values.map((x, k) => (x - published[name].values[k]) / (spreads[name][k] * both));
}
