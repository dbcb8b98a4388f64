// D4RL's reference returns, made again from its seeds: physics, controller and random numbers are
// right if they agree in every published digit.

/** @import { MazeName } from './layouts.js' */
/** @import { Maze } from './environment.js' */
/** @import { Policy } from './evaluate.js' */
import { WaypointController, randomPolicy } from './controller.js';
import { estimate, runEpisode } from './evaluate.js';
import { MersenneTwister, gymRandom } from './mersenne-twister.js';

/**
 * Mean returns of D4RL's two reference scripts: random actions, and one controller for all episodes.
 * That never hears of resets, and as the goal stays it plans in the first episode only.
 * @param {Maze} maze
 * @param {number} [episodes] the published figures are of 100
 * @returns {Promise<{ sparse: [number, number], dense: [number, number] }>}
 */
export async function referenceReturns(maze, episodes = 100) {
  const controller = new WaypointController(maze.layout, new MersenneTwister(0));
  /** @type {Policy[]} */
  const policies = [
    randomPolicy(await gymRandom(0)),
    { reset() {}, act: (observation) => controller.act(observation, maze.layout.goal) },
  ];
  const means = [];
  for (const policy of policies) {
    const random = await gymRandom(0);
    const runs = [];
    for (let e = 0; e < episodes; e++) {
      maze.reset(random);
      runs.push(await runEpisode(maze, policy, maze.layout.goal));
    }
    means.push({
      sparse: estimate(runs.map(({ sparse }) => sparse)).mean,
      dense: estimate(runs.map(({ dense }) => dense)).mean,
    });
  }
  const [low, high] = means;
  return { sparse: [low.sparse, high.sparse], dense: [low.dense, high.dense] };
}

/**
 * Whether a number agrees with a printed one in all its digits; of more than 12 the last ones depend
 * on the order of additions and are left out.
 * @param {number} value
 * @param {number} printed
 */
export function digitsAgree(value, printed) {
  const decimals = (String(printed).split('.')[1] ?? '').length;
  const certain = 12 - String(Math.trunc(printed)).length;
  return Math.abs(value - printed) <= 0.5000001 * 10 ** -Math.min(decimals, certain);
}
