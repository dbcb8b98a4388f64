// What is measured inside one JavaScript engine; node.mjs and chromium.mjs run it. Each measurement
// returns plain data that report.mjs writes down.
//
// `read(path)` gives the bytes of a file of the checkout, `say(text)` shows progress.
import { batches, models, plan, products, variants } from './cases.mjs';
import { agree, interleaved, median, now } from './measure.mjs';
import { generator, networkOf, operations, randomWeights, rnnStep, size } from './network.mjs';
import { forms } from './onnx.mjs';
import * as ort from './ort.mjs';
import { Kernels, features, openModel, openSampler } from './ours.mjs';
import { timeCode } from '../../wasm_tests/reference.mjs';

/** Variants that this engine can run, and those of them that whole plans are measured with. */
const usable = () => Object.keys(variants).filter((name) => features()[variants[name].build]);
const planned = () => usable().filter((name) => variants[name].plans);
const tolerance = (name) => variants[name].tolerance ?? 1e-4;

async function loadKernels(read) {
  const kernels = {};
  for (const { build } of usable().map((name) => variants[name])) {
    kernels[build] ??= await Kernels.create(await read(`build/wasm/bench.${build}.wasm`));
  }
  return kernels;
}

function numbers(n, seed = 1) {
  const uniform = generator(seed);
  return Float32Array.from({ length: n }, uniform);
}

/** Floating-point operations per second of the register-only loop, and bytes read per second. */
export async function limits({ read, effort, say }) {
  const kernels = await loadKernels(read);
  const result = { peak: {}, read: [] };
  const peaks = Object.fromEntries(
    Object.entries(kernels).map(([name, k]) => [name, (calls) => k.peak(calls)]),
  );
  say('limits: arithmetic');
  const { seconds } = await interleaved(peaks, effort);
  for (const [name, time] of Object.entries(seconds))
    result.peak[name] = kernels[name].peak(1) / time;
  for (const kB of [16, 256, 4096, 24576, 49152]) {
    say(`limits: reading ${kB} kB`);
    const reader = Object.values(kernels)[0].reader(1024 * kB);
    const { seconds } = await interleaved({ read: reader.run }, effort);
    result.read.push([kB, (1024 * kB) / seconds.read]);
    reader.free();
  }
  say('limits: an empty call of ONNX Runtime');
  const empty = await ort.empty();
  result.emptyRun = (await interleaved({ empty: empty.run }, effort)).seconds.empty;
  await empty.free();
  return result;
}

export async function measureProducts({ read, effort, say }) {
  const kernels = await loadKernels(read);
  const empty = await ort.empty();
  const rows = [];
  for (const [m, k, n] of products) {
    say(`product ${m} x ${k} x ${n}`);
    const data = [numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3)];
    const theirs = await ort.product(m, k, n, ...data);
    const ours = {};
    const competitors = { ort: theirs.run, empty: empty.run };
    for (const [build, each] of Object.entries(kernels)) {
      ours[build] = each.product(m, k, n, ...data);
      competitors[build] = ours[build].run;
      competitors[`peak ${build}`] = (calls) => each.peak(calls);
      competitors[`read ${build}`] = ours[build].read;
    }
    const { seconds, faster, rounds } = await interleaved(competitors, {
      ...effort,
      warm: rows.length ? effort.warm / 5 : effort.warm, // the code is warm already
    });
    const row = { shape: [m, k, n], ort: seconds.ort, empty: seconds.empty, ours: {} };
    for (const [build, each] of Object.entries(kernels)) {
      agree(`product ${m} x ${k} x ${n}, ${build}`, ours[build].result(), theirs.result(), 1e-5);
      row.ours[build] = {
        seconds: seconds[build],
        share: shareOfLimit(rounds, build, build, (2 * m * k * n) / each.peak(1)),
        faster: faster(build, 'ort'),
      };
      ours[build].free();
    }
    await theirs.free();
    rows.push(row);
  }
  await empty.free();
  return rows;
}

/**
 * How near a competitor is to what the machine can do, side by side with it: to arithmetic at the peak
 * (`loops` calls of its loop) or to reading the weights once, whichever takes longer.
 */
function shareOfLimit(rounds, competitor, build, loops) {
  return median(
    rounds[competitor].map((time, round) => {
      const arithmetic = loops * rounds[`peak ${build}`][round];
      return Math.max(arithmetic, rounds[`read ${build}`][round]) / time;
    }),
  );
}

/** The form of a graph that the runtime runs fastest. */
async function bestForm(net, weights, batch, inputs, effort, say) {
  const sessions = {};
  for (const form of forms) sessions[form.name] = await ort.step(net, weights, batch, form);
  say(`${net.name}, batch ${batch}: which ONNX form is fastest`);
  const { seconds } = await interleaved(
    Object.fromEntries(
      Object.entries(sessions).map(([name, session]) => [
        name,
        async (calls) => {
          for (let i = 0; i < calls; i++) await session.call(inputs);
        },
      ]),
    ),
    { ...effort, rounds: Math.max(3, effort.rounds >> 1), warm: effort.warm / 2 },
  );
  for (const session of Object.values(sessions)) await session.free();
  const [best] = [...forms].sort((a, b) => seconds[a.name] - seconds[b.name]);
  return best;
}

/** The loops that shareOfLimit needs, for the weights of a network. */
function limitLoops(kernels, net) {
  const readers = [];
  const competitors = {};
  for (const [build, each] of Object.entries(kernels)) {
    const reader = each.reader(4 * size(net));
    readers.push(reader);
    competitors[`peak ${build}`] = (calls) => each.peak(calls);
    competitors[`read ${build}`] = reader.run;
  }
  return { competitors, free: () => readers.forEach((reader) => reader.free()) };
}

/** The RNN step: the library's graph and plan, without a sampler, against ONNX Runtime. */
export async function measureSteps({ read, effort, say }) {
  const kernels = await loadKernels(read);
  const weights = randomWeights(rnnStep);
  const rows = [];
  for (const batch of batches) {
    say(`RNN step, batch ${batch}`);
    const inputs = {
      x: numbers(batch * rnnStep.x, 1),
      z: numbers(batch * rnnStep.z, 2),
      time: numbers(batch * rnnStep.time, 3),
    };
    const form = await bestForm(rnnStep, weights, batch, inputs, effort, say);
    const theirs = await ort.step(rnnStep, weights, batch, form);
    const expected = await theirs.call(inputs);
    const loops = limitLoops(kernels, rnnStep);
    const ours = {};
    const competitors = {
      ort: async (calls) => {
        for (let i = 0; i < calls; i++) await theirs.call(inputs);
      },
      ...loops.competitors,
    };
    for (const [build, each] of Object.entries(kernels)) {
      ours[build] = each.network(rnnStep, weights, batch);
      const found = ours[build].call(inputs);
      for (const name of ['out', 'z_next'])
        agree(`RNN step, batch ${batch}, ${build}: ${name}`, found[name], expected[name], 1e-4);
      competitors[build] = (calls) => {
        for (let i = 0; i < calls; i++) ours[build].call(inputs);
      };
    }
    const { seconds, faster, rounds } = await interleaved(competitors, effort);
    const row = { batch, form: form.name, ort: seconds.ort, ours: {} };
    for (const build of Object.keys(kernels)) {
      const arithmetic = (batch * operations(rnnStep)) / kernels[build].peak(1);
      row.ours[build] = {
        seconds: seconds[build],
        share: shareOfLimit(rounds, build, build, arithmetic),
        faster: faster(build, 'ort'),
      };
      ours[build].free();
    }
    loops.free();
    await theirs.free();
    rows.push(row);
  }
  return rows;
}

/** A step of a whole model through the package: a sampler for one token, row after row. */
export async function measureModel({ read, effort, say }, name = 'planner') {
  const kernels = await loadKernels(read);
  const config = models[name];
  const net = networkOf(config);
  const weights = randomWeights(net);
  const file = await read(`build/bench/${name}.safetensors`);
  const K = config.diffusion.levels;
  const rows = [];
  for (const batch of batches) {
    say(`${name}, batch ${batch}`);
    const code = timeCode(config.denoiser, weights, K - 1);
    const inputs = {
      x: numbers(batch * net.x, 1),
      z: new Float32Array(batch * net.z),
      time: Float32Array.from({ length: batch * net.time }, (_, i) => code[i % net.time]),
    };
    const form = await bestForm(net, weights, batch, inputs, effort, say);
    const theirs = await ort.step(net, weights, batch, form);
    const loops = limitLoops(kernels, net);
    const competitors = {
      ort: async (calls) => {
        for (let i = 0; i < calls; i++) await theirs.call(inputs);
      },
      ...loops.competitors,
    };
    const open = [];
    for (const variant of usable()) {
      const model = await openModel(file, variant);
      const sampler = openSampler(model, variant, {
        ...{ length: 1, schedule: 'autoregressive', steps: K, batch },
      });
      open.push(model);
      const start = await sampler.state();
      const expected = await theirs.call({ ...inputs, x: start.tokens.slice() });
      const { estimate } = await sampler.step();
      agree(`${name}, batch ${batch}, ${variant}`, estimate, expected.out, tolerance(variant));
      competitors[variant] = async (calls) => {
        for (let i = 0; i < calls; i++) {
          const { done } = await sampler.step();
          if (done) sampler.restart();
        }
      };
    }
    const { seconds, faster, rounds } = await interleaved(competitors, effort);
    const row = { batch, form: form.name, ort: seconds.ort, ours: {} };
    for (const variant of usable()) {
      const { build } = variants[variant];
      const arithmetic = (batch * operations(net)) / kernels[build].peak(1);
      row.ours[variant] = {
        seconds: seconds[variant],
        share: shareOfLimit(rounds, variant, build, arithmetic),
        faster: faster(variant, 'ort'),
      };
    }
    for (const model of open) model.dispose();
    loops.free();
    await theirs.free();
    rows.push(row);
  }
  return rows;
}

/** Whole plans of the planner: every uncertainty by us, one of them by ONNX Runtime too. */
export async function measurePlans({ read, effort, say }) {
  const config = models.planner;
  const net = networkOf(config);
  const weights = randomWeights(net);
  const file = await read('build/bench/planner.safetensors');
  const one = { x: numbers(net.x), z: new Float32Array(net.z), time: new Float32Array(net.time) };
  const form = await bestForm(net, weights, 1, one, effort, say);
  const theirs = await ort.step(net, weights, 1, form);
  const { length, steps, uncertainties, compared } = plan;
  const options = (uncertainty) => ({ length, steps, schedule: 'pyramid', uncertainty });

  const open = {};
  for (const variant of planned()) open[variant] = await openModel(file, variant);
  const table = await Object.values(open)[0].levelTable(options(compared));

  const ourPlan = async (variant, uncertainty, warmUpRows = Infinity) => {
    const sampler = openSampler(open[variant], variant, options(uncertainty));
    const noise = (await sampler.state()).tokens.slice();
    const start = now();
    let row;
    for await (row of sampler) if (row.row >= warmUpRows) break;
    const seconds = now() - start;
    const result = { seconds, noise, tokens: row.tokens.slice(), cells: row.cells };
    sampler.dispose();
    return result;
  };

  const times = {};
  const add = (variant, uncertainty, seconds) =>
    ((times[variant] ??= {})[uncertainty] ??= []).push(seconds);
  const ortTimes = [];
  for (const variant of planned()) await ourPlan(variant, compared, 10); // warm
  for (let round = 0; round < effort.planRounds; round++) {
    let expected;
    for (const variant of planned()) {
      say(`plan with uncertainty ${compared}, ${variant}, round ${round + 1}`);
      const found = await ourPlan(variant, compared);
      add(variant, compared, found.seconds);
      if (!expected) {
        say(`plan with ONNX Runtime, round ${round + 1}`);
        const start = now();
        expected = await ort.sample(theirs, config, weights, table, found.noise);
        ortTimes.push(now() - start);
      }
      agree(`plan, ${variant}`, found.tokens, expected, 10 * tolerance(variant));
    }
  }
  for (const uncertainty of uncertainties.filter((u) => u !== compared)) {
    for (const variant of planned()) {
      say(`plan with uncertainty ${uncertainty}, ${variant}`);
      add(variant, uncertainty, (await ourPlan(variant, uncertainty)).seconds);
    }
  }
  for (const model of Object.values(open)) model.dispose();
  await theirs.free();
  const ours = {};
  for (const variant of planned()) {
    ours[variant] = {
      seconds: Object.fromEntries(uncertainties.map((u) => [u, median(times[variant][u])])),
      faster: median(times[variant][compared].map((time, round) => ortTimes[round] / time)),
    };
  }
  return { form: form.name, ort: median(ortTimes), compared, ours };
}
