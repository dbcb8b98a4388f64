// The built page in three real browsers: every control, and that nothing lands in the console.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { launchChromium, launchFirefox, launchWebKit } from './browsers.mjs';
import { servePage } from './serve.mjs';

const server = await servePage();
after(() => server.close());

const WAIT = { timeout: 180_000 };
const browsers = [
  { name: 'Chromium', launch: () => launchChromium(['--disable-gpu']), force: true },
  { name: 'Firefox', launch: launchFirefox, force: true },
  { name: 'WebKit', launch: launchWebKit },
];

/** What the tests do in a page, whichever browser it is. */
class Visitor {
  constructor({ page, errors, close }) {
    Object.assign(this, { page, errors, close });
  }
  open(address = '') {
    return this.page.goto(server.url + address);
  }
  /** Waits until a function is true in the page. */
  until(code, ...args) {
    return this.page.waitForFunction(code, WAIT, ...args);
  }
  text(selector) {
    return this.page.$eval(selector, (element) => element.textContent);
  }
  count(selector) {
    return this.page.evaluate((s) => document.querySelectorAll(s).length, selector);
  }
  address(key) {
    return this.page.evaluate((k) => new URLSearchParams(location.search).get(k), key);
  }
  row() {
    return this.page.$eval('#scrub', (slider) => Number(slider.value));
  }
  /** Opens an address that names a state, and waits until its run has been sampled to the end, and drawn. */
  async openSampled(address) {
    await this.open(address);
    await this.until(() => document.querySelector('#stage')?.dataset.done);
    await this.drawn();
  }
  drawn() {
    return this.page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
    );
  }
  /** Does something and waits until a run that it started has been sampled to its end. */
  async sampled(action) {
    const before = await this.page.evaluate(
      () => document.querySelector('#stage').dataset.done ?? '0',
    );
    await action();
    await this.until(
      (n) => Number(document.querySelector('#stage').dataset.done ?? 0) > Number(n),
      before,
    );
    await this.drawn();
  }
  slide(selector, value) {
    return this.page.$eval(
      selector,
      (slider, to) => {
        slider.value = String(to);
        slider.dispatchEvent(new Event('input', { bubbles: true }));
      },
      value,
    );
  }
  press(key) {
    return this.page.evaluate((k) => {
      document.activeElement.blur();
      document.body.dispatchEvent(
        new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }),
      );
    }, key);
  }
  /** A stroke on the sheet, through points in parts of its size. */
  async draw(points) {
    const box = await this.page.$eval('.sheet canvas', (canvas) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return { left, top, width, height };
    });
    const at = points.map(([x, y]) => [box.left + x * box.width, box.top + y * box.height]);
    if (this.page.drag) return this.page.drag(at);
    const { mouse } = this.page;
    await mouse.move(...at[0]);
    await mouse.down();
    for (const [x, y] of at.slice(1)) await mouse.move(x, y, { steps: 8 });
    await mouse.up();
  }
}

const inked = (selector) => {
  const canvas = document.querySelector(selector);
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value, i) => i % 4 === 3 && value > 0);
};

/** Whether the ink on a canvas has the warm tones of the style sheet. */
const tinted = (selector) => {
  const canvas = document.querySelector(selector);
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some((red, i) => i % 4 === 0 && data[i + 3] === 255 && red - data[i + 2] > 20);
};

/** Whether this browser has relaxed SIMD: does it know i8x16.relaxed_swizzle? */
const hasRelaxed = () =>
  WebAssembly.validate(
    Uint8Array.of(
      ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0],
      ...[65, 0, 253, 15, 65, 0, 253, 15, 253, 128, 2, 11],
    ),
  );

for (const { name, launch, force } of browsers)
  describe(name, () => {
    /** @type {Visitor} */
    let visitor;
    before(async () => {
      visitor = new Visitor(await launch());
      await visitor.page.setViewport({ width: 1280, height: 800 });
    });
    after(() => visitor?.close());

    it('opens with the recorded run and then loads the model', async () => {
      await visitor.open();
      await visitor.until(inked, '.sheet canvas');
      await visitor.until(tinted, '.table canvas');
      await visitor.until(() => !document.querySelector('#pen').disabled);
      assert.match(await visitor.text('#engine'), /SIMD.* [\d.]+ MB loaded/);
    });

    it('samples a character to its end with the right build', async () => {
      await visitor.openSampled('?seed=11&steps=6');
      const relaxed = await visitor.page.evaluate(hasRelaxed);
      if (name === 'Chromium') assert.ok(relaxed);
      assert.match(
        await visitor.text('#engine'),
        relaxed ? /^relaxed SIMD · [\d.]+ ms/ : /^SIMD · [\d.]+ ms/,
      );
      assert.match(await visitor.text('#status'), /Pyramid, seed 11: \d+ strokes in \d+ tokens/);
      await visitor.press('End');
      await visitor.until(() => document.querySelector('.view.finished'));
      const [, row, rows] = (await visitor.text('#where')).match(/row (\d+) of (\d+)/);
      assert.equal(row, rows);
    });

    it('plays, pauses, steps and scrubs', async () => {
      const isPlaying = (wanted) =>
        document.querySelector('#stage').classList.contains('playing') === wanted;
      await visitor.page.click('#play'); // from the end: once more from the start
      await visitor.until(isPlaying, true);
      await visitor.page.click('#play');
      await visitor.until(isPlaying, false);
      await visitor.slide('#scrub', 3);
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 3 '));
      await visitor.page.click('#step');
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 4 '));
      await visitor.page.click('#back');
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 3 '));
      assert.equal(await visitor.address('row'), '3');
      await visitor.press('ArrowRight');
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 4 '));
      await visitor.press('Home');
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 0 '));
    });

    it('samples anew when a control moves', async () => {
      await visitor.sampled(() => visitor.page.click('#dice'));
      assert.notEqual(await visitor.address('seed'), '11');
      await visitor.sampled(() => visitor.slide('#steps', 5));
      assert.equal(await visitor.address('steps'), '5');
      await visitor.sampled(() => visitor.slide('#uncertainty', 1.5));
      assert.equal(await visitor.address('uncertainty'), '1.5');
      await visitor.sampled(() => visitor.slide('#eta', 0.5));
      assert.equal(await visitor.address('eta'), '0.5');
      await visitor.sampled(() => visitor.page.click('[value=full-sequence]'));
      assert.equal(await visitor.address('schedule'), 'full-sequence');
      assert.ok(await visitor.page.$eval('#uncertainty', (slider) => slider.disabled));
      await visitor.sampled(() => visitor.press('1'));
      assert.equal(await visitor.address('schedule'), 'autoregressive');
      await visitor.sampled(() =>
        visitor.page.$eval('#seed', (field) => {
          field.value = '42';
          field.dispatchEvent(new Event('change', { bubbles: true }));
        }),
      );
      assert.equal(await visitor.address('seed'), '42');
    });

    it('shows the three schedules side by side', async () => {
      await visitor.sampled(() => visitor.page.click('#compare'));
      assert.equal(await visitor.count('.view:not([hidden])'), 3);
      await visitor.press('End');
      await visitor.until(() => document.querySelectorAll('.view.finished').length === 3);
      await visitor.sampled(() => visitor.page.click('#compare'));
      assert.equal(await visitor.count('.view:not([hidden])'), 1);
    });

    it('shows a token, and samples on from it', async () => {
      await visitor.openSampled('?seed=11&steps=6');
      await visitor.page.click('.columns button:nth-child(2)');
      await visitor.until(() => document.querySelector('.card .token').textContent === 'Token 2');
      await visitor.press('End');
      await visitor.until(() => document.querySelector('.card .level').textContent === 'clean');
      assert.equal(await visitor.count('.view:first-child .card tbody tr'), 4);
      await visitor.sampled(() => visitor.page.click('.branch'));
      assert.ok(await visitor.address('ink'));
      await visitor.until(() =>
        document.querySelector('.card .level').textContent.startsWith('given'),
      );
    });

    it('goes on from strokes drawn by hand', async () => {
      await visitor.page.click('#pen');
      await visitor.until(() => document.querySelector('#stage').classList.contains('penning'));
      await visitor.draw([
        [0.2, 0.3],
        [0.5, 0.28],
        [0.8, 0.3],
      ]);
      await visitor.draw([
        [0.5, 0.15],
        [0.5, 0.5],
        [0.25, 0.8],
      ]);
      await visitor.until(() =>
        document.querySelector('.pen-count').textContent.startsWith('2 strokes'),
      );
      await visitor.page.click('.undo');
      await visitor.until(() =>
        document.querySelector('.pen-count').textContent.startsWith('1 stroke'),
      );
      await visitor.sampled(() => visitor.page.click('.go'));
      assert.match(await visitor.address('ink'), /^\d+\.\d+\.\d+\.\d+/);
      assert.match(await visitor.text('#mode'), /Your strokes/);
      const ink = await visitor.address('ink');
      await visitor.page.reload();
      await visitor.until(() => document.querySelector('#stage')?.dataset.done);
      assert.equal(await visitor.address('ink'), ink, 'the address brings the strokes back');
      assert.equal(await visitor.count('.penning'), 0);
    });

    it('samples a sheet of characters, and shows the chosen one', async () => {
      await visitor.open('?seed=5&steps=4&row=2');
      await visitor.page.$eval('#gallery', (section) =>
        section.scrollIntoView({ behavior: 'instant' }),
      );
      await visitor.until(() => !document.querySelector('#grid button').disabled);
      await visitor.until(inked, '#grid button:nth-child(24) canvas');
      await visitor.sampled(() => visitor.page.click('#grid button:nth-child(3)'));
      assert.equal(await visitor.address('sequence'), '2');
    });

    it('restores everything from the address', async () => {
      const address = '?seed=9&sequence=3&schedule=autoregressive&steps=7&eta=0.5&row=12';
      await visitor.openSampled(address);
      await visitor.until(() => document.querySelector('#where').textContent.startsWith('row 12 '));
      const shown = await visitor.page.evaluate(() => ({
        schedule: document.querySelector('[name=schedule]:checked').value,
        ...Object.fromEntries(
          ['seed', 'steps', 'eta'].map((id) => [id, document.getElementById(id).value]),
        ),
        playing: document.querySelector('#stage').classList.contains('playing'),
      }));
      const expected = {
        schedule: 'autoregressive',
        seed: '9',
        steps: '7',
        eta: '0.5',
        playing: false,
      };
      assert.deepEqual(shown, expected);
    });

    it('turns dark, and copies the citation', async () => {
      const paper = () =>
        visitor.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const light = await paper();
      const isLight = (colour, wanted) =>
        (getComputedStyle(document.documentElement).backgroundColor === colour) === wanted;
      await visitor.page.click('#theme');
      await visitor.until(isLight, light, false);
      await visitor.page.click('#theme');
      await visitor.until(isLight, light, true);
      await visitor.page.click('#copy');
      await visitor.until(() =>
        /Copied|Selected/.test(document.querySelector('#copy').textContent),
      );
    });

    it('fits a phone', async () => {
      for (const width of [390, 360]) {
        await visitor.page.setViewport({ width, height: 780 });
        const excess = () => document.documentElement.scrollWidth - window.innerWidth;
        assert.ok((await visitor.page.evaluate(excess)) <= 0, `${width} px`);
      }
      await visitor.page.setViewport({ width: 1280, height: 800 });
    });

    if (force)
      it('runs the plain build when told to', async () => {
        await visitor.openSampled('?build=simd&seed=11&steps=6');
        assert.match(await visitor.text('#engine'), /^SIMD · [\d.]+ ms/);
        assert.equal(await visitor.address('build'), 'simd');
      });

    it('has written no error to the console', () => assert.deepEqual(visitor.errors.splice(0), []));
  });

describe('when things go wrong', () => {
  let visitor;
  before(async () => (visitor = new Visitor(await launchChromium(['--disable-gpu']))));
  after(() => visitor?.close());
  afterEach(() => (server.state.fails = null));

  it('offers to fetch the model again', async () => {
    server.state.fails = /safetensors/;
    await visitor.open();
    await visitor.until(() => !document.querySelector('#retry').hidden);
    assert.match(await visitor.text('#mode'), /could not be fetched/);
    await visitor.until(inked, '.sheet canvas'); // the recorded run is still there
    server.state.fails = null;
    await visitor.page.click('#retry');
    await visitor.until(() => !document.querySelector('#pen').disabled);
    assert.ok(await visitor.page.$eval('#retry', (button) => button.hidden));
  });

  it('says so where WebAssembly cannot run', async () => {
    const script = await visitor.page.evaluateOnNewDocument(
      () => (WebAssembly.validate = () => false),
    );
    await visitor.open();
    await visitor.until(() =>
      document.querySelector('#mode').textContent.includes('no WebAssembly SIMD'),
    );
    await visitor.page.removeScriptToEvaluateOnNewDocument(script.identifier);
  });

  it('keeps still for those who asked for it', async () => {
    await visitor.page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
    await visitor.openSampled('?seed=11&steps=6');
    await visitor.until(() => document.querySelector('.view.finished'));
    assert.equal(await visitor.count('.playing'), 0);
  });
});
