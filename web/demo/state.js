// What the visitor has chosen, kept in the address: ?seed=7&schedule=pyramid&steps=50...
// `ink` holds the strokes that the visitor gave: where the pen first came down (sheet units) and the frames from there.

export const SCHEDULES = ['autoregressive', 'pyramid', 'full-sequence'];
export const LIMITS = { steps: [4, 100], uncertainty: [0, 10], eta: [0, 1], seed: [0, 999999] };

/**
 * @typedef {object} Ink
 * @property {number} x
 * @property {number} y
 * @property {number[]} frames  dx, dy, pen lifted after this point; flat
 */
export const defaults = {
  seed: 7,
  sequence: 0, // of the seed: 0, or which character of the gallery
  schedule: 'pyramid',
  steps: 50,
  uncertainty: 2,
  eta: 0,
  compare: false,
  /** @type {Ink | null} */ ink: null,
  /** @type {number | null} */ row: null, // where the playhead stands, if it was stopped
};

const between = ([low, high], value, otherwise) =>
  Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;

/** State from location.search; whatever is missing or makes no sense takes its default. */
export function parseState(search) {
  const given = new URLSearchParams(search);
  const number = (key) => (given.has(key) ? Number(given.get(key)) : NaN);
  const state = { ...defaults };
  for (const key of Object.keys(LIMITS))
    state[key] = between(LIMITS[key], number(key), defaults[key]);
  state.seed = Math.round(state.seed);
  state.steps = Math.round(state.steps);
  state.sequence = Math.round(between([0, 9999], number('sequence'), 0));
  if (SCHEDULES.includes(given.get('schedule'))) state.schedule = given.get('schedule');
  state.compare = given.get('compare') === '1';
  state.ink = parseInk(given.get('ink'));
  state.row = given.has('row') ? Math.round(between([0, 1e5], number('row'), 0)) : null;
  return state;
}

/** True if the address says anything about the state. */
export const hasState = (search) =>
  [...new URLSearchParams(search).keys()].some((key) => key in defaults);

/** The address of a state: what differs from the defaults, and whatever else stood there. */
export function formatState(state, search) {
  const text = new URLSearchParams(search);
  const set = (key, value) => (value === null ? text.delete(key) : text.set(key, value));
  for (const key of ['seed', 'sequence', 'schedule', 'steps', 'uncertainty', 'eta'])
    set(key, state[key] === defaults[key] && key !== 'seed' ? null : String(state[key]));
  set('compare', state.compare ? '1' : null);
  set('ink', state.ink && formatInk(state.ink));
  set('row', state.row === null ? null : String(state.row));
  return `?${text}`;
}

// 23.18_0.0.26.-4_... : where the pen came down, then dx.dy.dx.dy of each stroke.
function formatInk({ x, y, frames }) {
  let text = `${Math.round(x)}.${Math.round(y)}_`;
  for (let i = 0; i < frames.length; i += 3) {
    const end = frames[i + 2] && i + 3 < frames.length ? '_' : '.';
    text += `${frames[i]}.${frames[i + 1]}${end}`;
  }
  return text.slice(0, -1);
}

function parseInk(text) {
  if (
    !text ||
    !/^-?\d{1,3}\.-?\d{1,3}(_-?\d{1,3}\.-?\d{1,3}(\.-?\d{1,3}\.-?\d{1,3})*)+$/.test(text)
  )
    return null;
  const [start, ...strokes] = text.split('_').map((part) => part.split('.').map(Number));
  const frames = strokes.flatMap((s) =>
    s.flatMap((v, i) => (i % 2 ? [s[i - 1], v, Number(i === s.length - 1)] : [])),
  );
  return { x: start[0], y: start[1], frames };
}
