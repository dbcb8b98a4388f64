// Timing on a machine that is not quiet: competitors take turns, short measurements, medians.

/** Seconds on the clock. (A thread's own processor time comes in steps of 4 ms where it is told at all.) */
export const now = () => performance.now() / 1000;

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Seconds per call of each competitor, medians over the rounds, and `faster(a, b)`: the time of b
 * over that of a, which were measured side by side, the median over the rounds. `rounds` has the
 * single measurements.
 * @param {Record<string, (calls: number) => unknown>} competitors  do something `calls` times; may be async
 * @param {{ window: number, warm: number, rounds: number }} effort  ms, ms, times
 */
export async function interleaved(competitors, { window, warm, rounds }) {
  const names = Object.keys(competitors);
  const calls = {};
  for (const name of names) calls[name] = await warmUp(competitors[name], window, warm);
  const seconds = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      const start = now();
      await competitors[name](calls[name]);
      seconds[name].push((now() - start) / calls[name]);
    }
  }
  return {
    rounds: seconds,
    seconds: Object.fromEntries(names.map((name) => [name, median(seconds[name])])),
    faster: (a, b) => median(seconds[a].map((time, round) => seconds[b][round] / time)),
  };
}

/** Runs until the engine has compiled what it will; returns how many calls fill the window (ms). */
async function warmUp(run, window, warm) {
  let calls = 1;
  for (const begin = now(); ;) {
    const start = now();
    await run(calls);
    const end = now();
    const each = (1000 * (end - start)) / calls;
    if (1000 * (end - begin) > warm && each * calls > window / 4)
      return Math.max(1, Math.round(window / each));
    calls = Math.max(1, Math.min(4 * calls, Math.round(window / Math.max(each, 1e-5))));
  }
}

/** Largest difference over the largest magnitude of `expected`. */
export function difference(found, expected) {
  if (found.length !== expected.length) return Infinity;
  let most = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Number.isFinite(found[i]) ? Math.abs(found[i] - expected[i]) : Infinity);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return most / scale;
}

/** Ends the benchmark where two sides do not compute the same: their times would mean nothing. */
export function agree(what, found, expected, tolerance) {
  const off = difference(found, expected);
  if (!(off <= tolerance)) {
    throw new Error(
      `${what}: the two sides differ by ${off.toExponential(1)} of the largest value`,
    );
  }
  return off;
}
