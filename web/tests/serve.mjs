// The built pages as a project page would have them: static files in a folder of some server, no
// special headers but a strict content security policy. The maze page's is looser by what MuJoCo needs.
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../demo/dist', import.meta.url));
const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};
const policy = (scripts) =>
  [
    "default-src 'none'",
    `script-src 'self' ${scripts}`,
    ...['style-src', 'img-src', 'connect-src', 'worker-src'].map((kind) => `${kind} 'self'`),
  ].join('; ');

/**
 * Serves the pages below /some/project/. Requests that `state.fails` matches get an error, those that
 * `state.hold.path` matches the second half when the promise `state.hold.until` resolves; `state.strict`
 * keeps the maze page, too, from eval.
 */
export async function servePage() {
  if (!existsSync(join(folder, 'index.html'))) throw new Error('no built page: npm run build');
  const state = { fails: null, hold: null, strict: false };
  const server = createServer(async (request, reply) => {
    const path = new URL(request.url, 'http://localhost').pathname.replace(/\/$/, '/index.html');
    const file = normalize(join(folder, path.replace('/some/project', '')));
    const isThere =
      path.startsWith('/some/project/') && file.startsWith(folder) && existsSync(file);
    if (!isThere || state.fails?.test(path)) return reply.writeHead(404).end();
    const evaluates = path.endsWith('/maze.html') && !state.strict;
    const bytes = readFileSync(file);
    reply.writeHead(200, {
      'content-type': types[extname(file)] ?? 'application/octet-stream',
      'content-length': bytes.length,
      'content-security-policy': policy(evaluates ? "'unsafe-eval'" : "'wasm-unsafe-eval'"),
    });
    if (!state.hold?.path.test(path)) return reply.end(bytes);
    reply.write(bytes.subarray(0, bytes.length / 2));
    await state.hold.until;
    reply.end(bytes.subarray(bytes.length / 2));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${server.address().port}/some/project/`, state, close };
}
