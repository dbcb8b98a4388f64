// The page: state in the address, one model, runs that the player shows in one view or in three
// side by side.

import { saveAddress } from './address.js';
import { facts, load, megabytes, trouble } from './engine.js';
import { drawFigure } from './explain.js';
import { Gallery } from './gallery.js';
import { Pen, inkOf } from './pen.js';
import { Player } from './player.js';
import recording from './recorded.json';
import { recordedRun } from './recording.js';
import { Run, shapeOf } from './run.js';
import { LIMITS, SCHEDULES, formatState, hasState, parseState } from './state.js';
import { colours, startTheme } from './theme.js';
import { View } from './view.js';

const MODEL = new URL('../../models/kanji/model.safetensors', import.meta.url);
const $ = (id) => document.getElementById(id);
const NAMES = {
  autoregressive: 'Autoregressive',
  pyramid: 'Pyramid',
  'full-sequence': 'Full sequence',
};
const still = matchMedia('(prefers-reduced-motion: reduce)');

let state = parseState(location.search);
let model = null;
let controller = new AbortController(); // of the live runs
const token = { hovered: -1, pinned: -1 };
let penning = false;

// ---- What is seen ----

const onSelect = (chosen, pinned) => {
  if (pinned) token.pinned = token.pinned === chosen ? -1 : chosen;
  else token.hovered = chosen;
  player.dirty = true;
};
const views = SCHEDULES.map(() => {
  const content = $('view').content.cloneNode(true);
  const view = new View(content, { onSelect });
  $('views').append(content);
  return view;
});
const [main] = views;
const stage = $('stage');

const player = new Player({
  draw() {
    if (penning) return;
    const selected = token.hovered >= 0 ? token.hovered : token.pinned;
    const whole = still.matches || !player.playing;
    player.runs.forEach((run, i) => {
      const row = player.rowOf(run);
      views[i].draw(whole ? Math.round(row) : row, selected, token.pinned);
    });
    showPlace();
  },
  changed() {
    stage.classList.toggle('playing', player.playing);
    $('play').setAttribute('aria-label', player.playing ? 'Pause' : 'Play');
    const [run] = player.runs;
    if (!run.live) {
      if (player.ended) setTimeout(takeOver, 900);
      return;
    }
    if (run.last < 0) return; // nothing to stand on yet
    state.row = player.playing || player.ended ? null : Math.round(player.rowOf(run));
    saveState();
  },
});

function showPlace() {
  const scrub = $('scrub');
  const [run] = player.runs;
  const single = player.runs.length === 1;
  const rows = single ? run.planned : 1000;
  const row = Math.round(player.position * rows);
  scrub.max = String(rows);
  scrub.value = String(row);
  scrub.style.setProperty('--part', `${player.position * 100}%`);
  const text = single ? `row ${row} of ${rows}` : `${Math.round(player.position * 100)} %`;
  $('where').textContent = text;
  scrub.setAttribute('aria-valuetext', text);
}

function show(runs, options) {
  stage.classList.toggle('three', runs.length > 1);
  views.forEach((view, i) => {
    view.element.hidden = i >= runs.length;
    if (runs[i]) view.show(runs[i], NAMES[runs[i].settings.schedule]);
  });
  if (token.pinned >= runs[0].columns) token.pinned = -1;
  player.load(runs, options);
}

/** Words for eyes; words for ears only where something came to an end or went wrong. */
function say(text, { aloud = false, trouble = false, retry = false } = {}) {
  $('mode').textContent = text;
  if (aloud) $('status').textContent = text;
  document.querySelector('.facts').classList.toggle('trouble', trouble);
  $('retry').hidden = !retry;
}

// ---- Sampling ----

function start({ row = null } = {}) {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  leavePen();
  const { seed, sequence, steps, eta } = state;
  const uncertainty = Math.min(state.uncertainty, steps);
  const ink = wholeTokens(state.ink);
  const settings = { seed, sequence, steps, uncertainty, eta, ink };
  const runs = (state.compare ? SCHEDULES : [state.schedule]).map((schedule) => {
    const run = new Run({ ...settings, schedule }, shapeOf(model));
    run.live = true;
    return run;
  });
  say(ink ? 'Your strokes, continued live.' : 'Live: sampled here, now.');
  show(runs, { playing: row === null && !still.matches });
  saveState();
  markGallery();

  Promise.all(runs.map((run) => run.fill(model, signal))).then(() => {
    if (signal.aborted) return;
    const failed = runs.find((run) => run.error);
    if (failed) {
      say(trouble(failed.error), { aloud: true, trouble: true, retry: true });
      return;
    }
    $('engine').textContent = facts(model, runs[0].ms);
    const strokes = runs[0].strokes();
    $('status').textContent =
      `${NAMES[runs[0].settings.schedule]}, seed ${seed}: ${strokes} strokes in ${runs[0].length} tokens.`;
    stage.dataset.done = String(Number(stage.dataset.done ?? 0) + 1);
    if (row !== null) player.seekRow(row);
    else if (still.matches) player.seek(1);
    player.dirty = true;
  });
}

/** Ink from the address may be anything: as many tokens as are filled, and room for one more. */
function wholeTokens(ink) {
  const { T, F, C } = shapeOf(model);
  const tokens = Math.min(T - 1, Math.floor((ink?.length ?? 0) / (F * C)));
  return tokens ? ink.slice(0, tokens * F * C) : null;
}

let waiting = 0;
/** After a control moved: at once in the labels, a moment later in the model. */
function restartSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => model && start(), 120);
}

async function boot() {
  $('progress').hidden = false;
  say('A recorded run, while the model loads.');
  try {
    model = await load(MODEL, {
      onProgress({ loaded, total }) {
        $('engine').textContent = total
          ? `${megabytes(loaded)} of ${megabytes(total)}`
          : megabytes(loaded);
        if (total) $('progress').value = loaded / total;
        else $('progress').removeAttribute('value');
      },
    });
  } catch (error) {
    const hopeless = error?.code === 'NOT_SUPPORTED';
    const comfort = hopeless ? ' The recorded run still plays.' : '';
    say(trouble(error) + comfort, { aloud: true, trouble: true, retry: !hopeless });
    $('engine').textContent = '';
    return;
  } finally {
    $('progress').hidden = true;
  }
  $('engine').textContent = facts(model, 0);
  say('A recorded run; the model is ready.', { aloud: true });
  for (const id of ['pen', 'more']) $(id).disabled = false;
  watchGallery();
  // The recording plays to its end, unless the address asks for something else.
  if (hasState(location.search) || still.matches) start({ row: state.row });
  else takeOver();
}

const recorded = () => player.runs.length === 1 && !player.runs[0].live;
/** Once the recording has ended, the model takes over with a character of its own. */
function takeOver() {
  if (recorded() && player.ended && model && !penning) dice();
}

// ---- Address and controls ----

function saveState() {
  saveAddress((search) => formatState(state, search));
}

function showState() {
  for (const radio of document.querySelectorAll('[name=schedule]')) {
    radio.checked = radio.value === state.schedule;
    radio.disabled = state.compare;
  }
  $('compare').checked = state.compare;
  $('seed').value = String(state.seed);
  for (const id of ['steps', 'uncertainty', 'eta']) {
    const [low, high] = LIMITS[id];
    $(id).value = String(state[id]);
    $(id).style.setProperty('--part', `${((state[id] - low) / (high - low)) * 100}%`);
    $(`${id}-value`).textContent = String(state[id]);
  }
  const bent = state.schedule === 'pyramid' || state.compare;
  $('uncertainty').disabled = !bent;
  if (!bent)
    $('uncertainty-value').textContent =
      state.schedule === 'autoregressive' ? 'one by one' : 'none';
}

/** Changes the state from a control and samples anew. */
function change(part) {
  state = { ...state, row: null, ...part };
  showState();
  saveState();
  restartSoon();
}

function dice() {
  change({ seed: Math.floor(Math.random() * 1e6), sequence: 0 });
}

function listen() {
  for (const radio of document.querySelectorAll('[name=schedule]'))
    radio.addEventListener('change', () => change({ schedule: radio.value }));
  $('compare').addEventListener('change', () => change({ compare: $('compare').checked }));
  for (const id of ['steps', 'uncertainty', 'eta'])
    $(id).addEventListener('input', () => change({ [id]: Number($(id).value) }));
  $('seed').addEventListener('change', () => {
    const seed = parseState(`seed=${$('seed').value.replace(/\D/g, '')}`).seed;
    change({ seed, sequence: 0 });
  });
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  $('dice').addEventListener('click', dice);
  $('pen').addEventListener('click', () => (penning ? finishPen() : enterPen()));
  $('play').addEventListener('click', play);
  $('step').addEventListener('click', () => player.step(1));
  $('back').addEventListener('click', () => player.step(-1));
  $('scrub').addEventListener('input', () =>
    player.seek(Number($('scrub').value) / Number($('scrub').max)),
  );
  $('retry').addEventListener('click', () => (model ? start() : boot()));
  $('more').addEventListener('click', () => sampleGallery(Math.floor(Math.random() * 1e6)));
  $('copy').addEventListener('click', copyBibtex);
  for (const view of views)
    view.element.querySelector('.branch').addEventListener('click', () => branch(view.run));
  panel('go').addEventListener('click', finishPen);
  panel('leave').addEventListener('click', cancelPen);
  panel('undo').addEventListener('click', () => {
    pen.undo();
    drawPen();
  });
  document.addEventListener('keydown', onKey);
  new ResizeObserver(() => {
    player.dirty = true;
    if (penning) drawPen();
  }).observe($('views'));
}

function play() {
  if (penning) finishPen();
  else if (recorded() && player.ended && model) dice();
  else player.toggle();
}

function onKey(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches('input[type=text]')) return;
  const activates = target.matches('button, summary, a, [type=checkbox], [type=radio]');
  if (activates && (key === ' ' || key === 'Enter')) return;
  if (target.matches('input') && /^(Arrow|Home|End)/.test(key)) return;
  const act = {
    ' ': play,
    ArrowRight: () => player.step(event.shiftKey ? 10 : 1),
    ArrowLeft: () => player.step(event.shiftKey ? -10 : -1),
    Home: () => player.seek(0),
    End: () => player.seek(1),
    n: dice,
    1: () => change({ schedule: SCHEDULES[0], compare: false }),
    2: () => change({ schedule: SCHEDULES[1], compare: false }),
    3: () => change({ schedule: SCHEDULES[2], compare: false }),
    c: () => change({ compare: !state.compare }),
    p: () => !$('pen').disabled && (penning ? leavePen() : enterPen()),
    t: () => main.buttons.find((button) => button.tabIndex === 0)?.focus(),
    Enter: () => penning && finishPen(),
    Escape: () => (penning ? cancelPen() : onSelect(-1, true)),
  }[key.length === 1 ? key.toLowerCase() : key];
  if (!act) return;
  event.preventDefault();
  act();
}

// ---- The pen ----

const pen = new Pen(main.sheet, { allowed: () => penning, onChange: drawPen });
const panel = (name) => main.element.querySelector(`.pen-panel .${name}`);

function enterPen() {
  controller.abort();
  penning = true;
  pen.clear();
  stage.classList.add('penning');
  main.element.classList.remove('finished');
  $('pen').setAttribute('aria-pressed', 'true');
  show([new Run({ ...state, ink: null }, shapeOf(model))], { playing: false });
  say('Your turn.');
  main.sheet.canvas.scrollIntoView({ block: 'nearest' });
  drawPen();
}

function leavePen() {
  if (main.element.querySelector('.pen-panel').contains(document.activeElement)) $('play').focus();
  penning = false;
  stage.classList.remove('penning');
  $('pen').setAttribute('aria-pressed', 'false');
}

function cancelPen() {
  leavePen();
  start();
}

function penInk() {
  return inkOf(pen.strokes, model.frameStack, (model.defaults.maxLength - 2) * model.frameStack);
}

/** The strokes so far, and in the table the tokens that they fill. */
function drawPen() {
  if (!penning) return;
  main.sheet.drawPen(pen.outline(), colours);
  const ink = penInk();
  const run = new Run({ ...state, ink }, shapeOf(model));
  main.table.draw(run, 0, -1);
  main.mark(run.columns, -1, -1);
  panel('go').disabled = !ink;
  panel('undo').disabled = !ink;
  main.element.querySelector('.pen-count').textContent = ink
    ? `${pen.strokes.length} ${pen.strokes.length === 1 ? 'stroke' : 'strokes'}, ${run.kept} of ${run.T} tokens.`
    : 'With mouse, finger or stylus, on the sheet.';
}

function finishPen() {
  const ink = penInk();
  if (!ink) return cancelPen();
  state = { ...state, ink, row: null };
  start();
}

/** Keeps the tokens up to the pinned one and samples the rest from another seed. */
function branch(run) {
  const ink = run.inkUpTo(token.pinned);
  if (ink) change({ ink, seed: Math.floor(Math.random() * 1e6), sequence: 0 });
}

// ---- Gallery, citation ----

const gallery = new Gallery({
  grid: $('grid'),
  onChoose(seed, sequence) {
    change({ seed, sequence, ink: null, compare: false });
    stage.scrollIntoView({ behavior: still.matches ? 'instant' : 'smooth' });
    stage.focus({ preventScroll: true });
  },
});

/** Marks the character in the gallery that the stage shows. */
function markGallery() {
  gallery.mark(gallery.seed === state.seed && !state.ink ? state.sequence : -1);
}

async function sampleGallery(seed) {
  $('more').disabled = true;
  try {
    const uncertainty = Math.min(state.uncertainty, state.steps);
    await gallery.sample(model, { ...state, seed, uncertainty });
    markGallery();
  } catch (error) {
    say(trouble(error), { aloud: true, trouble: true });
  }
  $('more').disabled = false;
}

/** Sampled when it comes into sight. */
function watchGallery() {
  const watch = new IntersectionObserver(
    ([entry]) => {
      if (!entry.isIntersecting) return;
      watch.disconnect();
      sampleGallery(state.seed);
    },
    { rootMargin: '100px' },
  );
  watch.observe($('grid'));
}

async function copyBibtex() {
  const code = $('bibtex');
  try {
    await navigator.clipboard.writeText(code.textContent);
    $('copy').textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(code);
    $('copy').textContent = 'Selected';
  }
  setTimeout(() => ($('copy').textContent = 'Copy'), 2000);
}

// ---- Start ----

startTheme($('theme'), () => {
  player.dirty = true;
  gallery.draw();
  if (penning) drawPen();
});
drawFigure($('figure'));
showState();
listen();
show([recordedRun(recording)], { position: still.matches ? 1 : 0, playing: !still.matches });
boot();
