// Makes web/dist, the npm package, from web/src and the wasm modules of build/wasm.
//
//   node web/build.mjs            (npm run build makes the wasm modules first)
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, transform } from 'esbuild';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const dist = 'web/dist';
const modules = ['simd', 'relaxed', 'simd.threads', 'relaxed.threads'].map(
  (file) => `df.${file}.wasm`,
);

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
for (const name of modules) copyFileSync(`build/wasm/${name}`, `${dist}/${name}`);

/** Bundles one entry. new URL('./file', import.meta.url) stays as it is, for the user's bundler. */
const bundle = (entry, define, external) =>
  build({
    entryPoints: [`web/src/${entry}`],
    outdir: dist,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: true,
    charset: 'utf8',
    define,
    external,
    logLevel: 'warning',
  });

await bundle('worker.js');
await bundle('index.js');
const [simd, relaxed] = modules.map((name) =>
  gzipSync(readFileSync(`${dist}/${name}`), { level: 9 }).toString('base64'),
);
await bundle('inline.js', {
  DF_SIMD_WASM: JSON.stringify(simd),
  DF_RELAXED_WASM: JSON.stringify(relaxed),
  DF_WORKER_JS: JSON.stringify(readFileSync(`${dist}/worker.js`, 'utf8').replace(/^\/\/# .*/m, '')),
});

// The viewer imports the package's own entry, so that the page has one copy, and the worker and the
// wasm files are found beside it.
const style = await transform(readFileSync('web/src/viewer/style.css', 'utf8'), {
  loader: 'css',
  minify: true,
});
await bundle('viewer.js', { DF_VIEWER_CSS: JSON.stringify(style.code) }, ['./index.js']);

execFileSync('node_modules/.bin/tsc', { stdio: 'inherit' }); // the .d.ts files
