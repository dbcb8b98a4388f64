// What web/build.mjs puts into inline.js and viewer.js.
declare const DF_SIMD_WASM: string; // gzip, base64
declare const DF_RELAXED_WASM: string; // gzip, base64
declare const DF_WORKER_JS: string;
declare const DF_VIEWER_CSS: string; // viewer/style.css; into viewer.js
