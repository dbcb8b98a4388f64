// results.svg: one bar per ratio, on a logarithmic scale from "as fast" on. Colours follow the reader's
// light or dark theme.

import { plan } from './cases.mjs';

const width = 760;
const left = 250;
const right = 60;
const bar = 15;
const step = 21;
const marks = [0.5, 1, 2, 5, 10, 20, 50, 100];

/** Groups of bars: title, and [label, ratio] each. */
function groups(results) {
  const list = [];
  const data = (name) => results[name]?.data;
  const add = (title, bars) => bars?.length && list.push({ title, bars });
  const best = (ours) => Object.values(ours)[0].faster; // the variant that a current browser runs
  // What visitors have, where it was measured; RESULTS.md has both.
  const engine = Object.keys(results).some((name) => name.endsWith('-chromium'))
    ? 'chromium'
    : 'node';
  const name = engine === 'chromium' ? 'Chromium' : 'Node';
  add(
    `Matrix products against ONNX Runtime, ${name}`,
    data(`products-${engine}`)?.result.map(({ shape, ours }) => [shape.join(' x '), best(ours)]),
  );
  add(
    `Network steps against ONNX Runtime, ${name}`,
    [
      ['RNN step', `step-${engine}`, 'relaxed'],
      ['planner', `model-${engine}`, 'relaxed'],
      ['planner, 8 bits', `model-${engine}`, 'int8'],
    ].flatMap(
      ([label, section, variant]) =>
        data(section)?.result.map(({ batch, ours }) => [
          `${label}, batch ${batch}`,
          (ours[variant] ?? Object.values(ours)[0]).faster,
        ]) ?? [],
    ),
  );
  const torch = data('plan-torch');
  const whole = data(`plan-${engine}`)?.result;
  if (whole) {
    const ours = Object.values(whole.ours)[0];
    const bars = [['against ONNX Runtime, row by row', ours.faster]];
    if (whole.ours.int8) bars.push(['the same, 8 bits', whole.ours.int8.faster]);
    const theirs = torch?.plans[whole.compared].seconds;
    if (theirs) bars.push(['against PyTorch (native)', theirs / ours.seconds[whole.compared]]);
    add(`A whole plan of ${plan.length} tokens, ${name}`, bars);
  }
  const start = data('start');
  add(
    'Start and size against ONNX Runtime',
    [
      ...Object.entries(start?.[engine] ?? {}).map(([model, { ours, ort }]) => [
        `first row, ${model}, ${name}`,
        ort / ours,
      ]),
      data('size') && ['download, gzipped', data('size').ort.gzip / data('size').ours.gzip],
    ].filter(Boolean),
  );
  add(
    'Training (native) against PyTorch',
    data('training')?.flatMap(({ name, threads }) =>
      Object.entries(threads).map(([n, { faster }]) => [
        `${name.replace(', batch 64', '')}, ${n} thread${n === '1' ? '' : 's'}`,
        faster,
      ]),
    ),
  );
  return list;
}

const escape = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

export function chart(results) {
  const list = groups(results);
  const most = Math.max(2, ...list.flatMap(({ bars }) => bars.map(([, ratio]) => ratio)));
  const least = Math.min(1, ...list.flatMap(({ bars }) => bars.map(([, ratio]) => ratio)));
  const end = marks.find((mark) => mark >= most) ?? most;
  const begin = least < 1 ? Math.min(0.5, least) : 1;
  const x = (ratio) =>
    left + ((width - left - right) * Math.log(ratio / begin)) / Math.log(end / begin);
  const shapes = [];
  let y = 34;
  for (const { title, bars } of list) {
    shapes.push(`<text class="title" x="0" y="${y + 14}">${escape(title)}</text>`);
    y += 24;
    for (const [label, ratio] of bars) {
      const [from, to] = [x(1), x(ratio)].sort((a, b) => a - b);
      const kind = ratio < 1 ? 'slower' : 'faster';
      shapes.push(
        `<text class="label" x="${left - 8}" y="${y + 12}">${escape(label)}</text>`,
        `<rect class="${kind}" x="${from.toFixed(1)}" y="${y}" width="${Math.max(1, to - from).toFixed(1)}" height="${bar}"/>`,
        `<text class="value" x="${(Math.max(to, from) + 5).toFixed(1)}" y="${y + 12}">${ratio < 10 ? ratio.toFixed(2) : ratio.toFixed(0)}</text>`,
      );
      y += step;
    }
    y += 10;
  }
  const lines = marks
    .filter((mark) => mark >= begin && mark <= end)
    .flatMap((mark) => [
      `<line class="${mark === 1 ? 'one' : 'mark'}" x1="${x(mark).toFixed(1)}" x2="${x(mark).toFixed(1)}" y1="20" y2="${y}"/>`,
      `<text class="scale" x="${x(mark).toFixed(1)}" y="12">${mark}</text>`,
    ]);
  const dates = Object.values(results).map(({ date }) => date);
  const [{ machine } = {}] = Object.values(results);
  const foot = `Times faster, logarithmic; 1 is as fast. ${dates.sort().at(-1) ?? ''}, ${machine ?? ''}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y + 24}" width="${width}" height="${y + 24}" role="img" aria-label="How many times faster the package is than ONNX Runtime and PyTorch">
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.label { text-anchor: end; }
.scale { text-anchor: middle; fill: #59636e; font-size: 11px; }
.foot { fill: #59636e; font-size: 11px; }
.mark { stroke: #d1d9e0; }
.one { stroke: #59636e; }
.faster { fill: #2a78d6; }
.slower { fill: #c4562b; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .scale, .foot { fill: #9198a1; }
  .mark { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .faster { fill: #4d9bf0; }
  .slower { fill: #e0794d; }
}
</style>
${[...lines, ...shapes].join('\n')}
<text class="foot" x="0" y="${y + 16}">${escape(foot)}</text>
</svg>
`;
}
