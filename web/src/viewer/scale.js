// Axes: ranges, round ticks, numbers as people write them.

/**
 * A range that grows with what it is shown and never shrinks, so that pictures do not jump.
 * @typedef {{ low: number, high: number }} Range
 */

/**
 * Round numbers within a range: multiples of 1, 2 or 5 times a power of ten.
 * @param {Range} range
 * @param {number} most  ticks wanted at most, at least 2
 * @returns {number[]}
 */
export function ticks({ low, high }, most) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [];
  const least = span / Math.max(1, most - 1);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least * (1 - 1e-9)) ?? power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // Multiples, not sums, and divided where that is exact: 0.3, not 0.30000000000000004.
  const inverse = Math.round(1 / step);
  return Array.from({ length: last - first + 1 }, (_, i) =>
    step < 1 ? (first + i) / inverse : (first + i) * step,
  );
}

/**
 * A number with so many digits that count, a real minus sign, and an exponent where it is very large
 * or small.
 * @param {number} value
 * @param {number} [digits]
 */
export function write(value, digits = 3) {
  if (!Number.isFinite(value)) return '·';
  const size = Math.abs(value);
  if (size === 0) return '0';
  const power = Math.floor(Math.log10(size));
  const text =
    power > 5 || power < -3
      ? value.toExponential(digits - 2).replace('e+', 'e')
      : value.toFixed(Math.max(0, digits - 1 - power));
  return text.replaceAll('-', '−');
}

/**
 * A tick as short as it can be: 0.5, 20, 1500, 2e6.
 * @param {number} value
 */
export function writeTick(value) {
  const size = Math.abs(value);
  const text =
    size !== 0 && (size >= 1e5 || size < 1e-3)
      ? Number(value.toPrecision(6)).toExponential().replace('e+', 'e')
      : String(Number(value.toPrecision(6)));
  return text.replaceAll('-', '−');
}

/**
 * Where almost all values of a field lie, before any has been seen.
 * @param {{ mean: number, std: number, binary: boolean }} field
 * @returns {Range}
 */
export function usual({ mean, std, binary }) {
  return binary ? { low: -0.2, high: 1.2 } : { low: mean - 2.3 * std, high: mean + 2.3 * std };
}

/**
 * Widens a range so that it holds a value.
 * @param {Range} range
 * @param {number} value
 */
export function include(range, value) {
  if (value < range.low) range.low = value;
  if (value > range.high) range.high = value;
}

/**
 * Both ranges about the same centres, widened until a unit is as long on both sides of a box.
 * @param {Range} x
 * @param {Range} y
 * @param {number} width
 * @param {number} height
 * @returns {[Range, Range]}
 */
export function sameUnit(x, y, width, height) {
  const unit = Math.max((x.high - x.low) / width, (y.high - y.low) / height);
  const about = (/** @type {Range} */ range, /** @type {number} */ size) => {
    const middle = (range.low + range.high) / 2;
    return { low: middle - (unit * size) / 2, high: middle + (unit * size) / 2 };
  };
  return [about(x, width), about(y, height)];
}

/**
 * Fields that can share an axis, in groups: theirs are ranges of like size and place.
 * @param {{ mean: number, std: number, binary: boolean }[]} fields
 * @returns {number[][]}
 */
export function groupByScale(fields) {
  /** @type {number[][]} */
  const groups = [];
  fields.forEach((field, i) => {
    const range = usual(field);
    const size = range.high - range.low;
    const fits = groups.find(([first]) => {
      const other = usual(fields[first]);
      const otherSize = other.high - other.low;
      const overlap = Math.min(range.high, other.high) - Math.max(range.low, other.low);
      return (
        Math.max(size, otherSize) < 4 * Math.min(size, otherSize) &&
        overlap > 0.3 * Math.min(size, otherSize)
      );
    });
    if (fits) fits.push(i);
    else groups.push([i]);
  });
  return groups;
}
