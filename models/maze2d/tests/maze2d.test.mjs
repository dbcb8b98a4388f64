// The environment, its controller and its data, against D4RL's published numbers and facts.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WaypointController, routePolicy, straightPolicy } from '../controller.js';
import { compileMaze, createMaze, loadMujoco } from '../environment.js';
import { estimate, runEpisode, runEpisodes, summarize } from '../evaluate.js';
import { rows, sequences, startFields } from '../generate.js';
import { cellAt, isWall, layouts, normalizedScore, route, roundToCell } from '../layouts.js';
import { MersenneTwister } from '../mersenne-twister.js';
import { digitsAgree, referenceReturns } from '../references.js';
import { deviations, names, statistics } from '../statistics.js';

const script = fileURLToPath(new URL('../generate.mjs', import.meta.url));

async function maze(t, name, options) {
  const maze = await createMaze(name, options);
  t.after(() => maze.dispose());
  return maze;
}

function folder(t) {
  const folder = mkdtempSync(join(tmpdir(), 'maze2d-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

// ---- Random numbers ----------------------------------------------------------------------------

test('the generator draws what its authors and NumPy print', () => {
  assert.equal(new MersenneTwister(5489).bits(), 3499211612);
  const byArray = new MersenneTwister([0x123, 0x234, 0x345, 0x456]);
  assert.deepEqual(
    [byArray.bits(), byArray.bits(), byArray.bits()],
    [1067595299, 955945823, 477289528],
  );
  // numpy.random.seed(0): rand(2), then, from the seed again, randn(3)
  const uniform = new MersenneTwister(0);
  assert.deepEqual(
    [uniform.uniform(), uniform.uniform()],
    [0.5488135039273248, 0.7151893663724195],
  );
  const normal = new MersenneTwister(0);
  for (const expected of [1.764052345967664, 0.4001572083672233, 0.9787379841057392])
    assert.ok(Math.abs(normal.normal() - expected) < 1e-15);
  // numpy.random.seed(0): randint(0, 7, 8)
  const integers = new MersenneTwister(0);
  assert.deepEqual(
    Array.from({ length: 8 }, () => integers.integer(7)),
    [4, 5, 0, 3, 3, 3, 1, 3],
  );
});

// ---- Layouts -----------------------------------------------------------------------------------

test('cells and goals', () => {
  const facts = Object.values(layouts).map(({ cells, goal }) => [cells.length, goal]);
  assert.deepEqual(facts, [
    [7, [1, 1]],
    [26, [6, 6]],
    [46, [7, 9]],
  ]);
  for (const { cells, goal } of Object.values(layouts)) assert.equal(cells.at(-1), goal);
  assert.deepEqual(roundToCell([0.4, 2.5]), [0, 2]);
  assert.deepEqual(roundToCell([1.5, 3.5]), [2, 4]);
  assert.deepEqual(cellAt([0.4, 2.4]), [1, 3]);
  assert.equal(normalizedScore(layouts.large, 273.99), 100);
});

test("routes are those of D4RL's value iteration, from every cell, walls too", () => {
  let compared = 0;
  for (const layout of Object.values(layouts)) {
    const [height, width] = [layout.rows.length, layout.rows[0].length];
    const all = Array.from({ length: height * width }, (_, s) => s);
    // Where each move leads: nowhere if that is a wall.
    const order = [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]]; // prettier-ignore
    const next = all.map((s) =>
      order.map(([di, dj]) => {
        const [i, j] = [Math.floor(s / width) + di, (s % width) + dj];
        return isWall(layout, i, j) ? s : i * width + j;
      }),
    );
    for (const goal of layout.cells) {
      const g = goal[0] * width + goal[1];
      let values = all.map(() => 0);
      const gain = (s) => (s === g ? 1 : 0) + 0.99 * values[s];
      for (let sweep = 0; sweep < 50; sweep++)
        values = all.map((s) => Math.max(...next[s].map(gain)));
      for (const start of all) {
        const path = [];
        for (let s = start; path.length < 100;) {
          const gains = next[s].map(gain);
          s = next[s][gains.indexOf(Math.max(...gains))];
          path.push([Math.floor(s / width), s % width]);
          if (s === g) break;
        }
        const ours = route(layout, [Math.floor(start / width), start % width], goal);
        assert.deepEqual(ours, path.length < 100 ? path : null);
        compared++;
      }
    }
  }
  assert.equal(compared, 6807);
});

// ---- Physics -----------------------------------------------------------------------------------

test('free flight', async (t) => {
  const umaze = await maze(t, 'umaze');
  let [x, y, vx, vy] = umaze.set([2.9, 1.5], [-1, -0.5]);
  for (let step = 0; step < 15; step++) {
    const [ux, uy] = [Math.sin(step), 3 * Math.cos(step)];
    const fly = (v, u) => v + (0.01 * (100 * Math.max(-1, Math.min(1, u)) - v)) / (mass + 0.01);
    [vx, vy] = [fly(vx, ux), fly(vy, uy)];
    [x, y] = [x + 0.01 * vx, y + 0.01 * vy];
    umaze.step([ux, uy]).forEach((value, k) => near(value, [x, y, vx, vy][k], 1e-12));
    assert.equal(umaze.touching, false);
  }
  // The velocity is cut before a step, not behind it.
  umaze.set([3, 1], [0, 100]);
  near(umaze.step([0, 1])[3], 5 + (0.01 * (100 - 5)) / (mass + 0.01), 1e-12);
});

const mass = (4 / 3) * Math.PI * 0.1 ** 3 * 1000;

const near = (found, expected, tolerance) =>
  assert.ok(Math.abs(found - expected) <= tolerance, `${found}, expected ${expected}`);

test('a ball bounces off a wall as in MuJoCo 2', async () => {
  // Not cut to 5: straight on MuJoCo. 3.14 with its own inverse weight gives 1.1156.
  const mujoco = await loadMujoco();
  const model = compileMaze(mujoco, layouts.umaze);
  const data = new mujoco.MjData(model);
  data.qpos.set([0.7, 2]);
  data.qvel.set([-4, 0]);
  data.ctrl.set([-1, 0]);
  for (let step = 0; step < 8; step++) mujoco.mj_step(model, data);
  near(data.qvel[0], 1.2330338542, 1e-10);
  data.delete();
  model.delete();
});

test('a step at a wall is told, and starts, positions and velocities are where D4RL has them', async (t) => {
  const large = await maze(t, 'large');
  large.set([1, 1]);
  for (let step = 0; step < 100; step++) large.step([-1, 0]);
  near(large.observation[0], 0.4, 0.01); // half a cell less the ball from its middle, 0.8
  assert.equal(large.touching, true);
  const random = new MersenneTwister(3);
  const seen = new Set();
  for (let n = 0; n < 2000; n++) {
    const at = large.reset(random);
    const [i, j] = roundToCell(at);
    assert.ok(!isWall(large.layout, i, j));
    assert.ok(Math.abs(at[0] - i) <= 0.1 && Math.abs(at[1] - j) <= 0.1 && Math.abs(at[2]) < 0.6);
    seen.add(`${i} ${j}`);
  }
  assert.equal(seen.size, 46);
});

test("D4RL's twelve reference returns come out in every digit", async (t) => {
  for (const name of Object.keys(layouts)) {
    const { layout, ...here } = await maze(t, name).then(async (maze) => ({
      layout: maze.layout,
      ...(await referenceReturns(maze)),
    }));
    for (const reward of ['sparse', 'dense'])
      for (const k of [0, 1])
        assert.ok(
          digitsAgree(here[reward][k], layout.returns[reward][k]),
          `${name}, ${reward}: ${here[reward][k]}, published ${layout.returns[reward][k]}`,
        );
  }
});

test('agreement in all digits is strict', () => {
  assert.ok(digitsAgree(13.13 + 1e-9, 13.13));
  assert.ok(!digitsAgree(13.14, 13.13));
  assert.ok(!digitsAgree(44.264743, 44.264742));
  assert.ok(!digitsAgree(297.455254787, 297.4552547777125));
});

// ---- Lifetimes ---------------------------------------------------------------------------------

test('mazes give their memory back, and views survive its growth', async (t) => {
  const mujoco = await loadMujoco();
  const load = () => mujoco;
  const model = compileMaze(mujoco, layouts.umaze);
  const probe = new mujoco.MjData(model);
  const memory = () => probe.qpos.buffer.byteLength;
  const drive = (maze) => {
    const controller = new WaypointController(maze.layout, new MersenneTwister(1));
    for (let step = 0; step < 200; step++) maze.step(controller.act(maze.observation, [3, 1]));
    return [...maze.observation];
  };

  for (let n = 0; n < 10; n++) (await createMaze('large', { load })).dispose();
  const before = memory(); // room for about 300 models
  for (let n = 0; n < 400; n++) {
    const large = await createMaze('large', { load });
    large.step([1, 1]);
    large.dispose();
  }
  assert.equal(memory(), before);

  const first = await maze(t, 'umaze', { load });
  first.set([1, 1]);
  const expected = drive(first);
  first.set([1, 1]);
  for (let n = 0; memory() === before; n++) {
    assert.ok(n < 1000, 'the memory has to grow in this test');
    await maze(t, 'large', { load });
  }
  assert.deepEqual(drive(first), expected);
  probe.delete();
  model.delete();
});

test('what a maze refuses', async () => {
  await assert.rejects(createMaze('huge'), /expected a maze of umaze, medium, large; found huge/);
  const umaze = await createMaze('umaze');
  umaze.set([1, 1], [0, 0]);
  assert.throws(() => umaze.step([NaN, 0]), /action: expected two finite numbers, found NaN, 0/);
  assert.throws(() => umaze.step([1]), /action: .* found 1, undefined/);
  assert.throws(() => umaze.set([1, Infinity]), /position/);
  assert.deepEqual([...umaze.observation], [1, 1, 0, 0]);
  umaze.dispose();
  umaze.dispose();
  assert.throws(() => umaze.step([0, 0]), /was disposed of/);
  assert.throws(() => umaze.set([1, 1]), /was disposed of/);
});

test('a missing file and a loader that hangs reject', async () => {
  await assert.rejects(loadMujoco({ locateFile: () => join(tmpdir(), 'no-such-file.wasm') }));
  await assert.rejects(loadMujoco({ timeout: 0 }), /did not start within 0 s/);
});

// ---- Controller and evaluation -----------------------------------------------------------------

test('the controller plans when the goal changes, and only then', () => {
  let draws = 0;
  const random = { ...noRandom, uniform: () => (draws++, 0.5) };
  const controller = new WaypointController(layouts.umaze, random);
  const act = (at, goal) => [...controller.act([...at, 0, 0], goal)];
  const close = (found, expected) => found.forEach((x, k) => near(x, expected[k], 1e-12));
  // The start rounds to (1, 2); on by (1, 3) and (2, 3), three draws each, and one for the goal.
  close(act([1, 1.85], [3.04, 2.96]), [-1, 1]);
  assert.equal(draws, 7);
  close(act([0.95, 2.85], [3.04, 2.96]), [-0.5, 0.5]); // close to the first, (0.9, 2.9), but fast
  close(act([0.95, 2.85], [3.04, 2.96]), [-0.5, 0.5]); // now it is reached: on to (1.9, 2.9)
  close(act([0.95, 2.85], [3.04, 2.96]), [1, 0.5]);
  close(act([2.97, 2.96], [3.1, 2.9]), [-1, -0.6]);
  assert.equal(draws, 7);
  assert.equal(controller.solved, false); // it has come too far since the last call
  close(act([2.97, 2.96], [3.1, 2.9]), [0.3, 0.4]);
  assert.equal(controller.solved, true);
  // In the lower corner of a cell the nearest integer point is that of a wall without a way out.
  act([0.41, 0.41], [3, 1]);
  assert.throws(() => act([-5, -5], [1, 1]), /there is no way/);
});

const noRandom = {
  uniform: () => assert.fail(),
  integer: () => assert.fail(),
  normal: () => assert.fail(),
};

test('what an episode counts', async (t) => {
  const umaze = await maze(t, 'umaze');
  umaze.set([1, 1]);
  const rest = { reset() {}, act: () => [0, 0] };
  assert.deepEqual(await runEpisode(umaze, rest, [1, 1]), {
    sparse: 300,
    dense: 300,
    firstReach: 1,
    wallSteps: 0,
  });
  umaze.set([1, 1]);
  const pressed = await runEpisode(umaze, { reset() {}, act: async () => [-1, 0] }, [3, 3]);
  assert.equal(pressed.sparse, 0);
  assert.equal(pressed.firstReach, Infinity);
  assert.ok(pressed.wallSteps > 200 && pressed.wallSteps < 300);
  const { success, score, firstReach } = summarize(umaze.layout, [pressed, pressed]);
  assert.deepEqual(success, { mean: 0, error: 0 });
  near(score.mean, (100 * -23.85) / (161.86 - 23.85), 1e-12);
  assert.ok(Number.isNaN(firstReach.mean));
  const { mean, error } = estimate([1, 2, 3, 6]);
  assert.deepEqual([mean, error], [3, Math.sqrt(14 / 3 / 4)]);
});

test('policies meet the same starts and goals, and a route beats a straight line', async (t) => {
  const medium = await maze(t, 'medium');
  const met = [];
  const watched = (policy) => ({
    ...policy,
    reset(at, goal) {
      met.push([...at, ...goal].join());
      return policy.reset(at, goal);
    },
  });
  const options = { episodes: 12, seed: 5, randomGoal: true };
  const straight = await runEpisodes(medium, watched(straightPolicy()), options);
  const random = new MersenneTwister(5);
  const routed = await runEpisodes(medium, watched(routePolicy(medium.layout, random)), options);
  assert.deepEqual(met.slice(0, 12), met.slice(12));
  assert.equal(new Set(met).size, 12);
  assert.equal(summarize(medium.layout, routed).success.mean, 1);
  assert.ok(
    summarize(medium.layout, straight).score.mean < summarize(medium.layout, routed).score.mean,
  );
  const later = await runEpisodes(medium, straightPolicy(), { ...options, first: 7, episodes: 1 });
  assert.deepEqual(later[0], straight[7]);
});

// ---- Data --------------------------------------------------------------------------------------

test('rows are as D4RL makes them', async (t) => {
  const umaze = await maze(t, 'umaze');
  const source = rows(umaze, new MersenneTwister(2));
  let before = { last: false };
  let [goals, saturated] = [0, 0];
  for (let n = 0; n < 20_000; n++) {
    const row = source.next().value;
    const copy = { ...row, observation: [...row.observation], action: [...row.action] };
    if (before.last) {
      goals++;
      assert.deepEqual(copy.observation, before.observation); // the step behind it is not seen
      assert.notDeepEqual(copy.goal, before.goal);
    } else if (n) assert.deepEqual(copy.goal, before.goal);
    for (const u of copy.action) {
      assert.ok(Math.abs(u) <= 1);
      if (Math.abs(u) === 1) saturated++;
    }
    before = copy;
  }
  near(goals, 250, 40); // 80 rows per goal
  near(saturated / 40_000, 1 / 3, 0.05);
});

test('200,000 rows of each maze have the published means and spreads', async (t) => {
  for (const name of Object.keys(layouts)) {
    const { values, goals } = statistics(await maze(t, name), new MersenneTwister(1), 200_000);
    deviations(name, values, 200_000).forEach((apart, k) =>
      assert.ok(
        Math.abs(apart) < 4,
        `${name}, ${names[k]}: ${values[k]}, ${apart} standard deviations apart`,
      ),
    );
    if (name === 'umaze') near(goals, 12459 / 5, 4 * 45); // counted in the published file
  }
});

test('a sequence goes on from its start, and pairs an action with what it leads to', async (t) => {
  const umaze = await maze(t, 'umaze');
  const source = rows(umaze, new MersenneTwister(4));
  const copy = ({ observation, action }) => [[...observation], [...action]];
  const all = Array.from({ length: 151 }, () => copy(source.next().value));
  let at = 0;
  for (const { start, frames } of sequences(umaze, new MersenneTwister(4), 3, 50)) {
    assert.deepEqual([...start], [...all[at][0].map(Math.fround), 1, 0, 0]);
    for (let f = 0; f < 50; f++, at++) {
      const expected = [...all[at + 1][0], ...all[at][1]].map(Math.fround);
      assert.deepEqual([...frames.subarray(f * 6, f * 6 + 6)], expected);
    }
  }
  assert.equal(at, 150);
});

test('the command writes what the trainer reads, the same for the same seed', async (t) => {
  const out = folder(t);
  const make = (to, ...more) =>
    execFileSync('node', [script, 'umaze', 'medium', '--out', join(out, to), ...more]);
  const few = ['--rows', '3100', '--valid', '900', '--frames', '300'];
  make('a', ...few, '--seed', '7');
  make('b', ...few, '--seed', '7');
  make('c', ...few, '--seed', '8');
  make('d', ...few, '--seed', '7', '--form', 'states');
  const names = readdirSync(join(out, 'a')).sort();
  const files = ['offsets', 'starts', 'values'].map((name) => `${name}.npy`);
  assert.deepEqual(
    names,
    ['train', 'valid'].flatMap((set) => files.map((f) => `${set}_${f}`)),
  );
  for (const name of names) {
    const [a, b, c] = ['a', 'b', 'c'].map((to) => readFileSync(join(out, to, name)));
    assert.ok(a.equals(b), name);
    assert.equal(a.equals(c), name.includes('offsets'), name);
  }
  const read = (to, name) => readNpy(readFileSync(join(out, to, name)));
  const path = read('a', 'train_values.npy');
  const states = read('d', 'train_values.npy');
  const starts = read('a', 'train_starts.npy');
  assert.deepEqual(
    [path.shape, states.shape, starts.shape],
    ['1500, 2', '6000, 6', `20, ${startFields.length}`],
  );
  assert.deepEqual([...read('a', 'valid_offsets.npy').values], [0, 75, 150, 225, 300, 375, 450]);
  assert.deepEqual([...read('d', 'valid_offsets.npy').values].at(-1), 1800);
  let s = 0;
  for (const [index, name] of ['umaze', 'medium'].entries())
    for (const { start, frames } of sequences(
      await maze(t, name),
      new MersenneTwister([7, 0, index]),
      10,
      300,
    )) {
      assert.deepEqual(starts.values.slice(7 * s, 7 * s + 7), start);
      assert.deepEqual(states.values.slice(1800 * s, 1800 * s + 1800), frames);
      const every = Array.from({ length: 75 }, (_, k) => [
        ...frames.slice(6 * (4 * k + 3), 6 * (4 * k + 3) + 2),
      ]);
      assert.deepEqual([...path.values.slice(150 * s, 150 * s + 150)], every.flat());
      s++;
    }
  assert.equal(s, 20);
});

function readNpy(bytes) {
  assert.equal(bytes.toString('latin1', 0, 8), '\x93NUMPY\x01\0');
  const start = 10 + bytes.readUInt16LE(8);
  assert.equal(start % 64, 0);
  const [, type, shape] = bytes
    .toString('latin1', 10, start)
    .match(/^\{'descr': '<(..)', 'fortran_order': False, 'shape': \((.*?),?\), \} *\n$/);
  const values = new { f4: Float32Array, i4: Int32Array }[type](
    bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length),
  );
  return { shape, values };
}

test('an interrupted command leaves no files, a wrong one says what it expects', async (t) => {
  const out = folder(t);
  const child = spawn('node', [script, 'umaze', '--rows', '50000000', '--out', out]);
  const ended = new Promise((resolve) => child.on('close', resolve));
  while (!existsSync(join(out, 'train_values.npy.unfinished'))) await sleep(10);
  await sleep(100);
  child.kill('SIGINT');
  assert.equal(await ended, 130);
  assert.deepEqual(readdirSync(out), []);
  for (const args of [
    ['hall'],
    ['umaze', '--form', 'video'],
    ['umaze', '--rows', 'many'],
    ['umaze', '--rows', '5'],
    ['umaze', '--fast'],
  ]) {
    const { status, stderr } = spawnSync('node', [script, ...args, '--out', out], {
      encoding: 'utf8',
    });
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, /expected|Usage|Unknown/);
  }
});
