// The level table as the library makes it (src/diffusion/levels.h), here in three lines so that
// plans and figures can be drawn before the model is there. web/tests holds it to the library's own
// table.

const rise = (schedule, S, u) => ({ autoregressive: S, 'full-sequence': 0 })[schedule] ?? u;

/**
 * Level of token t in row m, 0 (clean) to S (pure noise): column t starts floor(rise * t) rows
 * later.
 */
export function levelAt(schedule, S, u, m, t) {
  return Math.min(S, Math.max(0, S - m + Math.floor(rise(schedule, S, u) * t)));
}

/** Rows to do for T tokens: the last row, in which all are clean. */
export function rowsOf(schedule, S, u, T) {
  return S + Math.floor(rise(schedule, S, u) * (T - 1));
}
