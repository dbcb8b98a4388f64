/** @import { Progress } from './types.js' */
import { DfError } from './errors.js';

/** @typedef {string | URL | Request | Response | Blob | BufferSource} Source */

/** Largest piece that bytes and files are cut into. */
const PIECE = 1 << 18;

/**
 * The bytes of a source in the pieces in which they come. A piece is the receiver's and has a
 * buffer of its own, so that it can be transferred; bytes that were passed in stay as they are.
 * @param {Source} source
 * @param {{ signal?: AbortSignal, onProgress?: (progress: Progress) => void }} [options]
 * @returns {AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>}
 */
export async function* read(source, { signal, onProgress } = {}) {
  signal?.throwIfAborted();
  const opened = await open(source, signal);
  let { total } = opened;
  let loaded = 0;
  for await (const piece of opened.pieces) {
    signal?.throwIfAborted();
    loaded += piece.length;
    // Compressed after all: a page may not see the header that says so.
    if (total !== null && loaded > total) total = null;
    onProgress?.({ loaded, total });
    yield piece;
  }
  if (total === null) onProgress?.({ loaded, total: loaded });
}

/**
 * Is it a file or in memory, so that its bytes come at once?
 * @param {Source} source
 */
export function isLocal(source) {
  if (typeof source === 'string' || source instanceof URL) return filePath(source) !== null;
  return source instanceof ArrayBuffer || ArrayBuffer.isView(source);
}

/**
 * @typedef {object} Opened
 * @property {AsyncIterable<Uint8Array<ArrayBuffer>> | Iterable<Uint8Array<ArrayBuffer>>} pieces
 * @property {number | null} total  bytes; null: not known
 */

/**
 * @param {Source} source
 * @param {AbortSignal} [signal]
 * @returns {Promise<Opened>}
 */
async function open(source, signal) {
  if (source instanceof ArrayBuffer) return openBytes(new Uint8Array(source));
  if (ArrayBuffer.isView(source))
    return openBytes(new Uint8Array(source.buffer, source.byteOffset, source.byteLength));
  if (typeof source === 'string' || source instanceof URL) {
    const path = filePath(source);
    if (path !== null) return openFile(path, signal);
  } else if (source instanceof Blob) {
    return { pieces: drain(source.stream(), signal), total: source.size };
  } else if (source instanceof Response) {
    return openResponse(source, signal);
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
  return openResponse(response, signal);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Opened}
 */
function openBytes(bytes) {
  const pieces = function* () {
    for (let at = 0; at < bytes.length; at += PIECE) yield bytes.slice(at, at + PIECE);
  };
  return { pieces: pieces(), total: bytes.length };
}

/**
 * @param {Response} response
 * @param {AbortSignal} [signal]
 * @returns {Opened}
 */
function openResponse(response, signal) {
  if (!response.ok || !response.body) {
    throw new DfError('IO', `${response.url}: ${response.status} ${response.statusText}`);
  }
  // The length is that of the body as it travels; a compressed one is longer once it is here.
  const plain = /^(identity)?$/.test(response.headers.get('content-encoding') ?? '');
  const length = plain ? Number(response.headers.get('content-length')) : 0;
  return { pieces: drain(response.body, signal), total: length || null };
}

/**
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} stream
 * @param {AbortSignal} [signal]
 */
async function* drain(stream, signal) {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => {
        signal?.throwIfAborted();
        throw new DfError('IO', `the download broke off: ${cause.message}`, { cause });
      });
      signal?.throwIfAborted();
      if (done) return;
      yield value.length < value.buffer.byteLength ? value.slice() : value;
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
    cancel(); // if the receiver has had enough
  }
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
 * @returns {Promise<Opened>}
 */
async function openFile(path, signal) {
  // Not by import(), which bundlers for browsers would try to resolve. Node 20.16, Deno 2.1, Bun
  // 1.2
  const fs = /** @type {any} */ (globalThis).process?.getBuiltinModule?.('node:fs/promises');
  if (!fs) throw new DfError('NOT_SUPPORTED', `${path}: files cannot be read here`);
  /** @param {Error} cause */
  const fail = (cause) => {
    signal?.throwIfAborted();
    throw new DfError('IO', cause.message, { cause });
  };
  const file = await fs.open(path).catch(fail);
  const { size } = await file.stat();
  const pieces = async function* () {
    try {
      for (let at = 0; ;) {
        const piece = new Uint8Array(at < size ? Math.min(PIECE, size - at) : PIECE);
        const { bytesRead } = await file.read(piece, 0, piece.length).catch(fail);
        if (bytesRead === 0) return;
        at += bytesRead;
        yield bytesRead < piece.length ? piece.slice(0, bytesRead) : piece;
      }
    } finally {
      await file.close();
    }
  };
  return { pieces: pieces(), total: size };
}
