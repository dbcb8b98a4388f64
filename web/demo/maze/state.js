// What the visitor has chosen, kept in the address:
// ?maze=medium&seed=7&start=1,1&goal=6,6&discs=3,2.8,0.4_4,4,0.3&via=2,2&futures=4...

import { layouts } from '../../../models/maze2d/layouts.js';
import { defaults as controlDefaults } from './control.js';
import { place } from './geometry.js';

export const LIMITS = {
  seed: [0, 999999],
  scale: [0, 10],
  futures: [1, 16],
  uncertainty: [0, 40],
  steps: [2, 40],
  candidates: [1, 16],
  interval: [16, 256],
  warm: [0, 39],
  rolling: [0, 1],
};
/** Of a drawn obstacle. */
export const radii = [0.15, 1.5];
/** Obstacles or way-points, at most. */
export const most = 8;

/** Where the ball starts: far from the maze's own goal. */
const starts = { umaze: [3, 1], medium: [1, 1], large: [1, 1] };

/** One with which plans of the three mazes arrive as they are opened. */
const seed = 7;
const { scale, futures, steps, candidates, interval, warm, schedule, uncertainty } =
  controlDefaults;
/** The schedules in one number: rows by which a token starts behind the one before it. */
const delays = { 'full-sequence': 0, pyramid: uncertainty, autoregressive: steps };

export const defaults = {
  maze: 'large',
  ...{ seed, scale, futures, steps, candidates, interval, warm, uncertainty: delays[schedule] },
  rolling: 0,
};

/**
 * @typedef {typeof defaults & {
 *   start: number[], goal: number[], discs: number[][], via: number[][],
 * }} State
 */

/** Start and goal of a maze as it is opened. */
export const taskOf = (maze) => ({
  start: starts[maze],
  goal: [...layouts[maze].goal],
  discs: [],
  via: [],
});

/** @returns {State} whatever is missing or makes no sense takes its default */
export function parseState(search) {
  const given = new URLSearchParams(search);
  const state = { ...defaults };
  if (Object.hasOwn(layouts, given.get('maze') ?? '')) state.maze = given.get('maze');
  for (const [key, [low, high]] of Object.entries(LIMITS)) {
    const value = given.has(key) ? Number(given.get(key)) : NaN;
    if (!Number.isFinite(value)) continue;
    const bounded = Math.min(high, Math.max(low, value));
    state[key] = ['scale', 'uncertainty'].includes(key) ? bounded : Math.round(bounded);
  }
  const layout = layouts[state.maze];
  const own = taskOf(state.maze);
  const points = (key, size) =>
    (given.get(key) ?? '')
      .split('_')
      .map((text) => text.split(',').map(Number))
      .filter((numbers) => numbers.length === size && numbers.every(Number.isFinite));
  const spot = (key) => points(key, 2).map((point) => place(layout, point))[0] ?? own[key];
  return {
    ...state,
    start: spot('start'),
    goal: spot('goal'),
    discs: points('discs', 3).slice(0, most),
    via: points('via', 2)
      .slice(0, most)
      .map((point) => place(layout, point)),
  };
}

/** The address of a state: what differs from the defaults, and whatever else stood there. */
export function formatState(state, search) {
  const text = new URLSearchParams(search);
  const own = taskOf(state.maze);
  const set = (key, value, otherwise) =>
    value === otherwise ? text.delete(key) : text.set(key, value);
  for (const key of Object.keys(defaults)) set(key, String(state[key]), String(defaults[key]));
  for (const key of ['start', 'goal']) set(key, state[key].join(), own[key].join());
  for (const key of ['discs', 'via'])
    set(key, state[key].map((numbers) => numbers.join()).join('_'), '');
  return `?${text}`.replaceAll('%2C', ',');
}

/** The schedule that a delay between tokens makes, and what else goes with it. */
export function scheduleOf({ uncertainty, steps, rolling }) {
  if (rolling) {
    const rows = Math.min(steps, Math.max(1, Math.round(uncertainty)));
    return { schedule: 'rolling', uncertainty: rows, warm: 0 };
  }
  if (uncertainty <= 0) return { schedule: 'full-sequence', uncertainty: 0 };
  if (uncertainty >= steps) return { schedule: 'autoregressive', uncertainty: steps };
  return { schedule: 'pyramid', uncertainty };
}
