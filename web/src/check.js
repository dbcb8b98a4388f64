// Checks of types: what the wasm side cannot see. Ranges are checked there.
/** @import { Field, Frame, Guidance, SamplerOptions, Values } from './types.js' */
import { DfError, badArgument } from './errors.js';

const kinds = {
  maxLength: 'number',
  steps: 'number',
  uncertainty: 'number',
  eta: 'number',
  stabilization: 'number',
  batch: 'number',
  sequence: 'number',
  threads: 'number',
  ahead: 'number',
  schedule: 'string',
  weights: 'string',
  grid: 'string',
  ancestral: 'boolean',
  posterior: 'boolean',
  allowRenoise: 'boolean',
  allowPartial: 'boolean',
};
const others = ['length', 'seed', 'table', 'conditions', 'signal'];

/**
 * @param {SamplerOptions} options
 * @returns {SamplerOptions} a copy that can be sent to a worker
 */
export function checkOptions(options) {
  if (typeof options !== 'object' || !options) throw badArgument('options', 'an object', options);
  /** @type {any} */
  const out = {};
  for (const [name, value] of Object.entries(options)) {
    const kind = kinds[/** @type {keyof typeof kinds} */ (name)];
    if (!kind && !others.includes(name)) {
      throw badArgument(
        'options',
        `some of ${[...Object.keys(kinds), ...others].join(', ')}`,
        name,
      );
    }
    if (value === undefined || name === 'signal' || name === 'conditions') continue;
    if (kind && (typeof value !== kind || Number.isNaN(value)))
      throw badArgument(name, `a ${kind}`, value);
    out[name] = value;
  }
  if (out.seed !== undefined) checkSeed(out.seed);
  if (out.table) {
    if (out.schedule !== undefined && out.schedule !== 'custom')
      throw badArgument('schedule', 'custom beside a table', out.schedule);
    out.schedule = 'custom';
    if (!(out.table instanceof Int32Array)) {
      out.length ??= out.table[0]?.length;
      out.table = checkTable(out.table, out.length);
    }
    if (!(out.table.length / out.length >= 1) || out.table.length % out.length) {
      throw badArgument('table', `rows of length ${out.length}`, `${out.table.length} entries`);
    }
  }
  // 0 and below have meanings of their own on the wasm side.
  if (out.maxLength < 1) throw badArgument('maxLength', 'a number of tokens', out.maxLength);
  const { length } = out;
  if (length !== undefined && length !== 'drawn' && !(typeof length === 'number' && length >= 1)) {
    throw badArgument('length', "a number of tokens, 'drawn' or Infinity", length);
  }
  return out;
}

/**
 * @param {any} rows
 * @param {number} length
 */
function checkTable(rows, length) {
  if (!Array.isArray(rows)) throw badArgument('table', 'an Int32Array or an array of rows', rows);
  for (const [m, row] of rows.entries()) {
    if (row?.length !== length) throw badArgument(`table[${m}]`, `${length} entries`, row?.length);
    for (const [t, level] of Array.from(row).entries()) {
      if (!Number.isInteger(level)) throw badArgument(`table[${m}][${t}]`, 'an integer', level);
    }
  }
  return Int32Array.from(rows.flatMap((row) => Array.from(row)));
}

/**
 * Guidance as the wasm side takes it: numbers in the order of its names, NaN where left out.
 * @typedef {object} Packed
 * @property {Float64Array} options
 * @property {Float64Array} terms  (count, numbers of a term)
 * @property {number} count
 * @property {boolean} objective  is there one on this side?
 */

/**
 * @param {Guidance} guidance
 * @param {readonly Field[]} fields of the model
 * @param {string[][]} names of its numbers, those of a term, kinds, shifts
 * @returns {Packed}
 */
export function checkGuidance(guidance, fields, [optionNames, termNames, kind, shift]) {
  const { terms = [], objective, ...options } = guidance ?? {};
  if (!Array.isArray(terms)) throw badArgument('terms', 'an array', terms);
  if (objective !== undefined && typeof objective !== 'function')
    throw badArgument('objective', 'a function', objective);
  if (!terms.length && !objective) throw badArgument('guide', 'terms or an objective', guidance);
  const x = fields.map(({ name }) => name);
  const words = { kind, shift, x, y: x };
  const packed = terms.flatMap((term, i) => pack(`terms[${i}]`, term, termNames, words));
  return {
    options: Float64Array.from(pack('guide', options, optionNames, words)),
    terms: Float64Array.from(packed),
    count: terms.length,
    objective: !!objective,
  };
}

/**
 * @param {string} what for messages
 * @param {any} given
 * @param {string[]} names in their order; one that stands twice is an array's
 * @param {Record<string, string[]>} words that stand for numbers
 * @returns {number[]}
 */
function pack(what, given, names, words) {
  if (typeof given !== 'object' || !given) throw badArgument(what, 'an object', given);
  for (const name in given)
    if (!names.includes(name)) throw badArgument(what, [...new Set(names)].join(', '), name);
  return names.map((name, i) => {
    const found = given[name];
    const first = names.indexOf(name);
    const room = names.lastIndexOf(name) - first + 1;
    const numbers = room > 1 ? [found].flat() : [found];
    const x = numbers[i - first];
    if (x === undefined && name !== 'kind' && (i > first || found === x)) return NaN;
    const place = words[name]?.indexOf(x);
    if (place >= 0) return place;
    const good = typeof x === 'number' && x === x && numbers.length <= room;
    if (good && name !== 'kind' && name !== 'shift') return x;
    const expected = words[name]?.join(', ') ?? (room > 1 ? 'a number or two' : 'a number');
    throw badArgument(`${what}.${name}`, expected, found);
  });
}

/**
 * What an objective has made of a sample's n numbers.
 * @param {any} result
 * @param {number} n
 * @returns {{ value: number, gradient: ArrayLike<number> }}
 */
export function checkObjective(result, n) {
  const { value, gradient } = result ?? {};
  if (typeof value !== 'number' || typeof gradient?.length !== 'number')
    throw badArgument('objective', '{ value: a number, gradient: numbers }', result);
  if (gradient.length !== n)
    throw new DfError(
      'BAD_SHAPE',
      `objective: expected a gradient of ${n} numbers, found ${gradient.length}`,
    );
  const wrong = [value, ...Array.from(gradient)].findIndex((x) => !Number.isFinite(Math.fround(x)));
  if (wrong >= 0) {
    const name = wrong ? `gradient[${wrong - 1}]` : 'value';
    throw new DfError('BAD_VALUE', `objective: ${name} is not a finite number`);
  }
  return result;
}

/** @param {unknown} seed */
export function checkSeed(seed) {
  const good =
    typeof seed === 'bigint'
      ? BigInt.asUintN(64, seed) === seed
      : Number.isSafeInteger(seed) && Number(seed) >= 0;
  if (!good)
    throw badArgument('seed', 'an integer from 0 (beyond 2^53 a BigInt, up to 2^64 - 1)', seed);
}

/**
 * @param {string} name
 * @param {unknown} value
 */
export function checkInteger(name, value) {
  if (!Number.isSafeInteger(value)) throw badArgument(name, 'an integer', value);
}

/**
 * Flattens values to float32, a whole number of pieces of names.length each.
 * @param {string} what for messages
 * @param {Values} values
 * @param {readonly string[]} names of the numbers of a piece
 * @returns {Float32Array}
 */
export function checkValues(what, values, names) {
  if (typeof values !== 'object' || values === null || !('length' in values)) {
    throw badArgument(what, 'an array of numbers', values);
  }
  const nested = typeof values[0] === 'object';
  const numbers = nested
    ? Array.from(/** @type {ArrayLike<any>} */ (values)).flatMap((piece, i) =>
        flatten(what, piece, i, names),
      )
    : /** @type {ArrayLike<number>} */ (values);
  if (!ArrayBuffer.isView(numbers)) {
    const wrong = Array.from(numbers).findIndex((x) => typeof x !== 'number');
    if (wrong >= 0) throw badArgument(`${what}[${wrong}]`, 'a number', numbers[wrong]);
  }
  if (numbers.length === 0 || numbers.length % names.length) {
    const expected = `${names.length} numbers (${names.join(', ')}) or a multiple`;
    throw new DfError('BAD_SHAPE', `${what}: expected ${expected}, found ${numbers.length}`);
  }
  return Float32Array.from(numbers);
}

/**
 * @param {string} what
 * @param {ArrayLike<number> | Frame} piece
 * @param {number} i
 * @param {readonly string[]} names
 */
function flatten(what, piece, i, names) {
  if (Array.isArray(piece) || ArrayBuffer.isView(piece)) {
    const numbers = /** @type {number[]} */ (piece);
    if (numbers.length !== names.length)
      throw new DfError(
        'BAD_SHAPE',
        `${what}[${i}]: expected ${names.length} numbers, found ${numbers.length}`,
      );
    return Array.from(numbers);
  }
  return names.map((name) => {
    const x = /** @type {Frame} */ (piece)?.[name];
    if (typeof x !== 'number') throw badArgument(`${what}[${i}].${name}`, 'a number', x);
    return x;
  });
}
