// The package in real browsers: the worker, from the page's own origin and from another one, under
// content security policies, in one file, and through bundlers. The page itself has tests of its
// own.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build as esbuild } from 'esbuild';
import { build as vite } from 'vite';
import { tinyModel } from '../../wasm_tests/tiny.mjs';
import { loadModel } from '../dist/index.js';
import { launchChromium, launchFirefox, launchWebKit } from './browsers.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'forcing-')); // bundled pages
const types = {
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.safetensors': 'application/octet-stream',
};

/** /dist/ is the package, /model a model, /built/ what bundlers made, all else an empty page. */
async function serve() {
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    response.setHeader('access-control-allow-origin', '*');
    const type = pathname === '/model' ? '.safetensors' : extname(pathname);
    response.setHeader('content-type', types[type] ?? 'text/html');
    // What a page needs to be cross-origin isolated; a worker's script needs the second one too.
    if (pathname.startsWith('/isolated/'))
      response.setHeader('cross-origin-opener-policy', 'same-origin');
    if (pathname.startsWith('/isolated/') || pathname.startsWith('/dist/'))
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
    response.setHeader('cross-origin-resource-policy', 'cross-origin');
    const policy = searchParams.get('policy');
    if (policy) response.setHeader('content-security-policy', policy);
    try {
      if (pathname === '/model') response.end(tinyModel());
      else if (pathname.startsWith('/dist/'))
        response.end(readFileSync(join(root, 'web', pathname)));
      else if (pathname.startsWith('/built/')) response.end(readFileSync(join(folder, pathname)));
      else
        response.end('<!doctype html><html><head><link rel="icon" href="data:," /></head></html>');
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, address: `http://127.0.0.1:${server.address().port}` };
}

let own, other, expected;
before(async () => {
  [own, other] = [await serve(), await serve()];
  const model = await loadModel(tinyModel(), { build: 'simd' });
  expected = Array.from((await model.sampler({ length: 4, seed: 3, batch: 3 }).run()).tokens);
});
after(() => {
  for (const { server } of [own, other]) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(folder, { recursive: true });
});

/** Runs in the page: loads, samples, and tells how. */
async function sample(entry, options) {
  try {
    const { loadModel } = await import(entry);
    const progress = [];
    const onProgress = (step) => progress.push(step);
    const model = await loadModel('/model', { onProgress, ...options });
    const sampler = model.sampler({ length: 4, seed: 3, batch: 3 });
    let rows = 0;
    for await (const { row } of sampler) rows = row;
    const { tokens } = await sampler.state();
    model.dispose();
    const { name } = model.fields[0];
    return { ...model.info, name, tokens: Array.from(tokens), rows, last: progress.at(-1) };
  } catch (error) {
    return { code: error.code, message: error.message, hint: error.hint };
  }
}

function assertSampled(
  result,
  { worker = true, workers = worker ? 1 : 0, threads = 1, build = 'simd' } = {},
) {
  assert.equal(result.code, undefined, `${result.code}: ${result.message}`);
  assert.equal(result.worker, worker);
  assert.equal(result.workers, workers);
  assert.equal(result.threads, threads);
  assert.equal(result.name, 'dx');
  assert.equal(result.build, build);
  assert.ok(result.rows > 8);
  assert.deepEqual(result.last, { loaded: result.modelBytes, total: result.modelBytes });
  // simd128 is exact arithmetic, the same everywhere; relaxed SIMD may round otherwise.
  if (build === 'simd') assert.deepEqual(result.tokens, expected);
  result.tokens.forEach((x, i) => assert.ok(Math.abs(x - expected[i]) < 0.01, `token value ${i}`));
}

const browsers = { Chromium: launchChromium, Firefox: launchFirefox, WebKit: launchWebKit };
for (const [name, launch] of Object.entries(browsers)) {
  describe(name, () => {
    let browser;
    before(async () => (browser = await launch()));
    after(() => browser.close());
    const run = async (entry, options, policy) => {
      const query = policy ? `?policy=${encodeURIComponent(policy)}` : '';
      await browser.page.goto(`${own.address}/${query}`);
      return browser.page.evaluate(sample, entry, options);
    };
    const quiet = () => assert.deepEqual(browser.errors.splice(0), []);

    test('a worker computes, and the calling thread gives the same bits', async () => {
      assertSampled(await run('/dist/index.js', { build: 'simd' }));
      assertSampled(await run('/dist/index.js', { build: 'simd', inThread: true }), {
        worker: false,
      });
      quiet();
    });

    test('threads in a page that is cross-origin isolated', async () => {
      const isolated = async (entry, options) => {
        await browser.page.goto(`${own.address}/isolated/`);
        assert.equal(await browser.page.evaluate(() => crossOriginIsolated), true);
        return browser.page.evaluate(sample, entry, { build: 'simd', ...options });
      };
      const cores = await browser.page.evaluate(() => Math.min(navigator.hardwareConcurrency, 8));
      assert.ok(cores > 1, `${cores} cores`);
      const index = '/dist/index.js';
      assertSampled(await isolated(index, {}), { threads: cores });
      assertSampled(await isolated(index, { threads: 3 }), { threads: 3 });
      assertSampled(await isolated(index, { workers: 'auto' }), { threads: cores });
      assertSampled(await isolated(index, { workers: 2 }), { workers: 2 });
      assertSampled(await isolated(index, { inThread: true }), { worker: false });
      assertSampled(await isolated('/dist/inline.js', {}));
      quiet();
      assertSampled(await isolated(`${other.address}${index}`, { threads: 2 }), { threads: 2 });
      await browser.forget(); // some browsers log the workers that were refused
      assertSampled(await run(index, { build: 'simd', threads: 3 })); // not isolated
      quiet();
    });

    test('several workers share a batch', async () => {
      for (const entry of ['/dist/index.js', '/dist/inline.js', `${other.address}/dist/index.js`]) {
        assertSampled(await run(entry, { build: 'simd', workers: 2 }), { workers: 2 });
      }
      await browser.forget(); // the workers of another origin that were refused
    });

    test('the fastest build that the browser has', async () => {
      const build = name === 'WebKit' ? 'simd' : 'relaxed';
      assertSampled(await run('/dist/index.js', {}), { build });
      quiet();
    });

    test('the package from another origin', async () => {
      assertSampled(await run(`${other.address}/dist/index.js`, { build: 'simd' }));
      await browser.forget(); // some browsers log the worker that was refused
    });

    test('everything in one file', async () => {
      assertSampled(await run('/dist/inline.js', { build: 'simd' }));
      quiet();
    });

    test('a policy that allows no more than it must', async () => {
      const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src data:";
      assertSampled(await run('/dist/index.js', { build: 'simd' }, policy));
      quiet();
    });

    test('a policy without workers', async () => {
      const policy = "script-src 'self' 'wasm-unsafe-eval'; worker-src 'none'";
      assertSampled(await run('/dist/index.js', { build: 'simd' }, policy), { worker: false });
      assertSampled(await run('/dist/inline.js', { build: 'simd' }, policy), { worker: false });
      await browser.forget();
    });

    test('a policy without WebAssembly', async () => {
      const options = { build: 'simd', inThread: true };
      const { code, hint } = await run('/dist/index.js', options, "script-src 'self'");
      assert.equal(code, 'NOT_SUPPORTED');
      assert.match(hint, /wasm-unsafe-eval/);
      // A worker from the page's server is under the policy that comes with its script.
      assertSampled(await run('/dist/index.js', { build: 'simd' }, "script-src 'self'"));
      await browser.forget();
    });
  });
}

describe('bundlers', () => {
  let browser;
  before(async () => {
    browser = await launchChromium();
    // A project with the package in node_modules.
    const project = join(folder, 'project');
    const installed = join(project, 'node_modules/diffusion-forcing');
    mkdirSync(join(installed, 'web'), { recursive: true });
    cpSync(join(root, 'web/dist'), join(installed, 'web/dist'), { recursive: true });
    cpSync(join(root, 'package.json'), join(installed, 'package.json'));
    writeFileSync(
      join(project, 'index.html'),
      '<!doctype html><script type="module" src="./main.js"></script>',
    );
    writeFileSync(
      join(project, 'main.js'),
      `import { loadModel } from 'diffusion-forcing';
       window.loadModel = loadModel;
       const entry = 'data:text/javascript,export const { loadModel } = window';
       window.result = (${sample})(entry, { build: 'simd' });
       `,
    );
  });
  after(() => browser.close());

  const result = async (path) => {
    await browser.page.goto(own.address + path);
    const found = await browser.page.evaluate(() => window.result);
    assert.deepEqual(browser.errors.splice(0), []);
    return found;
  };

  test('Vite', async () => {
    await vite({
      root: join(folder, 'project'),
      base: '/built/vite/',
      logLevel: 'error',
      build: { outDir: join(folder, 'built/vite') },
    });
    assertSampled(await result('/built/vite/index.html'));
  });

  test('esbuild, with the files beside the bundle', async () => {
    const out = join(folder, 'built/esbuild');
    await esbuild({
      entryPoints: [join(folder, 'project/main.js')],
      outdir: out,
      bundle: true,
      format: 'esm',
    });
    for (const file of ['worker.js', 'df.simd.wasm', 'df.relaxed.wasm'])
      cpSync(join(root, 'web/dist', file), join(out, file));
    writeFileSync(
      join(out, 'index.html'),
      '<!doctype html><script type="module" src="./main.js"></script>',
    );
    assertSampled(await result('/built/esbuild/index.html'));
  });
});
