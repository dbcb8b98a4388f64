// The parts of the benchmark, in the order of the report. Each is measured on its own and stands on
// its own: `npm run bench -- --only NAME` runs one.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { effort, kept, models, plan } from './cases.mjs';
import { measureInChromium, startInChromium } from './chromium.mjs';
import { agree, median } from './measure.mjs';
import { networkOf, randomWeights } from './network.mjs';
import { forms, stepGraph } from './onnx.mjs';
import { currentNode, python, run } from './processes.mjs';
import { measureTraining } from './training.mjs';

const inNode = (name) => async (how, say) => {
  const node = await currentNode();
  return JSON.parse(await run(node, ['tools/bench/node.mjs', name, how], { say }));
};
const inChromium = (name) => (how, say) => measureInChromium(name, how, say);

/** name: measure(how, say) gives plain data; `how` is full or quick. */
export const sections = {
  'limits-node': inNode('limits'),
  'limits-chromium': inChromium('limits'),
  'products-node': inNode('measureProducts'),
  'products-chromium': inChromium('measureProducts'),
  'step-node': inNode('measureSteps'),
  'step-chromium': inChromium('measureSteps'),
  'model-node': inNode('measureModel'),
  'model-chromium': inChromium('measureModel'),
  'plan-node': inNode('measurePlans'),
  'plan-chromium': inChromium('measurePlans'),
  'plan-native': nativePlans,
  'plan-torch': torchPlans,
  'ahead-node': inNode('measureAhead'),
  'kept-node': inNode('measureKept'),
  'kept-torch': torchRows,
  'guided-node': inNode('measureGuided'),
  'guided-memory-node': inNode('measureGuidance'),
  'parallel-node': inNode('measureParallel'),
  start,
  size: sizes,
  training: (how, say) => measureTraining({ how, say }),
};

/** `forcing sample`, the whole command, on one thread. */
async function nativePlans(how, say) {
  const seconds = {};
  for (const uncertainty of plan.uncertainties) {
    const times = [];
    for (let round = 0; round < effort[how].planRounds; round++) {
      say(`plan with uncertainty ${uncertainty}, native, round ${round + 1}`);
      const start = performance.now();
      await run('build/native/forcing', [
        ...['sample', 'build/bench/planner.safetensors', '--out', 'build/bench/plan.npy'],
        ...['--length', plan.length, '--steps', plan.steps, '--threads', 1],
        ...['--schedule', 'pyramid', '--uncertainty', uncertainty],
      ]);
      times.push((performance.now() - start) / 1000);
    }
    seconds[uncertainty] = median(times);
  }
  return seconds;
}

async function torchPlans(how, say) {
  say('plans in PyTorch, bounded');
  const { check, ...result } = await python('torch_plan.py', [
    ...['build/bench/planner.safetensors', plan.length, plan.steps],
    ...[plan.uncertainties.join(','), effort[how].torchSeconds],
  ]);
  // The same network? ONNX Runtime, which was compared with the package, says so.
  const { timeCode } = await import('../../wasm_tests/reference.mjs');
  const ort = await import('./ort.mjs');
  const config = models.planner;
  const net = networkOf(config);
  const weights = randomWeights(net);
  const session = await ort.step(net, weights, 1);
  const level = config.diffusion.levels / 2;
  const { out } = await session.call({
    x: Float32Array.from({ length: net.x }, (_, i) => Math.sin(i)),
    z: new Float32Array(net.z),
    time: Float32Array.from(timeCode(config.denoiser, weights, level)),
  });
  await session.free();
  agree('the network in PyTorch', check, out, 1e-4);
  return result;
}

/** The whole window of a transformer in every row, as the published code samples. */
async function torchRows(how, say) {
  const { loadModel } = await import('../../web/dist/index.js');
  const rows = {};
  let version;
  for (const name of kept.names) {
    say(`rows of ${name} in PyTorch`);
    const file = `build/bench/${name}.safetensors`;
    const model = await loadModel(readFileSync(file), { inThread: true });
    const sampler = model.sampler({ length: plan.length, steps: 1, schedule: 'full-sequence' });
    const { tokens } = await sampler.state();
    writeFileSync('build/bench/tokens.f32', tokens);
    const { estimate } = await sampler.step();
    const result = await python('torch_transformer.py', [
      ...[file, 'build/bench/tokens.f32', plan.length],
      ...[kept.batches.join(','), effort[how].torchSeconds / 2],
    ]);
    agree(`${name} in PyTorch`, result.check, estimate, 1e-4);
    model.dispose();
    version = result.version;
    rows[name] = result.seconds;
  }
  return { version, rows };
}

/** Fresh process, fresh page: seconds to the first row. */
async function start(how, say) {
  for (const [name, config] of Object.entries(models)) {
    const net = networkOf(config);
    const file = stepGraph(net, randomWeights(net), 1, forms[0]);
    writeFileSync(`build/bench/${name}.onnx`, file);
  }
  const measure = async (once) => {
    const result = {};
    for (const model of Object.keys(models)) {
      const times = { ours: [], ort: [] };
      for (let round = 0; round < effort[how].startRounds; round++) {
        for (const who of ['ours', 'ort']) {
          say(`start, ${model}, ${who}, round ${round + 1}`);
          times[who].push((await once(who, model)) / 1000);
        }
      }
      result[model] = { ours: median(times.ours), ort: median(times.ort) };
    }
    return result;
  };
  const node = await currentNode();
  const nodeResult = await measure(async (who, model) =>
    Number(await run(node, ['tools/bench/start.mjs', who, model])),
  );
  return { node: nodeResult, chromium: await startInChromium(measure) };
}

/** What a visitor downloads, bytes: as files and gzipped. */
async function sizes() {
  const sum = (folder, names) => {
    const files = names.map((name) => readFileSync(join(folder, name)));
    return {
      raw: files.reduce((total, file) => total + file.length, 0),
      gzip: files.reduce((total, file) => total + gzipSync(file, { level: 9 }).length, 0),
    };
  };
  const ours = readdirSync('web/dist').filter((name) => /^(?!inline|viewer).*\.js$/.test(name));
  const theirs = ['ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'];
  return {
    ours: sum('web/dist', [...ours, 'df.relaxed.wasm']),
    ort: sum('node_modules/onnxruntime-web/dist', theirs),
  };
}
