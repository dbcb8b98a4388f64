// Three real browsers for the tests, headless and behind one face:
//
//   const { page, errors, close } = await launchWebKit();
//   await page.goto('http://localhost:4173/');
//   await page.evaluate((text) => document.title === text, 'Diffusion Forcing');
//   await close();                                     // every process it started is gone
//
// errors collects what went wrong in the page by itself: console errors, uncaught exceptions, failed
// requests. Browsers tell of them when they get to it: await forget() leaves the page, and what is
// still to come of it does not count. In Chromium and Firefox, page is a Puppeteer page (over CDP and
// WebDriver BiDi). WebKit, the engine of Safari, is WebKitGTK's MiniBrowser; its page has the part of
// that API below.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer, request as sendRequest } from 'node:http';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';

/** @param {string[]} [flags] further command-line flags */
export function launchChromium(flags = []) {
  return launchPuppeteer({
    browser: 'chrome',
    executablePath: program('chromium', 'chromium-browser', 'google-chrome'),
    args: ['--no-sandbox', '--disable-dev-shm-usage', ...flags], // root has no sandbox; containers little /dev/shm
  });
}

/** @param {Record<string, unknown>} [preferences] entries of about:config */
export function launchFirefox(preferences = {}) {
  return launchPuppeteer({
    browser: 'firefox',
    executablePath: program('firefox-esr', 'firefox'),
    extraPrefsFirefox: preferences,
  });
}

async function launchPuppeteer(options) {
  const browser = await puppeteer.launch({ headless: true, ...options });
  const [page = await browser.newPage()] = await browser.pages();
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('requestfailed', (request) =>
    errors.push(`${request.failure()?.errorText} ${request.url()}`),
  );
  page.on(
    'response',
    (reply) => reply.status() >= 400 && errors.push(`${reply.status()} ${reply.url()}`),
  );
  const forget = async () => {
    await page.goto('about:blank');
    errors.length = 0;
  };
  return { page, errors, forget, close: () => browser.close() };
}

// ---- WebKit ----------------------------------------------------------------------------------------

export async function launchWebKit() {
  const processes = [];
  const killAll = () => processes.splice(0).forEach(killGroup);
  process.once('exit', killAll);
  const close = () => {
    process.off('exit', killAll);
    killAll();
  };
  try {
    return await startWebKit(processes, close);
  } catch (error) {
    close();
    throw error;
  }
}

async function startWebKit(processes, close) {
  // A screen that nobody looks at. It says its number on file descriptor 3.
  const screen = spawn(
    program('Xvfb'),
    ['-displayfd', '3', '-screen', '0', '1600x1200x24', '-nolisten', 'tcp'],
    {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    },
  );
  processes.push(screen);
  const display = await firstLine(screen.stdio[3], 'Xvfb did not start');

  const port = await freePort();
  const driver = spawn(program('WebKitWebDriver'), [`--port=${port}`], {
    detached: true,
    stdio: 'ignore',
    env: {
      ...process.env,
      DISPLAY: `:${display}`,
      NO_AT_BRIDGE: '1',
      JSC_useSharedArrayBuffer: '1', // MiniBrowser does not give an isolated page what Safari gives it
      WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', // it needs namespaces that containers do not grant
    },
  });
  processes.push(driver);

  const errors = [];
  const { proxy, forget } = await startErrorProxy(errors);

  const call = async (method, path, body) => {
    const reply = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      body: body && JSON.stringify(body),
    });
    const { value } = await reply.json();
    if (!reply.ok) throw new Error(`WebKitWebDriver: ${value.error}: ${value.message}`);
    return value;
  };
  await until(() => call('GET', '/status'), 'WebKitWebDriver did not start');
  const { sessionId } = await call('POST', '/session', {
    capabilities: {
      alwaysMatch: {
        browserName: 'MiniBrowser',
        'webkitgtk:browserOptions': { binary: miniBrowser(), args: ['--automation'] },
        proxy: { proxyType: 'manual', httpProxy: `127.0.0.1:${proxy.address().port}` },
      },
    },
  });
  const session = (method, path, body) => call(method, `/session/${sessionId}${path}`, body);
  await session('POST', '/timeouts', { script: 300_000, pageLoad: 60_000 });
  const page = new WebKitPage(session);
  await page.setViewport({ width: 1280, height: 800 });
  return {
    page,
    errors,
    forget,
    close: async () => {
      await session('DELETE', '').catch(() => {});
      proxy.close();
      proxy.closeAllConnections();
      close();
    },
  };
}

/**
 * WebKit's driver does not tell what a page writes to its console. So MiniBrowser goes through this
 * proxy, which puts a script in front of every page's own; the script reports errors back to it,
 * with the number of the page.
 */
async function startErrorProxy(errors) {
  let pages = 0;
  let forgotten = 0;
  const script = (number) => `
    const report = (...what) => navigator.sendBeacon('/-/error?${number}', what.map(String).join(' '));
    console.error = report;
    addEventListener('error', ({ message, target }) => {
      // Sizes that changed while others were told of: told of in the next frame, and no error.
      if (message?.startsWith('ResizeObserver loop')) return;
      report(message ?? 'not loaded: ' + target.src);
    }, true);
    addEventListener('unhandledrejection', (event) => report(event.reason));`;
  const server = createServer((request, reply) => {
    const { hostname, port, pathname, search } = new URL(request.url);
    if (pathname === '/-/error') {
      const add = (words) => Number(search.slice(1)) > forgotten && errors.push(words);
      text(request).then(add, () => {}); // a page that is closed breaks off
      return reply.end();
    }
    if (pathname === '/-/error.js') {
      return reply.setHeader('content-type', 'text/javascript').end(script(search.slice(1)));
    }
    // Uncompressed, so that a page can be added to.
    const headers = { ...request.headers, 'accept-encoding': 'identity' };
    const options = { hostname, port, path: pathname + search, method: request.method, headers };
    // No agent: a kept connection may be closed in the moment in which it is used again.
    const onward = sendRequest({ ...options, agent: false }, async (answer) => {
      if (answer.statusCode >= 400) errors.push(`${answer.statusCode} ${request.url}`);
      const isPage = answer.headers['content-type']?.startsWith('text/html');
      if (isPage) delete answer.headers['content-length'];
      reply.writeHead(answer.statusCode, answer.headers);
      if (!isPage) return answer.pipe(reply);
      const tag = `<script src="/-/error.js?${++pages}"></script>`;
      const html = await text(answer).catch(() => '');
      reply.end(html.replace('<head>', `<head>${tag}`));
    });
    onward.on('error', (error) => {
      errors.push(`${error.message} ${request.url}`);
      reply.destroy();
    });
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const forget = async () => {
    forgotten = pages;
    errors.length = 0;
  };
  return { proxy: server, forget };
}

/** The part of Puppeteer's Page that the tests use, over classic WebDriver. */
class WebKitPage {
  #session;

  constructor(session) {
    this.#session = session;
  }

  async goto(url) {
    await this.#session('POST', '/url', { url });
  }

  async reload() {
    await this.#session('POST', '/refresh', {});
  }

  /** Calls a function in the page and returns what it returns (JSON), promises awaited. */
  async evaluate(code, ...args) {
    const { value, error } = await this.#session('POST', '/execute/async', {
      script: `const done = arguments[arguments.length - 1];
        Promise.resolve().then(() => (${code})(...[...arguments].slice(0, -1)))
          .then((value) => done({ value }), (error) => done({ error: error + '\\n' + error?.stack }));`,
      args,
    });
    if (error !== undefined) throw new Error(error);
    return value ?? undefined;
  }

  async waitForFunction(code, { timeout = 30_000 } = {}, ...args) {
    const isTrue = async () => {
      if (!(await this.evaluate(code, ...args))) throw new Error('not yet');
    };
    await until(isTrue, `still not true in WebKit: ${code}`, timeout);
  }

  async waitForSelector(selector, options) {
    await this.waitForFunction((wanted) => !!document.querySelector(wanted), options, selector);
  }

  /** The text content of the first element that matches. */
  $eval(selector, code, ...args) {
    return this.evaluate(
      `(selector, ...args) => (${code})(document.querySelector(selector), ...args)`,
      ...[selector, ...args],
    );
  }

  async click(selector) {
    await this.#session('POST', `/element/${await this.#element(selector)}/click`, {});
  }

  async type(selector, text) {
    await this.#session('POST', `/element/${await this.#element(selector)}/value`, { text });
  }

  /** Presses the mouse at the first point (page coordinates), moves through the others, lets go. */
  async drag(points) {
    const move = ([x, y]) => ({
      type: 'pointerMove',
      duration: 10,
      x: Math.round(x),
      y: Math.round(y),
    });
    const [first, ...rest] = points.map(move);
    const actions = [
      ...[first, { type: 'pointerDown', button: 0 }],
      ...[...rest, { type: 'pointerUp', button: 0 }],
    ];
    await this.#session('POST', '/actions', {
      actions: [{ type: 'pointer', id: 'mouse', actions }],
    });
  }

  /**
   * Sets the size of the page itself, whatever the window's frame takes; as near as it comes, for
   * MiniBrowser's window is at least 447 wide. A page is told of a new size a little later, and may
   * pass through others.
   */
  async setViewport({ width, height }) {
    const size = () => this.evaluate(() => [window.innerWidth, window.innerHeight]);
    const outer = () => this.evaluate(() => [window.outerWidth, window.outerHeight]);
    const wanted = String([width, height]);
    for (let attempt = 0; attempt < 3; attempt++) {
      let now = await size();
      if (String(now) === wanted) return;
      const frame = (await outer()).map((value, k) => value - now[k]);
      const rect = { width: width + frame[0], height: height + frame[1] };
      await this.#session('POST', '/window/rect', rect);
      const before = String(now);
      for (let n = 0, same = 0; same < 3 && n < 20; n++) {
        await sleep(50);
        const next = await size();
        same = String(next) === String(now) && String(next) !== before ? same + 1 : 0;
        now = next;
      }
    }
  }

  async screenshot({ path } = {}) {
    const png = Buffer.from(await this.#session('GET', '/screenshot'), 'base64');
    if (path) writeFileSync(path, png);
    return png;
  }

  async #element(selector) {
    const body = { using: 'css selector', value: selector };
    return Object.values(await this.#session('POST', '/element', body))[0];
  }
}

function miniBrowser() {
  for (const folder of readdirSync('/usr/lib')) {
    const path = join('/usr/lib', folder, 'webkit2gtk-4.1/MiniBrowser');
    if (existsSync(path)) return path;
  }
  throw new Error('MiniBrowser is missing: node tools/setup.mjs test');
}

// ---- Small things ----------------------------------------------------------------------------------

function program(...names) {
  const folders = process.env.PATH.split(delimiter);
  const paths = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = paths.find((path) => existsSync(path));
  if (!found) throw new Error(`${names[0]} is missing: node tools/setup.mjs test`);
  return found;
}

/** Ends a process that leads its own group, and all that it started. */
function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // already gone
  }
}

/** Tries until it works; throws after the time is up (ms). */
async function until(attempt, complaint, timeout = 20_000) {
  for (const start = Date.now(); ; await sleep(50)) {
    try {
      return await attempt();
    } catch (cause) {
      if (Date.now() - start > timeout) throw new Error(complaint, { cause });
    }
  }
}

async function firstLine(stream, complaint) {
  for await (const line of createInterface(stream)) return line;
  throw new Error(complaint);
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
