// A small chart of the last minutes, from the letters that policy/views/sparks.py writes.

const SVG = 'http://www.w3.org/2000/svg';
const POINTS = 30;
const STEP = 2; // px of a letter
const HEIGHT = 18;
const LEVELS = 15;

/** The shapes of a word: bars of spans in which all went well, and bars of spans with failures. The newest is last. */
export function shapes(word) {
  const bars = { fine: '', failed: '' };
  [...word].forEach((letter, index) => {
    const level = letter.toLowerCase().charCodeAt(0) - 97;
    if (!(level > 0 && level <= LEVELS)) return;
    const left = (POINTS - word.length + index) * STEP;
    const top = HEIGHT - Math.max(1, Math.round((level / LEVELS) * HEIGHT));
    bars[letter === letter.toLowerCase() ? 'fine' : 'failed'] += `M${left} ${HEIGHT}V${top}h${STEP - 0.5}V${HEIGHT}z`;
  });
  return bars;
}

export function makeSpark(cell) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'spark');
  svg.setAttribute('width', String(POINTS * STEP));
  svg.setAttribute('height', String(HEIGHT));
  svg.setAttribute('aria-hidden', 'true');
  const paths = Object.fromEntries(['fine', 'failed'].map((name) => {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('class', name);
    svg.append(path);
    return [name, path];
  }));
  cell.append(svg);
  let shown = '';
  return (word) => {
    if (word === shown) return;
    shown = word;
    for (const [name, shape] of Object.entries(shapes(word))) paths[name].setAttribute('d', shape);
  };
}
