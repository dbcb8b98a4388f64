// How a model's frames are to be drawn: what its config says in "view", or what the names of its
// fields suggest.
/** @import { Field } from '../types.js' */

/** @typedef {'path' | 'strokes' | 'lines' | 'image' | 'table'} Kind */
/**
 * A view with everything decided. Fields go by their place in a frame.
 * @typedef {object} View
 * @property {Kind} kind
 * @property {number} x  path, strokes: field of the first coordinate
 * @property {number} y  of the second one
 * @property {number} pen  strokes: field that is 1 in the last frame of a stroke
 * @property {boolean} relative  path, strokes: x and y are steps from the frame before
 * @property {boolean} down  path, strokes: y grows downwards, as on a screen
 * @property {number[]} fields  lines, table: the fields shown
 * @property {number} width  image: pixels
 * @property {number} height
 * @property {number} channels  1: grey, 3: red, green, blue. Field (channel height + y) width + x
 * @property {[number, number] | null} range  image: values of black and white
 * @property {string} unit  of the numbers; may be empty
 */

export const kinds = /** @type {const} */ (['path', 'strokes', 'lines', 'image', 'table']);

/** As many fields are told apart as lines of a chart. */
const MOST_LINES = 6;

/** Names that two coordinates go by, best first; the last two are steps. */
const pairs = [
  ['x', 'y'],
  ['pos_x', 'pos_y'],
  ['position_x', 'position_y'],
  ['x_position', 'y_position'],
  ['px', 'py'],
  ['x0', 'y0'],
  ['lon', 'lat'],
  ['position_0', 'position_1'],
  ['dx', 'dy'],
  ['delta_x', 'delta_y'],
];
const isStep = (/** @type {string} */ name) => /^(d|delta_)[xy]$/.test(name);

/** What is wrong with a view; the message is a sentence for the page. */
export class ViewError extends Error {}

/**
 * @param {any} given  config.view, an element's attribute, or nothing
 * @param {readonly Pick<Field, 'name' | 'binary'>[]} fields  of a frame
 * @returns {View}
 */
export function chooseView(given, fields) {
  const names = fields.map(({ name }) => name);
  const known = names.map((name) => name.toLowerCase());
  const numeric = fields.flatMap(({ binary }, i) => (binary ? [] : [i]));
  const [x, y] = pairs
    .map((pair) => pair.map((name) => known.indexOf(name)))
    .find(([a, b]) => a >= 0 && b >= 0 && !fields[a].binary && !fields[b].binary) ?? [-1, -1];
  const pen = fields.findIndex(({ binary }) => binary);

  const wish = given ?? {};
  /** @type {Kind} */
  const kind = wish.kind ?? guess();
  if (!kinds.includes(kind))
    throw new ViewError(`view.kind: expected ${kinds.join(', ')}, found ${JSON.stringify(kind)}.`);

  /** @returns {Kind} */
  function guess() {
    if (wish.width && wish.height) return 'image';
    if (x >= 0) return pen >= 0 ? 'strokes' : 'path';
    return fields.length <= MOST_LINES ? 'lines' : 'table';
  }
  /**
   * The place of a field that the view names, or else the one that was found.
   * @param {string} key
   * @param {number} found
   */
  const place = (key, found) => {
    const at = wish[key] === undefined ? found : names.indexOf(wish[key]);
    if (at >= 0) return at;
    const what = wish[key] === undefined ? 'nothing' : JSON.stringify(wish[key]);
    throw new ViewError(
      `view.${key}: expected one of the fields ${names.join(', ')}, found ${what}.`,
    );
  };

  const planar = kind === 'path' || kind === 'strokes';
  /** @type {View} */
  const view = {
    kind,
    x: planar ? place('x', x >= 0 ? x : (numeric[0] ?? -1)) : -1,
    y: planar ? place('y', y >= 0 ? y : (numeric[1] ?? -1)) : -1,
    pen: kind === 'strokes' ? place('pen', pen) : -1,
    relative: false,
    down: wish.down ?? kind === 'strokes',
    fields: names.map((_, i) => i),
    width: wish.width ?? 0,
    height: wish.height ?? 0,
    channels: wish.channels ?? 1,
    range: wish.range ?? null,
    unit: wish.unit ?? '',
  };
  view.relative = planar && (wish.relative ?? (isStep(known[view.x]) && isStep(known[view.y])));
  if (Array.isArray(wish.fields))
    view.fields = wish.fields.map((/** @type {string} */ name, /** @type {number} */ i) => {
      const at = names.indexOf(name);
      if (at >= 0) return at;
      throw new ViewError(
        `view.fields[${i}]: expected one of ${names.join(', ')}, found "${name}".`,
      );
    });
  if (kind === 'image') checkImage(view, names.length);
  return view;
}

/**
 * @param {View} view
 * @param {number} count  fields of a frame
 */
function checkImage({ width, height, channels }, count) {
  if (channels !== 1 && channels !== 3)
    throw new ViewError(
      `view.channels: expected 1 (grey) or 3 (red, green, blue), found ${channels}.`,
    );
  if (width * height * channels !== count)
    throw new ViewError(
      `view: a picture of ${width} x ${height} with ${channels} channel${channels > 1 ? 's' : ''} ` +
        `has ${width * height * channels} numbers, a frame of this model has ${count}.`,
    );
}
