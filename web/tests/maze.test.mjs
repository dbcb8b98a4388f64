// The maze page: its parts that need no document, and the built page in real browsers.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createMaze } from '../../models/maze2d/environment.js';
import { layouts } from '../../models/maze2d/layouts.js';
import { loadModel } from '../dist/index.js';
import { Condensation } from '../demo/maze/condensation.js';
import { rowsOf } from '../demo/levels.js';
import { Control, defaults } from '../demo/maze/control.js';
import { bounds, edges, place } from '../demo/maze/geometry.js';
import { formatState, parseState, scheduleOf } from '../demo/maze/state.js';
import { launchChromium, launchFirefox, launchWebKit } from './browsers.mjs';
import { servePage } from './serve.mjs';

/** Of 50 random pairs so many have to arrive: the model card says so. */
const least = 48;

// ---- Without a document ------------------------------------------------------------------------

describe('the address', () => {
  it('comes back as it was', () => {
    const address =
      '?maze=medium&seed=7&scale=0.5&futures=4&uncertainty=1.5&steps=12&start=2,1&goal=5.5,6&discs=3,2.8,0.4_4,4,0.3&via=2,2';
    const state = parseState(address);
    assert.deepEqual(state.discs, [
      [3, 2.8, 0.4],
      [4, 4, 0.3],
    ]);
    assert.equal(state.seed, 7);
    const again = parseState(formatState(state, ''));
    assert.deepEqual(again, state);
    assert.equal(formatState(parseState(''), ''), '?');
  });

  it('takes defaults for what makes no sense, and puts points where the ball can be', () => {
    const state = parseState('?maze=none&futures=1000&steps=x&goal=0,0&discs=1,2&via=a,b');
    assert.equal(state.maze, parseState('').maze);
    assert.equal(state.futures, 16);
    assert.equal(state.steps, defaults.steps);
    assert.deepEqual([state.discs, state.via], [[], []]);
    assert.deepEqual(state.goal, [0.4, 0.4]);
  });

  it('holds the three schedules in one number', () => {
    const schedule = (uncertainty) => scheduleOf({ uncertainty, steps: 10 }).schedule;
    assert.deepEqual([0, 3, 10, 40].map(schedule), [
      'full-sequence',
      ...['pyramid', 'autoregressive', 'autoregressive'],
    ]);
  });
});

describe('the drawing', () => {
  it('has an edge wherever floor meets wall', () => {
    // The U: 7 cells in a row that turns twice.
    assert.equal(edges(layouts.umaze).length, 7 * 4 - 2 * 6);
    const { width, height } = bounds(layouts.large);
    assert.ok(width > height);
  });

  it('puts a point into the nearest free cell', () => {
    assert.deepEqual(place(layouts.umaze, [2, 1]), [2.4, 1]); // from the wall in the middle
    assert.deepEqual(place(layouts.umaze, [1, 2.1]), [1, 2.1]);
    assert.deepEqual(place(layouts.umaze, [-9, -9]), [0.4, 0.4]);
  });
});

/** A path of points on straight lines. */
const path = (...corners) => {
  const points = corners
    .slice(1)
    .flatMap(([x, y], k) =>
      [...Array(10)].flatMap((_, i) => [
        corners[k][0] + ((x - corners[k][0]) * (i + 1)) / 10,
        corners[k][1] + ((y - corners[k][1]) * (i + 1)) / 10,
      ]),
    );
  return Float32Array.from(points);
};

/** Plans straight to a goal; a plan is there when the test says so. */
function fakeModel(goal, log) {
  const T = 2; // whatever length is asked for
  const F = 8;
  return {
    fields: ['x', 'y'],
    frameStack: F,
    sampler: ({ batch, steps, table }) => {
      const rows = table ? table.length - 1 : steps;
      let start;
      let row;
      const tokens = () => {
        const all = Array.from({ length: batch }, () =>
          path(start, goal, goal).slice(0, 2 * T * F),
        );
        return Float32Array.from(all.flatMap((one) => [...one]));
      };
      const state = () => ({
        ...{ row, rows, steps, batch, columns: T, frameStack: F, fields: 2 },
        ...{ tokens: tokens(), estimate: tokens(), levels: new Int32Array(batch * T) },
      });
      return {
        restart(seed) {
          log.push(seed);
          row = 0;
          return this;
        },
        observe(values) {
          start = [values[0], values[1]];
          return this;
        },
        begin() {
          return this;
        },
        keep: (token, kept) => log.push({ kept }),
        latent: async () => new Float32Array(4),
        guide: () => {},
        start: () => log.push('warm'),
        state: async () => state(),
        async *iterate({ signal }) {
          for (; row < rows; row++) {
            await new Promise(setImmediate);
            signal.throwIfAborted();
            yield state();
          }
        },
        run: async () => state(),
        dispose: () => log.push('disposed'),
      };
    },
  };
}

/** Of a plan of so many rows. */
const firstRow = (rows) => ({
  ...{
    row: 0,
    rows,
    levels: new Int32Array(5),
    tokens: new Float32Array(),
    estimate: new Float32Array(),
  },
});

/** A ball without walls, as heavy as the maze's. */
function fakeMaze() {
  const observation = new Float64Array(4);
  return {
    observation,
    touching: false,
    set: ([x, y], [vx, vy]) => observation.set([x, y, vx, vy]),
    step(action) {
      for (let k = 0; k < 2; k++) {
        observation[k + 2] += (0.01 * (100 * action[k] - observation[k + 2])) / 4.2;
        observation[k] += 0.01 * observation[k + 2];
      }
      return observation;
    },
  };
}

describe('the control loop', () => {
  const goal = [1, 5];
  const ready = async (options = {}, to = goal) => {
    const seeds = [];
    const plans = [];
    const control = new Control(
      fakeModel(to, seeds),
      layouts.large,
      { seed: 40, interval: 20, ...options },
      { onPlan: (plan) => plans.push(plan) },
    );
    control.begin({ start: [1, 1], goal: to });
    control.attach(fakeMaze());
    await control.replan();
    return { control, seeds, plans };
  };

  it('plans in its interval, each plan from another seed, and arrives', async () => {
    const { control, seeds } = await ready();
    const starts = [];
    while (control.reached === Infinity && control.steps < 500) {
      const was = control.planning;
      control.step();
      if (!was && control.planning) starts.push(control.steps);
      await control.settled();
    }
    assert.ok(control.reached < 200, `${control.reached} steps`);
    assert.deepEqual(starts.slice(0, 2), [20, 40]);
    assert.deepEqual(seeds.slice(0, 3), [40, 41, 42]);
    assert.equal(control.times.length, seeds.length);
    assert.equal(control.trail.length, 3 * control.steps);
  });

  it('goes on with the plan before while one is made', async () => {
    const { control, plans } = await ready();
    for (let i = 0; i < 30; i++) control.step();
    assert.ok(control.planning);
    assert.equal(plans.length, 1);
    assert.equal(control.plan, plans[0]);
    await control.settled();
    assert.equal(plans.length, 2);
    assert.equal(plans[1].start[1], plans[1].start[1]);
    assert.ok(plans[1].start[1] < control.observation[1], 'it began where the ball was then');
  });

  it('gives up a plan for a later one', async () => {
    const { control, plans } = await ready();
    const first = control.replan();
    const second = control.replan();
    assert.equal(await first, null);
    assert.ok(await second);
    assert.equal(plans.length, 2);
  });

  it('plans at once when it is pushed off its path, and arrives all the same', async () => {
    const { control } = await ready({ interval: 1000 });
    for (let i = 0; i < 15; i++) control.step();
    assert.ok(!control.planning);
    control.push([-1.5, 0]);
    for (let i = 0; i < 25; i++) control.step();
    assert.ok(control.planning);
    assert.ok(control.observation[0] < 0.5);
    await control.settled();
    while (control.reached === Infinity && control.steps < 500) {
      control.step();
      await control.settled();
    }
    assert.ok(control.reached < 300);
  });

  it('does not count as there before its way-points', async () => {
    const { control } = await ready();
    control.begin({ start: [1, 4.9], goal, via: [[1, 9]] });
    await control.replan();
    control.step();
    assert.equal(control.reached, Infinity);
    control.place([1, 8.9]);
    control.step();
    assert.deepEqual(control.via, []);
    control.place([1, 4.9]);
    control.step();
    assert.equal(control.reached, 3);
  });

  it('makes a sampler anew only where it has to', async () => {
    const { control, seeds } = await ready();
    control.set({ scale: 2, futures: 4, discs: [[3, 3, 0.5]] });
    await control.replan();
    assert.ok(!seeds.includes('disposed'));
    control.set({ scale: 0 });
    await control.replan();
    assert.equal(seeds.filter((entry) => entry === 'disposed').length, 1);
    control.set({ steps: 5 });
    await control.replan();
    assert.equal(seeds.filter((entry) => entry === 'disposed').length, 2);
  });

  it('starts from the plan before if it is to, unless the ball has lost it', async () => {
    const { control, seeds } = await ready({ warm: 3, length: 5, interval: 10 });
    for (let i = 0; i < 10; i++) control.step();
    await control.settled();
    assert.deepEqual(seeds, [40, 41, 'warm']);
    control.place([5, 1]);
    control.step();
    await control.replan();
    assert.deepEqual(seeds.slice(3), [42]);
    const condensation = new Condensation({
      ...{ length: 5, schedule: 'full-sequence', steps: 10, uncertainty: 0, warm: 3 },
    });
    assert.equal(condensation.planned, 10);
    condensation.add(firstRow(3));
    condensation.rows = []; // what is to come
    assert.equal(condensation.planned, 3);
    assert.equal(condensation.level(0, 0), 0.3);
    assert.equal(condensation.level(0, 4), 1);
    assert.equal(condensation.level(3, 4), 0);
  });

  it('rolls on behind what the ball did', async () => {
    const rolling = { schedule: 'rolling', uncertainty: 2, interval: 32, steps: 10, length: 5 };
    const { control, seeds, plans } = await ready(rolling, [1, 6]);
    assert.ok(plans[0].tail);
    for (let i = 0; i < 32; i++) control.step();
    assert.ok(control.planning);
    for (let i = 0; i < 3; i++) control.step(); // while it is made
    await control.settled();
    const kept = seeds.filter((entry) => entry.kept);
    assert.equal(kept.length, 1);
    assert.deepEqual(kept[0].kept.slice(-2), Array.from(control.trail.slice(93, 95)));
    assert.equal(kept[0].kept.length, 16); // a token
    assert.equal(control.plan, plans[1]);
    // The next one counts from where that one was begun.
    for (let i = 0; i < 28; i++) control.step();
    assert.ok(!control.planning);
    control.step();
    assert.ok(control.planning);
    await control.settled();
    assert.deepEqual(seeds.findLast((entry) => entry.kept).kept.slice(-2), [
      ...control.trail.slice(3 * 63, 3 * 63 + 2),
    ]);
    // After parts of tokens: the last whole one ends where the ball is.
    control.set({ interval: 20 });
    control.begin({ start: [1, 1], goal: [1, 6] });
    await control.replan();
    const since = seeds.length;
    for (let i = 0; i < 40; i++) {
      control.step();
      await control.settled();
    }
    const [{ kept: last }, ...more] = seeds.slice(since).filter((entry) => entry.kept);
    assert.deepEqual([last.length, last.slice(-2)], [16, control.trail.slice(-3, -1)]);
    assert.equal(more.length, 0, 'not behind 20 steps, but behind 40');
    // Off its path: anew, at once.
    control.push([-3, 0]);
    const before = seeds.length;
    while (!control.planning) control.step();
    await control.settled();
    assert.ok(!seeds.slice(before).some((entry) => entry.kept));
    const condensation = new Condensation({ ...rolling });
    assert.deepEqual(
      [0, 5, 10].map((m) => 10 * condensation.level(m, 1)),
      [10, 7, 2],
    );
    condensation.add(firstRow(2));
    condensation.rows = [];
    assert.equal(condensation.planned, 2);
    assert.deepEqual(
      [0, 1, 2].map((m) => 10 * condensation.level(m, 1)),
      [4, 3, 2],
    );
  });

  it('can be watched', async () => {
    const condensation = new Condensation({
      ...{ length: 2, schedule: 'full-sequence', steps: 10, uncertainty: 0 },
    });
    assert.equal(condensation.planned, 10);
    assert.equal(condensation.level(0, 0), 1);
    assert.equal(condensation.level(10, 1), 0);
    const control = new Control(
      fakeModel(goal, []),
      layouts.large,
      {},
      {
        onRow: (row) => condensation.add(row),
        onPlan: (plan) => condensation.finish(plan),
      },
    );
    control.begin({ start: [1, 1], goal });
    await control.replan();
    assert.ok(condensation.done);
    const { tokens, points, batch } = condensation.at(1.5);
    assert.equal(tokens.length, 2 * points * batch);
  });
});

describe('the control loop with the model', () => {
  it('takes another way where an obstacle lies on the first', async () => {
    const file = fileURLToPath(new URL('../../models/maze2d/model.safetensors', import.meta.url));
    const model = await loadModel(file, { inThread: true, build: 'simd' }); // the same bits everywhere
    const maze = await createMaze('large');
    const [x, y, radius] = [2.8, 2.3, 0.45]; // all of a corridor; there is one beside it
    /** How close to its centre the ball comes, on average. */
    const nearest = async (discs) => {
      let sum = 0;
      for (let seed = 0; seed < 400; seed += 100) {
        const control = new Control(model, maze.layout, { seed, discs });
        control.begin({ start: [1, 1], goal: [7, 9] });
        control.attach(maze);
        await control.replan();
        let least = Infinity;
        while (control.reached === Infinity && control.steps < 800) {
          control.step();
          await control.settled();
          const { observation } = control;
          least = Math.min(least, Math.hypot(observation[0] - x, observation[1] - y));
        }
        assert.ok(control.reached < Infinity, 'it arrives');
        sum += least;
        control.dispose();
      }
      return sum / 4;
    };
    const [without, around] = [await nearest([]), await nearest([[x, y, radius]])];
    assert.ok(without < radius && around > 2 * radius, `${without}, then ${around}`);
    maze.dispose();
    model.dispose();
  });
});

// ---- In browsers -------------------------------------------------------------------------------

const server = await servePage();
after(() => server.close());

const WAIT = { timeout: 120_000 };

class Visitor {
  constructor({ page, errors, forget, close }) {
    Object.assign(this, { page, errors, forget, close });
  }
  until(code, ...args) {
    return this.page.waitForFunction(code, WAIT, ...args);
  }
  text(selector) {
    return this.page.$eval(selector, (element) => element.textContent);
  }
  address(key) {
    return this.page.evaluate((k) => new URLSearchParams(location.search).get(k), key);
  }
  /** Opens an address and waits for its plan. */
  async open(address = '') {
    await this.page.goto(`${server.url}maze.html${address}`);
    await this.until(() => document.querySelector('#stage')?.dataset.plans);
  }
  /** Does something and waits for a plan that follows. */
  async planned(action) {
    const before = await this.page.$eval('#stage', (stage) => stage.dataset.plans ?? '0');
    await action();
    await this.until(
      (n) => Number(document.querySelector('#stage').dataset.plans ?? 0) > Number(n),
      before,
    );
  }
  verdict(start) {
    return this.until(
      (text) => document.querySelector('#verdict').textContent.startsWith(text),
      start,
    );
  }
  slide(selector, value) {
    return this.page.$eval(
      selector,
      (slider, to) => {
        slider.value = String(to);
        slider.dispatchEvent(new Event('input', { bubbles: true }));
      },
      value,
    );
  }
  press(key) {
    return this.page.evaluate((k) => {
      document.activeElement.blur();
      document.body.dispatchEvent(
        new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }),
      );
    }, key);
  }
  /** Where a point of the maze is on the screen. */
  async place(maze, [x, y]) {
    const box = await this.page.$eval('#sheet', (canvas) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return { left, top, width, height };
    });
    const area = bounds(layouts[maze]);
    return [
      box.left + ((y - area.y) / area.width) * box.width,
      box.top + ((x - area.x) / area.height) * box.height,
    ];
  }
  async drag(maze, ...points) {
    const at = [];
    for (const point of points) at.push(await this.place(maze, point));
    const { mouse } = this.page;
    await mouse.move(...at[0]);
    await mouse.down();
    for (const to of at.slice(1)) await mouse.move(...to, { steps: 5 });
    await mouse.up();
  }
}

/** Whether ball and goal, from where they can be taken hold of, are so many cells apart. */
const areApart = ({ width, height }, least, most) => {
  const at = (id) => {
    const { left, top } = document.querySelector(`[data-id=${id}]`).style;
    return [(parseFloat(left) / 100) * width, (parseFloat(top) / 100) * height];
  };
  const [ball, goal] = [at('ball'), at('goal')];
  const gap = Math.hypot(ball[0] - goal[0], ball[1] - goal[1]);
  return gap >= least && gap <= most;
};

describe('the maze page in Chromium', () => {
  /** @type {Visitor} */
  let visitor;
  before(async () => {
    visitor = new Visitor(await launchChromium(['--disable-gpu']));
    await visitor.page.setViewport({ width: 1280, height: 900 });
  });
  after(() => visitor?.close());
  afterEach(() => {
    server.state.hold?.release();
    Object.assign(server.state, { fails: null, hold: null, strict: false });
  });

  it('plans without MuJoCo, and shows every row', async () => {
    await visitor.open('?maze=umaze&seed=1');
    await visitor.until(() =>
      /arrive|nearest/.test(document.querySelector('#verdict').textContent),
    );
    assert.match(await visitor.text('#where'), /row 10 of 10/);
    await visitor.slide('#scrub', 4);
    await visitor.until(() => document.querySelector('#where').textContent === 'row 4 of 10');
    const loaded = await visitor.page.evaluate(() =>
      performance.getEntriesByType('resource').some(({ name }) => name.includes('mujoco')),
    );
    assert.ok(!loaded);
  });

  it('loads MuJoCo with progress, and runs the ball to the goal', async () => {
    const hold = { path: /mujoco.*wasm/ };
    hold.until = new Promise((resolve) => (hold.release = resolve));
    server.state.hold = hold;
    await visitor.page.click('#run');
    const half = () => {
      const { hidden, value } = document.querySelector('#progress');
      return !hidden && value > 0.4 && value < 0.6;
    };
    await visitor.until(half);
    await visitor.planned(() => visitor.slide('#futures', 2)); // another plan meanwhile
    assert.ok(await visitor.page.evaluate(half));
    assert.match(await visitor.text('#engine'), /^MuJoCo: [\d.]+ MB of 1[\d.]+ MB$/);
    server.state.hold = null;
    hold.release();
    await visitor.verdict('There after');
    assert.ok(await visitor.page.$eval('#progress', ({ hidden }) => hidden));
    assert.match(await visitor.text('#time'), /^\d+\.\d\d s$/);
    assert.ok(Number(await visitor.text('#plans')) >= 1);
  });

  it('lets the ball be pushed away, and it comes back', async () => {
    const size = bounds(layouts.umaze);
    await visitor.until(areApart, size, 0, 0.1);
    const isAway = visitor.until(areApart, size, 0.7, 3); // for half a second
    await visitor.drag('umaze', [1, 1], [1, 2.8]);
    await isAway;
    await visitor.until(areApart, size, 0, 0.3);
    assert.equal(await visitor.address('goal'), null, 'the ball was taken hold of, not the goal');
    await visitor.page.click('#run');
    assert.equal(await visitor.text('#run span'), 'Run');
  });

  it('moves goal and ball, by hand and by keys', async () => {
    await visitor.planned(async () => {
      const at = await visitor.place('umaze', [3, 1]);
      await visitor.page.mouse.click(...at);
    });
    const near = async (key, to) => {
      const [x, y] = (await visitor.address(key)).split(',').map(Number);
      assert.ok(Math.hypot(x - to[0], y - to[1]) < 0.1, `${key} ${x}, ${y}`);
    };
    await near('goal', [3, 1]);
    await visitor.planned(() => visitor.drag('umaze', [3, 1], [2.8, 2], [2.8, 3]));
    await near('goal', [2.8, 3]);
    await visitor.planned(async () => {
      await visitor.page.focus('[data-id=goal]');
      await visitor.page.keyboard.press('ArrowLeft');
    });
    await near('goal', [2.8, 2.75]);
    await visitor.planned(async () => {
      await visitor.press('g');
      for (const key of ['ArrowUp', 'ArrowUp', 'ArrowUp', 'Enter'])
        await visitor.page.keyboard.press(key);
    });
    await near('goal', [2.05, 2.75]);
  });

  it('moves the ball to where it is to start', async () => {
    await visitor.open('?maze=umaze&seed=1');
    await visitor.planned(() => visitor.drag('umaze', [3, 1], [3, 1.8], [3, 2.5]));
    const [x, y] = (await visitor.address('start')).split(',').map(Number);
    assert.ok(Math.hypot(x - 3, y - 2.5) < 0.1, `${x}, ${y}`);
    const gap = Math.hypot(2, 1.5);
    assert.ok(
      await visitor.page.evaluate(areApart, bounds(layouts.umaze), gap - 0.1, gap + 0.1),
      'the ball is there',
    );
    await visitor.press('b');
    await visitor.planned(async () => {
      await visitor.page.mouse.click(...(await visitor.place('umaze', [2, 3])));
    });
    const [u, v] = (await visitor.address('start')).split(',').map(Number);
    assert.ok(Math.hypot(u - 2, v - 3) < 0.1, `${u}, ${v}`);
    assert.equal(await visitor.address('goal'), null);
    await visitor.press('g');
  });

  it('plans past a way-point, until it is removed', async () => {
    await visitor.open('?maze=large&start=3,1&goal=3,6&seed=2');
    await visitor.press('w');
    assert.ok(await visitor.page.$eval('[value=via]', (radio) => radio.checked));
    await visitor.planned(async () => {
      await visitor.page.mouse.click(...(await visitor.place('large', [1, 4])));
    });
    const [x, y] = (await visitor.address('via')).split(',').map(Number);
    assert.ok(Math.hypot(x - 1, y - 4) < 0.1, `${x}, ${y}`);
    await visitor.planned(async () => {
      await visitor.page.focus('[data-id=via0]');
      await visitor.page.keyboard.press('Delete');
    });
    assert.equal(await visitor.address('via'), null);
    await visitor.press('g');
  });

  it('draws an obstacle and plans with it, until it is tapped', async () => {
    await visitor.open('?maze=large&start=3,1&goal=3,6&seed=2');
    await visitor.page.click('[value=obstacle]');
    await visitor.planned(() => visitor.drag('large', [3.1, 3], [3.1, 3.3]));
    const [x, y, radius] = (await visitor.address('discs')).split(',').map(Number);
    assert.ok(Math.abs(x - 3.1) < 0.1 && Math.abs(y - 3) < 0.1 && Math.abs(radius - 0.3) < 0.1);
    await visitor.press('g');
    await visitor.planned(async () => {
      const at = await visitor.place('large', [3.1, 3]);
      await visitor.page.mouse.click(...at);
    });
    assert.equal(await visitor.address('discs'), null);
  });

  it('plans anew when a slider moves, and keeps it in the address', async () => {
    await visitor.open('?maze=umaze&seed=1');
    for (const [id, value] of [
      ['futures', 2],
      ['candidates', 3],
      ['uncertainty', 2],
      ['steps', 5],
      ['scale', 0.5],
      ['interval', 32],
      ['warm', 3],
    ]) {
      await visitor.planned(() => visitor.slide(`#${id}`, value));
      assert.equal(await visitor.address(id), String(value));
    }
    const rows = rowsOf('pyramid', 5, 2, defaults.length);
    await visitor.until(
      (end) => document.querySelector('#where').textContent.endsWith(end),
      `of ${rows}`,
    );
    await visitor.planned(() => visitor.page.click('#defaults'));
    assert.equal(await visitor.address('futures'), null);
    await visitor.planned(() => visitor.page.click('#dice'));
    await visitor.planned(() => visitor.press('2'));
    assert.equal(await visitor.address('maze'), 'medium');
  });

  it('rolls on in one row for each token', async () => {
    await visitor.open('?maze=medium&interval=32&steps=12');
    await visitor.planned(() => visitor.page.click('#rolling'));
    assert.equal(await visitor.address('rolling'), '1');
    await visitor.until(() => document.querySelector('#where').textContent === 'row 12 of 12');
    await visitor.page.click('#run');
    await visitor.until(() => Number(document.querySelector('#stage').dataset.rows) < 12);
    await visitor.verdict('There after');
    await visitor.page.click('#run');
    await visitor.planned(() => visitor.page.click('#rolling'));
    assert.equal(await visitor.address('rolling'), null);
  });

  it('compares plans with and without guidance', async () => {
    await visitor.page.click('#compare');
    await visitor.until(() =>
      [...document.querySelectorAll('.variant span')].every((span) => /ms$/.test(span.textContent)),
    );
    const captions = await visitor.page.$$eval('.variant span', (all) =>
      all.map((span) => span.textContent),
    );
    assert.equal(captions.length, 3);
    const [alone, one, many] = captions.map((text) => Number(text.match(/([\d.]+) short/)[1]));
    assert.ok(Math.max(one, many) < alone, captions.join('; '));
    for (const caption of captions)
      assert.match(caption, /^\d of 8 arrive\s[\d.]+ short on average\s\d+ ms$/);
  });

  it('takes fingers on a phone', async () => {
    const { page } = visitor;
    // A page is loaded anew when it gets fingers, and what it was loading would be an error.
    await page.goto('about:blank');
    await page.setViewport({ width: 390, height: 780, isMobile: true, hasTouch: true });
    await visitor.open('?maze=umaze&seed=1');
    const goal = async () => (await visitor.address('goal')).split(',').map(Number);
    await visitor.planned(async () =>
      page.touchscreen.tap(...(await visitor.place('umaze', [3, 2]))),
    );
    assert.ok(Math.hypot((await goal())[0] - 3, (await goal())[1] - 2) < 0.1);
    const [from, ...to] = await Promise.all(
      [[3, 2], [2.5, 3], [2, 3]].map((point) => visitor.place('umaze', point)), // prettier-ignore
    );
    await visitor.planned(async () => {
      await page.touchscreen.touchStart(...from);
      for (const point of to) await page.touchscreen.touchMove(...point);
      await page.touchscreen.touchEnd();
    });
    assert.ok(Math.hypot((await goal())[0] - 2, (await goal())[1] - 3) < 0.1);
    await page.goto('about:blank');
    await page.setViewport({ width: 1280, height: 900 });
  });

  it('fits a phone', async () => {
    await visitor.open('?maze=umaze&seed=1');
    for (const width of [390, 360]) {
      await visitor.page.setViewport({ width, height: 780 });
      const excess = () => document.documentElement.scrollWidth - window.innerWidth;
      assert.ok((await visitor.page.evaluate(excess)) <= 0, `${width} px`);
    }
    await visitor.page.setViewport({ width: 1280, height: 900 });
  });

  it('shows results at once to those who asked for stillness', async () => {
    await visitor.page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
    await visitor.open('?maze=umaze&seed=1');
    await visitor.until(() => document.querySelector('#where').textContent === 'row 10 of 10');
    await visitor.page.click('#run');
    await visitor.verdict('There after');
    await visitor.page.emulateMediaFeatures([]);
  });

  it('has written no error to the console', () => assert.deepEqual(visitor.errors.splice(0), []));

  it('says what is wrong, and tries again', async () => {
    server.state.fails = /safetensors/;
    await visitor.page.goto(`${server.url}maze.html`);
    await visitor.until(() => !document.querySelector('#retry').hidden);
    assert.match(await visitor.text('#mode'), /model could not be fetched/);
    server.state.fails = /mujoco.*wasm/;
    await visitor.planned(() => visitor.page.click('#retry'));
    await visitor.page.click('#run');
    await visitor.until(() => !document.querySelector('#retry').hidden);
    assert.match(await visitor.text('#mode'), /MuJoCo could not be fetched/);
    server.state.fails = null;
    await visitor.page.click('#retry');
    await visitor.until(() => document.querySelector('#stage').classList.contains('running'));
    server.state.strict = true;
    await visitor.open('?maze=umaze');
    await visitor.page.click('#run');
    await visitor.until(() => !document.querySelector('#retry').hidden);
    assert.match(await visitor.text('#mode'), /content security policy/);
    server.state.strict = false;
  });

  for (const [name, address] of [
    ...Object.keys(layouts).map((maze) => [maze, `?maze=${maze}`]),
    ['large, warm', '?maze=large&interval=16&warm=4'],
    ['large, rolling', '?maze=large&interval=32&steps=12&uncertainty=1&rolling=1'],
  ])
    it(`gets there from 50 random pairs, unattended: ${name}`, async (test) => {
      await visitor.open(address);
      await visitor.page.click('#trial');
      await visitor.until(() => document.querySelector('#luck').dataset.count === '50');
      const { arrived, ms } = await visitor.page.$eval('#luck', ({ dataset }) => ({ ...dataset }));
      test.diagnostic(`${name}: ${arrived} of 50 arrived; ${Math.round(ms)} ms for a plan`);
      assert.ok(arrived >= least, `${arrived} of 50`);
    });
});

for (const { name, launch } of [
  { name: 'Firefox', launch: launchFirefox },
  { name: 'WebKit', launch: launchWebKit },
])
  describe(`the maze page in ${name}`, () => {
    /** @type {Visitor} */
    let visitor;
    before(async () => (visitor = new Visitor(await launch())));
    after(() => visitor?.close());

    for (const [how, search] of [
      ['plans', ''],
      ['rolls plans', '&rolling=1&interval=32'],
    ])
      it(`${how}, and runs the ball`, async () => {
        await visitor.open(`?maze=umaze&seed=1${search}`);
        await visitor.page.click('#run');
        await visitor.verdict('There after');
        assert.deepEqual(visitor.errors.splice(0), []);
        await visitor.forget();
      });
  });
