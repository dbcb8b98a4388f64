// Runs measurements in headless Chromium. The page comes from a server that gives out the checkout's
// files without special headers, as static hosts do.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launchChromium } from '../../web/tests/browsers.mjs';
import { effort } from './cases.mjs';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const types = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };
const folders = [
  '/tools/bench/',
  '/wasm_tests/',
  '/web/dist/',
  '/build/',
  '/node_modules/onnxruntime-web/',
];

async function serve() {
  const server = createServer((request, reply) => {
    const path = normalize(new URL(request.url, 'http://localhost').pathname);
    if (path === '/') {
      reply.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
      return reply.end('<!doctype html><link rel="icon" href="data:,"><title>benchmark</title>');
    }
    const file = join(checkout, path);
    if (!folders.some((folder) => path.startsWith(folder)) || !existsSync(file)) {
      return reply.writeHead(404).end();
    }
    reply.writeHead(200, {
      'content-type': types[extname(path)] ?? 'application/octet-stream',
      'content-length': statSync(file).size,
    });
    createReadStream(file).pipe(reply);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

/** Opens Chromium for `use({ browser, page, url })`. */
async function withChromium(use) {
  const server = await serve();
  const chromium = await launchChromium();
  try {
    const browser = chromium.page.browser();
    const url = `http://127.0.0.1:${server.address().port}/`;
    return await use({ browser, page: chromium.page, url, version: await browser.version() });
  } catch (error) {
    if (chromium.errors.length) error.message += `\n${chromium.errors.join('\n')}`;
    throw error;
  } finally {
    await chromium.close();
    server.close();
    server.closeAllConnections();
  }
}

/** A measurement of suite.mjs in a fresh browser. */
export function measureInChromium(name, how, say) {
  return withChromium(async ({ page, url, version }) => {
    await page.exposeFunction('say', say);
    await page.goto(url);
    const result = await page.evaluate(
      async (name, effort) => {
        const suite = await import('/tools/bench/suite.mjs');
        const read = async (path) => new Uint8Array(await (await fetch(`/${path}`)).arrayBuffer());
        return suite[name]({ read, effort, say: window.say });
      },
      ...[name, effort[how]],
    );
    return { version, result };
  });
}

/** start.mjs, each time in a browser context without cache. */
export function startInChromium(say) {
  return withChromium(({ browser, url }) =>
    say(async (who, model) => {
      const context = await browser.createBrowserContext();
      try {
        const page = await context.newPage();
        await page.goto(url);
        return await page.evaluate(
          async (who, model) => (await import('/tools/bench/start.mjs'))[who](model, '/'),
          ...[who, model],
        );
      } finally {
        await context.close();
      }
    }),
  );
}
