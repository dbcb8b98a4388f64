// From import to the first row of a plan, ms: a fresh process or page calls one of these once.
// Models and ONNX files are ready in build/bench; `root` is the checkout: '/' in a page, else a path.
//
//   node tools/bench/start.mjs ours|ort MODEL

/** The package as it comes: a worker in pages, in-thread in Node. */
export async function ours(model, root) {
  const start = performance.now();
  const { loadModel } = await import('../../web/dist/index.js');
  const opened = await loadModel(`${root}build/bench/${model}.safetensors`);
  const sampler = opened.sampler({ length: 60, steps: 50, schedule: 'pyramid', uncertainty: 1 });
  await sampler.step();
  return performance.now() - start;
}

/** The same network step once. */
export async function ort(model, root) {
  const start = performance.now();
  const runtime = await import('../../node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs');
  runtime.env.wasm.numThreads = 1;
  const path = `${root}build/bench/${model}.onnx`;
  const file = root === '/' ? path : await (await import('node:fs/promises')).readFile(path);
  const session = await runtime.InferenceSession.create(file, { executionProviders: ['wasm'] });
  const { inputMetadata } = session;
  const feeds = {};
  for (const { name, shape } of inputMetadata) {
    feeds[name] = new runtime.Tensor('float32', new Float32Array(shape[0] * shape[1]), shape);
  }
  await session.run(feeds);
  return performance.now() - start;
}

if (typeof process === 'object' && process.argv[1]?.endsWith('start.mjs')) {
  const [who, model] = process.argv.slice(2);
  console.log(await { ours, ort }[who](model, './'));
  process.exit();
}
