// What an element was told, by its attributes and by the page's address, as options of a sampler.

export const schedules = /** @type {const} */ ([
  'autoregressive',
  'pyramid',
  'trapezoid',
  'full-sequence',
]);

/**
 * @typedef {object} Settings
 * @property {string} seed  digits
 * @property {string} schedule
 * @property {number} steps
 * @property {number} uncertainty
 */

/** Attributes that the address may set too: a state of the viewer that can be linked. */
export const linked = /** @type {const} */ (['seed', 'schedule', 'steps', 'uncertainty']);

/** What is wrong with an attribute; the message is a sentence for the page. */
export class SettingError extends Error {}

/**
 * The model file of an address: a folder has it as model.safetensors, and a repository on Hugging
 * Face gives its files out below resolve/.
 * @param {string} address
 * @param {string} base
 */
export function modelUrl(address, base) {
  const url = new URL(address, base);
  if (url.pathname.endsWith('.safetensors')) return url.href;
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  if (url.hostname === 'huggingface.co' && /^\/[^/]+\/[^/]+\/$/.test(url.pathname))
    url.pathname += 'resolve/main/';
  return new URL('model.safetensors', url).href;
}

/**
 * The name of an attribute's parameter in the address. With several viewers on a page an id tells
 * them apart: ?left-seed=7
 * @param {string} id
 * @param {string} name
 */
export function parameter(id, name) {
  return id ? `${id}-${name}` : name;
}

/**
 * An address with the settings that differ from those of the page itself.
 * @param {string} href
 * @param {string} id
 * @param {Settings} settings
 * @param {Settings} plain  without any parameters
 */
export function addressOf(href, id, settings, plain) {
  const url = new URL(href);
  for (const name of linked) {
    if (String(settings[name]) === String(plain[name]))
      url.searchParams.delete(parameter(id, name));
    else url.searchParams.set(parameter(id, name), String(settings[name]));
  }
  return url.href;
}

/**
 * Settings from texts, the model's defaults where there is none. A text that makes no sense throws
 * if it is an attribute; in the address it is passed over, for a visitor cannot mend it.
 * @param {(name: string) => string | null} attribute
 * @param {(name: string) => string | null} address
 * @param {{ schedule: string, steps: number, uncertainty: number }} defaults
 * @param {number} levels  of the model: steps at most
 * @returns {Settings}
 */
export function readSettings(attribute, address, defaults, levels) {
  /**
   * @template T
   * @param {string} name
   * @param {(text: string) => T | null} parse
   * @param {string} expected
   * @param {T} other
   * @returns {T}
   */
  const get = (name, parse, expected, other) => {
    const asked = address(name);
    const good = asked === null ? null : parse(asked);
    if (good !== null) return good;
    const text = attribute(name);
    if (text === null) return other;
    const value = parse(text);
    if (value === null)
      throw new SettingError(`The attribute ${name}: expected ${expected}, found "${text}".`);
    return value;
  };
  const within =
    (/** @type {number} */ low, /** @type {number} */ high, whole = false) =>
    (/** @type {string} */ text) => {
      const value = text.trim() === '' ? NaN : Number(text);
      return value >= low && value <= high && !(whole && value % 1) ? value : null;
    };
  const steps = get(
    'steps',
    within(1, levels, true),
    `1 to ${levels}`,
    Math.min(defaults.steps, levels),
  );
  return {
    seed: get('seed', readSeed, 'a whole number from 0', '0'),
    schedule: get(
      'schedule',
      (text) => (/** @type {readonly string[]} */ (schedules).includes(text) ? text : null),
      schedules.join(', '),
      defaults.schedule,
    ),
    steps,
    uncertainty: get(
      'uncertainty',
      within(0, steps),
      `0 to ${steps}, the steps`,
      Math.min(defaults.uncertainty, steps),
    ),
  };
}

/**
 * A seed as digits without zeros in front; null: it is none.
 * @param {string} text
 */
export function readSeed(text) {
  if (!/^\s*\d{1,20}\s*$/.test(text)) return null;
  const seed = BigInt(text);
  return BigInt.asUintN(64, seed) === seed ? String(seed) : null;
}

/**
 * An attribute that holds JSON, or the address of some. null: there is none.
 * @param {string} name
 * @param {string | null} text
 * @param {string} base
 * @returns {Promise<any>}
 */
export async function readJson(name, text, base) {
  if (text === null || text.trim() === '') return null;
  const inPlace = /^\s*[[{]/.test(text);
  let json = text;
  if (!inPlace) {
    const url = new URL(text, base).href;
    const response = await fetch(url).catch((/** @type {Error} */ cause) => {
      throw new SettingError(
        `The attribute ${name}: ${url} could not be loaded (${cause.message}).`,
      );
    });
    if (!response.ok)
      throw new SettingError(`The attribute ${name}: ${url} answers ${response.status}.`);
    json = await response.text();
  }
  try {
    return JSON.parse(json);
  } catch (cause) {
    const where = inPlace ? '' : ` of ${text}`;
    throw new SettingError(
      `The attribute ${name}: the JSON${where} has a mistake (${/** @type {Error} */ (cause).message}).`,
    );
  }
}

/**
 * Known frames by the token they start at: a list starts at the first one, an object names them.
 * @param {any} json  [frame, ...] or { "0": [frame, ...], "12": [frame] }
 * @returns {[number, any][]}
 */
export function keptFrames(json) {
  if (json === null) return [];
  if (Array.isArray(json)) return [[0, json]];
  return Object.entries(json).map(([token, frames]) => {
    if (/^\d+$/.test(token) && Array.isArray(frames)) return [Number(token), frames];
    throw new SettingError(
      `The attribute keep: expected lists of frames by the number of a token, found "${token}".`,
    );
  });
}

/**
 * Conditions of T tokens: one row is meant for all of them.
 * @param {any} json
 * @param {number} size  numbers of a token's condition
 * @param {number} tokens
 * @returns {number[]}
 */
export function conditionRows(json, size, tokens) {
  const numbers = (Array.isArray(json) ? json : [json]).flat();
  if (numbers.length === size) return Array.from({ length: tokens }, () => numbers).flat();
  if (numbers.length < size * tokens)
    throw new SettingError(
      `The attribute condition: expected ${size} numbers for all tokens or ${size} for each of ` +
        `${tokens}, found ${numbers.length} in all.`,
    );
  return numbers.slice(0, size * tokens);
}
