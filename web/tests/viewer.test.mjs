// The viewer in three real browsers, as a project page has it: the very HTML of the README, static
// files in a folder of some server, no headers. And a model from another server, as from Hugging
// Face.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  conditioned,
  image,
  lines,
  path,
  strokes,
  table,
  tinyModel,
} from '../../wasm_tests/tiny.mjs';
import { launchChromium, launchFirefox, launchWebKit } from './browsers.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = '/some/project/demo/';
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const [, html] = readme.match(/```html\n(.*?)```/s) ?? [];

const types = {
  '.js': 'text/javascript',
  '.html': 'text/html; charset=utf-8',
  '.wasm': 'application/wasm',
};
const models = { strokes, path, lines, image, table, conditioned };
const empty =
  '<!doctype html><html><head><link rel="icon" href="data:," /></head><body></body></html>';

/** What lies at an address of the project's folder; undefined: nothing. */
function fileAt(name) {
  if (name === '' || name === 'index.html') return html;
  if (name === 'empty.html') return empty;
  if (name === 'start.json') return '[2, 0, 1]';
  if (name === 'page/model.safetensors') return empty;
  if (name === 'broken/model.safetensors') return tinyModel(strokes).subarray(0, 3000);
  const [first, ...rest] = name.split('/');
  const inside = normalize(rest.join('/'));
  const read = (place) => existsSync(join(root, place)) && readFileSync(join(root, place));
  if (first === 'diffusion-forcing') return read(`web/dist/${inside}`) || undefined;
  if (first === 'model') return read(`models/kanji/${inside}`) || undefined;
  if (models[first] && inside === 'config.json') return JSON.stringify(models[first]);
  if (models[first] && inside === 'model.safetensors') return tinyModel(models[first]);
}

/**
 * A server of static files: types and lengths, nothing else. With `cors` other pages may read them,
 * as on Hugging Face, and a folder NAME is the repository USER/NAME.
 */
async function serve({ cors = false } = {}) {
  const state = { hold: null };
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    const below = cors
      ? pathname.replace(/^\/USER\/(\w+)\/resolve\/main\//, `${folder}$1/`)
      : pathname;
    const content = below.startsWith(folder) ? fileAt(below.slice(folder.length)) : undefined;
    if (content === undefined) return response.writeHead(404).end();
    const bytes = Buffer.from(content);
    if (cors) response.setHeader('access-control-allow-origin', '*');
    const policy = searchParams.get('policy');
    if (policy) response.setHeader('content-security-policy', policy);
    const type = types[extname(below) || '.html'] ?? 'application/octet-stream';
    response.writeHead(200, { 'content-type': type, 'content-length': bytes.length });
    if (state.hold && below.endsWith('.safetensors')) {
      response.write(bytes.subarray(0, bytes.length / 2));
      await state.hold;
      return response.end(bytes.subarray(bytes.length / 2));
    }
    response.end(bytes);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, state, close };
}

const own = await serve();
const other = await serve({ cors: true });
after(() => {
  own.close();
  other.close();
});

test('the HTML of the README has at most 20 lines', () => {
  assert.ok(html, 'no HTML in README.md');
  assert.ok(html.trimEnd().split('\n').length <= 20);
});

// ---- In the page ----

const ended = () => document.querySelector('forcing-viewer')?.ended;
const failed = () =>
  document.querySelector('forcing-viewer')?.shadowRoot?.querySelector('[role=alert]:not([hidden])')
    ?.textContent;

/** What a viewer shows: values, words, pictures. */
const look = () => {
  const viewer = document.querySelector('forcing-viewer');
  const shadow = viewer.shadowRoot;
  const text = (selector) => shadow.querySelector(selector)?.textContent.trim();
  const picture = shadow.querySelector('.picture > *');
  const inked = (canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 100) count++;
    return count / (data.length / 4);
  };
  return {
    kind: shadow.querySelector('.viewer').classList[1],
    position: viewer.position,
    rows: viewer.rows,
    levels: Array.from(viewer.row.levels),
    tokens: Array.from(viewer.row.tokens),
    where: text('.where'),
    note: text('.note'),
    token: text('.token'),
    keys: Array.from(shadow.querySelectorAll('.keys li'), (key) => key.textContent.trim()),
    said: text('p.unseen'),
    picture: picture.tagName === 'CANVAS' ? picture.toDataURL() : picture.innerText,
    inked: picture.tagName === 'CANVAS' ? inked(picture) : null,
    table: shadow.querySelector('.table canvas').toDataURL(),
    label: picture.getAttribute('aria-label'),
    overflow: document.documentElement.scrollWidth - innerWidth,
    search: location.search,
  };
};

/** Puts a viewer into an empty page, from the package at an address. */
const put = async (entry, options) => {
  const { createViewer } = await import(entry);
  createViewer(document.body, options);
};

const browsers = { Chromium: launchChromium, Firefox: launchFirefox, WebKit: launchWebKit };
for (const [name, launch] of Object.entries(browsers))
  describe(name, () => {
    let browser, page;
    before(async () => {
      browser = await launch();
      ({ page } = browser);
      await page.setViewport({ width: 1100, height: 800 });
    });
    after(() => browser.close());

    const quiet = () => assert.deepEqual(browser.errors.splice(0), []);
    const until = (code, ...args) => page.waitForFunction(code, { timeout: 60_000 }, ...args);
    const entry = `${own.origin}${folder}diffusion-forcing/viewer.js`;
    /** A page with one viewer that plays through quickly. */
    const show = async (options, from = entry) => {
      await page.goto(`${own.origin}${folder}empty.html`);
      await page.evaluate(put, from, { seconds: 0.2, ...options });
    };
    const seen = async (options, from) => {
      await show(options, from);
      await until(ended);
      return page.evaluate(look);
    };
    /** The sentences of an error; the page stays. */
    const complaint = async (options) => {
      await show(options);
      await until(failed);
      return page.evaluate(failed);
    };
    /** Does something in the page, and tells what is to be seen when it has been drawn. */
    const seenAfter = async (code, ...args) => {
      await page.evaluate(code, ...args);
      await page.evaluate(
        () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
      );
      return page.evaluate(look);
    };
    const click = (selector) =>
      document.querySelector('forcing-viewer').shadowRoot.querySelector(selector).click();
    const press = (key) =>
      document
        .querySelector('forcing-viewer')
        .shadowRoot.querySelector('.scrub')
        .parentElement.dispatchEvent(
          new KeyboardEvent('keydown', { key, bubbles: true, composed: true, cancelable: true }),
        );

    test("the README's file plays to the end below a folder of a server without headers", async () => {
      await page.goto(`${own.origin}${folder}`);
      await until(ended);
      const end = await page.evaluate(look);
      assert.equal(end.kind, 'strokes');
      assert.ok(end.position === end.rows && end.rows > 10, end.where);
      assert.ok(end.levels.some((level) => level === 0) && end.tokens.every(Number.isFinite));
      assert.ok(end.inked > 0.01, `${end.inked}`);
      assert.match(end.note, /kanji · 1\.33 M parameters · .*KanjiVG/);
      assert.match(end.said, /Row \d+ of \d+: (\d+) of \1 tokens are clean/);
      assert.equal(await page.evaluate(() => crossOriginIsolated), false);
      assert.ok(end.overflow <= 0, `${end.overflow} px too wide`);
      quiet();
    });

    test('step, back, pause and restart', async () => {
      const start = await seen({ model: './path/', schedule: 'pyramid', uncertainty: 2 });
      const noise = await seenAfter(() => document.querySelector('forcing-viewer').seek(0));
      assert.ok(noise.levels.every((level) => level === 8));
      const first = await seenAfter(click, '.step');
      assert.equal(first.where, `row 1 of ${start.rows}`);
      assert.deepEqual(first.levels, [7, 8, 8, 8, 8, 8]);
      assert.notEqual(first.table, noise.table);
      assert.equal((await seenAfter(press, 'ArrowRight')).position, 2);
      assert.equal((await seenAfter(press, 'ArrowLeft')).position, 1);
      await page.evaluate(click, '.restart');
      await until(ended);
      assert.deepEqual((await page.evaluate(look)).tokens, start.tokens);
      await page.evaluate(() =>
        document.querySelector('forcing-viewer').setAttribute('seconds', '60'),
      );
      await page.evaluate(click, '.play');
      await until(() => document.querySelector('forcing-viewer').position > 0.1);
      assert.equal(
        await page.evaluate(() => document.querySelector('forcing-viewer').paused),
        false,
      );
      await page.evaluate(press, ' ');
      assert.equal(
        await page.evaluate(() => document.querySelector('forcing-viewer').paused),
        true,
      );
      quiet();
    });

    test('the same seed gives the same picture, another one another', async () => {
      const options = { model: './strokes/', seed: 5 };
      const one = await seen(options);
      const same = await seen(options);
      assert.equal(one.picture, same.picture);
      assert.deepEqual(one.tokens, same.tokens);
      const another = await seen({ ...options, seed: 6 });
      assert.notEqual(one.picture, another.picture);
      assert.notDeepEqual(one.tokens, another.tokens);
      // by hand
      await page.evaluate(() => {
        const field = document
          .querySelector('forcing-viewer')
          .shadowRoot.querySelector('[name=seed]');
        field.value = '5';
        field.dispatchEvent(new Event('change', { bubbles: true }));
      });
      await until(() => new URLSearchParams(location.search).get('seed') === '5');
      await until((tokens) => {
        const viewer = document.querySelector('forcing-viewer');
        return viewer.ended && String(Array.from(viewer.row.tokens)) === String(tokens);
      }, one.tokens);
      quiet();
    });

    test('the schedule changes, and stands in the address', async () => {
      const options = { model: './lines/', length: 5, steps: 6, schedule: 'autoregressive' };
      const before = await seen(options);
      assert.equal(before.rows, 30);
      await page.evaluate(click, '[value=full-sequence]');
      await until(() => document.querySelector('forcing-viewer').rows === 6);
      await until(ended);
      const third = await seenAfter(() => document.querySelector('forcing-viewer').seek(3));
      assert.deepEqual(third.levels, [3, 3, 3, 3, 3]);
      assert.equal(third.search, '?schedule=full-sequence');
      // The address is a link to this state.
      await page.goto(`${own.origin}${folder}empty.html${third.search}&seed=9&steps=x`);
      await page.evaluate(put, entry, { seconds: 0.2, ...options });
      await until(ended);
      const linked = await page.evaluate(look);
      assert.equal(linked.rows, 6);
      assert.notDeepEqual(linked.tokens, before.tokens);
      // A script that sets an attribute has the last word.
      await page.evaluate(() =>
        document.querySelector('forcing-viewer').setAttribute('schedule', 'pyramid'),
      );
      await until(() => document.querySelector('forcing-viewer').rows === 10);
      assert.equal(await page.evaluate(() => location.search), '?seed=9&steps=x');
      quiet();
    });

    for (const kind of ['path', 'strokes', 'lines', 'image', 'table'])
      test(`draws ${kind}, on a narrow page too`, async () => {
        const end = await seen({ model: `./${kind}/`, schedule: 'pyramid' });
        assert.equal(end.kind, kind);
        if (kind === 'table') {
          // Every field by its name, and every number in data units.
          for (const field of table.tokens.fields)
            assert.match(end.picture, new RegExp(`\\b${field.name}\\b`));
          const [first] = end.tokens;
          const shown = await page.evaluate(
            () =>
              document.querySelector('forcing-viewer').shadowRoot.querySelector('td span')
                .textContent,
          );
          assert.ok(
            Math.abs(Number(shown.replace('−', '-')) - first) <= 0.006 * Math.abs(first) + 1e-9,
          );
        } else {
          assert.ok(end.inked > 0.001, `${end.inked}`);
          assert.match(end.label, /tokens are clean/);
        }
        const noisy = await seenAfter(() => document.querySelector('forcing-viewer').seek(4));
        assert.notEqual(noisy.picture, end.picture);
        assert.notEqual(noisy.table, end.table);
        if (kind === 'lines') assert.deepEqual(noisy.keys.slice(0, 2), ['speed', 'height']);
        assert.ok(noisy.overflow <= 0);
        await page.setViewport({ width: 500, height: 800 });
        const narrow = await seenAfter(() => {});
        await page.setViewport({ width: 1100, height: 800 });
        assert.ok(narrow.overflow <= 0, `${narrow.overflow} px too wide`);
        quiet();
      });

    test('several sequences at once', async () => {
      for (const kind of ['path', 'strokes', 'lines', 'image']) {
        const one = await seen({ model: `./${kind}/`, length: 4 });
        const three = await seen({ model: `./${kind}/`, length: 4, batch: 3 });
        assert.equal(three.tokens.length, 3 * one.tokens.length);
        assert.deepEqual(three.tokens.slice(0, one.tokens.length), one.tokens);
        assert.notEqual(three.picture, one.picture);
      }
      quiet();
    });

    test('a token is read with the arrow keys, known ones stay as they are', async () => {
      const keep = { 1: [{ x: 3, y: -2 }, { x: 3.5, y: -1 }] }; // prettier-ignore
      await seen({ model: './path/', keep });
      await seenAfter(() => document.querySelector('forcing-viewer').seek(2));
      const arrow = () =>
        document
          .querySelector('forcing-viewer')
          .shadowRoot.querySelector('.table canvas')
          .dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }));
      const first = await seenAfter(arrow);
      assert.match(first.token, /^Token 1: level 6 of 8\. x \S+ \S+, y \S+ \S+; estimate x /);
      const second = await seenAfter(arrow);
      assert.equal(second.token, 'Token 2: given, stays as it is. x 3.00 3.50, y −2.00 −1.00');
      assert.ok(second.keys.includes('given: stays as it is'));
      quiet();
    });

    test('observation and conditions: the mean and zeros, as it says, or what is given', async () => {
      const plain = await seen({ model: './conditioned/' });
      assert.match(plain.note, /mean observation .* conditions are zero/);
      const given = await seen({
        model: './conditioned/',
        observe: './start.json',
        condition: [1],
      });
      assert.doesNotMatch(given.note, /observation|zero/);
      assert.notDeepEqual(given.tokens, plain.tokens);
      const same = await seen({
        model: './conditioned/',
        observe: [2, 0, 1],
        condition: [[1], [1], [1], [1]],
      });
      assert.deepEqual(same.tokens, given.tokens);
      quiet();
      assert.match(
        await complaint({ model: './conditioned/', observe: [1, 2] }),
        /expected 3 numbers/,
      );
      assert.match(
        await complaint({ model: './conditioned/', condition: [1, 2] }),
        /expected 1 numbers for all tokens/,
      );
      await browser.forget();
    });

    test('a model from another server, and the package too', async () => {
      const here = await seen({ model: './strokes/', seed: 4 });
      const there = await seen({ model: `${other.origin}/USER/strokes/resolve/main/`, seed: 4 });
      assert.deepEqual(there.tokens, here.tokens);
      quiet();
      const all = await seen(
        { model: `${other.origin}/USER/strokes/resolve/main/`, seed: 4 },
        `${other.origin}${folder}diffusion-forcing/viewer.js`,
      );
      assert.deepEqual(all.tokens, here.tokens);
      await browser.forget(); // some browsers log the worker of another origin that was refused
    });

    test('a policy that allows no more than it must', async () => {
      const policy = `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'; img-src data:`;
      await page.goto(`${own.origin}${folder}empty.html?policy=${encodeURIComponent(policy)}`);
      await page.evaluate(put, entry, { model: './table/', seconds: 0.2 });
      await until(ended);
      const end = await page.evaluate(look);
      assert.match(end.picture, /token/);
      const display = () =>
        getComputedStyle(
          document.querySelector('forcing-viewer').shadowRoot.querySelector('.transport'),
        ).display;
      assert.equal(await page.evaluate(display), 'flex');
      quiet();
    });

    test('what goes wrong is told in the page', async () => {
      assert.match(await complaint({ model: './nothing/' }), /no model at this address.*404/i);
      assert.match(await complaint({ model: './page/' }), /a web page, not a model/);
      assert.match(
        await complaint({ model: './broken/' }),
        /The model file is not as it has to be/,
      );
      assert.match(await complaint({}), /needs the attribute model/);
      assert.match(
        await complaint({ model: './path/', steps: 1000 }),
        /attribute steps: expected 1 to 100/,
      );
      assert.match(
        await complaint({ model: './path/', view: 'graph' }),
        /view\.kind: expected path/,
      );
      assert.match(
        await complaint({ model: './path/', keep: './nothing.json' }),
        /keep: .* answers 404/,
      );
      assert.match(await complaint({ model: './path/', keep: [[1]] }), /expected 2 numbers/);
      // and goes away once it is mended
      await page.evaluate(() => document.querySelector('forcing-viewer').removeAttribute('keep'));
      await until(ended);
      assert.equal(await page.evaluate(failed), undefined);
      await browser.forget(); // browsers log a 404
    });

    test('a browser without WebAssembly', async () => {
      await page.goto(`${own.origin}${folder}empty.html`);
      await page.evaluate(() => void (globalThis.WebAssembly = undefined));
      await page.evaluate(put, entry, { model: './path/' });
      await until(failed);
      assert.match(
        await page.evaluate(failed),
        /needs WebAssembly, which this browser does not have/,
      );
      await browser.forget(); // WebKit's ears hear the element's own event, "error"
    });

    test('loading shows how far it is', async () => {
      let release;
      own.state.hold = new Promise((resolve) => (release = resolve));
      await show({ model: './table/' });
      await until(() => {
        const message = document
          .querySelector('forcing-viewer')
          .shadowRoot.querySelector('.message');
        const bar = message.querySelector('progress');
        return (
          bar?.position > 0.3 && /^Loading the model0\.0 of 0\.0 MB$/.test(message.textContent)
        );
      });
      own.state.hold = null;
      release();
      await until(ended);
      quiet();
    });

    test('two on a page, and one that leaves it', async () => {
      await page.goto(`${own.origin}${folder}empty.html?left-seed=3&right-seed=4`);
      for (const id of ['left', 'right'])
        await page.evaluate(put, entry, { model: './path/', id, seconds: 0.2 });
      await until(() => [...document.querySelectorAll('forcing-viewer')].every((v) => v.ended));
      const seeds = await page.evaluate(() =>
        [...document.querySelectorAll('forcing-viewer')].map(
          (viewer) => viewer.shadowRoot.querySelector('[name=seed]').value,
        ),
      );
      assert.deepEqual(seeds, ['3', '4']);
      const left = await page.evaluate(() => {
        const viewer = document.querySelector('#right');
        const { model } = viewer;
        viewer.remove();
        try {
          model.sampler();
        } catch (error) {
          return [viewer.model, error.code];
        }
      });
      assert.deepEqual(left, [null, 'WRONG_STATE']);
      quiet();
    });

    if (name === 'Chromium')
      test('who wants no motion sees the result at once; dark pages are dark', async () => {
        await page.emulateMediaFeatures([
          { name: 'prefers-reduced-motion', value: 'reduce' },
          { name: 'prefers-color-scheme', value: 'light' },
        ]);
        await show({ model: './path/', seconds: 1000 });
        await until(ended);
        const light = await seenAfter(() => {});
        // By the page's color-scheme, not by the system's.
        await page.evaluate(() => void (document.documentElement.style.colorScheme = 'dark'));
        await until((before) => {
          const canvas = document
            .querySelector('forcing-viewer')
            .shadowRoot.querySelector('.table canvas');
          return canvas.toDataURL() !== before;
        }, light.table);
        await page.emulateMediaFeatures([]);
        quiet();
      });
  });
