// The pages as static files that run from any folder of any server.
import { defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  base: './',
  build: {
    target: 'es2022',
    outDir: 'dist',
    assetsInlineLimit: 0, // data: URLs would need a looser content security policy
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: ['index.html', 'maze.html'].map((name) => `${import.meta.dirname}/${name}`),
    },
  },
  // Pre-bundled, MuJoCo would look for its wasm file in the wrong folder.
  optimizeDeps: { exclude: ['@mujoco/mujoco'] },
  worker: { format: 'es' },
  server: { fs: { allow: ['../..'] } }, // the package's source and the model
});
