// The figures of this moment.

import { milliseconds, percent, short } from './format.js';

const TILES = [
  ['Requests/s', (now) => short(now.rate)],
  ['Failed', (now) => percent(now.rate ? now.failures / now.rate : 0), (now) => now.failures > 0],
  ['p50', (now) => milliseconds(now.p50Ms)],
  ['p95', (now) => milliseconds(now.p95Ms)],
  ['p99', (now) => milliseconds(now.p99Ms)],
  ['Streams', (now) => short(now.streams)],
  ['Loop delay', (now) => milliseconds(now.loopDelayMs), (now) => now.loopDelayMs > 100],
];

export function makeTiles(root) {
  const values = TILES.map(([label]) => {
    const term = document.createElement('dt');
    const value = document.createElement('dd');
    const tile = document.createElement('div');
    term.textContent = label;
    value.textContent = '–';
    tile.append(term, value);
    root.append(tile);
    return value;
  });
  return (model) => {
    const now = model.points.at(-1);
    if (!now) return; // nothing yet, or a gateway whose stream is blocked
    TILES.forEach(([, write, isBad], index) => {
      const text = write(now);
      if (values[index].textContent !== text) values[index].textContent = text;
      values[index].parentElement.classList.toggle('bad', Boolean(isBad?.(now)));
    });
  };
}
