// The figure of the method: the lattice of time and noise, in training and for the three schedules.

import { levelAt, rowsOf } from './levels.js';

const T = 8;
const S = 5;
const [WIDE, HIGH, GAP] = [28, 6, 2];
// Levels of a training batch, as they might be drawn.
const DRAWN = [
  4, 1, 3, 5, 0, 4, 2, 5, 2, 5, 0, 3, 5, 1, 4, 3, 0, 4, 5, 1, 2, 5, 3, 0, 5, 3, 2, 4, 1, 0, 1, 5,
];

const panels = [
  {
    title: 'Training',
    note: 'a level for each token, at random',
    rows: 4,
    high: 3 * HIGH,
    level: (m, t) => DRAWN[m * T + t],
  },
  ...[
    ['autoregressive', 'Autoregressive', 'one token after another'],
    ['pyramid', 'Pyramid', 'the near before the far'],
    ['full-sequence', 'Full sequence', 'all at once'],
  ].map(([schedule, title, note]) => ({
    title,
    note,
    rows: rowsOf(schedule, S, 2, T) + 1,
    high: HIGH,
    level: (m, t) => levelAt(schedule, S, 2, m, t),
  })),
];

function lattice({ title, rows, high, level }) {
  const cells = [];
  for (let m = 0; m < rows; m++)
    for (let t = 0; t < T; t++) {
      const gap = high > HIGH ? GAP : 0;
      const box = `x="${t * WIDE}" y="${m * high}" width="${WIDE - GAP}" height="${high - gap}"`;
      const clean = (1 - level(m, t) / S).toFixed(2);
      cells.push(`<rect class="noise" ${box}/><rect class="clean" opacity="${clean}" ${box}/>`);
    }
  return `<svg viewBox="0 0 ${T * WIDE - GAP} ${rows * high}" role="img"
    aria-label="${title}: noise levels of ${T} tokens in ${rows} rows">${cells.join('')}</svg>`;
}

export function drawFigure(element) {
  element.innerHTML = panels
    .map((panel) => `<div><h3>${panel.title}</h3><p>${panel.note}</p>${lattice(panel)}</div>`)
    .join('');
}
