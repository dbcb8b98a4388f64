// Training natively: `forcing train` against the same steps in PyTorch (torch_train.py).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { trainings } from './cases.mjs';
import { median } from './measure.mjs';
import { generator } from './network.mjs';
import { python, run } from './processes.mjs';

const folder = 'build/bench/train';

export async function measureTraining({ how, say }) {
  const rows = [];
  const threads = [1, 2].filter((n) => n <= availableParallelism());
  for (const training of trainings) {
    const { recipe, job } = prepare(training);
    const row = { name: training.name, threads: {} };
    for (const n of threads) {
      const speeds = { ours: [], torch: [] };
      for (let round = 0; round < (how === 'quick' ? 1 : 2); round++) {
        say(`training, ${training.name}, ${n} threads: PyTorch`);
        // With a pool of threads each, its own loops and OpenBLAS may get in each other's way: the
        // better of two settings counts.
        let torch;
        for (const own of n > 1 ? [1, n] : [1]) {
          const found = await python('torch_train.py', [job, own, training.torchSteps[how]], n);
          if (!(torch?.tokens_per_second > found.tokens_per_second)) torch = found;
        }
        speeds.torch.push(torch.tokens_per_second);
        row.parameters = torch.parameters;
        row.torch = torch.version;
        say(`training, ${training.name}, ${n} threads: forcing train`);
        speeds.ours.push(await train(recipe, training, n, training.steps[how]));
      }
      row.threads[n] = {
        ours: median(speeds.ours),
        torch: median(speeds.torch),
        faster: median(speeds.ours.map((speed, i) => speed / speeds.torch[i])),
      };
    }
    rows.push(row);
  }
  return rows;
}

/** Tokens per second: the median of the log's lines, without the first half, which makes plans. */
async function train(recipe, { name }, threads, steps) {
  const out = join(folder, `${name.split(/\W/)[0]}-run`);
  const every = Math.max(1, Math.floor(steps / 20));
  await run('build/native/forcing', [
    ...['train', recipe, '--out', out, '--restart', '--threads', threads, '--steps', 2 * steps],
    ...['--set', `training.log_every=${every}`, '--set', 'training.valid_every=1000000'],
    ...['--set', 'training.save_every=1000000'],
  ]);
  const [header, ...lines] = readFileSync(join(out, 'log.csv'), 'utf8').trim().split('\n');
  const column = header.split(',').indexOf('tokens_per_second');
  const speeds = lines.map((line) => Number(line.split(',')[column]));
  return median(speeds.slice(speeds.length >> 1));
}

/** The recipe's path, and the path of the same job for PyTorch. */
function prepare(training) {
  mkdirSync(folder, { recursive: true });
  const file = (name) => join(folder, name);
  const path = training.recipe ?? file('wide.json');
  if (!training.recipe) writeRecipe(path, training);
  const recipe = JSON.parse(readFileSync(path, 'utf8'));
  const offsets = readOffsets(join(dirname(path), recipe.data.train.offsets));
  const stack = recipe.model.tokens.frame_stack ?? 1;
  const lengths = offsets.slice(1).map((end, i) => Math.ceil((end - offsets[i]) / stack));
  const job = file(`${training.name.split(/\W/)[0]}-job.json`);
  const { training: settings, model: config } = recipe;
  writeFileSync(
    job,
    JSON.stringify({ config, lengths, batch: settings.batch, training: settings }),
  );
  return { recipe: path, job: resolve(job) };
}

/** A recipe with random data: `batch` sequences of `length` tokens of `size` numbers. */
function writeRecipe(path, { denoiser, size, length, batch }) {
  const { training } = JSON.parse(readFileSync('models/kanji/recipe.json', 'utf8'));
  const values = Float32Array.from({ length: batch * length * size }, generator(1));
  const offsets = Int32Array.from({ length: batch + 1 }, (_, i) => i * length);
  const write = (name, content) => writeFileSync(join(dirname(path), name), content);
  write('wide_values.npy', npy('<f4', [batch * length, size], values));
  write('wide_offsets.npy', npy('<i4', [batch + 1], offsets));
  write('one_values.npy', npy('<f4', [length, size], values.subarray(0, length * size)));
  write('one_offsets.npy', npy('<i4', [2], offsets.subarray(0, 2)));
  const recipe = {
    name: 'wide',
    data: {
      train: { values: 'wide_values.npy', offsets: 'wide_offsets.npy' },
      valid: { values: 'one_values.npy', offsets: 'one_offsets.npy' },
    },
    model: {
      denoiser,
      diffusion: { levels: 1000, objective: 'v', schedule: 'cosine', clip_noise: 20 },
      tokens: { fields: Array.from({ length: size }, (_, i) => ({ name: `x${i}` })) },
      sampling: { max_tokens: length },
    },
    training: { ...training, batch, augment_scale: 0, augment_rotate: 0, stop_weight: 0 },
  };
  writeFileSync(path, JSON.stringify(recipe));
}

// ---- .npy, version 1 ---------------------------------------------------------------------------

function npy(type, shape, data) {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const header = `${text.padEnd(117)}\n`; // 10 bytes before it: 128 in all
  const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0]);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([start, Buffer.from(header), bytes]);
}

function readOffsets(path) {
  const bytes = readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const type = bytes.toString('latin1', 10, start).match(/'descr': '(<i[48])'/)?.[1];
  if (!type) throw new Error(`${path}: expected int32 or int64`);
  const data = bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length);
  return type === '<i8' ? Array.from(new BigInt64Array(data), Number) : [...new Int32Array(data)];
}
