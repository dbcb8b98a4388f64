// A page's Worker, as far as the package uses one, on a thread of Node.
import { Worker as Thread, isMainThread, parentPort } from 'node:worker_threads';

export class NodeWorker extends EventTarget {
  constructor(script = new URL(import.meta.url)) {
    super();
    this.thread = new Thread(script);
    this.thread.on('message', (data) => this.dispatchEvent(new MessageEvent('message', { data })));
    this.thread.on('error', ({ message }) => {
      this.dispatchEvent(Object.assign(new Event('error', { cancelable: true }), { message }));
    });
  }

  postMessage(message, transfer) {
    this.thread.postMessage(message, transfer);
  }

  terminate() {
    this.terminated = true;
    this.thread.terminate();
  }
}

// This file is also what the thread runs: the package's worker script in a worker's surroundings.
if (!isMainThread) {
  globalThis.self = globalThis;
  globalThis.addEventListener = (type, listener) =>
    parentPort.on(type, (data) => listener({ data }));
  globalThis.postMessage = (message, { transfer = [] } = {}) =>
    parentPort.postMessage(message, transfer);
  await import('../web/dist/worker.js');
}
