import js from '@eslint/js';
import globals from 'globals';

export default [
  { ignores: ['.tools/', 'build/', 'runs/', 'web/dist/', 'web/demo/dist/'] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2024, sourceType: 'module', globals: globals.es2024 },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
    },
  },
  // The package runs in pages, workers and Node alike; its viewer and the page in browsers; tools and tests in Node,
  // where tests also hold functions that are sent to a browser.
  {
    files: ['web/src/**', 'models/maze2d/*.js'],
    languageOptions: { globals: globals['shared-node-browser'] },
  },
  { files: ['web/src/worker*.js'], languageOptions: { globals: globals.worker } },
  {
    files: ['web/demo/**', 'web/src/viewer.js', 'web/src/viewer/**'],
    languageOptions: { globals: globals.browser },
  },
  {
    files: [
      ...['tools/**', 'wasm_tests/**', 'web/*.mjs', 'web/bin/**', 'web/**/vite.config.js'],
      'models/maze2d/**/*.mjs',
    ],
    languageOptions: { globals: globals.nodeBuiltin },
  },
  {
    files: ['web/tests/**', 'tools/bench/**'],
    languageOptions: { globals: { ...globals.browser, ...globals.nodeBuiltin } },
  },
];
