/** What the package throws (but for signal.reason on an abort). */
export class DfError extends Error {
  name = 'DfError';

  /**
   * @param {string} code a name of src/base/status.h: BAD_ARGUMENT, WRONG_STATE, ...
   * @param {string} message what was expected and what was found
   * @param {{ hint?: string, cause?: unknown }} [more]
   */
  constructor(code, message, { hint = '', cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    /** What to do about it; may be empty. */
    this.hint = hint;
  }
}

/**
 * @param {string} name of the argument
 * @param {string} expected
 * @param {unknown} found
 */
export function badArgument(name, expected, found) {
  const text =
    typeof found === 'string'
      ? JSON.stringify(found)
      : Array.isArray(found)
        ? 'an array'
        : String(found);
  return new DfError('BAD_ARGUMENT', `${name}: expected ${expected}, found ${text}`);
}
