/** @import { Progress } from './types.js' */
import { DfError } from './errors.js';

/** @typedef {string | URL | Request | Response | Blob | BufferSource} Source */

/**
 * Reads all of a source, in the pieces in which it comes. Bytes that were passed in are not copied.
 * @param {Source} source
 * @param {{ signal?: AbortSignal, onProgress?: (progress: Progress) => void }} [options]
 * @returns {Promise<Uint8Array[]>}
 */
export async function read(source, { signal, onProgress } = {}) {
  signal?.throwIfAborted();
  if (source instanceof ArrayBuffer) return whole(new Uint8Array(source), onProgress);
  if (ArrayBuffer.isView(source)) {
    return whole(new Uint8Array(source.buffer, source.byteOffset, source.byteLength), onProgress);
  }
  if (source instanceof Blob) return drain(source.stream(), source.size, signal, onProgress);
  if (source instanceof Response) return readResponse(source, signal, onProgress);
  if (typeof source === 'string' || source instanceof URL) {
    const path = filePath(source);
    if (path !== null) return whole(await readFile(path, signal), onProgress);
  } else if (!(source instanceof Request)) {
    throw new DfError('BAD_ARGUMENT', 'expected a URL, a Response, a Blob or bytes', {
      hint: 'Bytes are an ArrayBuffer or a typed array.',
    });
  }
  const response = await fetch(source, { signal }).catch((cause) => {
    signal?.throwIfAborted();
    const name = source instanceof Request ? source.url : source;
    throw new DfError('IO', `${name}: ${cause.message}`, {
      cause,
      hint: 'Is the address right, and does its server allow this page (CORS)?',
    });
  });
  return readResponse(response, signal, onProgress);
}

/** @param {Uint8Array[]} pieces */
export function byteLength(pieces) {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

/**
 * @param {Response} response
 * @param {AbortSignal} [signal]
 * @param {(progress: Progress) => void} [onProgress]
 */
function readResponse(response, signal, onProgress) {
  if (!response.ok || !response.body) {
    throw new DfError('IO', `${response.url}: ${response.status} ${response.statusText}`);
  }
  // The length is that of the body as it travels; a compressed one is longer once it is here.
  const plain = /^(identity)?$/.test(response.headers.get('content-encoding') ?? '');
  const length = plain ? Number(response.headers.get('content-length')) : 0;
  return drain(response.body, length || null, signal, onProgress);
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @param {number | null} total
 * @param {AbortSignal} [signal]
 * @param {(progress: Progress) => void} [onProgress]
 */
async function drain(stream, total, signal, onProgress) {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', cancel);
  const pieces = [];
  try {
    for (let loaded = 0; ;) {
      const { done, value } = await reader.read().catch((cause) => {
        signal?.throwIfAborted();
        throw new DfError('IO', `the download broke off: ${cause.message}`, { cause });
      });
      signal?.throwIfAborted();
      if (done) {
        if (total === null) onProgress?.({ loaded, total: loaded });
        return pieces;
      }
      pieces.push(value);
      loaded += value.length;
      // Compressed after all: a page may not see the header that says so.
      if (total !== null && loaded > total) total = null;
      onProgress?.({ loaded, total });
    }
  } catch (error) {
    cancel();
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {(progress: Progress) => void} [onProgress]
 */
function whole(bytes, onProgress) {
  onProgress?.({ loaded: bytes.length, total: bytes.length });
  return [bytes];
}

// ---- Files, outside browsers ----

/**
 * The path of a file URL, or of a relative path where there is no page for it to be relative to.
 * @param {string | URL} source
 * @returns {string | URL | null}
 */
function filePath(source) {
  if (typeof document !== 'undefined') return null;
  try {
    const url = new URL(source);
    if (url.protocol === 'file:') return url;
    return /^[a-z]:$/i.test(url.protocol) ? String(source) : null; // C:\...
  } catch {
    return typeof location === 'undefined' ? source : null;
  }
}

/**
 * @param {string | URL} path
 * @param {AbortSignal} [signal]
 */
async function readFile(path, signal) {
  // Not by import(), which bundlers for browsers would try to resolve. Node 20.16, Deno 2.1, Bun
  // 1.2
  const fs = /** @type {any} */ (globalThis).process?.getBuiltinModule?.('node:fs/promises');
  if (!fs) throw new DfError('NOT_SUPPORTED', `${path}: files cannot be read here`);
  try {
    return /** @type {Uint8Array} */ (await fs.readFile(path, { signal }));
  } catch (cause) {
    signal?.throwIfAborted();
    throw new DfError('IO', /** @type {Error} */ (cause).message, { cause });
  }
}
