// One run to look at: the sheet, the level table with a button for each token, and the card of the
// token in question.

import { Sheet } from './sheet.js';
import { Table } from './table.js';
import { colours } from './theme.js';

const MAX_COLUMNS = 64;

export class View {
  /**
   * @param {DocumentFragment} content  of the template
   * @param {{onSelect: (token: number, pinned: boolean) => void}} callbacks
   */
  constructor(content, { onSelect }) {
    const find = (selector) => content.querySelector(selector);
    this.element = find('.view');
    this.name = find('.name');
    this.count = find('.name span');
    this.sheet = new Sheet(find('.sheet canvas'));
    this.table = new Table(find('.table canvas'));
    this.columns = find('.columns');
    this.card = new Card(find('.card'));
    this.seal = find('.seal');
    this.onSelect = onSelect;
    this.run = null;
    this.listen();
  }

  listen() {
    const { sheet, table, columns } = this;
    const hover = (canvas, token) => {
      canvas.addEventListener('pointermove', (event) => {
        if (event.pointerType !== 'touch' && this.run) this.onSelect(token(event), false);
      });
      canvas.addEventListener('pointerleave', (event) => {
        if (event.pointerType !== 'touch') this.onSelect(-1, false);
      });
      canvas.addEventListener('click', (event) => this.run && this.onSelect(token(event), true));
    };
    hover(sheet.canvas, (event) => sheet.tokenAt(event));
    hover(table.canvas, (event) => table.tokenAt(event, this.run));

    // One tab stop; the arrows move among the tokens.
    const buttons = Array.from({ length: MAX_COLUMNS }, (_, t) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = String(t + 1);
      button.hidden = true;
      button.tabIndex = t ? -1 : 0;
      button.addEventListener('focus', () => {
        if (button.matches(':focus-visible')) this.onSelect(t, false);
      });
      button.addEventListener('blur', () => this.onSelect(-1, false));
      button.addEventListener(
        'pointerenter',
        (e) => e.pointerType !== 'touch' && this.onSelect(t, false),
      );
      button.addEventListener(
        'pointerleave',
        (e) => e.pointerType !== 'touch' && this.onSelect(-1, false),
      );
      button.addEventListener('click', () => this.onSelect(t, true));
      return button;
    });
    columns.append(...buttons);
    this.buttons = buttons;
    columns.addEventListener('keydown', (event) => {
      const now = buttons.indexOf(document.activeElement);
      const last = this.run.columns - 1;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
      if (to === undefined || now < 0) return;
      event.preventDefault();
      event.stopPropagation();
      buttons[now].tabIndex = -1;
      const next = buttons[Math.max(0, Math.min(last, to))];
      next.tabIndex = 0;
      next.focus();
    });
  }

  show(run, name) {
    if (this.run !== run) this.sheet.hits = [];
    this.run = run;
    this.name.firstChild.data = name;
    this.seal.textContent = String(run.settings.seed);
  }

  /** The buttons of the columns. */
  mark(columns, selected, pinned) {
    const marks = [columns, selected, pinned].join();
    if (marks === this.marks) return;
    this.marks = marks;
    this.table.canvas.setAttribute('aria-label', `Level table of ${columns} tokens`);
    this.buttons.forEach((button, t) => {
      button.hidden = t >= columns;
      button.setAttribute('aria-pressed', String(t === pinned));
      button.classList.toggle('chosen', t === selected);
    });
  }

  /** Draws the run at a row, which need not be whole. */
  draw(row, selected, pinned) {
    const { run } = this;
    if (!run || run.last < 0) return;
    const moment = run.at(row);
    this.sheet.draw(moment, colours, selected);
    this.table.draw(run, moment.position, selected);
    this.mark(run.columns, selected, pinned);
    setText(this.count, `row ${Math.round(moment.position)} of ${run.planned}`);
    this.card.show(moment, selected, pinned);
    this.element.classList.toggle('finished', run.done && moment.position === run.last);
  }
}

/** Only what changes touches the document: this runs in every frame. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * What a token is at a moment: its level, and its frames as they are and as the network thinks they
 * are.
 */
class Card {
  constructor(element) {
    this.element = element;
    this.title = element.querySelector('.token');
    this.level = element.querySelector('.level');
    this.bar = element.querySelector('.bar i');
    this.body = element.querySelector('tbody');
    this.branch = element.querySelector('.branch');
  }

  show(moment, token, pinned) {
    const { run, levels, tokens, estimate, frames } = moment;
    const there = token >= 0 && token < run.columns && levels[token] <= 1;
    this.element.classList.toggle('empty', !there);
    if (!there) return;
    const level = levels[token];
    this.branch.disabled = !run.done || pinned < 0 || pinned >= run.columns - 1;
    setText(this.title, `Token ${token + 1}`);
    this.level.textContent =
      token < run.kept
        ? 'given: stays clean'
        : level === 0
          ? 'clean'
          : `level ${Math.round(level * run.S)} of ${run.S}${level === 1 ? ', pure noise' : ''}`;
    this.bar.style.inlineSize = `${level * 100}%`;
    const { F, C } = run;
    while (this.body.rows.length < F) {
      const row = this.body.insertRow();
      for (let c = 0; c < 6; c++) row.insertCell();
    }
    for (let f = 0; f < F; f++) {
      const { cells } = this.body.rows[f];
      const i = (token * F + f) * C;
      this.body.rows[f].classList.toggle('absent', f >= frames[token]);
      [tokens, estimate].forEach((values, k) => {
        const known = k === 0 || level < 1;
        cells[3 * k].textContent = known ? number(values[i]) : '·';
        cells[3 * k + 1].textContent = known ? number(values[i + 1]) : '·';
        cells[3 * k + 2].textContent = known ? (values[i + 2] > 0.5 ? 'up' : 'down') : '·';
      });
    }
  }
}

const number = (v) => v.toFixed(1).replace('-', '−');
