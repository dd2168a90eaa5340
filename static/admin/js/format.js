// How numbers are written. Pure: no DOM, no clock.

/** "1.2 k" for 1234; three digits are enough to read and few enough not to flicker. */
export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)} G`;
  if (size >= 1e6) return `${digits(value / 1e6)} M`;
  if (size >= 1e4) return `${digits(value / 1e3)} k`;
  return digits(value);
}

function digits(value) {
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(size >= 1 ? 3 : 2)));
}

/** Milliseconds, or seconds from 1 s on. */
export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  return value >= 1000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`;
}

/** A share between 0 and 1. */
export function percent(share) {
  if (share === null || share === undefined) return '–';
  return share > 0 && share < 0.0005 ? '< 0.1 %' : `${digits(share * 100)} %`;
}

/** "3 s", "4 min", "2 h", "5 d". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86_400)} d`;
}

const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

const LONGEST = 400; // characters of a text: more would push all else off the page, and nobody reads more in a table

/**
 * A text without control characters and marks of direction, with which a client could make one text look like another.
 * @param longest characters that are shown
 */
export function visible(text, longest = LONGEST) {
  const cut = text.length > longest ? `${text.slice(0, longest)}…` : text;
  if (!UNSEEN.test(cut)) return cut;
  const shown = [...cut].map((each) => (UNSEEN.test(each) ? `\\u{${each.codePointAt(0).toString(16)}}` : each)).join('');
  return shown.length > longest ? `${shown.slice(0, longest)}…` : shown;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const WHOLE = new Intl.NumberFormat();

/** "14:03:59", by the viewer's clock. */
export function timeOfDay(at) {
  return CLOCK.format(at * 1000);
}

/** "1,234,567", as the viewer's language writes numbers. */
export function whole(count) {
  return WHOLE.format(count);
}
