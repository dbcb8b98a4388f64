// Makes training data: node models/maze2d/generate.mjs --help
import { mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setImmediate as immediately } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Progress, grouped, readCommand, wholeNumber } from './command.mjs';
import { createMaze } from './environment.js';
import { forms, sequences, startFields } from './generate.js';
import { layouts } from './layouts.js';
import { MersenneTwister } from './mersenne-twister.js';
import { NpyFile } from './npy.mjs';

const usage = `Usage: node models/maze2d/generate.mjs [MAZE...] [OPTIONS]

Makes training data of mazes (umaze, medium, large; default: all of them) as D4RL made its:
the way-point controller goes from goal to goal, with noise. The endless trajectory is cut
into sequences of equal length, one behind the other. A seed gives the same files.

Options:
  --form FORM   path (default): positions of every fourth frame, to be tracked; states:
                observations and actions of every frame, to be executed.
  --rows N      Frames of each maze in the training set. Default: 12 million.
  --valid N     Frames of each maze in the validation set, of a trajectory of its own.
                Default: 1 %.
  --frames N    Of a sequence. Default: 512 (path), 384 (states).
  --seed N      Default: 1.
  --out FOLDER  Default: data/FORM beside this script.

Files: {train,valid}_values.npy: what a plan holds; {train,valid}_offsets.npy: where sequences
begin; {train,valid}_starts.npy: observation before the first frame, and which maze it is.`;

const options = { form: 'path', rows: '12e6', valid: '', frames: '', seed: '1', out: '' };
const { mazes, options: given } = readCommand(usage, options);
const form = forms[given.form];
if (!form) {
  console.error(`--form: expected ${Object.keys(forms).join(' or ')}; found ${given.form}`);
  process.exit(2);
}
const { fields, columns, stride } = form;
const length = wholeNumber('frames', given.frames || form.frames, stride);
const rows = wholeNumber('rows', given.rows, length);
const sets = { train: rows, valid: wholeNumber('valid', given.valid || rows / 100, length) };
const seed = wholeNumber('seed', given.seed, 0);
const out = given.out || fileURLToPath(new URL(`data/${given.form}`, import.meta.url));

// Unlike a signal, exit takes unfinished files away.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

mkdirSync(out, { recursive: true });
const names = mazes.length ? mazes : Object.keys(layouts);
const kept = Math.floor(length / stride); // values of a sequence
for (const [index, [set, rows]] of Object.entries(sets).entries()) {
  const each = Math.floor(rows / length); // sequences of a maze
  const count = each * names.length;
  const files = [
    new NpyFile(join(out, `${set}_values.npy`), '<f4', [count * kept, fields.length]),
    new NpyFile(join(out, `${set}_offsets.npy`), '<i4', [count + 1]),
    new NpyFile(join(out, `${set}_starts.npy`), '<f4', [count, startFields.length]),
  ];
  const [values, offsets, starts] = files;
  const progress = new Progress(`${given.form}, ${set}`, count * length, 'frames');
  let done = 0;
  for (const name of names) {
    const maze = await createMaze(name);
    // Keys of three numbers: those of two are the episodes of evaluate.js.
    const random = new MersenneTwister([seed, index, Object.keys(layouts).indexOf(name)]);
    for (const { start, frames } of sequences(maze, random, each, length)) {
      starts.write(start);
      values.write(
        Float32Array.from({ length: kept * columns.length }, (_, k) => {
          const frame = (Math.floor(k / columns.length) + 1) * stride - 1;
          return frames[6 * frame + columns[k % columns.length]];
        }),
      );
      progress.at((done += length));
      if (done % (20 * length) === 0) await immediately(); // lets Ctrl-C through
    }
    maze.dispose();
  }
  offsets.write(Int32Array.from({ length: count + 1 }, (_, s) => s * kept));
  const rate = progress.end();
  console.log(`${set}: ${grouped(count)} sequences of ${length} frames, ${grouped(rate)} frames/s`);
  for (const file of files) {
    file.end();
    console.log(`  ${relative('', file.path)}  ${(file.bytes / 1e6).toFixed(1)} MB`);
  }
}
