#!/usr/bin/env node
// npx diffusion-forcing verify MODEL: the table of `forcing verify`, from the package as it runs in
// pages.
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadModel } from '../dist/index.js';

const usage = `Usage: diffusion-forcing verify MODEL [OPTIONS]

Runs the network of a model (a .safetensors file, or the folder of a
model.safetensors) on the inputs of a reference and compares with what PyTorch
computed from them: the largest absolute and relative difference of each output.

Options:
  --reference FILE   default: reference.safetensors in the folder of the model
  --weights FORMAT   arithmetic: f32 (default) or int8
  --tolerance X      largest difference that is still right, as a fraction of an
                     output's largest magnitude; default: what the rounding of
                     float32 explains, for int8 none
  --threads N        default 1

Exit status: 0 all within their limits, 1 not, or a file cannot be read, 2 wrong
command line.`;

try {
  process.exitCode = await main(readArguments());
} catch (error) {
  console.error(`diffusion-forcing: ${error.message}`);
  process.exitCode = error.code === 'BAD_ARGUMENT' || error.code?.startsWith('ERR_PARSE') ? 2 : 1;
}

function readArguments() {
  const text = { type: 'string' };
  return parseArgs({
    allowPositionals: true,
    options: {
      reference: text,
      weights: text,
      tolerance: text,
      threads: text,
      help: { type: 'boolean', short: 'h' },
    },
  });
}

async function main({ values, positionals: [command, path, ...more] }) {
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (command !== 'verify' || !path || more.length) {
    console.error(usage);
    return 2;
  }
  const { weights = 'f32', tolerance, threads } = values;
  const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  const file = folder ? join(path, 'model.safetensors') : path;
  const reference = values.reference ?? join(dirname(file), 'reference.safetensors');
  const model = await loadModel(file, { threads: number('threads', threads) });
  try {
    const options = { weights, tolerance: number('tolerance', tolerance) };
    const result = await model.verify(reference, options);
    const how = `${result.weights} weights, ${weights} arithmetic, ${model.info.isa} kernels`;
    console.log(`${table(result)}\n${verdict(result, options)} (${how})`);
    return result.ok ? 0 : 1;
  } finally {
    model.dispose();
  }
}

/** The number that an option's text is; undefined if it was not given. */
function number(name, text) {
  const value = text === undefined ? undefined : Number(text);
  if (text?.trim() === '' || Number.isNaN(value))
    throw Object.assign(new Error(`--${name}: expected a number, found "${text}"`), {
      code: 'BAD_ARGUMENT',
    });
  return value;
}

function table({ outputs }) {
  const line = (name, numbers, ok) =>
    [name.padEnd(12), ...numbers.map((x) => x.padStart(10)), ok].join('  ');
  const plain = (x) => x === 0 || (x >= 1e-3 && x < 1e6);
  const short = (x) =>
    x === null ? '-' : plain(x) ? String(Number(x.toPrecision(3))) : x.toExponential(2);
  return [
    line('output', ['largest', 'absolute', 'relative', 'limit'], 'ok'),
    ...outputs.map(({ name, largest, absolute, relative, tolerance, ok }) =>
      line(
        name,
        [largest, absolute, relative, tolerance].map(short),
        !ok ? 'NO' : tolerance === null ? '-' : 'yes',
      ),
    ),
  ].join('\n');
}

function verdict({ ok, outputs }, { weights, tolerance }) {
  const wrong = outputs.filter((output) => !output.ok).map(({ name }) => name);
  if (!ok) return `FAILED: more than the limit: ${wrong.join(', ')}`;
  return weights !== 'f32' && tolerance === undefined
    ? 'reported, not judged: give a limit with --tolerance'
    : 'ok: the model computes what PyTorch did';
}
