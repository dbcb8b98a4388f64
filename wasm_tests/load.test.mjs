// Where a model may come from, what is told on the way, and files that are not a model.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { features, levelTable, loadModel } from '../web/dist/index.js';
import * as inline from '../web/dist/inline.js';
import { builds, dfError, skipReason } from './helpers.mjs';
import { NodeWorker } from './node-worker.mjs';
import { readSafetensors, writeSafetensors } from './safetensors.mjs';
import { randomWeights, strokes, tinyModel } from './tiny.mjs';

const model = tinyModel();

/** Loads, samples once and lets go; gives info and the tokens. */
async function trial(source, options, { loadModel: load } = { loadModel }) {
  const loaded = await load(source, options);
  const { tokens } = await loaded.sampler({ length: 3, seed: 1 }).run();
  const result = { ...loaded.info, tokens: tokens.slice() };
  loaded.dispose();
  return result;
}

describe('sources', () => {
  let folder, server, address;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'forcing-'));
    writeFileSync(join(folder, 'model.safetensors'), model);
    server = createServer((request, response) => {
      const { pathname } = new URL(request.url, 'http://localhost');
      const send = (headers, ...pieces) => {
        response.writeHead(200, headers);
        for (const piece of pieces) response.write(piece);
        response.end();
      };
      const half = model.length >> 1;
      if (pathname === '/plain') send({ 'content-length': model.length }, model);
      else if (pathname === '/chunked') send({}, model.subarray(0, half), model.subarray(half));
      else if (pathname === '/gzip') send({ 'content-encoding': 'gzip' }, gzipSync(model));
      else if (pathname === '/page')
        send({ 'content-type': 'text/html' }, '<!doctype html><title>No</title>');
      else if (pathname === '/short') {
        response.writeHead(200, { 'content-length': model.length });
        response.write(model.subarray(0, half), () => response.destroy());
      } else if (pathname === '/slow') {
        response.writeHead(200, { 'content-length': model.length });
        response.write(model.subarray(0, half));
      } else if (pathname.endsWith('.wasm'))
        send({}, readFileSync(new URL(`../web/dist${pathname}`, import.meta.url)));
      else response.writeHead(404).end();
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });

  test('bytes, URLs, paths, Blobs, Responses', async () => {
    const file = join(folder, 'model.safetensors');
    const shifted = new Uint8Array(model.length + 3);
    shifted.set(model, 3);
    const expected = await trial(model);
    const sources = {
      'typed array': Buffer.from(model),
      'array of another offset': shifted.subarray(3),
      'array buffer': model.buffer,
      DataView: new DataView(model.buffer),
      Blob: new Blob([model]),
      Response: new Response(model),
      'file URL': pathToFileURL(file),
      'file URL as text': String(pathToFileURL(file)),
      path: file,
      'relative path': relative(process.cwd(), file),
      URL: new URL('/plain', address),
      'URL as text': `${address}/chunked`,
      Request: new Request(`${address}/gzip`),
    };
    for (const [name, source] of Object.entries(sources)) {
      assert.deepEqual(await trial(source), expected, name);
    }
    assert.equal(model.length, tinyModel().length, 'bytes stay with their owner');
    const worker = () => new NodeWorker();
    assert.deepEqual((await trial(`${address}/plain`, { worker })).tokens, expected.tokens);
    assert.deepEqual((await trial(model, { worker })).tokens, expected.tokens);
    assert.equal(model.length, tinyModel().length, 'also beside a worker');
    const blob = new Blob([model]);
    for (let i = 0; i < 2; i++)
      assert.deepEqual((await trial(blob, { worker })).tokens, expected.tokens, `Blob, time ${i}`);
  });

  test('progress', async () => {
    const collect = async (source) => {
      const seen = [];
      await trial(source, { onProgress: (progress) => seen.push(progress) });
      assert.ok(seen.every(({ loaded }, i) => i === 0 || loaded >= seen[i - 1].loaded));
      assert.equal(seen.at(-1).loaded, model.length);
      return new Set(seen.map(({ total }) => total));
    };
    assert.deepEqual(await collect(model), new Set([model.length]));
    assert.deepEqual(await collect(`${address}/plain`), new Set([model.length]));
    assert.deepEqual(await collect(new Blob([model])), new Set([model.length]));
    assert.deepEqual(await collect(`${address}/chunked`), new Set([null, model.length]));
    assert.deepEqual(await collect(`${address}/gzip`), new Set([null, model.length]));
    const oops = new Error('oops');
    const onProgress = () => {
      throw oops;
    };
    await assert.rejects(loadModel(`${address}/plain`, { onProgress }), (error) => error === oops);
  });

  test('what goes wrong on the way', async () => {
    await assert.rejects(loadModel(`${address}/none`), dfError('IO', /none.*404/));
    await assert.rejects(loadModel(`${address}/short`), dfError('IO', /broke off/));
    await assert.rejects(loadModel(join(folder, 'none')), dfError('IO', /none/));
    await assert.rejects(loadModel('http://127.0.0.1:1/model'), dfError('IO'));
    for (const source of [undefined, null, 5, {}, []]) {
      await assert.rejects(loadModel(source), dfError('BAD_ARGUMENT', /URL/), String(source));
    }
    await assert.rejects(loadModel(`${address}/page`), (error) => {
      assert.match(error.hint, /web page/);
      return dfError('BAD_FILE')(error);
    });
  });

  test('an abort while loading', async () => {
    const reason = new Error('enough');
    await assert.rejects(
      loadModel(model, { signal: AbortSignal.abort(reason) }),
      (e) => e === reason,
    );
    const controller = new AbortController();
    const onProgress = () => controller.abort(reason);
    const slow = loadModel(`${address}/slow`, { signal: controller.signal, onProgress });
    await assert.rejects(slow, (e) => e === reason);
    await assert.rejects(loadModel(`${address}/slow`, { signal: AbortSignal.timeout(30) }), {
      name: 'TimeoutError',
    });
    const worker = new NodeWorker();
    const beside = loadModel(`${address}/slow`, { signal: AbortSignal.timeout(100), worker });
    await assert.rejects(beside, { name: 'TimeoutError' });
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(worker.terminated, true);
  });

  test('the wasm file from elsewhere', async () => {
    const expected = await trial(model, { build: 'simd' });
    const file = new URL('../web/dist/df.simd.wasm', import.meta.url);
    const bytes = readFileSync(file);
    const module = await WebAssembly.compile(bytes);
    const build = 'simd';
    for (const options of [
      { wasmUrl: file },
      { wasmUrl: file.href },
      { wasmUrl: `${address}/df.simd.wasm` },
      { wasmUrl: { simd: file } },
      { wasmBinary: bytes },
      { wasmBinary: { simd: bytes, relaxed: new Uint8Array(0) } },
    ]) {
      assert.deepEqual(await trial(model, { build, ...options }), expected);
    }
    assert.deepEqual(await trial(model, { build, wasmBinary: module }), {
      ...expected,
      wasmBytes: 0,
    });
    const remote = await trial(model, {
      build,
      wasmBinary: module,
      worker: () => new NodeWorker(),
    });
    assert.deepEqual(remote.tokens, expected.tokens);

    await assert.rejects(loadModel(model, { wasmUrl: `${address}/none` }), (error) => {
      assert.match(error.hint, /wasmUrl/);
      return dfError('IO', /404/)(error);
    });
    await assert.rejects(
      loadModel(model, { wasmBinary: new Uint8Array(8) }),
      dfError('NOT_SUPPORTED'),
    );
    const table = await levelTable({ schedule: 'pyramid', length: 2, steps: 2, wasmBinary: bytes });
    assert.equal(table.rows, 4);
  });
});

describe('a file comes in pieces', () => {
  /** A Response that brings these pieces when they are asked for, and waits at a promise. */
  const response = (pieces, cancel = () => {}) => {
    const iterator = pieces[Symbol.iterator]();
    const pull = async (controller) => {
      const { done, value } = iterator.next();
      if (done) controller.close();
      else controller.enqueue(await value);
    };
    return new Response(new ReadableStream({ pull, cancel }, { highWaterMark: 0 }));
  };
  const cut = (bytes, n) =>
    Array.from({ length: Math.ceil(bytes.length / n) }, (_, i) => bytes.slice(n * i, n * (i + 1)));
  const never = new Promise(() => {});

  test('cut anywhere', async () => {
    const expected = await trial(model);
    for (const n of [1, 7, 997, 65537, model.length]) {
      assert.deepEqual(await trial(response(cut(model, n))), expected, `pieces of ${n}`);
    }
    const worker = () => new NodeWorker();
    const { tokens } = await trial(response(cut(model, 997)), { worker });
    assert.deepEqual(tokens, expected.tokens);
    const long = Buffer.concat([model, Buffer.of(0)]);
    await assert.rejects(loadModel(response(cut(long, 100))), dfError('BAD_FILE', /found/));
    await assert.rejects(loadModel(response(cut(model.slice(0, -1), 100))), dfError('BAD_FILE'));
    await assert.rejects(loadModel(response([])), dfError('BAD_FILE', /at least 8 bytes, found 0/));
  });

  test('a bad one is refused before the rest has come', async () => {
    const { tensors, metadata } = readSafetensors(model);
    const bias = { shape: [7], data: new Float32Array(7) };
    const bad = writeSafetensors({ ...tensors, 'x_from_z.bias': bias }, metadata);
    const header = 8 + Number(new DataView(bad.buffer).getBigUint64(0, true));
    for (const options of [{}, { worker: () => new NodeWorker() }]) {
      let cancelled = 0;
      const source = response([bad.slice(0, header), never], () => cancelled++);
      await assert.rejects(loadModel(source, options), dfError('BAD_SHAPE', /x_from_z\.bias/));
      assert.equal(cancelled, 1, 'the download is stopped');
    }
  });

  test('while the wasm file comes and is compiled', async (t) => {
    const wasm = readFileSync(new URL('../web/dist/df.simd.wasm', import.meta.url));
    // Each file waits in the middle for the other: who loads one after the other never ends.
    const gate = () => {
      let open;
      const opened = new Promise((resolve) => (open = resolve));
      return { open, opened };
    };
    const modelBegan = gate();
    const wasmEnded = gate();
    const server = createServer(async (request, response) => {
      const [bytes, wait] = request.url.endsWith('.wasm')
        ? [wasm, modelBegan.opened]
        : [model, wasmEnded.opened];
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, bytes.length >> 1));
      await wait;
      response.end(bytes.subarray(bytes.length >> 1));
      if (bytes === wasm) wasmEnded.open();
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const address = `http://127.0.0.1:${server.address().port}`;
    const loaded = await trial(`${address}/model`, {
      build: 'simd',
      wasmUrl: `${address}/df.simd.wasm`,
      onProgress: modelBegan.open,
      signal: AbortSignal.timeout(5000),
    });
    assert.deepEqual(loaded, await trial(model, { build: 'simd' }));
  });

  test('and is never whole beside the parameters', async (t) => {
    const big = tinyModel({ ...strokes, denoiser: { ...strokes.denoiser, latent_size: 512 } });
    const { heap: initial } = await (await loadModel(model)).memory();
    const loaded = await loadModel(response(cut(big, 100000)));
    t.after(() => loaded.dispose());
    const { parameters, modelBytes } = loaded.info;
    assert.equal(modelBytes, big.length);
    assert.ok(big.length > 1e7);
    const { heap } = await loaded.memory(); // which never shrinks
    assert.ok(heap - initial < 4 * parameters + 2 ** 18, `${heap - initial} for ${big.length}`);
  });

  test('the download waits for an engine that is behind', async () => {
    class Stuck extends EventTarget {
      postMessage({ id, method }) {
        const answer = new MessageEvent('message', { data: { id } });
        if (method === 'start') queueMicrotask(() => this.dispatchEvent(answer));
      }
      terminate() {
        this.terminated = true;
      }
    }
    let pulled = 0;
    const pieces = function* () {
      for (; pulled < 1000; pulled++)
        yield new Promise((resolve) => setImmediate(resolve, new Uint8Array(2 ** 16)));
    };
    const worker = new Stuck();
    const controller = new AbortController();
    const { signal } = controller;
    const load = loadModel(response(pieces()), { worker, signal, wasmBinary: wasmModule() });
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 300);
    await assert.rejects(load, (error) => error === reason);
    assert.equal(worker.terminated, true);
    assert.ok(pulled < 200, `${pulled} pieces`);
  });
});

/** Module of nothing, for workers that do not look. */
const wasmModule = () => new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));

test('inline needs no other file', async () => {
  const expected = await trial(model);
  assert.deepEqual(await trial(model, {}, inline), expected);
  const table = { schedule: 'pyramid', length: 2, steps: 2 };
  assert.deepEqual(await inline.levelTable(table), await levelTable(table));
  assert.deepEqual(inline.features(), features());
});

test('a build on request', async () => {
  await assert.rejects(
    loadModel(model, { build: 'fast' }),
    dfError('BAD_ARGUMENT', /simd, relaxed or auto/),
  );
  for (const build of builds) {
    if (skipReason(build))
      await assert.rejects(loadModel(model, { build }), dfError('NOT_SUPPORTED', /relaxed/));
    else assert.equal((await trial(model, { build })).build, build);
  }
  assert.equal(
    (await trial(model, { build: 'auto' })).build,
    features().relaxed ? 'relaxed' : 'simd',
  );
});

describe('damaged files', () => {
  const size = Number(new DataView(model.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(model.subarray(8, 8 + size)));

  test('cut at every kind of boundary', async () => {
    const cuts = new Set([0, 1, 7, 8, 9, 8 + size - 1, 8 + size, 8 + size + 1, model.length - 1]);
    for (const at of [0.1, 0.5, 0.9]) cuts.add(8 + Math.floor(at * size));
    for (const { data_offsets: range } of Object.values(header)) {
      if (range) for (const off of [-1, 0, 1]) cuts.add(8 + size + range[1] + off);
    }
    for (const cut of cuts) {
      if (cut >= model.length) continue;
      await assert.rejects(loadModel(model.subarray(0, cut)), dfError('BAD_FILE'), `cut at ${cut}`);
    }
  });

  test('bytes changed in the header never break more than the call', async () => {
    let rejected = 0;
    for (let at = 0; at < 8 + size; at += 37) {
      const bytes = model.slice();
      bytes[at] ^= 0x15;
      try {
        (await loadModel(bytes)).dispose();
      } catch (error) {
        assert.match(error.code, /^BAD_|^NOT_SUPPORTED$/, `byte ${at}: ${error.stack}`);
        rejected++;
      }
    }
    assert.ok(rejected > 20);
  });

  test('tensors that do not fit the config', async () => {
    const { tensors, metadata } = readSafetensors(model);
    const write = (change, config = strokes) => {
      const copy = { ...tensors };
      change(copy);
      return writeSafetensors(copy, { ...metadata, config: JSON.stringify(config) });
    };
    const wrong = (bytes, code, message) =>
      assert.rejects(loadModel(bytes), dfError(code, message));
    await wrong(
      write((all) => delete all['x_from_z.bias']),
      'BAD_FILE',
      /x_from_z\.bias/,
    );
    await wrong(
      write((all) => (all['x_from_z.bias'] = { shape: [7], data: new Float32Array(7) })),
      'BAD_SHAPE',
      /x_from_z\.bias.*8.*7/s,
    );
    await wrong(
      write(() => {}, { ...strokes, format: 'other/1' }),
      'BAD_CONFIG',
      /format/,
    );
    await wrong(
      write(() => {}, { ...strokes, diffusion: { ...strokes.diffusion, levels: 0 } }),
      'BAD_CONFIG',
      /levels/,
    );
    await wrong(writeSafetensors(tensors, {}), 'BAD_FILE', /config/);
    await wrong(writeSafetensors(randomWeights(strokes), { config: '{' }), 'BAD_CONFIG');
  });
});
