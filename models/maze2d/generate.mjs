// Makes training data: node models/maze2d/generate.mjs --help
import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setImmediate as immediately } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Progress, grouped, readCommand, wholeNumber } from './command.mjs';
import { createMaze } from './environment.js';
import { fields, frames } from './generate.js';
import { layouts } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';
import { NpyFile } from './npy.mjs';
import { published } from './statistics.js';

const usage = `Usage: node models/maze2d/generate.mjs MAZE [OPTIONS]

Makes the data of a maze (umaze, medium, large) as D4RL made its: the way-point
controller goes from goal to goal, with noise. The endless trajectory is cut into
sequences of equal length, one behind the other. A seed gives the same files.

Options:
  --rows N      Frames of the training set. Default: as D4RL's files, 1, 2, 4 million.
  --valid N     Frames of the validation set, of a trajectory of its own. Default: 5 %.
  --frames N    Of a sequence. Default: an episode's steps (300, 600, 800).
  --seed N      Default: 1.
  --out FOLDER  Default: data/MAZE beside this script.

Files: {train,valid}_states.npy (frames, 6): x, y, vx, vy and the action that led there;
{train,valid}_positions.npy (frames, 2): the same frames' x, y; {train,valid}_offsets.npy.`;

const options = { rows: '', valid: '', frames: '', seed: '1', out: '' };
const { mazes, options: given } = readCommand(usage, options);
if (mazes.length !== 1) {
  console.error(usage);
  process.exit(2);
}
const layout = layouts[mazes[0]];
const length = wholeNumber('frames', given.frames || layout.steps);
const rows = wholeNumber('rows', given.rows || published[layout.name].rows, length);
const sets = {
  train: rows,
  valid: wholeNumber('valid', given.valid || length * Math.ceil(rows / length / 20), length),
};
const seed = wholeNumber('seed', given.seed, 0);
const out = given.out || fileURLToPath(new URL(`data/${layout.name}`, import.meta.url));

// Unlike a signal, exit takes unfinished files away.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

mkdirSync(out, { recursive: true });
const maze = await createMaze(layout.name);
for (const [index, [set, rows]] of Object.entries(sets).entries()) {
  const sequences = Math.floor(rows / length);
  const count = sequences * length;
  const files = [
    new NpyFile(join(out, `${set}_states.npy`), '<f4', [count, fields.length]),
    new NpyFile(join(out, `${set}_positions.npy`), '<f4', [count, 2]),
    new NpyFile(join(out, `${set}_offsets.npy`), '<i4', [sequences + 1]),
  ];
  const [states, positions, offsets] = files;
  const progress = new Progress(`${layout.name}, ${set}`, count, 'rows');
  // Keys of three numbers: those of two are the episodes of evaluate.js.
  const random = new MersenneTwister([seed, index, 0]);
  let done = 0;
  for (const part of frames(maze, random, count)) {
    states.write(part);
    const n = part.length / fields.length;
    positions.write(
      Float32Array.from({ length: 2 * n }, (_, k) => part[(k >> 1) * fields.length + (k & 1)]),
    );
    progress.at((done += n));
    await immediately(); // lets Ctrl-C through
  }
  offsets.write(Int32Array.from({ length: sequences + 1 }, (_, s) => s * length));
  const rate = progress.end();
  console.log(
    `${set}: ${grouped(sequences)} sequences of ${length} frames, ${grouped(rate)} frames/s`,
  );
  for (const file of files) {
    file.end();
    console.log(`  ${relative('', file.path)}  ${(file.bytes / 1e6).toFixed(1)} MB`);
  }
}
maze.dispose();
