// Ink: pen points become brush strokes on a canvas. Lengths are in sheet units; the sheet is SHEET
// units wide, which is the size of KanjiVG's box and so the scale of the data.

export const SHEET = 109;
const BRUSH = 2.5; // radius at full pressure
const CORNER = 1.05; // a turn sharper than this (radians) stays a corner

/**
 * @typedef {{x: number, y: number, token: number}} Point
 * @typedef {{points: Point[], ended: boolean}} Stroke  ended: the pen was lifted after the last
 *   point
 */

/**
 * The strokes of a moment, cut where the pen is lifted. The model counts from the middle of the
 * sheet.
 * @param {import('./run.js').Moment} moment
 * @param {Float32Array} values  moment.tokens or moment.estimate
 * @returns {Stroke[]}
 */
export function trace({ run: { F, C }, levels, frames }, values) {
  const strokes = [];
  let stroke = null;
  for (let t = 0; t < levels.length && levels[t] <= 1; t++)
    for (let f = 0; f < frames[t]; f++) {
      const i = (t * F + f) * C;
      if (!stroke) strokes.push((stroke = { points: [], ended: false }));
      stroke.points.push({ x: values[i] + SHEET / 2, y: values[i + 1] + SHEET / 2, token: t });
      if (values[i + 2] > 0.5) {
        stroke.ended = true;
        stroke = null;
      }
    }
  return strokes;
}

// ---- The brush ----

/**
 * A smooth curve through the points of a stroke (cubic Hermite, corners kept), sampled evenly.
 * `s` is the way from the
 * start, `slope` 0 where the curve runs level and 1 where it runs upright.
 * @param {Point[]} points
 */
function curve(points, spacing) {
  const n = points.length;
  const samples = [{ x: points[0].x, y: points[0].y, s: 0, slope: 1, token: points[0].token }];
  const chord = (i) => Math.atan2(points[i + 1].y - points[i].y, points[i + 1].x - points[i].x);
  const turn = (i) => {
    const d = chord(i) - chord(i - 1);
    return Math.atan2(Math.sin(d), Math.cos(d));
  };
  const smooth = (i) => i > 0 && i < n - 1 && Math.abs(turn(i)) < CORNER;
  let s = 0;
  for (let i = 0; i + 1 < n; i++) {
    const a = points[i];
    const b = points[i + 1];
    const length = Math.hypot(b.x - a.x, b.y - a.y);
    const out = chord(i) - (smooth(i) ? turn(i) / 2 : 0);
    const into = chord(i) + (smooth(i + 1) ? turn(i + 1) / 2 : 0);
    const steps = Math.max(1, Math.ceil(length / spacing));
    let { x: px, y: py } = a;
    for (let k = 1; k <= steps; k++) {
      const u = k / steps;
      const h = u * u * (3 - 2 * u);
      const h0 = u * (1 - u) * (1 - u) * length;
      const h1 = u * u * (u - 1) * length;
      const x = a.x + (b.x - a.x) * h + Math.cos(out) * h0 + Math.cos(into) * h1;
      const y = a.y + (b.y - a.y) * h + Math.sin(out) * h0 + Math.sin(into) * h1;
      const way = Math.hypot(x - px, y - py);
      s += way;
      const slope = way > 0 ? Math.abs(y - py) / way : 1;
      samples.push({ x, y, s, slope, token: b.token });
      [px, py] = [x, y];
    }
  }
  return samples;
}

/** How the brush leaves the paper: its pressure, given the way left and the whole way. */
function ending({ points, ended }, total) {
  const n = points.length;
  if (!ended || n < 2) return () => 1;
  const dx = points[n - 1].x - points[n - 2].x;
  const dy = points[n - 1].y - points[n - 2].y;
  const last = Math.hypot(dx, dy) || 1;
  const ease = (v) => Math.sin((Math.min(1, Math.max(0, v)) * Math.PI) / 2);
  if (n > 2 && last < 14 && total > 2.2 * last) {
    const ex = points[n - 2].x - points[n - 3].x;
    const ey = points[n - 2].y - points[n - 3].y;
    if ((dx * ex + dy * ey) / (last * (Math.hypot(ex, ey) || 1)) < 0.35)
      return (left) => 0.1 + 0.9 * ease(left / last); // a hook, flicked
  }
  if (dx < -0.35 * last && dy > 0.3 * last)
    return (left) => 0.12 + 0.88 * ease(left / (0.6 * total)); // swept to the lower left
  if (dx > 0.5 * last && dy > 0.3 * last && total > 22)
    return (left) => {
      const swell = 1 + 0.4 * Math.exp(-(((left / total - 0.24) / 0.2) ** 2));
      return swell * (0.08 + 0.92 * ease(left / (0.22 * total))); // pressed, then swept to the lower right
    };
  return (left) => 0.9 + 0.1 * Math.min(1, left / 2) + 0.12 * Math.exp(-(((left - 2.5) / 3) ** 2)); // stopped
}

/** Brush radius along a stroke; thinner where it runs level, pressed at its start. */
function press(stroke, samples) {
  const total = samples[samples.length - 1].s;
  const lift = ending(stroke, total);
  let slope = samples[Math.min(1, samples.length - 1)].slope;
  return samples.map((p) => {
    slope += (p.slope - slope) * 0.12;
    const head = 0.8 + 0.2 * Math.min(1, p.s / 2.5) + 0.1 * Math.exp(-(((p.s - 2) / 3) ** 2));
    return BRUSH * (0.66 + 0.34 * slope) * head * lift(total - p.s);
  });
}

// Calls part(token, from, to) for each run of samples that belongs to one token, `from` one before
// it so that they join.
function parts(samples, part) {
  for (let i = 0; i < samples.length;) {
    const { token } = samples[i];
    let end = i + 1;
    while (end < samples.length && samples[end].token === token) end++;
    part(token, Math.max(0, i - 1), end);
    i = end;
  }
}

/**
 * One stroke. Each token's part is one filled path, so that nothing darkens where the stamps of
 * the brush overlap.
 * @param {CanvasRenderingContext2D} ctx  scaled to sheet units
 * @param {Stroke} stroke
 * @param {(token: number) => {noise: number, colour: string}} look
 * @param {number} spacing  of the stamps
 */
export function paint(ctx, stroke, look, spacing) {
  const samples = curve(stroke.points, spacing);
  const radius = press(stroke, samples);
  parts(samples, (token, from, to) => {
    const { noise, colour } = look(token);
    const opacity = (1 - noise) ** 2;
    if (opacity < 0.01) return;
    ctx.fillStyle = colour;
    ctx.globalAlpha = opacity;
    ctx.beginPath();
    for (let k = from; k < to; k++) {
      const r = radius[k] * (1 - 0.5 * noise);
      ctx.moveTo(samples[k].x + r, samples[k].y);
      ctx.arc(samples[k].x, samples[k].y, r, 0, 7);
    }
    ctx.fill();
  });
  ctx.globalAlpha = 1;
}

/**
 * The mist around noisy tokens: it widens and thins with the level. Meant for a small canvas that
 * is then enlarged.
 */
export function mist(ctx, stroke, look) {
  const rings = 4;
  for (let ring = rings; ring > 0; ring--)
    line(
      ctx,
      stroke,
      (token) => {
        const { noise, colour } = look(token);
        ctx.strokeStyle = colour;
        ctx.globalAlpha = 0.1 * Math.min(1, noise * 4) * (1.08 - noise);
        ctx.lineWidth = 2 * BRUSH * (0.6 + (3.4 / rings) * ring * noise);
        return noise > 0.01;
      },
      5,
    );
  ctx.globalAlpha = 1;
}

/**
 * The line of a stroke without a brush, token by token; `style(token)` readies the context, or
 * returns false to skip.
 */
export function line(ctx, stroke, style, spacing) {
  const samples = curve(stroke.points, spacing);
  parts(samples, (token, from, to) => {
    if (!style(token)) return;
    ctx.beginPath();
    for (let k = from; k < to; k++) ctx.lineTo(samples[k].x, samples[k].y);
    ctx.stroke();
  });
}
