// The planner with the model as it is shipped.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadModel } from 'diffusion-forcing';
import { Actions } from '../actions.js';
import { createMaze } from '../environment.js';
import { runEpisodes, summarize } from '../evaluate.js';
import { distance, isWall, layouts } from '../layouts.js';
import { MersenneTwister } from '../mersenne-twister.js';
import { Tracker } from '../followers.js';
import { pull } from '../objectives.js';
import { Planner, planPolicy, rollingTable, warmTable } from '../planner.js';

const script = fileURLToPath(new URL('../evaluate.mjs', import.meta.url));

let model;
before(async () => {
  model = await loadModel(fileURLToPath(new URL('../model.safetensors', import.meta.url)));
});
after(() => model.dispose());

function makePlanner(t, maze, options) {
  const planner = new Planner(model, layouts[maze], options);
  t.after(() => planner.dispose());
  return planner;
}

const still = ([x, y]) => [x, y, 0, 0];

test('a plan is a function of its seed, and goes from the ball to the goal', async (t) => {
  const planner = makePlanner(t, 'medium');
  const rows = [];
  const a = await planner.plan(still([1, 1]), [6, 6], {
    seed: 3,
    onRow: ({ row }) => rows.push(row),
  });
  assert.deepEqual(
    rows,
    Array.from({ length: planner.options.steps + 1 }, (_, i) => i),
  );
  const other = await planner.plan(still([6, 6]), [1, 1], { seed: 4 });
  const b = await planner.plan(still([1, 1]), [6, 6], { seed: 3 });
  assert.deepEqual(a, b);
  assert.notDeepEqual(other.best.points, a.best.points);
  assert.equal(a.candidates.length, planner.options.candidates);
  for (const { cost } of a.candidates) assert.ok(cost >= a.best.cost);
  assert.ok(a.best.arrival < Infinity);
  assert.ok(distance(a.best.points.subarray(0, 2), a.start) < 0.3);
  // Nobody told it where walls are.
  const points = pairs(a.best.points).slice(0, a.best.arrival + 1);
  const inWall = points.filter((p) => isWall(layouts.medium, ...p.map((v) => Math.floor(v + 0.7))));
  assert.ok(inWall.length <= 1, `${inWall.length} of ${points.length} points in walls`);
});

const pairs = (points) =>
  Array.from({ length: points.length / 2 }, (_, i) => [points[2 * i], points[2 * i + 1]]);

test('guidance finds a goal that candidates alone do not', async (t) => {
  const cost = async (scale) => {
    const planner = makePlanner(t, 'large', { scale, candidates: 4 });
    let sum = 0;
    for (let seed = 0; seed < 4; seed++) {
      const plan = await planner.plan(still([1, 1]), [7, 9], { seed });
      sum += Math.min(...plan.candidates.map(({ points }) => nearest(points, [7, 9])));
    }
    return sum / 4;
  };
  assert.ok((await cost(3)) < 0.5 * (await cost(0)));
});

const nearest = (points, at) => Math.min(...pairs(points).map((p) => distance(p, at)));

test('a way-point is passed on the way to the goal', async (t) => {
  const planner = makePlanner(t, 'large');
  const straight = await planner.plan(still([3, 1]), [3, 6]);
  assert.ok(nearest(straight.best.points, [1, 4]) > 0.8);
  const { best } = await planner.plan(still([3, 1]), [3, 6], { via: [[1, 4]] });
  const way = pairs(best.points.subarray(0, 2 * best.arrival + 2));
  const passed = way.findIndex((p) => distance(p, [1, 4]) < 0.35);
  assert.ok(passed > 0 && passed < best.arrival);
  assert.ok(distance(way.at(-1), [3, 6]) < 0.35);
});

test('of two ways the one without an obstacle is taken', async (t) => {
  const planner = makePlanner(t, 'large');
  const maze = await createMaze('large');
  t.after(() => maze.dispose());
  for (const at of [
    [0.8, 2.3],
    [2.8, 2.3],
  ]) {
    planner.set({ terms: [{ kind: 'disc', x: 'x', y: 'y', at, size: 0.6, softness: 0.2 }] });
    const policy = planPolicy(planner);
    maze.set([1, 1]);
    await policy.reset(maze.observation, [3, 4]);
    let closest = Infinity;
    for (let step = 0; step < 400; step++) {
      maze.step(await policy.act(maze.observation));
      closest = Math.min(closest, distance(maze.observation, at));
    }
    assert.ok(distance(maze.observation, [3, 4]) < 0.5);
    assert.ok(closest > 0.6, `${at}: ${closest}`);
  }
});

test('the ball gets there in every maze, as the card states', async (t) => {
  for (const [name, least] of [
    ['umaze', 110],
    ['medium', 140],
    ['large', 180],
  ]) {
    const maze = await createMaze(name);
    t.after(() => maze.dispose());
    const policy = planPolicy(makePlanner(t, name));
    const run = { episodes: 6, seed: 5, randomGoal: true };
    const { success, score } = summarize(maze.layout, await runEpisodes(maze, policy, run));
    assert.equal(success.mean, 1, name);
    assert.ok(score.mean > least, `${name}: ${score.mean}`);
  }
});

test('a ball that is pushed off its path finds back', async (t) => {
  const maze = await createMaze('medium');
  t.after(() => maze.dispose());
  const policy = planPolicy(makePlanner(t, 'medium'));
  const goal = [6, 6];
  maze.set([1, 1]);
  await policy.reset(maze.observation, goal);
  for (let step = 0; step < 600; step++) {
    if (step === 40) maze.set([maze.observation[0], maze.observation[1]], [-4, -4]);
    maze.step(await policy.act(maze.observation));
  }
  assert.ok(distance(maze.observation, goal) < 0.5);
});

test('a tracker keeps a better plan and gives up a lost one', async (t) => {
  const planner = makePlanner(t, 'umaze');
  const plan = await planner.plan(still([1, 1]), [3, 1]);
  const worse = { ...plan, best: { ...plan.best, cost: 1e6 } };
  const better = { ...plan, best: { ...plan.best, cost: 1 } };
  const tracker = new Tracker(plan);
  tracker.act(still([1, 1]));
  assert.equal(tracker.yields(worse), false);
  assert.equal(tracker.yields(worse), true, 'no progress since the last call');
  const second = new Tracker(plan);
  second.act(still([1, 1]));
  assert.equal(second.yields(better), true);
  const lost = new Tracker(plan);
  lost.act(still([3, 3]));
  assert.equal(lost.yields(worse), true);
});

test('a warm plan takes fewer rows and stays near the one before', async (t) => {
  const planner = makePlanner(t, 'large', { warm: 3 });
  const first = await planner.plan(still([1, 1]), [3, 6], { seed: 1 });
  const follower = new Tracker(first);
  follower.act(still([1, 1]));
  const rows = [];
  const onRow = ({ row }) => rows.push(row);
  const again = { before: { follower, seen: [] }, seed: 2, onRow };
  const second = await planner.plan(still([1, 1]), [3, 6], again);
  assert.deepEqual(rows, [0, 1, 2, 3]);
  assert.ok(second.best.arrival < Infinity);
  const apart = pairs(second.best.points.subarray(0, 2 * second.best.arrival)).map((p) =>
    nearest(first.best.points, p),
  );
  assert.ok(Math.max(...apart) < 0.6, `${Math.max(...apart)}`);
  assert.equal(warmTable(12, 10, 3).length, 4);
  assert.deepEqual(warmTable(6, 10, 3), [
    [3, 3, 10, 10, 10, 10],
    [2, 2, 7, 7, 7, 7],
    [1, 1, 3, 3, 3, 3],
    [0, 0, 0, 0, 0, 0],
  ]);
});

test('a rolling plan goes on from its noisy tail, behind what was executed', async (t) => {
  assert.deepEqual(rollingTable(5, 4, 1, 2), [
    [2, 3, 4, 4, 4],
    [1, 2, 3, 4, 4],
    [0, 1, 2, 3, 4],
  ]);
  assert.deepEqual(rollingTable(3, 9, 2, 2), [
    [2, 4, 9],
    [1, 3, 6],
    [0, 2, 4],
  ]);
  assert.deepEqual(rollingTable(2, 3, 1, 3), [
    [3, 3],
    [2, 3],
    [1, 2],
    [0, 1],
  ]);
  const rolling = { schedule: 'rolling', steps: 12, interval: 32 };
  const planner = makePlanner(t, 'large', rolling);
  const goal = [3, 6];
  /** Its plan, and levels of the first token. */
  const make = async (start, call) => {
    const levels = [];
    const onRow = (row) => levels.push(row.levels[0]);
    return { ...(await planner.plan(start, goal, { seed: 1, onRow, ...call })), levels };
  };
  const first = await make(still([1, 1]));
  assert.deepEqual(first.levels, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
  assert.ok(first.best.arrival < Infinity);
  assert.deepEqual(first.tail.past, { start: Float64Array.of(1, 1, 0, 0), seen: [] });
  assert.equal(first.rows, 12);

  // It is followed for one token, the last point of which is where the next plan is made.
  const maze = await createMaze('large');
  t.after(() => maze.dispose());
  maze.set([1, 1]);
  const follower = planner.follow(first);
  const seen = [];
  for (let step = 0; step < 32; step++) {
    const [x, y] = maze.step(follower.act(maze.observation));
    seen.push(x, y);
  }
  const here = [...maze.observation];
  const before = { follower, seen };
  const second = await make(here, { before });
  assert.deepEqual(second.levels, [1, 0], 'one row of one token');
  assert.deepEqual(second.tail.past, { start: first.tail.past.start, seen });
  assert.equal(follower.yields(second), true);
  /** How far two plans are apart, the second of which was made that many points later. */
  const apart = (a, b, later) =>
    Math.max(
      ...pairs(b.best.points.subarray(0, 64)).map((p, i) =>
        distance(p, a.best.points.subarray(2 * (i + later), 2 * (i + later) + 2)),
      ),
    );
  assert.ok(apart(first, second, 8) < 0.5, 'as it was planned before');
  assert.ok(distance(second.best.points.subarray(0, 2), here) < 0.3);

  // What was executed counts: here as if the ball had stood still.
  const stood = await make(here, { before: { follower, seen: seen.map(() => 1) } });
  assert.notDeepEqual(stood.best.points, second.best.points);
  assert.deepEqual(stood.levels, [1, 0]);
  planner.set({ memory: false });
  const forgetful = await make(here, { before });
  assert.deepEqual(forgetful.levels, [1, 0]);
  assert.notDeepEqual(forgetful.best.points, second.best.points);
  const same = await make(here, { before: { follower, seen: seen.map(() => 1) } });
  assert.deepEqual(same.best.points, forgetful.best.points);
  planner.set({ memory: true });

  // After any number of steps: tokens that were begun get the rows of a whole one.
  maze.set([1, 1]);
  const other = planner.follow(first);
  const way = [];
  for (let step = 1; step <= 45; step++) {
    const [x, y] = maze.step(other.act(maze.observation));
    way.push(x, y);
    if (![20, 30, 45].includes(step)) continue;
    const at = [...maze.observation];
    const next = await make(at, { before: { follower: planner.follow(first), seen: [...way] } });
    assert.deepEqual(next.levels, step < 32 ? [1, 0] : [2, 1, 0]);
    assert.ok(distance(next.best.points.subarray(0, 2), at) < 0.3, `after ${step} steps`);
    const off = apart(first, next, Math.round(step / 4));
    assert.ok(off < 0.6, `after ${step} steps: ${off} apart`);
  }

  // A way past way-points is whole.
  const past = await make(here, { before, via: [[1, 4]] });
  assert.deepEqual([past.tail, past.levels.at(-1)], [undefined, 0]);
  assert.ok(distance(past.best.points.subarray(0, 2), here) < 0.3);

  // Two tokens at a time, a plan that does not arrive.
  const two = await make(here, { before: { follower, seen: [...seen, ...seen] } });
  assert.deepEqual(two.levels, [2, 1, 0]);
  const nowhere = { ...first, best: { ...first.best, arrival: Infinity } };
  const anew = await make(here, { before: { follower: planner.follow(nowhere), seen } });
  assert.equal(anew.levels.length, 13);
});

test('every plan has the length that it is asked for', async (t) => {
  const tokens = (plan) => plan.best.points.length / 16;
  for (const schedule of ['full-sequence', 'rolling']) {
    const planner = makePlanner(t, 'large', { schedule, steps: 12 });
    const usual = await planner.plan(still([1, 1]), [3, 6], { seed: 1 });
    const short = await planner.plan(still([1, 1]), [3, 6], { seed: 1, length: 5 });
    const again = await planner.plan(still([1, 1]), [3, 6], { seed: 1 });
    assert.deepEqual([usual, short].map(tokens), [12, 5]);
    assert.deepEqual(again, usual);
  }
  // What goes on can become shorter, and longer. The ball does as it was planned.
  const goesOn = async (options, steps, rows) => {
    const planner = makePlanner(t, 'large', options);
    let plan = await planner.plan(still([1, 1]), [3, 4], { seed: 1, length: 10 });
    for (const length of [6, 14]) {
      const follower = planner.follow(plan);
      const { points } = plan.best;
      const seen = Array.from({ length: steps }, (_, n) => {
        const i = Math.floor(n / 4);
        return [points[2 * i], points[2 * i + 1]];
      }).flat();
      const at = steps ? seen.slice(-2) : [1, 1];
      plan = await planner.plan(still(at), [3, 4], { length, before: { follower, seen } });
      assert.deepEqual([tokens(plan), plan.rows], [length, rows]);
      assert.ok(distance(plan.best.points.subarray(0, 2), at) < 0.6, `${steps} steps, ${length}`);
    }
  };
  await goesOn({ warm: 3 }, 0, 3);
  const planner = makePlanner(t, 'large', { warm: 3 });
  const plan = await planner.plan(still([1, 1]), [3, 4], { seed: 1 });
  const before = { follower: planner.follow(plan), seen: [] };
  const shortest = await planner.plan(still([1, 1]), [3, 4], { length: 2, before });
  assert.deepEqual([tokens(shortest), shortest.rows], [2, 3]);
  await goesOn({ schedule: 'rolling', steps: 12 }, 32, 1);
  await goesOn({ schedule: 'rolling', steps: 12 }, 12, 1);
});

test('rolling plans of many steps, whose last tokens come out of noise in one row', async (t) => {
  const planner = makePlanner(t, 'umaze', { schedule: 'rolling', steps: 40, length: 4 });
  const first = await planner.plan(still([3, 3]), [3, 1]);
  const seen = Array.from({ length: 64 }, () => 3); // it stands still
  const follower = planner.follow({ ...first, best: { ...first.best, arrival: 1 } });
  const { rows, best } = await planner.plan(still([3, 3]), [3, 1], { before: { follower, seen } });
  assert.equal(rows, 1);
  const long = { follower, seen: Array.from({ length: 2 * 4 * 32 }, () => 3) };
  const after = await planner.plan(still([3, 3]), [3, 1], { before: long });
  assert.equal(after.rows, 40, 'nothing is left');
  assert.ok(best.points.every(Number.isFinite));
});

test('a rolling plan is as long as what has been thought of', async (t) => {
  for (const [scale, tokens] of [
    [0, 4],
    [3, 12],
  ]) {
    const planner = makePlanner(t, 'large', { schedule: 'rolling', steps: 4, scale });
    const { best, tail } = await planner.plan(still([1, 1]), [7, 9]);
    assert.equal(best.points.length, 16 * tokens);
    assert.equal(tail.frames.length, 16 * 12);
  }
});

test('a ball with rolling plans gets there', async (t) => {
  for (const [name, least] of [
    ['umaze', 110],
    ['medium', 140],
    ['large', 150],
  ]) {
    const maze = await createMaze(name);
    t.after(() => maze.dispose());
    const planner = makePlanner(t, name, { schedule: 'rolling', steps: 12, interval: 32 });
    let rolled = 0;
    const onPlan = ({ rows }) => (rolled += rows === 1);
    const run = { episodes: 6, seed: 5, randomGoal: true };
    const policy = planPolicy(planner, { onPlan });
    const { success, score } = summarize(maze.layout, await runEpisodes(maze, policy, run));
    assert.equal(success.mean, 1, name);
    assert.ok(score.mean > least, `${name}: ${score.mean}`);
    assert.ok(rolled > 0);
  }
});

async function loadStates(t) {
  const file = new URL('../../maze2d-states/model.safetensors', import.meta.url);
  const states = await loadModel(fileURLToPath(file));
  t.after(() => states.dispose());
  return states;
}

test('a pull counts from the observation, by the steps of the plan', () => {
  const [count, fields, stack] = [7, 6, 4];
  const random = new MersenneTwister(5);
  const frames = Float32Array.from({ length: count * fields }, () => random.normal());
  const objective = pull([0.3, -0.2], stack, (t) => [0.1 * t, 1]);
  const place = { sequence: 0, sample: 0, count, fields };
  const { value, gradient } = objective(frames, place);
  const at = (changed) => objective(Float32Array.from(changed), place).value;
  for (let i = 0; i < frames.length; i++) {
    const [more, less] = [1e-2, -1e-2].map((by) =>
      at(frames.map((v, j) => (i === j ? v + by : v))),
    );
    assert.ok(Math.abs((more - less) / 2e-2 - gradient[i]) < 1e-3, `${i}`);
  }
  // A token that is moved as a whole takes the ball nowhere else.
  const moved = frames.map((v, i) => (i >= stack * fields && i % fields < 2 ? v + 3 : v));
  assert.ok(Math.abs(at(moved) - value) < 1e-5);
});

test('a model of states stays at a goal', async (t) => {
  const maze = await createMaze('medium');
  t.after(() => maze.dispose());
  const planner = new Planner(await loadStates(t), layouts.medium, { candidates: 4 });
  t.after(() => planner.dispose());
  const policy = planPolicy(planner);
  const goal = [6, 6];
  maze.set([6, 5.8], [0, 2]);
  await policy.reset(maze.observation, goal);
  let there = 0;
  for (let step = 0; step < 200; step++)
    there += distance(maze.step(await policy.act(maze.observation)), goal) <= 0.5;
  assert.ok(there >= 180, `${there} of 200 steps`);
});

test('actions along a path are those that were diffused, and get the ball there', async (t) => {
  const states = await loadStates(t);
  assert.throws(() => new Actions(model, layouts.umaze), /expected .*vx.* found one of x,y$/);
  for (const [name, least] of [
    ['umaze', 100],
    ['medium', 110],
    ['large', 140],
  ]) {
    const maze = await createMaze(name);
    const actions = new Actions(states, maze.layout);
    t.after(() => [maze, actions].forEach((it) => it.dispose()));
    const planner = makePlanner(t, name, { interval: 32 });
    const policy = planPolicy(planner, { follow: (plan) => actions.follow(plan) });
    const made = [];
    const { plan } = Actions.prototype;
    actions.plan = async (...given) => made[made.push(await plan.apply(actions, given)) - 1];
    let step = 0;
    const checked = {
      reset(...given) {
        step = 0;
        policy.reset(...given);
      },
      async act(observation) {
        const action = await policy.act(observation);
        const frame = step++ % actions.interval;
        assert.deepEqual([...action], [...made.at(-1).slice(6 * frame + 4, 6 * frame + 6)]);
        return action;
      },
    };
    const run = { episodes: 4, seed: 5, randomGoal: true };
    const { success, score } = summarize(maze.layout, await runEpisodes(maze, checked, run));
    assert.equal(success.mean, 1, name);
    assert.ok(score.mean > least, `${name}: ${score.mean}`);
  }
});

test('a model of states: its actions are executed as they were diffused', async (t) => {
  const states = await loadStates(t);
  const maze = await createMaze('umaze');
  t.after(() => maze.dispose());
  const planner = new Planner(states, layouts.umaze);
  t.after(() => planner.dispose());
  for (const options of [{ warm: 3 }, { schedule: 'rolling' }])
    assert.throws(() => planner.set(options), /expected a model of paths; found one of states/);
  const far = await planner.plan(still([3, 1]), [1, 1]);
  const near = await planner.plan(still([1, 2]), [1, 1]);
  const frames = ({ best }) => best.frames.length / 6;
  assert.deepEqual([frames(far), frames(near)], [10 * 16, 3 * 16]);
  const follower = planner.follow(far);
  for (let f = 0; f < 8; f++)
    assert.deepEqual(
      [...follower.act(still([3, 1]))],
      [...far.best.frames.slice(6 * f + 4, 6 * f + 6)],
    );
  const run = { episodes: 2, seed: 3, randomGoal: true };
  const { success } = summarize(maze.layout, await runEpisodes(maze, planPolicy(planner), run));
  assert.ok(success.mean >= 0.5);
});

test('a wrong command says what it expects', () => {
  for (const args of [
    ['--policy', 'none'],
    ['--set', 'speed=3'],
    ['--goal', 'all'],
    ['--episodes', '0'],
  ]) {
    const { status, stderr } = spawnSync('node', [script, 'umaze', ...args], { encoding: 'utf8' });
    assert.equal(status, 2, args.join(' '));
    assert.match(stderr, /expected/);
  }
});
