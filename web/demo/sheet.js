// The sheet of paper: a run at one moment. Ink is the noisy state of the tokens, soft and faint
// while the level is high; the thin accent line is the network's estimate of the clean tokens.

import { SHEET, line, mist, paint, trace } from './ink.js';
import { fit } from './theme.js';

const MIST = 144; // pixels across, enlarged to the sheet: soft and cheap

export class Sheet {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.ctx = canvas.getContext('2d');
    this.hits = [];
    this.low = document.createElement('canvas');
    this.low.width = this.low.height = MIST;
    this.lowCtx = this.low.getContext('2d');
    this.lowCtx.lineCap = this.lowCtx.lineJoin = 'round';
  }

  /**
   * An empty sheet, in sheet units. Returns the spacing of the brush's stamps: about 1.5 pixels.
   */
  clear() {
    fit(this.canvas);
    const { ctx, canvas } = this;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    ctx.lineCap = ctx.lineJoin = 'round';
    const unit = canvas.width / SHEET;
    ctx.setTransform(unit, 0, 0, unit, 0, 0);
    return Math.max(0.25, 1.5 / unit);
  }

  /**
   * @param {import('./run.js').Moment} moment
   * @param {number} selected  token, or -1
   */
  draw(moment, colours, selected) {
    const spacing = this.clear();
    const { ctx } = this;
    const { levels, run } = moment;
    const ink = trace(moment, moment.tokens);
    const guess = trace(moment, moment.estimate);
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
  }

  drawMist(ink, look) {
    const { ctx, canvas, low, lowCtx } = this;
    const unit = MIST / SHEET;
    lowCtx.setTransform(1, 0, 0, 1, 0, 0);
    lowCtx.clearRect(0, 0, MIST, MIST);
    lowCtx.setTransform(unit, 0, 0, unit, 0, 0);
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
    const spacing = this.clear();
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
      const d = Math.hypot(at.x - p.x, at.y - p.y);
      if (d < best) [best, token] = [d, p.token];
    }
    return token;
  }
}
