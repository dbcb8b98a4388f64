// RESULTS.md from the results of the sections.
import { readFileSync } from 'node:fs';
import { models, parallel, plan, transformers } from './cases.mjs';
import { networkOf, operations, rnnStep, size, transformerOf } from './network.mjs';

const engines = { node: 'Node', chromium: 'Chromium' };
const labels = { relaxed: 'relaxed', simd: 'plain', int8: 'relaxed, int8' };
const label = (variant) => labels[variant] ?? variant;

const round = (x, digits = 3) => String(Number(x.toPrecision(digits)));
const times = (x) => `${x.toFixed(2)} x`;
const share = (x) => `${Math.round(100 * x)} %`;
const ms = (seconds) => round(1e3 * seconds);
const giga = (operations, seconds) => ((1e-9 * operations) / seconds).toFixed(1);

function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** All figures that are there. */
export function report(results) {
  const parts = [head(results)];
  const add = (name, write) => {
    if (results[name]) parts.push(write(results[name].data, results));
  };
  for (const [engine, name] of Object.entries(engines)) {
    add(`products-${engine}`, (data) => products(data, name, results[`limits-${engine}`]?.data));
  }
  for (const [engine, name] of Object.entries(engines)) {
    add(`step-${engine}`, (data) => steps(data, `RNN step, ${name}`, rnnText()));
    add(`model-${engine}`, (data) => steps(data, `Planner step, ${name}`, plannerText()));
  }
  plans(parts, results);
  add('ahead-node', rowsAhead);
  add('kept-node', (data) => keptRows(data, results['kept-torch']?.data));
  add('guided-node', guidedRows);
  add('guided-memory-node', guidance);
  add('parallel-node', cores);
  add('start', start);
  add('size', downloads);
  add('training', training);
  return `${parts.join('\n\n')}\n`;
}

function head(results) {
  const dates = [...new Set(Object.values(results).map(({ date }) => date))].sort();
  const machines = [...new Set(Object.values(results).map(({ machine }) => machine))];
  const version = (engine) =>
    Object.entries(results).find(([name]) => name.endsWith(`-${engine}`))?.[1].data.version;
  const torch =
    results['plan-torch']?.data.version ??
    results['kept-torch']?.data.version ??
    results.training?.data[0]?.torch;
  const { version: own } = JSON.parse(readFileSync('package.json', 'utf8'));
  const versions = [
    `diffusion-forcing ${own}`,
    version('node') && `Node ${version('node')}`,
    version('chromium') && version('chromium').replace('/', ' '),
    'onnxruntime-web 1.30 (wasm, one thread)',
    torch && `PyTorch ${torch} (Debian)`,
  ].filter(Boolean);
  return `# Benchmark

Written by \`npm run bench\`; do not edit. ${dates.join(', ')}. ${machines.join('; ')} (virtual, shared).
${versions.join(', ')}.

Both sides and the limits are measured in turns in one run; figures are medians over the rounds, ratios medians of what
was measured side by side; time is that of the clock. Before a time is taken, results are compared: the benchmark ends if they differ. "Faster" is
the time of ONNX Runtime over ours. "Of the limit": the time that arithmetic at the peak of a register-only loop takes,
or reading the weights once (the longer of the two), over ours. "Relaxed" and "plain" are the two builds of the package:
with relaxed SIMD, and with the SIMD that every browser has.

![How many times faster](results.svg)`;
}

function products({ version, result }, engine, limits) {
  const builds = Object.keys(result[0].ours);
  const rows = result.map(({ shape: [m, k, n], ort, empty, ours }) => {
    const work = 2 * m * k * n;
    // What is left of a tiny product is noise.
    const kernel = (build) => (ort > 2 * empty ? times((ort - empty) / ours[build].seconds) : '-');
    return [
      `${m}, ${k}, ${n}`,
      giga(work, ort),
      ...builds.flatMap((build) => {
        const { seconds, share: of, faster } = ours[build];
        return [giga(work, seconds), share(of), times(faster), kernel(build)];
      }),
    ];
  });
  const columns = builds.flatMap((build) => [
    label(build),
    'of the limit',
    'faster',
    'without the call',
  ]);
  return `## Matrix products, ${engine} ${version.replace(/^.*\//, '')}, GFLOP/s

C (M, N) = A (M, K) B (K, N) + bias, float32, B constant. "Without the call": against ONNX Runtime's time less that of an
empty call${limits ? ` (${(1e6 * limits.result.emptyRun).toFixed(0)} us)` : ''}.${limits ? `\n${limitsText(limits.result)}` : ''}

${table(['M, K, N', 'ONNX Runtime', ...columns], rows)}`;
}

function limitsText({ peak, read }) {
  const peaks = Object.entries(peak).map(
    ([build, flops]) => `${(1e-9 * flops).toFixed(1)} GFLOP/s (${label(build)})`,
  );
  const reads = read.map(
    ([kB, speed]) => `${(1e-9 * speed).toFixed(0)} (${kB < 1024 ? `${kB} kB` : `${kB / 1024} MB`})`,
  );
  return `Limits: arithmetic ${peaks.join(', ')}; reading, GB/s: ${reads.join(', ')}.`;
}

function rnnText() {
  return `x 60, z 128, time code 32; three residual blocks of width 1024, one to 128, GRU 128, linear layer, head 60:
${(size(rnnStep) / 1e6).toFixed(1)} M parameters, ${(operations(rnnStep) / 1e6).toFixed(1)} MFLOP per sequence. Ours: the library's graph and plan; inputs are copied in and
results out.`;
}

function plannerText() {
  const net = networkOf(models.planner);
  return `The paper's planning network, three residual blocks of width 1024 before and three after the GRU: ${(size(net) / 1e6).toFixed(1)} M parameters,
${(operations(net) / 1e6).toFixed(1)} MFLOP per sequence. Ours: \`sampler.step()\` of the package for sequences of one token, with the time code and
the update of the token, which ONNX Runtime is spared.`;
}

function steps({ result }, title, text) {
  const variants = Object.keys(result[0].ours);
  const rows = result.map(({ batch, ort, form, ours }) => [
    batch,
    ms(ort),
    ...variants.flatMap((variant) => {
      const { seconds, share: of, faster } = ours[variant];
      return [ms(seconds), share(of), times(faster)];
    }),
    form,
  ]);
  const columns = variants.flatMap((variant) => [label(variant), 'of the limit', 'faster']);
  return `## ${title}, ms

${text} The ONNX graph is the fastest of four forms, tried in the same run.

${table(['batch', 'ONNX Runtime', ...columns, 'form'], rows)}`;
}

function plans(parts, results) {
  const rows = [];
  const torch = results['plan-torch']?.data;
  const row = (name, of, faster = '-') =>
    rows.push([
      name,
      ...plan.uncertainties.map((u) => (of(u) === undefined ? '-' : round(of(u)))),
      ...plan.uncertainties.map((u) =>
        torch && of(u) !== undefined ? `${round(torch.plans[u].seconds / of(u))} x` : '-',
      ),
      faster,
    ]);
  let names = '';
  for (const [engine, name] of Object.entries(engines)) {
    const data = results[`plan-${engine}`]?.data.result;
    if (!data) continue;
    names ||= `(form: ${data.form})`;
    for (const [variant, { seconds, faster }] of Object.entries(data.ours)) {
      row(`the package, ${label(variant)}, ${name}`, (u) => seconds[u], times(faster));
    }
    row(`ONNX Runtime, ${name}`, (u) => (u === data.compared ? data.ort : undefined));
  }
  const native = results['plan-native']?.data;
  if (native) row('`forcing sample`, one thread, loading included', (u) => native[u]);
  if (torch) row('PyTorch, one thread', (u) => torch.plans[u].seconds);
  if (!rows.length) return;
  const heads = plan.uncertainties.map((u) => `u = ${u}`);
  const against = plan.uncertainties.map((u) => `PyTorch / it, u = ${u}`);
  const bounded = torch
    ? ` PyTorch ran ${plan.uncertainties.map((u) => `${torch.plans[u].run} of ${torch.plans[u].rows}`).join(', ')} rows; every row costs the same, and the time of all was scaled from these.`
    : '';
  parts.push(`## A whole plan, seconds

The planner, ${plan.length} tokens, ${plan.steps} steps, pyramid with uncertainty u, one sequence. PyTorch samples as the published code does: every
token in every row, one at a time.${bounded}
ONNX Runtime is used as a careful user would: row by row and token by token, but only tokens that change, and finished
ones once more ${names}.

${table(['', ...heads, ...against, 'faster than ONNX Runtime'], rows)}`);
}

function guidedRows({ result }) {
  const rows = result.map(({ name, batch, way, limit, unguided, guided, given }) => [
    ...[name, batch, way, ms(unguided), ms(guided), times(guided / unguided), `${limit} x`],
    ...[ms(given.first), ms(given.another)],
  ]);
  const head = [
    ...['network', 'batch', 'way', 'unguided', 'guided', 'times', 'limit'],
    ...['guidance given', 'another'],
  ];
  return `## Guided rows, Node, ms

A row in which all of ${plan.length} tokens fall, one row after the other (a guided plan is no wavefront), and the same with guidance: the pass over all tokens, an objective of their clean
estimates, and its derivative by the noisy ones, through the network and all latents. The limit is 2 passes: a derivative by
inputs has the products of the pass once more (by weights, too, as in training, they would be 3). With four futures there are four
passes, three of them of further samples, each with its derivative: 8. Guidance is given before the first row, which plans the
derivative and all memory; another one, then or between rows, is only taken over.

${table(head, rows)}`;
}

function guidance({ result }) {
  const MB = (bytes) => round(bytes / 1e6);
  const rows = result.map(({ name, batch, way, unguided, guided, all, heap, grown, more }) => [
    ...[name, batch, way, MB(unguided), MB(guided), MB(all), MB(heap), grown, more],
  ]);
  const head = [
    ...['network', 'batch', 'way', 'sampler', 'guided', 'guidance in all', 'wasm memory'],
    ...['grown, bytes', 'in use, bytes'],
  ];
  return `## Memory of guidance, Node, MB

A sampler of ${plan.length} tokens before guidance is given and after that. A derivative needs what the pass made of every token, so that of
all tokens is kept, where the unguided pass has one at a time. "In all" are also the list of operations, and the weights in the
order in which the derivative multiplies with them, which all samplers of a model share. Then the whole wasm memory of the model
and this sampler after one guided plan, and how far it, and what is in use of it, grew in ${result[0].plans} more plans, each guided by other
terms. The limit is 0, as all memory is planned when guidance is first given.

${table(head, rows)}`;
}

function rowsAhead({ result }) {
  const rows = result.map((row) => [
    row.name,
    row.batch,
    row.uncertainty,
    ms(row.plain),
    ms(row.ahead),
    times(row.plain / row.ahead),
    ms(row.firstPlain),
    ms(row.firstAhead),
  ]);
  return `## Rows ahead, Node, ms

Cells of the level table that do not depend on each other run as one batch (a wavefront), against row by row
(\`ahead: 0\`), bit for bit the same result: ${plan.length} tokens, ${plan.steps} steps, pyramid with uncertainty u. At u = ${plan.steps} every token waits for the end
of the one before. Planner as above; kanji: the network of that model, ${(size(networkOf(models.kanji)) / 1e6).toFixed(1)} M parameters. From 64 sequences on
the default is row by row: batches are full.

${table(['network', 'batch', 'u', 'row by row', 'rows ahead', 'faster', 'first row', 'first row, ahead'], rows)}`;
}

function keptRows({ result }, torch) {
  const short = (name) => name.replace('-attention', '');
  const rows = result.rows.map(({ name, batch, schedule, rows, kept, anew }) => {
    const theirs = torch && rows * torch.rows[name][batch];
    return [
      short(name),
      batch,
      schedule,
      round(kept.seconds),
      share(kept.limit / kept.seconds),
      round(anew.seconds),
      share(anew.limit / anew.seconds),
      times(anew.seconds / kept.seconds),
      times(anew.limit / kept.limit),
      kept.cells,
      anew.cells,
      times(anew.cells / kept.cells),
      ...(torch ? [round(theirs), `${round(theirs / kept.seconds)} x`] : []),
    ];
  });
  const each = ({ seconds, limit }) => [ms(seconds), share(limit / seconds)];
  const windows = result.windows.map(({ name, batch, moves, stays, anew }) => {
    const token = moves.seconds + (plan.steps - 1) * stays.seconds;
    const faster = times((plan.steps * anew.seconds) / token);
    return [
      ...[short(name), batch, ...each(moves), ...each(stays)],
      ...[ms(token), ms(token / plan.steps), ms(anew.seconds), faster],
    ];
  });
  const configs = Object.values(transformers).filter(({ name }) => !name.startsWith('idle'));
  const ofAttention = (net) => (4 * net.layers * net.width * plan.length) / operations(net);
  const attention = Math.max(...configs.map((config) => ofAttention(transformerOf(config))));
  const sizes = configs.map((config) => {
    const net = transformerOf(config);
    return `${short(config.name)}: width ${net.width}, ${net.layers} layers, ${config.denoiser.heads} heads, feed-forward ${net.hidden}, token ${net.x}, ${round(size(net) / 1e6)} M parameters, ${round(operations(net) / 1e6)} MFLOP a cell`;
  });
  const timed = result.rows.flatMap(({ kept, anew }) => [kept.timed, anew.timed]);
  const head = [
    ...['network', 'batch', 'schedule', 'kept', 'of the limit', 'anew', 'of the limit'],
    ...['faster', 'by the limits', 'cells kept', 'cells anew', 'by the cells'],
    ...(torch ? ['PyTorch', 'PyTorch / kept'] : []),
  ];
  return `## Keys and values kept, Node, seconds

Causal transformers, ${plan.length} tokens, window ${plan.length}, ${plan.steps} steps: all rows of a plan with keys and values of visited tokens kept, against every
token up to the last one that falls computed anew in every row. ${sizes.join('. ').replace(/^k/, 'K').replace('. p', '. P')}.
${Math.min(...timed)} to ${Math.max(...timed)} rows of each table were timed, evenly spread and in turns, and the time of all follows from these; cells are exact, and are those of one
sequence. The limit of a row is the arithmetic of the products with weights at the peak, or reading the weights once: attention itself, up to ${share(attention)} more
arithmetic, is not in it. A row of one cell waits for the weights, so it cannot gain what the cells promise. "By the limits": what two that are at their limits would differ by.${
    torch
      ? `
PyTorch (nn.TransformerEncoder, native code, one thread) computes the whole window in every row, as the published code does.`
      : ''
  }

${table(head, rows)}

Without end, autoregressive, window ${plan.length} full, ms a row: once per token, in ${plan.steps} rows, the window moves on, and all of it changes its place.

${table(
  [
    ...['network', 'batch', 'window moves', 'of the limit', 'other rows', 'of the limit'],
    ...['a token', 'mean row', 'every row anew', 'faster'],
  ],
  windows,
)}`;
}

function cores({ result }) {
  const ways = Object.keys(result[0].seconds);
  const rows = result.map(({ batch, seconds, faster }) => [
    batch,
    ms(seconds[ways[0]]),
    ...ways.slice(1).flatMap((way) => [ms(seconds[way]), times(faster[way])]),
  ]);
  const heads = ways.slice(1).flatMap((way) => [way, 'faster']);
  const { length, steps } = parallel.sampler;
  return `## Two cores, Node, ms on the clock

The kanji network, ${length} tokens, ${steps} steps, pyramid with u = 1. Workers have a copy of the model each and need no shared memory; threads
share one and need a page that is cross-origin isolated. A single sequence runs on one worker.

${table(['batch', ways[0], ...heads], rows)}`;
}

function start(data) {
  const rows = [];
  for (const [engine, name] of Object.entries(engines)) {
    for (const [model, { ours, ort }] of Object.entries(data[engine])) {
      const net = networkOf(models[model]);
      const text = `${model} (${((4 * size(net)) / 1e6).toFixed(0)} MB), fresh ${engine === 'node' ? 'process' : 'page'}, ${name}`;
      rows.push([text, ms(ours), ms(ort), times(ort / ours)]);
    }
  }
  return `## From import to the first row, ms

Import, compile, load the model (float32), first row of a plan (the package; in pages through its worker), or first
output of the same step (ONNX Runtime). Files come from the local disk, or from a local server into an empty cache.

${table(['', 'the package', 'onnxruntime-web', 'faster'], rows)}`;
}

function downloads({ ours, ort }) {
  const kB = (n) => (n / 1000).toFixed(n < 1e5 ? 1 : 0);
  const rows = [
    ['the package: JavaScript with worker, relaxed build', kB(ours.raw), kB(ours.gzip)],
    ['onnxruntime-web: entry `wasm`, its module', kB(ort.raw), kB(ort.gzip)],
    ['times smaller', round(ort.raw / ours.raw), round(ort.gzip / ours.gzip)],
  ];
  return `## Download, kB

${table(['', 'raw', 'gzipped'], rows)}`;
}

function training(rows) {
  const lines = rows.flatMap(({ name, parameters, threads }) =>
    Object.entries(threads).map(([n, { ours, torch, faster }]) => [
      `${name} (${(parameters / 1e6).toFixed(1)} M parameters)`,
      n,
      Math.round(ours),
      Math.round(torch),
      times(faster),
    ]),
  );
  return `## Training, tokens per second

Forward, backward, clipping, AdamW and moving average, natively on the CPU: \`forcing train\` against PyTorch with the same
network, batch and threads (PyTorch: the better of OpenBLAS alone with so many, and both it and PyTorch's own loops). The kanji recipe has 1 to 20 tokens of 20 numbers, sequences of like length side by side;
tokens that only fill up a batch do not count. The other one is the planner with random data.

${table(['', 'threads', '`forcing train`', 'PyTorch', 'faster'], lines)}`;
}
