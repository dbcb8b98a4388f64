// Holds the environment and the data to what D4RL published: node models/maze2d/check.mjs --help
import { Progress, grouped, printTable, readCommand, wholeNumber } from './command.mjs';
import { createMaze } from './environment.js';
import { estimate } from './evaluate.js';
import { layouts } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';
import { digitsAgree, referenceReturns } from './references.js';
import { deviations, names, published, statistics } from './statistics.js';

const usage = `Usage: node models/maze2d/check.mjs [MAZE...] [OPTIONS]

Checks two things and exits with 1 if one is wrong:
- the reference returns of D4RL (random actions and its controller, both rewards), from its own seeds;
- means and spreads of generated data against those of the published files: no statistic may be further
  away than four standard deviations of the difference of two such random runs.

Options:
  --rows N    Of a run. Default: 1e6.
  --seeds N   Runs, with seeds from --seed on; with several, their mean and their spread. Default: 1.
  --seed N    Default: 1.`;

const { mazes, options } = readCommand(usage, { rows: '1e6', seeds: '1', seed: '1' });
const rows = wholeNumber('rows', options.rows);
const seeds = wholeNumber('seeds', options.seeds);
const first = wholeNumber('seed', options.seed, 0);
const limit = 4;
let wrong = 0;

for (const name of mazes.length ? mazes : Object.keys(layouts)) {
  const maze = await createMaze(name);

  console.log(`\n${name}: reference returns\n`);
  const returns = await referenceReturns(maze);
  const table = [['', 'published', 'here', 'agree']];
  for (const reward of ['sparse', 'dense'])
    for (const [k, policy] of ['random', 'controller'].entries()) {
      const theirs = maze.layout.returns[reward][k];
      const ours = returns[reward][k];
      const agree = digitsAgree(ours, theirs);
      if (!agree) wrong++;
      table.push([`${policy}, ${reward}`, String(theirs), String(ours), agree ? 'yes' : 'NO']);
    }
  printTable(table);

  const progress = new Progress(`${name}: ${grouped(rows)} rows, ${seeds} times`, seeds, 'runs');
  const runs = [];
  for (let s = 0; s < seeds; s++) {
    runs.push(statistics(maze, new MersenneTwister(first + s), rows));
    progress.at(s + 1);
  }
  const rate = progress.end() * rows;
  const goals = estimate(runs.map((run) => run.goals)).mean;
  console.log(
    `\n${name}: ${seeds} x ${grouped(rows)} rows, ${grouped(rate)} rows/s, ${grouped(goals)} goals\n`,
  );
  const values = names.map((_, k) => estimate(runs.map((run) => run.values[k])));
  const apart = deviations(
    name,
    values.map(({ mean }) => mean),
    rows * seeds,
  );
  const digits = (x) => x.toPrecision(5);
  const spread = ({ error }) => (seeds > 1 ? (error * Math.sqrt(seeds)).toPrecision(2) : '');
  printTable([
    ['', 'published', 'here', 'spread of runs', 'apart (standard deviations)'],
    ...names.map((what, k) => {
      const far = Math.abs(apart[k]) > limit;
      if (far) wrong++;
      const theirs = published[name].values[k];
      const verdict = `${apart[k].toFixed(1)}${far ? ' TOO FAR' : ''}`;
      return [what, String(theirs), digits(values[k].mean), spread(values[k]), verdict];
    }),
  ]);
  maze.dispose();
}
console.log(wrong ? `\n${wrong} wrong` : '\nall as published');
process.exitCode = wrong ? 1 : 0;
