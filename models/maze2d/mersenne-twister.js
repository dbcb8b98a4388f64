// Random numbers as NumPy's legacy generator (RandomState) draws them, so that a seed gives what
// D4RL's own scripts drew: MT19937 (Matsumoto & Nishimura 1998) with the ways to uniform numbers,
// integers and normal numbers that NumPy had then.

/**
 * Where random numbers come from. Nothing in this folder makes its own.
 * @typedef {object} Random
 * @property {() => number} uniform in [0, 1)
 * @property {(count: number) => number} integer 0 to count - 1
 * @property {() => number} normal mean 0, variance 1
 */

const N = 624;
const M = 397;

/** @implements {Random} */
export class MersenneTwister {
  #state = new Uint32Array(N);
  #next = N;
  /** @type {number | undefined} the second of a pair of normal numbers */
  #normal;

  /** @param {number | number[]} seed unsigned 32-bit integers; a list is NumPy's seeding by array */
  constructor(seed) {
    if (typeof seed === 'number') this.#seed(seed);
    else this.#seedByArray(seed);
  }

  /** @param {number} seed */
  #seed(seed) {
    const s = this.#state;
    s[0] = seed;
    for (let i = 1; i < N; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
  }

  /** @param {number[]} key */
  #seedByArray(key) {
    this.#seed(19650218);
    const s = this.#state;
    let i = 1;
    /** @param {number} factor @param {number} plus */
    const mix = (factor, plus) => {
      s[i] = (s[i] ^ Math.imul(s[i - 1] ^ (s[i - 1] >>> 30), factor)) + plus;
      if (++i < N) return;
      s[0] = s[N - 1];
      i = 1;
    };
    for (let k = 0; k < Math.max(N, key.length); k++)
      mix(1664525, key[k % key.length] + (k % key.length));
    for (let k = 0; k < N - 1; k++) mix(1566083941, -i);
    s[0] = 0x80000000;
  }

  /** 32 random bits. */
  bits() {
    const s = this.#state;
    if (this.#next === N) {
      for (let i = 0; i < N; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
        s[i] = s[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#next = 0;
    }
    let y = s[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** In [0, 1), 53 bits. */
  uniform() {
    const high = this.bits() >>> 5;
    return (high * 2 ** 26 + (this.bits() >>> 6)) / 2 ** 53;
  }

  /** 0 to count - 1: draws below the next power of two until one is small enough. @param {number} count 1 to 2^31 */
  integer(count) {
    if (count === 1) return 0;
    const mask = 2 ** (32 - Math.clz32(count - 1)) - 1;
    for (;;) {
      const draw = (this.bits() & mask) >>> 0;
      if (draw < count) return draw;
    }
  }

  /** Marsaglia's polar method: the pair's second number comes first. */
  normal() {
    if (this.#normal !== undefined) {
      const kept = this.#normal;
      this.#normal = undefined;
      return kept;
    }
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const scale = Math.sqrt((-2 * Math.log(square)) / square);
      this.#normal = scale * x;
      return scale * y;
    }
  }
}

/**
 * The generator that gym (up to 0.21) gave an environment or an action space for a seed: its key is
 * the first 8 bytes of the SHA-512 of the seed's decimal digits.
 * @param {number} seed
 */
export async function gymRandom(seed) {
  const hash = await crypto.subtle.digest('SHA-512', new TextEncoder().encode(String(seed)));
  const key = new DataView(hash);
  return new MersenneTwister([key.getUint32(0, true), key.getUint32(4, true)]);
}
