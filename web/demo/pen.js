// The visitor's pen: pointer strokes on the sheet become frames like those of the training data,
// which are polylines simplified by Ramer-Douglas-Peucker with epsilon 1 in sheet units.

const EPSILON = 1;

/**
 * For each point, the epsilon up to which Ramer-Douglas-Peucker keeps it; Infinity for the ends.
 * @param {{x: number, y: number}[]} points
 */
export function importance(points) {
  const keep = new Float64Array(points.length);
  keep[0] = keep[points.length - 1] = Infinity;
  const split = (a, b, limit) => {
    if (b - a < 2) return;
    const dx = points[b].x - points[a].x;
    const dy = points[b].y - points[a].y;
    const length = Math.hypot(dx, dy);
    let far = -1;
    let at = a + 1;
    for (let i = a + 1; i < b; i++) {
      const px = points[i].x - points[a].x;
      const py = points[i].y - points[a].y;
      const d = length > 1e-9 ? Math.abs(px * dy - py * dx) / length : Math.hypot(px, py);
      if (d > far) [far, at] = [d, i];
    }
    keep[at] = Math.min(limit, far);
    split(a, at, keep[at]);
    split(at, b, keep[at]);
  };
  split(0, points.length - 1, Infinity);
  return keep;
}

/**
 * The strokes as frames (x, y, pen lifted after this point), a multiple of `stack` of them and at
 * most `limit`: the
 * most important points are taken, those above epsilon and then as many as fill the last token.
 * @param {{x: number, y: number}[][]} strokes
 * @returns {number[] | null}
 */
export function inkOf(strokes, stack, limit) {
  strokes = strokes.filter((s) => s.length > 0).map(withLength);
  if (!strokes.length) return null;
  let count = 0;
  const ranked = strokes.flatMap((points, s) => {
    const keep = importance(points);
    return Array.from(keep, (value, i) => {
      if (value > EPSILON) count++;
      return { s, i, value };
    });
  });
  ranked.sort((a, b) => b.value - a.value || a.s - b.s || a.i - b.i);
  count = Math.min(limit, Math.ceil(count / stack) * stack);
  const taken = ranked.slice(0, count).sort((a, b) => a.s - b.s || a.i - b.i);
  const points = taken.map(({ s, i }, k) => ({
    x: Math.round(strokes[s][i].x),
    y: Math.round(strokes[s][i].y),
    pen: Number(k === taken.length - 1 || taken[k + 1].s !== s),
  }));
  while (points.length % stack) halveLongest(points);
  return points.flatMap(({ x, y, pen }) => [x, y, pen]);
}

// A dot is a very short stroke.
function withLength(points) {
  const [a] = points;
  const b = points[points.length - 1];
  const long = points.some((p) => Math.hypot(p.x - a.x, p.y - a.y) > 1.5);
  return long ? points : [a, { x: b.x + 2, y: b.y + 3 }];
}

// One more point, in the middle of the longest line.
function halveLongest(points) {
  let best = 1;
  let longest = -1;
  for (let k = 1; k < points.length; k++) {
    const length = Math.hypot(points[k].x - points[k - 1].x, points[k].y - points[k - 1].y);
    if (!points[k - 1].pen && length > longest) [longest, best] = [length, k];
  }
  const [a, b] = [points[best - 1], points[best]];
  points.splice(best, 0, {
    x: Math.round((a.x + b.x) / 2),
    y: Math.round((a.y + b.y) / 2),
    pen: 0,
  });
}

export class Pen {
  /** @type {{x: number, y: number}[][]} */ strokes = [];
  #drawing = false;

  /**
   * @param {import('./sheet.js').Sheet} sheet
   * @param {{allowed: () => boolean, onChange: () => void}} options  onChange: after every movement
   */
  constructor(sheet, { allowed, onChange }) {
    const { canvas } = sheet;
    canvas.addEventListener('pointerdown', (event) => {
      if (!allowed() || !event.isPrimary || event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      this.#drawing = true;
      this.strokes.push([sheet.locate(event)]);
      onChange();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!this.#drawing || !event.isPrimary) return;
      const stroke = this.strokes[this.strokes.length - 1];
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length ? moves : [event]) {
        const p = sheet.locate(move);
        const q = stroke[stroke.length - 1];
        if (Math.hypot(p.x - q.x, p.y - q.y) > 0.4) stroke.push(p);
      }
      onChange();
    });
    for (const end of ['pointerup', 'pointercancel'])
      canvas.addEventListener(end, () => {
        if (!this.#drawing) return;
        this.#drawing = false;
        onChange();
      });
  }

  get drawing() {
    return this.#drawing;
  }
  undo() {
    this.strokes.pop();
  }
  clear() {
    this.strokes = [];
  }

  /** The strokes as the brush draws them: simplified, as the model will get them. */
  outline() {
    return this.strokes.map((points, s) => {
      const keep = importance(points);
      const last = s === this.strokes.length - 1 && this.#drawing;
      return {
        points: points
          .filter((_, i) => keep[i] > EPSILON / 2)
          .map(({ x, y }) => ({ x, y, token: 0 })),
        ended: !last,
      };
    });
  }
}
