// What the sampler does with whole tables of levels and whole batches: rows ahead, workers, threads, keys and values
// that are kept. Measured inside one JavaScript engine, as suite.mjs.
import { ahead, guided, kept, parallel, plan, transformers } from './cases.mjs';
import { agree, median, now } from './measure.mjs';
import { operations, size, transformerOf } from './network.mjs';
import { Kernels, features } from './ours.mjs';
import { loadModel } from '../../web/dist/index.js';

/** All rows of a sampler: seconds, seconds to the first row, and the last row. */
async function walk(model, options) {
  const sampler = model.sampler(options);
  await sampler.ready();
  const start = now();
  await sampler.step();
  const first = now() - start;
  const row = await sampler.run();
  const result = { seconds: now() - start, first, tokens: row.tokens.slice() };
  sampler.dispose();
  return result;
}

/** Row by row against rows computed ahead, the same table of levels. */
export async function measureAhead({ read, effort, say }) {
  const rows = [];
  for (const { name, batches } of ahead) {
    const model = await loadModel(await read(`build/bench/${name}.safetensors`), {
      inThread: true,
    });
    for (const batch of batches) {
      for (const uncertainty of plan.uncertainties) {
        const { length, steps } = plan;
        const options = { length, steps, schedule: 'pyramid', uncertainty, batch };
        const times = { plain: [], ahead: [] };
        for (let round = 0; round < (batch < 8 ? effort.planRounds : 1); round++) {
          say(
            `rows ahead: ${name}, batch ${batch}, uncertainty ${uncertainty}, round ${round + 1}`,
          );
          const plain = await walk(model, { ...options, ahead: 0 });
          const found = await walk(model, options);
          agree('rows ahead', found.tokens, plain.tokens, 0);
          times.plain.push(plain);
          times.ahead.push(found);
        }
        const of = (way, what) => median(times[way].map((time) => time[what]));
        rows.push({
          name,
          batch,
          uncertainty,
          plain: of('plain', 'seconds'),
          ahead: of('ahead', 'seconds'),
          firstPlain: of('plain', 'first'),
          firstAhead: of('ahead', 'first'),
        });
      }
    }
    model.dispose();
  }
  return rows;
}

/** A guided row, with the derivative through the network, over an unguided one of the same tokens: they take turns. */
export async function measureGuided({ read, effort, say }) {
  const rows = [];
  for (const { name, batches } of guided.cases) {
    const file = await read(`build/bench/${name}.safetensors`);
    const model = await loadModel(file, { inThread: true });
    for (const batch of batches) {
      const options = { length: plan.length, steps: guided.rows, batch, ahead: 0 };
      const sides = Object.entries({ unguided: null, ...guided.ways }).map(([way, guidance]) => {
        const sampler = model.sampler({ ...options, schedule: 'full-sequence' });
        if (guidance) guide(sampler, guidance, 0);
        return { way, sampler, times: [] };
      });
      for (let round = 0; round < effort.planRounds; round++) {
        say(`guided rows: ${name}, batch ${batch}, round ${round + 1}`);
        for (const { sampler } of sides) sampler.restart();
        for (let row = 0; row < guided.rows; row++)
          for (const { sampler, times } of sides) times.push((await sampler.step()).ms / 1000);
      }
      for (const { sampler } of sides) sampler.dispose();
      const [unguided, ...seconds] = sides.map(({ times }) => median(times));
      for (const [i, [way, guidance]] of Object.entries(guided.ways).entries()) {
        say(`guidance given: ${name}, batch ${batch}, ${way}`);
        const limit = 2 * (guidance.futures ?? 1);
        const given = await measureGiving(file, options, guidance, effort);
        rows.push({ name, batch, way, limit, unguided, guided: seconds[i], given });
      }
    }
    model.dispose();
  }
  return rows;
}

/** Seconds to give a sampler its first guidance, which plans memory and derivative, and another one after it. */
async function measureGiving(file, options, guidance, effort) {
  const times = { first: [], another: [] };
  for (let round = 0; round < effort.startRounds; round++) {
    const model = await loadModel(file, { inThread: true }); // with no packed weights yet
    const sampler = model.sampler(options);
    await sampler.ready();
    for (let i = 0; i < 10; i++) {
      const start = now();
      guide(sampler, guidance, i);
      await sampler.ready();
      times[i ? 'another' : 'first'].push(now() - start);
    }
    model.dispose();
  }
  return { first: median(times.first), another: median(times.another) };
}

/** The i-th guidance of a sampler: its goals have moved. */
function guide(sampler, guidance, i) {
  const terms = guidance.terms.map((term) => ({ ...term, at: term.at.map((x) => x + i) }));
  sampler.guide({ ...guidance, terms, scale: 1e-4 });
}

/**
 * What guidance takes of memory: bytes of a sampler before and with it, all that is in use since it was given, the whole
 * wasm memory after a first guided plan, and how far it has grown after many more, each guided by other terms.
 */
export async function measureGuidance({ read, effort, say }) {
  const rows = [];
  for (const { name, batches } of guided.cases) {
    const file = await read(`build/bench/${name}.safetensors`);
    for (const batch of batches) {
      for (const [way, guidance] of Object.entries(guided.ways)) {
        const model = await loadModel(file, { inThread: true }); // a wasm memory of its own
        const options = { length: plan.length, steps: 1, batch, schedule: 'full-sequence' };
        const sampler = model.sampler(options);
        const unguided = await sampler.ready();
        const before = await model.memory();
        guide(sampler, guidance, 0);
        await sampler.run();
        const { bytes } = await sampler.ready();
        const first = await model.memory();
        for (let i = 1; i <= effort.guidances; i++) {
          say(`memory of guidance: ${name}, batch ${batch}, ${way}, ${i} of ${effort.guidances}`);
          sampler.restart(i);
          guide(sampler, guidance, i);
          await sampler.run();
        }
        const last = await model.memory();
        rows.push({
          ...{ name, batch, way, plans: effort.guidances },
          ...{ unguided: unguided.bytes, guided: bytes, all: first.used - before.used },
          ...{ heap: first.heap, grown: last.heap - first.heap, more: last.used - first.used },
        });
        model.dispose();
      }
    }
  }
  return rows;
}

/** One worker against several, and against threads that share its memory. */
export async function measureParallel({ read, effort, say }) {
  const { name, sampler, batches, ways } = parallel;
  const file = await read(`build/bench/${name}.safetensors`);
  const rows = [];
  const models = {};
  for (const [way, load] of Object.entries(ways))
    models[way] = await loadModel(file, { inThread: false, ...load });
  for (const batch of batches) {
    const times = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
    for (let round = -1; round < effort.parallelRounds; round++) {
      let expected;
      for (const [way, model] of Object.entries(models)) {
        say(`${way}, batch ${batch}, round ${round + 1}`);
        const { seconds, tokens } = await walk(model, { ...sampler, batch });
        agree(way, tokens, (expected ??= tokens), 0);
        if (round >= 0) times[way].push(seconds); // the first one warms up
      }
    }
    const [one] = Object.values(times);
    rows.push({
      batch,
      seconds: Object.fromEntries(Object.entries(times).map(([way, t]) => [way, median(t)])),
      faster: Object.fromEntries(
        Object.entries(times).map(([way, t]) => [way, median(t.map((s, i) => one[i] / s))]),
      ),
    });
  }
  for (const model of Object.values(models)) model.dispose();
  return rows;
}

/**
 * Transformers that keep keys and values against all that a row visits computed anew. Single rows are timed: the
 * others, with a network that costs next to nothing, only bring the table to the next one.
 */
export async function measureKept({ read, effort, say }) {
  const build = features().relaxed ? 'relaxed' : 'simd';
  const kernels = await Kernels.create(await read(`build/wasm/bench.${build}.wasm`));
  const rows = [];
  const windows = [];
  for (const name of kept.names) {
    const [file, idle] = await Promise.all(
      [name, `idle-${name}`].map((model) => read(`build/bench/${model}.safetensors`)),
    );
    const net = transformerOf(transformers[name]);
    const walk = kernels.walk(file, idle);
    const beside = limits(kernels, net);
    agree(name, valuesAfter(walk, net, 'kept'), valuesAfter(walk, net, 'anew'), 1e-4);
    for (const batch of kept.batches) {
      for (const each of kept.schedules) {
        say(`keys and values kept: ${name}, batch ${batch}, ${each.name}`);
        const options = { ...each, batch, length: plan.length, steps: plan.steps };
        rows.push({
          name,
          batch,
          schedule: each.name,
          ...walkTable(walk, options, net, effort, beside),
        });
      }
      say(`keys and values kept: ${name}, batch ${batch}, without end`);
      windows.push({ name, batch, ...walkWindow(walk, batch, effort, beside) });
    }
    beside.free();
    walk.free();
  }
  return { build, rows, windows };
}

/**
 * Seconds that a row takes at least: arithmetic of the products at the peak, or reading the weights once. `take` measures
 * both, beside the rows, and `limit` gives a function of the cells from what was taken since.
 */
function limits(kernels, net) {
  const reader = kernels.reader(4 * size(net));
  const calls = { peak: 1000, read: Math.ceil(2e8 / (4 * size(net))) }; // some milliseconds
  const run = { peak: (n) => kernels.peak(n), read: reader.run };
  let times;
  const take = () => {
    for (const name of Object.keys(run)) {
      const start = now();
      run[name](calls[name]);
      times[name].push((now() - start) / calls[name]);
    }
  };
  const begin = () => {
    times = { peak: [], read: [] };
    take();
  };
  const limit = () => {
    const arithmetic = (operations(net) / kernels.peak(1)) * median(times.peak);
    const reading = median(times.read);
    return (cells) => Math.max(cells * arithmetic, reading);
  };
  return { begin, take, limit, free: reader.free };
}

/** `count` rows of a table, evenly spread, that are not yet in `taken`. */
function spread(count, rows, how, taken) {
  for (let i = 0; i < count; i++) {
    let row = Math.floor(((i + 0.5) * rows) / count);
    while (taken.has(row)) row = (row + 1) % rows;
    taken.set(row, how);
  }
}

/** Cells of a whole table for one sequence. */
function countCells(walk, options, how) {
  walk.begin({ ...options, batch: 1 });
  let cells = 0;
  for (let m = walk.rows(); m > 0; m--) cells += walk.row(how, true);
  return cells;
}

/** The tokens after some rows of a pyramid. */
function valuesAfter(walk, net, how) {
  const { length, steps } = plan;
  walk.begin({ schedule: 'pyramid', uncertainty: 1, batch: 1, length, steps });
  for (let m = 0; m < 12; m++) walk.row(how);
  return walk.values(length * net.x);
}

/** Seconds for all rows of a table both ways, from rows that are evenly spread. */
function walkTable(walk, options, net, effort, beside) {
  walk.begin(options);
  const rows = walk.rows();
  const ways = {};
  const timed = new Map();
  for (const how of ['kept', 'anew']) {
    const cells = countCells(walk, options, how);
    const [least, most] = kept.rows;
    const enough = kept.work / ((operations(net) * options.batch * cells) / rows);
    const count = Math.floor(Math.min(Math.max(enough, least), most, rows / 2));
    spread(count, rows, how, timed);
    ways[how] = { cells };
  }
  const times = new Map([...timed.keys()].map((row) => [row, []]));
  const cells = new Map();
  beside.begin();
  for (let round = 0; round < effort.keptRounds; round++) {
    walk.begin(options);
    for (let m = 0; m < rows; m++) {
      const how = timed.get(m);
      const isIdle = !how && !timed.has(m + 1); // the row before a timed one warms the caches
      const start = now();
      const ran = walk.row(how ?? 'kept', isIdle);
      times.get(m)?.push(now() - start);
      cells.set(m, ran);
      if (m % Math.ceil(rows / 4) === 0) beside.take();
    }
  }
  const limit = beside.limit();
  for (const [how, way] of Object.entries(ways)) {
    const mine = [...timed.keys()].filter((row) => timed.get(row) === how);
    const all = (value) => (mine.reduce((sum, row) => sum + value(row), 0) / mine.length) * rows;
    way.timed = mine.length;
    way.seconds = all((row) => median(times.get(row)));
    way.limit = all((row) => limit(cells.get(row)));
  }
  return { rows, ...ways };
}

/** A sequence without end, token after token: ms of the row in which the window moves on, and of the others. */
function walkWindow(walk, batch, effort, beside) {
  const { length, steps } = plan;
  walk.begin({ schedule: 'autoregressive', uncertainty: steps, batch, length: -1, steps });
  for (let m = 0; m < (length + 1) * steps; m++) walk.row('kept', true);
  const times = { moves: [], stays: [], anew: [] };
  const cells = {};
  beside.begin();
  for (let token = 0; token < Math.max(2, effort.keptRounds); token++) {
    for (let m = 0; m < steps; m++) {
      const how = m === 0 ? 'moves' : m === steps >> 1 ? 'anew' : m % 8 === 0 ? 'stays' : undefined;
      const isIdle = !how && m % 8 !== 7 && m + 1 < steps;
      const start = now();
      const ran = walk.row(how === 'anew' ? 'anew' : 'kept', isIdle);
      if (!how) continue;
      times[how].push(now() - start);
      cells[how] = ran;
    }
    beside.take();
  }
  const limit = beside.limit();
  return Object.fromEntries(
    Object.entries(times).map(([how, seconds]) => [
      how,
      { seconds: median(seconds), cells: cells[how], limit: limit(cells[how]) },
    ]),
  );
}
