// Scores of policies: node models/maze2d/evaluate.mjs --help
import { fileURLToPath } from 'node:url';
import { loadModel } from 'diffusion-forcing';
import { Actions } from './actions.js';
import { randomPolicy, routePolicy, straightPolicy } from './controller.js';
import { Progress, printTable, readCommand, wholeNumber } from './command.mjs';
import { createMaze } from './environment.js';
import { runEpisodes, summarize } from './evaluate.js';
import { layouts } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';
import { Planner, defaults, planPolicy } from './planner.js';

/** Options of the planner that can be written in a word. */
const settable = Object.keys(defaults).filter((key) => key !== 'terms');

const usage = `Usage: node models/maze2d/evaluate.mjs [MAZE...] [OPTIONS]

Evaluates policies on the same starts (and goals), episodes in full length. Single: the
maze's own goal (Maze2D); multi: a random one per episode (Multi2D).

Options:
  --policy LIST    Of random, straight (the controller straight to the goal), route (the
                   controller with a route per episode) and plan (a model). Default: all.
  --model FILE     Of the planner. Default: model.safetensors beside this script. A model of
                   states executes the actions that it diffuses, one of paths is tracked.
  --actions FILE   A model of states. The ball goes along the plans of --model by the actions
                   that it diffuses, instead of a tracker.
  --set KEY=VALUE,...  Options of the planner: ${settable.join(', ')}.
  --goal KIND      single, multi or both (default).
  --episodes N     Default: 100.
  --seed N         Of the episodes. Default: 1.`;

const { mazes, options } = readCommand(usage, {
  policy: 'random,straight,route,plan',
  model: fileURLToPath(new URL('model.safetensors', import.meta.url)),
  actions: '',
  set: '',
  goal: 'both',
  episodes: '100',
  seed: '1',
});
const episodes = wholeNumber('episodes', options.episodes, 2);
const seed = wholeNumber('seed', options.seed, 0);
const goals = { single: [false], multi: [true], both: [false, true] }[options.goal];
if (!goals) wrong('--goal', 'single, multi or both', options.goal);

/** Of a policy of the planner: plans, their denoising rows and milliseconds. */
let planned = { plans: 0, rows: 0, ms: 0 };
const policies = {
  random: (_, random) => randomPolicy(random),
  straight: () => straightPolicy(),
  route: (layout, random) => routePolicy(layout, random),
  plan(layout) {
    planned = { plans: 0, rows: 0, ms: 0 };
    planner?.dispose();
    planner = new Planner(model, layout, settings);
    const onPlan = ({ rows }, ms) => {
      planned.plans++;
      planned.rows += rows;
      planned.ms += ms;
    };
    if (!states) return planPolicy(planner, { onPlan });
    actions?.dispose();
    actions = new Actions(states, layout);
    return planPolicy(planner, { onPlan, follow: (plan) => actions.follow(plan) });
  },
};
const names = options.policy.split(',');
for (const name of names)
  if (!Object.hasOwn(policies, name)) wrong('--policy', Object.keys(policies).join(', '), name);
const settings = readSettings(options.set);
const model = names.includes('plan') ? await loadModel(options.model) : undefined;
const states = model && options.actions ? await loadModel(options.actions) : undefined;
let planner;
let actions;

const head = ['maze', 'goal', 'policy', 'score', 'dense score', 'success %', 'first reach'];
const table = [[...head, 'steps at a wall', 'plans', 'rows per plan', 'ms per plan', 'episodes/s']];
for (const name of mazes.length ? mazes : Object.keys(layouts)) {
  const maze = await createMaze(name);
  for (const randomGoal of goals)
    for (const policy of names) {
      const goal = randomGoal ? 'multi' : 'single';
      const progress = new Progress(`${name}, ${goal}, ${policy}`, episodes, 'episodes');
      const onEpisode = (_, e) => progress.at(e + 1);
      const random = new MersenneTwister(seed);
      const run = { episodes, seed, randomGoal, onEpisode };
      const result = await runEpisodes(maze, policies[policy](maze.layout, random), run);
      const rate = progress.end();
      const { score, denseScore, success, firstReach, wallSteps } = summarize(maze.layout, result);
      const percent = { mean: 100 * success.mean, error: 100 * success.error };
      const estimates = [score, denseScore, percent, firstReach, wallSteps].map(shown);
      const { plans, rows, ms } = planned;
      const cost = [plans / episodes, rows / plans, ms / plans].map((x) => x.toFixed(1));
      const costs = policy === 'plan' ? cost : cost.map(() => '');
      table.push([name, goal, policy, ...estimates, ...costs, rate.toPrecision(3)]);
    }
  maze.dispose();
}
actions?.dispose();
planner?.dispose();
states?.dispose();
model?.dispose();
printTable(table);

function shown({ mean, error }) {
  return `${mean.toFixed(1)} ± ${error.toFixed(1)}`;
}

/** Numbers as numbers, the rest as text. */
function readSettings(text) {
  const pairs = text ? text.split(',').map((pair) => pair.split('=')) : [];
  for (const [key] of pairs)
    if (!settable.includes(key))
      wrong('--set', `KEY=VALUE with a key of ${settable.join(', ')}`, key);
  return Object.fromEntries(
    pairs.map(([key, value]) => [key, Number.isFinite(Number(value)) ? Number(value) : value]),
  );
}

function wrong(option, expected, found) {
  console.error(`${option}: expected ${expected}; found ${found}`);
  process.exit(2);
}
