// The address follows the state. Safari takes a hundred changes in half a minute and then throws, as
// when a slider is dragged for long: the last one is written a little later.

let waiting = 0;

/** @param {(search: string) => string} format  what is to stand in place of this */
export function saveAddress(format) {
  clearTimeout(waiting);
  try {
    history.replaceState(null, '', format(location.search) + location.hash);
  } catch {
    waiting = setTimeout(() => saveAddress(format), 1000);
  }
}
