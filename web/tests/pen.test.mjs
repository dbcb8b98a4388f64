// What the model gets of a visitor's strokes, and what the address keeps of them.
import assert from 'node:assert/strict';
import test from 'node:test';
import { importance, inkOf } from '../demo/pen.js';
import { defaults, formatState, parseState } from '../demo/state.js';

const along = (n, point) => Array.from({ length: n }, (_, i) => point(i / (n - 1)));
const level = along(40, (u) => ({ x: 20 + 60 * u, y: 30 }));
const hook = along(60, (u) => ({ x: 50, y: 10 + 80 * u })).concat([{ x: 42, y: 84 }]);
const bow = along(80, (u) => ({ x: 20 + 60 * u, y: 70 - 30 * Math.sin(Math.PI * u) }));

const pens = (frames) => frames.filter((_, i) => i % 3 === 2).join('');

test('ramer_douglas_peucker_keeps_ends_and_corners', () => {
  const keep = importance(hook);
  assert.equal(keep[0], Infinity);
  assert.equal(keep.at(-1), Infinity);
  assert.ok(keep[59] > 1, 'the corner');
  assert.equal(keep.filter((v) => v > 1).length, 3);
});

test('strokes_become_whole_tokens', () => {
  const point = [{ x: 3, y: 4 }];
  for (const strokes of [[level], [hook], [bow], [level, hook], [level, hook, bow], [point]]) {
    const frames = inkOf(strokes, 4, 72);
    assert.equal((frames.length / 3) % 4, 0);
    assert.equal(pens(frames).match(/1/g).length, strokes.length, 'one lifted pen for each stroke');
    assert.ok(pens(frames).endsWith('1'));
  }
  assert.equal(inkOf([], 4, 72), null);
  assert.equal(inkOf([[]], 4, 72), null);
});

test('strokes_keep_their_ends', () => {
  const frames = inkOf([level, hook], 4, 72);
  const first = pens(frames).indexOf('1') * 3;
  assert.deepEqual(frames.slice(0, 2), [20, 30]);
  assert.deepEqual(frames.slice(first, first + 2), [80, 30]);
  assert.deepEqual(frames.slice(first + 3, first + 5), [50, 10]);
  assert.deepEqual(frames.slice(-3), [42, 84, 1]);
});

test('no_more_frames_than_the_model_has_room_for', () => {
  const many = along(30, (u) =>
    along(20, (v) => ({ x: 10 + 80 * v, y: 100 * u + 8 * Math.sin(9 * v) })),
  );
  assert.equal(inkOf(many, 4, 72).length, 72 * 3);
});

test('the_address_restores_the_state', () => {
  const state = {
    ...defaults,
    seed: 123,
    sequence: 4,
    schedule: 'autoregressive',
    steps: 20,
    uncertainty: 0.5,
    eta: 0.25,
    compare: true,
    ink: inkOf([level, hook], 4, 72),
    row: 17,
  };
  assert.deepEqual(parseState(formatState(state, '')), state);
  assert.deepEqual(parseState(formatState(defaults, '')), defaults);
});

test('the_address_knows_of_a_stroke_that_goes_on', () => {
  const ink = [10, 20, 0, 30, 20, 1, 5, -3, 0, 60, 109, 0];
  const address = formatState({ ...defaults, ink }, '');
  assert.match(address, /ink=10.20.30.20_5.-3.60.109%7E/);
  assert.deepEqual(parseState(address).ink, ink);
});

test('the_address_keeps_what_else_it_says', () => {
  assert.match(formatState(defaults, '?build=simd&row=3'), /^\?build=simd&seed=\d+$/);
});

test('nonsense_in_the_address_is_ignored', () => {
  const bad = '?seed=x&steps=1e9&eta=-1&schedule=up&ink=1.2_;&row=-4&uncertainty=NaN';
  const expected = { ...defaults, steps: 100, eta: 0, row: 0 };
  assert.deepEqual(parseState(bad), expected);
});
