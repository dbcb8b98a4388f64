// How good a policy is, by D4RL's score and by measures that do not depend on lingering at the goal.

/** @import { Point } from './layouts.js' */
/** @import { Maze } from './environment.js' */
import { denseReward, drawPoint, normalizedScore, sparseReward } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';

/**
 * What is measured.
 * @typedef {object} Policy
 * @property {(observation: Float64Array, goal: Point) => void | Promise<void>} reset begins an episode
 * @property {(observation: Float64Array) => Point | Promise<Point>} act gives the next action; the
 *   observation (x, y, vx, vy) changes with the next step, slice() keeps it
 */

/**
 * @typedef {object} Episode
 * @property {number} sparse sum of the rewards: steps at the goal
 * @property {number} dense the same for D4RL's other reward
 * @property {number} firstReach steps until the ball first was at the goal; Infinity if it never was
 * @property {number} wallSteps steps that began at a wall
 */

/** @typedef {{ mean: number, error: number }} Estimate with its standard error (NaN of one value) */

/**
 * One episode of full length, from where the ball is.
 * @param {Maze} maze
 * @param {Policy} policy
 * @param {Point} goal
 * @returns {Promise<Episode>}
 */
export async function runEpisode(maze, policy, goal) {
  const episode = { sparse: 0, dense: 0, firstReach: Infinity, wallSteps: 0 };
  await policy.reset(maze.observation, goal);
  for (let step = 1; step <= maze.layout.steps; step++) {
    const at = maze.step(await policy.act(maze.observation));
    const reward = sparseReward(at, goal);
    episode.sparse += reward;
    episode.dense += denseReward(at, goal);
    if (reward && episode.firstReach === Infinity) episode.firstReach = step;
    if (maze.touching) episode.wallSteps++;
  }
  return episode;
}

/**
 * Episodes from random starts. Episode e of a seed has the same start and goal for every policy.
 * @param {Maze} maze
 * @param {Policy} policy
 * @param {object} options
 * @param {number} options.episodes
 * @param {number} options.seed
 * @param {number} [options.first] number of the first episode, so that runs can be put together
 * @param {boolean} [options.randomGoal] Multi2D: a goal for every episode. Else the layout's own
 * @param {(episode: Episode, number: number) => void} [options.onEpisode]
 * @returns {Promise<Episode[]>}
 */
export async function runEpisodes(maze, policy, options) {
  const { episodes, seed, first = 0, randomGoal = false, onEpisode } = options;
  const all = [];
  for (let e = first; e < first + episodes; e++) {
    const random = new MersenneTwister([seed, e]);
    maze.reset(random);
    const goal = randomGoal ? drawPoint(maze.layout, random) : maze.layout.goal;
    const episode = await runEpisode(maze, policy, goal);
    onEpisode?.(episode, e);
    all.push(episode);
  }
  return all;
}

/**
 * @param {Maze['layout']} layout
 * @param {Episode[]} episodes
 */
export function summarize(layout, episodes) {
  const reached = episodes.filter(({ firstReach }) => firstReach < Infinity);
  return {
    episodes: episodes.length,
    /** D4RL-normalised. */
    score: estimate(episodes.map(({ sparse }) => normalizedScore(layout, sparse))),
    denseScore: estimate(episodes.map(({ dense }) => normalizedScore(layout, dense, 'dense'))),
    /** Share of the episodes that reach the goal. */
    success: estimate(episodes.map(({ firstReach }) => Number(firstReach < Infinity))),
    /** Of those that do. */
    firstReach: estimate(reached.map(({ firstReach }) => firstReach)),
    wallSteps: estimate(episodes.map(({ wallSteps }) => wallSteps)),
  };
}

/** @param {number[]} values @returns {Estimate} */
export function estimate(values) {
  const n = values.length;
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, error: Math.sqrt(squares / (n - 1) / n) };
}
