// MuJoCo: 10 MB that come only when a visitor starts the ball.

import mujocoUrl from '@mujoco/mujoco/mujoco.wasm?url';
import { loadMujoco } from '../../../models/maze2d/environment.js';

/** A content security policy without 'unsafe-eval', under which MuJoCo's loader would hang. */
function isForbidden() {
  try {
    return Function('return false')();
  } catch {
    return true;
  }
}

/**
 * Loads MuJoCo.
 * @param {(progress: { loaded: number, total: number | null }) => void} onProgress
 * @returns {Promise<import('@mujoco/mujoco').MainModule>}
 */
export async function loadPhysics(onProgress) {
  if (isForbidden()) throw Object.assign(new Error('unsafe-eval is forbidden'), { code: 'POLICY' });
  let wasmBinary;
  try {
    wasmBinary = await download(mujocoUrl, onProgress);
  } catch (cause) {
    throw Object.assign(new Error('mujoco.wasm could not be fetched', { cause }), { code: 'IO' });
  }
  return loadMujoco({ wasmBinary });
}

async function download(url, onProgress) {
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`${reply.status} ${url}`);
  // The length of a compressed body says nothing about what will come out of it.
  const length = Number(reply.headers.get('content-length'));
  const total = length && !reply.headers.get('content-encoding') ? length : null;
  const pieces = [];
  let loaded = 0;
  for (const reader = reply.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    onProgress({ loaded: (loaded += value.length), total });
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
