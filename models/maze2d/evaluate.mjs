// Scores of simple policies: node models/maze2d/evaluate.mjs --help
import { randomPolicy, routePolicy, straightPolicy } from './controller.js';
import { Progress, printTable, readCommand, wholeNumber } from './command.mjs';
import { createMaze } from './environment.js';
import { runEpisodes, summarize } from './evaluate.js';
import { layouts } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';

const usage = `Usage: node models/maze2d/evaluate.mjs [MAZE...] [OPTIONS]

Evaluates random actions, the controller straight to the goal, and the controller with a route per
episode, on the same starts (and goals). Single: the maze's own goal; multi: a random one per episode.

Options:
  --episodes N  Default: 2000.
  --seed N      Default: 1.`;

const { mazes, options } = readCommand(usage, { episodes: '2000', seed: '1' });
const episodes = wholeNumber('episodes', options.episodes, 2);
const seed = wholeNumber('seed', options.seed, 0);
const policies = {
  random: (_, random) => randomPolicy(random),
  straight: () => straightPolicy(),
  route: (layout, random) => routePolicy(layout, random),
};

const head = ['maze', 'goal', 'policy', 'score', 'dense score', 'success %', 'first reach'];
const table = [[...head, 'steps at a wall']];
for (const name of mazes.length ? mazes : Object.keys(layouts)) {
  const maze = await createMaze(name);
  for (const randomGoal of [false, true])
    for (const [policy, make] of Object.entries(policies)) {
      const goal = randomGoal ? 'multi' : 'single';
      const progress = new Progress(`${name}, ${goal}, ${policy}`, episodes, 'episodes');
      const onEpisode = (_, e) => progress.at(e + 1);
      const random = new MersenneTwister(seed);
      const run = { episodes, seed, randomGoal, onEpisode };
      const result = await runEpisodes(maze, make(maze.layout, random), run);
      progress.end();
      const { score, denseScore, success, firstReach, wallSteps } = summarize(maze.layout, result);
      const percent = { mean: 100 * success.mean, error: 100 * success.error };
      const estimates = [score, denseScore, percent, firstReach, wallSteps];
      table.push([name, goal, policy, ...estimates.map(shown)]);
    }
  maze.dispose();
}
printTable(table);

function shown({ mean, error }) {
  return `${mean.toFixed(1)} ± ${error.toFixed(1)}`;
}
