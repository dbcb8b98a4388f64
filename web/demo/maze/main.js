// The maze page: state in the address, one model, one control loop, and what the visitor does to it.
//
// At rest the newest plan is played: how it condensed, row by row. While the ball runs, plans come
// and go by themselves and the drawing shows the present.

import { createMaze } from '../../../models/maze2d/environment.js';
import { layouts, sizes } from '../../../models/maze2d/layouts.js';
import { saveAddress } from '../address.js';
import { facts, load, megabytes, trouble } from '../engine.js';
import { Player } from '../player.js';
import { Table } from '../table.js';
import { startTheme } from '../theme.js';
import { Comparison } from './comparison.js';
import { Condensation } from './condensation.js';
import { Control } from './control.js';
import { place, spoken } from './geometry.js';
import { Handles } from './handles.js';
import { Luck } from './luck.js';
import { MapView } from './map.js';
import { loadPhysics } from './physics.js';
import { Pointing } from './pointing.js';
import {
  LIMITS,
  defaults,
  formatState,
  most,
  parseState,
  radii,
  scheduleOf,
  taskOf,
} from './state.js';

const MODEL = new URL('../../../models/maze2d/model.safetensors', import.meta.url);
const $ = (id) => document.getElementById(id);
const still = matchMedia('(prefers-reduced-motion: reduce)');
const seconds = (steps) => `${(steps / 100).toFixed(2)} s`;

/** Cells: how far the ball can be pushed, and is by the button. */
const pushes = { longest: 3, button: 1.6 };
/** Steps after arrival, or after a push, after which the ball may rest. */
const idle = 1500;

let state = parseState(location.search);
let model = null;
/** @type {Promise<import('@mujoco/mujoco').MainModule> | null} */
let physics = null;
let physicsBytes = 0;
let isLoading = false; // MuJoCo, with progress
/** @type {Control | null} */
let control = null;
/** The plan that is followed, as it condensed; the one in the making. @type {Condensation | null} */
let shown = null;
let making = null;
let running = false;
let pushed = -Infinity; // step of the last push
let tool = 'goal';
let selected = -1; // token under the pointer
let arrow = null; // a push that is aimed: from, to
const stage = $('stage');

const settings = () => {
  const { seed, scale, futures, steps, candidates, interval, discs } = state;
  const warm = Math.min(state.warm, steps - 1);
  return { seed, scale, futures, steps, candidates, interval, warm, discs, ...scheduleOf(state) };
};
const layout = () => layouts[state.maze];

// ---- What is seen ----

const map = new MapView($('sheet'));
const handles = new Handles($('map'), map);
const table = new Table($('table'));
const player = new Player({
  draw,
  changed: () => (player.dirty = true),
  seconds: [2.4, 8],
});

function draw() {
  const [run] = player.runs;
  const scene = {
    goal: state.goal,
    ball: control?.observation ?? state.start,
    discs: pointing.drawn ? [...state.discs, pointing.drawn] : state.discs,
    via: state.via,
    passed: control ? state.via.length - control.via.length : 0,
    trail: control?.trail,
    cross: pointing.cross,
    ...{ arrow, selected },
  };
  if (running) {
    const now = making?.last >= 0 ? making : shown;
    map.draw({ ...scene, plan: shown?.plan, condensation: making, position: Infinity, faint: 0.6 });
    if (now) table.draw(now, now.last, selected);
  } else {
    const row = run && player.rowOf(run);
    map.draw({ ...scene, condensation: run, position: row });
    if (run) {
      table.draw(run, Math.max(0, row), selected);
      showRow(run, row);
    }
  }
  showFigures();
}

function showRow(run, row) {
  const scrub = $('scrub');
  const part = Math.max(0, row) / run.planned;
  scrub.max = String(run.planned);
  scrub.value = String(row);
  scrub.style.setProperty('--part', `${100 * part}%`);
  const text = `row ${Math.round(Math.max(0, row))} of ${run.planned}`;
  $('where').textContent = text;
  scrub.setAttribute('aria-valuetext', text);
}

function showFigures() {
  const { steps = 0, contacts = 0, times = [] } = control ?? {};
  const set = (id, text) => $(id).textContent !== text && ($(id).textContent = text);
  set('time', seconds(Math.min(steps, control?.reached ?? 0)));
  set('plans', String(times.length));
  const mean = times.reduce((sum, ms) => sum + ms, 0) / times.length;
  set('each', times.length ? `${Math.round(mean)} ms` : '–');
  set('contacts', seconds(contacts));
  set('verdict', verdict());
}

function verdict() {
  if (!control) return '';
  const { reached, steps } = control;
  if (running) {
    if (steps < pushed + 80) return 'Pushed off its path.';
    if (reached < Infinity) return `There after ${seconds(reached)}. Now push it.`;
    return steps > layout().steps ? 'Still on its way.' : 'On its way.';
  }
  if (reached < Infinity) return `There after ${seconds(reached)}.`;
  if (steps) return 'Paused.';
  const plan = player.runs[0]?.plan;
  if (!plan || !player.ended) return 'Condensing out of noise.';
  const { candidates, best } = plan;
  const arriving = candidates.filter(({ arrival }) => arrival < Infinity).length;
  if (!arriving) return `None of ${candidates.length} candidates arrives; the nearest is chosen.`;
  const there = `${arriving} of ${candidates.length} candidates arrive${arriving === 1 ? 's' : ''}`;
  if (best.arrival === Infinity)
    return `${there}; the most plausible one is chosen, and falls short.`;
  return `${there}, the one chosen after ${seconds(plan.stride * (best.arrival + 1))}.`;
}

/** Words for eyes; words for ears only where something came to an end or went wrong. */
function say(text, { aloud = false, trouble = false, retry = null } = {}) {
  $('mode').textContent = text;
  if (aloud) $('status').textContent = text;
  document.querySelector('.facts').classList.toggle('trouble', trouble);
  $('retry').hidden = !retry;
  $('retry').onclick = retry;
}

function showHint() {
  const text = {
    goal: running
      ? 'Drag the ball and let go: it is pushed off its path. Click to move the goal.'
      : 'Click in the maze to move the goal, or drag ball and goal.',
    start: 'Click where the ball is to start.',
    obstacle:
      'Drag out a disc that plans are pushed out of. It is there for the planner only: to the ball it is air. Tap it to remove it.',
    via: 'Click where the ball is to pass on its way. Tap a way-point to remove it.',
  }[tool];
  $('hint').textContent = text;
}

function showProgress(what) {
  $('progress').hidden = false;
  $('progress').value = 0;
  return ({ loaded, total }) => {
    $('engine').textContent = total
      ? `${what}: ${megabytes(loaded)} of ${megabytes(total)}`
      : `${what}: ${megabytes(loaded)}`;
    if (total) $('progress').value = Math.min(1, loaded / total);
    else $('progress').removeAttribute('value');
  };
}

function showEngine() {
  if (isLoading) return;
  $('progress').hidden = true;
  const ms = control?.times.at(-1) ?? 0;
  const parts = model ? [facts(model, ms / Math.max(1, shown?.planned ?? 1))] : [];
  if (control?.maze) parts.push(`MuJoCo ${megabytes(physicsBytes)}`);
  $('engine').textContent = parts.join(' · ');
}

// ---- Planning ----

const events = {
  onStart(options) {
    making = new Condensation(options);
    if (!running) player.load([making], { playing: !still.matches });
  },
  onRow(row) {
    making.add(row);
    if (running && !still.matches) player.dirty = true;
  },
  onPlan(plan, isFollowed) {
    making.finish(plan);
    stage.dataset.rows = String(making.planned);
    if (isFollowed) shown = making;
    making = null;
    // Begun while the ball ran, done after it was held.
    if (!running && player.runs[0] !== shown) player.load([shown], { position: 1, playing: false });
    showEngine();
    if (!running && still.matches) player.seek(1);
    player.dirty = true;
    stage.dataset.plans = String(Number(stage.dataset.plans ?? 0) + 1);
  },
  onError: failed,
};

function failed(error) {
  stop();
  say(trouble(error), { aloud: true, trouble: true, retry: () => plan() });
}

/** A plan from where the ball is. */
async function plan() {
  if (!control) return;
  clearTimeout(waiting);
  control.set(settings());
  say('');
  try {
    const made = await control.replan();
    if (made && !running) $('status').textContent = summaryOf(made);
  } catch (error) {
    failed(error);
  }
}

const summaryOf = ({ candidates }) => {
  const arriving = candidates.filter(({ arrival }) => arrival < Infinity).length;
  return `Planned: ${arriving} of ${candidates.length} candidates arrive.`;
};

let waiting = 0;
/** While something is dragged: once the hand rests. At rest the first plan again, so that seeds compare. */
function planSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (!running) begin();
    plan();
  }, 120);
}

/** A new task. With a start the ball is put there; else it goes on from where it is. */
function begin({ start = undefined } = {}) {
  control?.begin({ start, goal: state.goal, via: state.via });
  pushed = -Infinity;
  if (start) player.dirty = true;
}

/** The maze of the state, and a ball in it if there is MuJoCo. */
async function openMaze() {
  stop();
  map.show(layout());
  comparison.show(layout());
  luck.show(layout());
  showHandles();
  if (!model) return draw();
  control?.maze?.dispose();
  control?.dispose();
  shown = making = null;
  control = new Control(model, layout(), settings(), events);
  begin({ start: state.start });
  for (const id of ['run', 'push', 'reset', 'compare', 'trial']) $(id).disabled = false;
  plan();
}

// ---- Running ----

/** A ball for the control loop; loads MuJoCo if it has to. False: there is none, and why was said. */
async function getBall() {
  const mine = control;
  if (mine.maze) return true;
  try {
    if (!physics) {
      say('Loading MuJoCo, once.');
      const show = showProgress('MuJoCo');
      isLoading = true;
      physics = loadPhysics((progress) => {
        physicsBytes = progress.loaded;
        show(progress);
      }).finally(() => (isLoading = false));
    }
    const mujoco = await physics;
    const maze = await createMaze(mine.layout.name, { load: () => mujoco });
    if (mine === control) mine.attach(maze);
    else maze.dispose();
    showEngine();
    if (!mine.maze) return false;
    say('');
    return true;
  } catch (error) {
    physics = null;
    showEngine();
    say(whyNoBall(error), { aloud: true, trouble: true, retry: run });
    return false;
  }
}

function whyNoBall(error) {
  if (error?.code === 'POLICY')
    return "This page's content security policy forbids 'unsafe-eval', which MuJoCo needs. Plans can still be made.";
  if (error?.code === 'IO') return 'MuJoCo could not be fetched. Perhaps the connection was lost.';
  return `MuJoCo did not start: ${error?.message ?? error}`;
}

async function run() {
  if (running) return stop();
  $('run').disabled = true;
  const isThere = await getBall();
  if (isThere) await control.settled();
  $('run').disabled = false;
  if (!isThere || !control.plan || running) return;
  running = true;
  player.load([], { playing: false });
  showRunning();
  if (still.matches) return runUnseen();
  debt = 0;
  last = performance.now();
  requestAnimationFrame(tick);
}

function stop() {
  if (!running) return;
  running = false;
  arrow = null;
  if (shown) player.load([shown], { position: 1, playing: false });
  showRunning();
}

function showRunning() {
  stage.classList.toggle('running', running);
  $('run').querySelector('span').textContent = running ? 'Pause' : 'Run';
  showHint();
  showHandles();
}

let last = 0;
let debt = 0; // steps, of 0.01 s each
function tick(now) {
  if (!running) return;
  requestAnimationFrame(tick);
  // Who aims a push has time for it.
  if (!arrow) debt += Math.min(100, now - last) / 10;
  last = now;
  const wasThere = control.reached < Infinity;
  for (; debt >= 1; debt--) control.step();
  if (!wasThere && control.reached < Infinity) $('status').textContent = verdict();
  handles.follow('ball', control.observation);
  draw();
  const { reached, steps } = control;
  if (reached < Infinity && steps > Math.max(reached, pushed) + idle && !making) stop();
}

/** For those who asked for stillness: the result. */
async function runUnseen() {
  const until = control.steps + layout().steps;
  try {
    while (running && control.steps < until) {
      control.step();
      await control.settled();
      if (control.steps >= control.reached + 50) break;
    }
  } catch (error) {
    return failed(error);
  }
  stop();
  draw();
  $('status').textContent = verdict();
}

async function pushBall(way) {
  if (!(await getBall())) return;
  control.push(way);
  pushed = control.steps;
  if (!running) run();
}

/** In a random direction in which there is room. */
function pushAnyhow() {
  const [x, y] = control.observation;
  let way;
  for (let attempt = 0; attempt < 20; attempt++) {
    const angle = 2 * Math.PI * Math.random();
    way = [pushes.button * Math.cos(angle), pushes.button * Math.sin(angle)];
    const target = [x + 0.6 * way[0], y + 0.6 * way[1]];
    if (Math.hypot(...place(layout(), target).map((value, k) => value - target[k])) < 0.15) break;
  }
  pushBall(way);
}

function reset() {
  stop();
  begin({ start: state.start });
  showHandles();
  plan();
}

// ---- What can be taken hold of ----

function showHandles() {
  const at = spoken;
  const drag = (set) => (point) => {
    set(point);
    showHandles();
    draw();
  };
  const resting = {
    move: drag((point) => {
      state.start = place(layout(), point);
      control?.place(state.start);
    }),
    drop() {
      begin({ start: state.start });
      saveState();
      plan();
    },
    tap() {},
  };
  const rolling = {
    grab: () => (arrow = [[...control.observation], [...control.observation]]),
    move(point) {
      const [x, y] = control.observation;
      const length = Math.hypot(point[0] - x, point[1] - y);
      const part = Math.min(1, pushes.longest / length);
      arrow = [
        [x, y],
        [x + part * (point[0] - x), y + part * (point[1] - y)],
      ];
    },
    drop() {
      const [[x, y], [u, v]] = arrow ?? [control.observation, control.observation];
      arrow = null;
      pushBall([u - x, v - y]);
    },
    tap: () => (arrow = null),
  };
  const ball = control?.observation ?? state.start;
  handles.set([
    ...state.discs.map((disc, k) => ({
      id: `disc${k}`,
      at: disc,
      radius: disc[2],
      label: `Obstacle, ${at(disc)}: drag to move, tap to remove`,
      move: drag(([x, y]) => disc.splice(0, 2, round(x), round(y))),
      drop: afterDrawing,
      tap: () => remove('discs', k),
      remove: () => remove('discs', k),
      grow(by) {
        disc[2] = bounded(radii, round(disc[2] + 0.1 * by));
        afterDrawing();
      },
    })),
    ...state.via.map((point, k) => ({
      id: `via${k}`,
      at: point,
      label: `Way-point, ${at(point)}: drag to move, tap to remove`,
      move: drag((to) => point.splice(0, 2, ...place(layout(), to))),
      drop: afterDrawing,
      tap: () => remove('via', k),
      remove: () => remove('via', k),
    })),
    {
      id: 'goal',
      at: state.goal,
      radius: sizes.goal,
      label: `Goal, ${at(state.goal)}`,
      move: drag((point) => {
        state.goal = place(layout(), point);
        begin();
        planSoon();
      }),
      drop: afterDrawing,
      tap() {},
    },
    {
      id: 'ball',
      at: ball,
      label: `Ball, ${at(ball)}${running ? ': pull and let go to push it' : ''}`,
      ...(running ? rolling : resting),
    },
  ]);
  $('clear').hidden = !state.discs.length && !state.via.length;
}

const round = (value) => Math.round(value * 100) / 100;
const bounded = ([low, high], value) => Math.min(high, Math.max(low, value));

function remove(kind, k) {
  state[kind].splice(k, 1);
  afterDrawing();
}

function afterDrawing() {
  begin();
  saveState();
  showHandles();
  plan();
}

/** What a click in the maze does, or Enter under the cross. */
function act(point, radius) {
  if (tool === 'start') {
    state.start = place(layout(), point);
    saveState();
    return reset();
  }
  if (tool === 'goal') state.goal = place(layout(), point);
  else if (tool === 'via' && state.via.length < most) state.via.push(place(layout(), point));
  else if (tool === 'obstacle' && state.discs.length < most)
    state.discs.push([...point.map(round), bounded(radii, round(radius))]);
  afterDrawing();
}

const pointing = new Pointing(map, {
  draws: () => tool === 'obstacle',
  origin: () => state.goal,
  act,
  changed(isSpoken) {
    if (isSpoken) $('status').textContent = spoken(pointing.cross);
    draw();
  },
});

// ---- Address and controls ----

function saveState() {
  saveAddress((search) => formatState(state, search));
}

const inRows = (value) => (value ? `${value} ${value === 1 ? 'row' : 'rows'}` : 'none');
const words = {
  scale: (value) => (value ? String(value) : 'none'),
  uncertainty(_, state) {
    const { schedule, uncertainty } = scheduleOf(state);
    if (schedule === 'autoregressive') return 'one by one';
    return inRows(uncertainty);
  },
  interval: seconds,
  warm: inRows,
};

function showState() {
  for (const radio of document.querySelectorAll('[name=maze]'))
    radio.checked = radio.value === state.maze;
  $('seed').value = String(state.seed);
  $('uncertainty').max = String(state.steps);
  $('warm').max = String(state.steps - 1);
  for (const id of sliders) {
    const slider = $(id);
    const value = Math.min(state[id], Number(slider.max));
    const part = (value - Number(slider.min)) / (Number(slider.max) - Number(slider.min));
    slider.value = String(value);
    slider.style.setProperty('--part', `${100 * part}%`);
    $(`${id}-value`).textContent = words[id]?.(value, state) ?? String(value);
    slider.setAttribute('aria-valuetext', $(`${id}-value`).textContent);
  }
  // Without guidance there is nothing to average.
  $('futures').disabled = !state.scale;
  $('warm').disabled = Boolean(state.rolling);
  $('rolling').checked = Boolean(state.rolling);
}
const sliders = ['scale', 'futures', 'candidates', 'uncertainty', 'steps', 'interval', 'warm'];

/** Changes the state from a control and plans anew. */
function change(part) {
  state = { ...state, ...part };
  showState();
  saveState();
  planSoon();
}

function changeMaze(maze) {
  if (maze === state.maze) return;
  state = { ...state, maze, ...taskOf(maze) };
  showState();
  saveState();
  openMaze();
}

function changeTool(value) {
  tool = value;
  for (const radio of document.querySelectorAll('[name=tool]'))
    radio.checked = radio.value === tool;
  stage.classList.toggle('drawing', tool === 'obstacle');
  showHint();
}

const dice = () => change({ seed: Math.floor(Math.random() * (LIMITS.seed[1] + 1)) });

function replay() {
  stop();
  if (shown) player.load([shown], { playing: !still.matches, position: still.matches ? 1 : 0 });
}

function listen() {
  for (const radio of document.querySelectorAll('[name=maze]'))
    radio.addEventListener('change', () => changeMaze(radio.value));
  for (const radio of document.querySelectorAll('[name=tool]'))
    radio.addEventListener('change', () => changeTool(radio.value));
  for (const id of sliders)
    $(id).addEventListener('input', () => change({ [id]: Number($(id).value) }));
  $('rolling').addEventListener('change', () => change({ rolling: Number($('rolling').checked) }));
  $('seed').addEventListener('change', () =>
    change({ seed: Number($('seed').value.replace(/\D/g, '')) || 0 }),
  );
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  $('dice').addEventListener('click', dice);
  $('defaults').addEventListener('click', () => change({ ...defaults, maze: state.maze }));
  $('clear').addEventListener('click', () => {
    state.discs = [];
    state.via = [];
    afterDrawing();
  });
  $('run').addEventListener('click', run);
  $('push').addEventListener('click', pushAnyhow);
  $('reset').addEventListener('click', reset);
  $('replay').addEventListener('click', replay);
  $('scrub').addEventListener('input', () => {
    stop();
    player.seek(Number($('scrub').value) / Number($('scrub').max));
  });
  $('table').addEventListener('pointermove', (event) => choose(table.tokenAt(event, columns())));
  $('table').addEventListener('pointerleave', () => choose(-1));
  $('compare').addEventListener('click', compare);
  $('trial').addEventListener('click', trial);
  document.addEventListener('keydown', onKey);
  new ResizeObserver(() => requestAnimationFrame(draw)).observe($('map'));
}

const columns = () => ({ columns: (shown ?? making)?.columns ?? 1 });
function choose(token) {
  selected = token;
  player.dirty = true;
}

function onKey(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches('input[type=text]')) return;
  const activates = target.matches('button, summary, a, [type=checkbox], [type=radio]');
  if (activates && (key === ' ' || key === 'Enter')) return;
  const names = Object.keys(layouts);
  const perform = {
    ' ': () => !$('run').disabled && run(),
    p: () => !$('push').disabled && pushAnyhow(),
    r: () => !$('reset').disabled && reset(),
    c: replay,
    n: dice,
    1: () => changeMaze(names[0]),
    2: () => changeMaze(names[1]),
    3: () => changeMaze(names[2]),
    g: () => toMap('goal'),
    b: () => toMap('start'),
    o: () => toMap('obstacle'),
    w: () => toMap('via'),
  }[key.length === 1 ? key.toLowerCase() : key];
  if (!perform) return;
  event.preventDefault();
  perform();
}

function toMap(value) {
  changeTool(value);
  $('sheet').focus();
}

// ---- Comparison and trial ----

const comparison = new Comparison($('trio'), $('variant'));

/** At first when it comes into sight. */
function watchComparison() {
  const watch = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    watch.disconnect();
    if (!$('compare').disabled) compare();
  });
  watch.observe($('trio'));
}

async function compare() {
  $('compare').disabled = true;
  try {
    const { start, goal, via } = state;
    await comparison.run(model, settings(), { start, goal, via, discs: state.discs });
  } catch (error) {
    say(trouble(error), { aloud: true, trouble: true });
  }
  $('compare').disabled = false;
}

const luck = new Luck($('luck'), {
  canvas: $('trails'),
  tally: $('tally'),
  button: $('trial'),
});

async function trial() {
  try {
    await luck.run(model, async () => ((await getBall()) ? physics : null), {
      ...settings(),
      discs: [],
    });
  } catch (error) {
    say(trouble(error), { aloud: true, trouble: true });
  }
}

// ---- Start ----

async function boot() {
  say('Loading the model.');
  try {
    model = await load(MODEL, { onProgress: showProgress('Model') });
  } catch (error) {
    const retry = error?.code === 'NOT_SUPPORTED' ? null : boot;
    say(trouble(error), { aloud: true, trouble: true, retry });
    $('engine').textContent = '';
    return;
  } finally {
    $('progress').hidden = true;
  }
  say('', { aloud: true });
  showEngine();
  openMaze();
  watchComparison();
}

startTheme($('theme'), () => {
  player.dirty = true;
  if (map.layout) draw();
  comparison.draw();
  luck.draw();
});
showState();
changeTool('goal');
openMaze();
listen();
boot();
