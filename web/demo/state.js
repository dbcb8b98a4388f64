// What the visitor has chosen, kept in the address: ?seed=7&schedule=pyramid&steps=50... `ink`
// holds the strokes that the visitor gave: x, y (sheet units), pen lifted after this point; flat.

export const SCHEDULES = ['autoregressive', 'pyramid', 'full-sequence'];
export const LIMITS = { steps: [4, 100], uncertainty: [0, 20], eta: [0, 1], seed: [0, 999999] };

export const defaults = {
  seed: 17,
  sequence: 0, // of the seed: 0, or which character of the gallery
  schedule: 'pyramid',
  steps: 50,
  uncertainty: 10,
  eta: 0,
  compare: false,
  /** @type {number[] | null} */ ink: null,
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

// 23.18.60.20_40.5.40.90: x.y.x.y of each stroke.
function formatInk(frames) {
  let text = '';
  for (let i = 0; i < frames.length; i += 3)
    text += `${frames[i]}.${frames[i + 1]}${frames[i + 2] ? '_' : '.'}`;
  return text.replace(/[._]$/, frames.at(-1) ? '' : '~'); // ~: the last stroke goes on
}

function parseInk(text) {
  if (!text || !/^-?\d{1,3}\.-?\d{1,3}([._]-?\d{1,3}\.-?\d{1,3})*~?$/.test(text)) return null;
  const goesOn = text.endsWith('~');
  const strokes = text
    .replace('~', '')
    .split('_')
    .map((stroke) => stroke.split('.').map(Number));
  return strokes.flatMap((numbers, s) =>
    numbers.flatMap((y, i) => {
      const isLast = i === numbers.length - 1;
      const lifted = isLast && !(goesOn && s === strokes.length - 1);
      return i % 2 ? [numbers[i - 1], y, Number(lifted)] : [];
    }),
  );
}
