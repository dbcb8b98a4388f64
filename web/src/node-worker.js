/**
 * A thread of Node with the face of a page's Worker, as far as link.js looks. It does not keep the
 * process alive, a call without an answer does.
 * @param {URL} script
 * @returns {Worker}
 */
export function nodeWorker(script) {
  // Not by import(), which bundlers for browsers would try to resolve.
  const { process } = /** @type {any} */ (globalThis);
  const { Worker: Thread } = process.getBuiltinModule('node:worker_threads');
  const thread = new Thread(script, { execArgv: [] }); // --input-type is not for this script
  let unanswered = 0;
  thread.unref();
  return /** @type {any} */ ({
    /**
     * @param {any} message
     * @param {Transferable[]} transfer
     */
    postMessage(message, transfer) {
      thread.postMessage(message, transfer);
      if (unanswered++ === 0) thread.ref();
    },
    /**
     * @param {string} type
     * @param {(event: any) => void} listener
     */
    addEventListener(type, listener) {
      thread.on(type, (/** @type {any} */ value) => {
        if (type === 'error') return listener(value);
        if (--unanswered === 0) thread.unref();
        listener({ data: value });
      });
      // process.exit() in the thread is no error there
      if (type === 'error') thread.on('exit', () => listener({ message: 'it has ended' }));
    },
    terminate: () => void thread.terminate(),
  });
}
