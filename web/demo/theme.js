// Colours for the canvases, taken from the style sheet, and the switch between light and dark.

const root = document.documentElement;
const dark = matchMedia('(prefers-color-scheme: dark)');

/** @type {Record<string, string>} */
export let colours = {};

function read() {
  const style = getComputedStyle(root);
  const value = (name) => style.getPropertyValue(`--${name}`).trim();
  colours = Object.fromEntries(
    ['paper', 'sheet', 'ink', 'wash', 'dim', 'noise', 'accent', 'rule'].map((name) => [
      name,
      value(name),
    ]),
  );
}

/** '#rrggbb' as numbers. */
export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

const memory = {
  get: () => {
    try {
      return localStorage.getItem('theme');
    } catch {
      return null; // storage may be forbidden
    }
  },
  set: (value) => {
    try {
      localStorage.setItem('theme', value);
    } catch {
      // then it lasts as long as the page
    }
  },
};

/** Watches the switch and the system; onChange redraws. */
export function startTheme(button, onChange) {
  const apply = () => {
    const isDark = (root.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';
    button.setAttribute('aria-pressed', String(isDark));
    read();
    onChange();
  };
  const kept = memory.get();
  if (kept === 'dark' || kept === 'light') root.dataset.theme = kept;
  button.addEventListener('click', () => {
    root.dataset.theme = button.getAttribute('aria-pressed') === 'true' ? 'light' : 'dark';
    memory.set(root.dataset.theme);
    apply();
  });
  dark.addEventListener('change', apply);
  window.addEventListener('load', apply); // WebKit runs modules before style sheets have come
  apply();
}

/** Gives a canvas as many pixels as it covers on the screen; true where that changed. */
export function fit(canvas) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}
