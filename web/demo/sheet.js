// The sheet of paper: a run at one moment. Ink is the noisy state of the tokens, soft and faint while the level is
// high; the thin accent line is the network's estimate of the clean tokens.

import { SHEET, bounds, line, mist, paint, trace } from './ink.js';
import { fit } from './theme.js';

const MIST = 144; // pixels across, enlarged to the sheet: soft and cheap
const START = { x: 23.5, y: 20.5, scale: 1 }; // puts the data's median character in the middle

export class Sheet {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext('2d');
    this.reset();
    this.low = document.createElement('canvas');
    this.low.width = this.low.height = MIST;
    this.lowCtx = this.low.getContext('2d');
    this.lowCtx.lineCap = this.lowCtx.lineJoin = 'round';
  }

  /** The next run starts in its place; after that the character glides. */
  reset() {
    this.origin = null;
    this.hits = [];
  }

  clear(colours) {
    this.pixels = fit(this.canvas);
    const { ctx, canvas } = this;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    ctx.lineCap = ctx.lineJoin = 'round';
    this.colours = colours;
  }

  /** Sheet units from here on; x, y in units, spacing of brush stamps about 1.5 device pixels. */
  place({ x, y, scale }) {
    const unit = this.canvas.width / SHEET;
    this.ctx.setTransform(unit * scale, 0, 0, unit * scale, unit * x, unit * y);
    return Math.max(0.25, 1.5 / (unit * scale));
  }

  /**
   * @param {import('./run.js').Moment} moment
   * @param {number} glide  0 to 1: how much of the way to the middle to go at once
   * @param {number} selected  token, or -1
   * @returns {boolean} it still glides
   */
  draw(moment, colours, glide, selected) {
    this.clear(colours);
    const { ctx } = this;
    const { levels, run } = moment;
    const ink = trace(moment, moment.tokens, moment.estimate);
    const guess = trace(moment, moment.estimate);
    const aim = aimed(moment, guess);
    const from = this.origin ?? aim;
    const move = (key) => from[key] + (aim[key] - from[key]) * glide;
    this.origin = { x: move('x'), y: move('y'), scale: move('scale') };
    const left = Math.hypot(aim.x - this.origin.x, aim.y - this.origin.y);
    const spacing = this.place(this.origin);

    const chosen = selected >= 0 && levels[selected] <= 1;
    if (chosen) {
      ctx.strokeStyle = colours.accent;
      ctx.globalAlpha = 0.22;
      ctx.lineWidth = 10;
      for (const stroke of guess)
        line(ctx, stroke, (t) => t === selected && levels[t] < 1, spacing);
      ctx.globalAlpha = 1;
    }
    const look = (t) => ({
      noise: levels[t],
      colour: chosen && t !== selected ? colours.dim : t < run.kept ? colours.wash : colours.ink,
    });
    this.drawMist(ink, look);
    for (const stroke of ink) paint(ctx, stroke, look, spacing);

    ctx.strokeStyle = colours.accent;
    const hair = (t) => {
      ctx.globalAlpha = Math.min(1, levels[t] * 5) * (chosen && t !== selected ? 0.4 : 0.85);
      ctx.lineWidth = (t === selected ? 1 : 0.5) + 0.1;
      return levels[t] > 0 && levels[t] < 1;
    };
    for (const stroke of guess) line(ctx, stroke, hair, spacing);
    if (chosen && levels[selected] < 1) this.dots(guess, selected, colours);
    this.hits = guess.flatMap(({ points }) => points.filter((p) => levels[p.token] < 1));
    return left > 0.02;
  }

  drawMist(ink, look) {
    const { ctx, canvas, low, lowCtx, origin } = this;
    const unit = MIST / SHEET;
    lowCtx.setTransform(1, 0, 0, 1, 0, 0);
    lowCtx.clearRect(0, 0, MIST, MIST);
    lowCtx.setTransform(
      unit * origin.scale,
      0,
      0,
      unit * origin.scale,
      unit * origin.x,
      unit * origin.y,
    );
    for (const stroke of ink) mist(lowCtx, stroke, look);
    ctx.save();
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.imageSmoothingQuality = 'high';
    ctx.drawImage(low, 0, 0, canvas.width, canvas.height);
    ctx.restore();
  }

  /** The frames of one token, as points. */
  dots(strokes, token, colours) {
    const { ctx } = this;
    ctx.globalAlpha = 1;
    ctx.lineWidth = 0.9;
    ctx.strokeStyle = colours.sheet;
    ctx.fillStyle = colours.accent;
    for (const { points } of strokes)
      for (const p of points)
        if (p.token === token) {
          ctx.beginPath();
          ctx.arc(p.x, p.y, 1.7, 0, 7);
          ctx.fill();
          ctx.stroke();
        }
  }

  /** Strokes that the visitor draws. */
  drawPen(strokes, colours) {
    this.clear(colours);
    const spacing = this.place({ x: 0, y: 0, scale: 1 });
    const look = () => ({ noise: 0, colour: colours.wash });
    for (const stroke of strokes) if (stroke.points.length) paint(this.ctx, stroke, look, spacing);
  }

  /** A pointer event's place in sheet units. */
  locate(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * SHEET,
      y: ((event.clientY - box.top) / box.height) * SHEET,
    };
  }

  /** Token whose estimate lies under a pointer event, or -1. */
  tokenAt(event) {
    const at = this.locate(event);
    let best = 7; // units
    let token = -1;
    for (const p of this.hits) {
      const x = this.origin.x + p.x * this.origin.scale;
      const y = this.origin.y + p.y * this.origin.scale;
      const d = Math.hypot(at.x - x, at.y - y);
      if (d < best) [best, token] = [d, p.token];
    }
    return token;
  }
}

// Where the first point belongs so that the character ends up in the middle. The surer its shape, the closer to it.
function aimed({ run, levels }, guess) {
  const { ink } = run.settings;
  if (ink) return { x: ink.x, y: ink.y, scale: 1 };
  const box = bounds(
    guess.map(({ points }) => ({ points: points.filter((p) => levels[p.token] < 1) })),
  );
  if (!box) return START;
  const wide = Math.max(box.right - box.left, box.bottom - box.top);
  let sure = 0;
  for (let t = 0; t < run.columns; t++) sure += Math.max(0, 1 - levels[t]) / run.columns;
  const scale = 1 + sure * (Math.min(1, 98 / wide) - 1);
  const middle = (low, high) => SHEET / 2 - (scale * (low + high)) / 2;
  return {
    x: START.x + sure * (middle(box.left, box.right) - START.x),
    y: START.y + sure * (middle(box.top, box.bottom) - START.y),
    scale,
  };
}
