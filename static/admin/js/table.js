// The table of services and endpoints. Only the rows near the viewport exist, so that a thousand endpoints stay smooth.

import { duration, milliseconds, percent, short, visible, whole } from './format.js';
import { makeSpark } from './spark.js';
import { rows } from './store.js';
import { put } from './window.js';

const AROUND = 12; // rows beyond each end of the viewport
const MOST_UNCUT = 120; // rows of a table that exists whole

const COLUMNS = [
  { name: 'name', label: 'Service / endpoint', kind: 'head', write: (row) => row.url ?? row.service },
  { name: 'state', label: 'State', kind: 'state', write: (row) => row.state },
  { name: 'since', label: 'For', write: (row, at) => duration(at - row.since) },
  { name: 'why', label: 'Why', kind: 'text', grows: true, write: why },
  { name: 'spark', label: '5 minutes', kind: 'spark', write: (row) => row.spark ?? '', title: 'requests of the last five minutes; red: some failed' },
  { name: 'rate', label: 'Req/s', write: (row) => short(row.rate) },
  { name: 'errorShare', label: 'Failed', kind: 'share', write: (row) => percent(row.errorShare) },
  { name: 'p50Ms', label: 'p50', write: (row) => milliseconds(row.p50Ms), wide: true },
  { name: 'p95Ms', label: 'p95', write: (row) => milliseconds(row.p95Ms), wide: true },
  { name: 'p99Ms', label: 'p99', write: (row) => milliseconds(row.p99Ms) },
  { name: 'requests', label: 'In flight', write: (row) => short(row.requests), title: 'requests in flight' },
  { name: 'eventStreams', label: 'Events', write: (row) => short(row.eventStreams), title: 'open event streams' },
  { name: 'webSockets', label: 'WS', write: (row) => short(row.webSockets), title: 'open WebSockets' },
  { name: 'openUntil', label: 'Breaker', kind: 'text', write: breaker, wide: true },
  { name: 'weight', label: 'Weight', write: weight, wide: true, roomy: true, title: 'and what slow start allows of it' },
  { name: 'retries', label: 'Retries', write: (row) => counted(row.retries), wide: true, roomy: true, title: 'since the start' },
  { name: 'total', label: 'Total', write: (row) => counted(row.total), wide: true, roomy: true, title: 'requests since the start: of a service, what clients asked; of an endpoint, what was sent there' },
  { name: 'failures', label: 'Failures', write: (row) => counted(row.failures), wide: true, roomy: true, title: 'since the start: of a service, statuses of 500 or more; of an endpoint, failed requests' },
];

const QUIET = new Set(['0', '0 %', '–', 'closed']); // so that the figures that say something stand out

/** A count since the start, with all its digits: a person compares it with other programs. */
const counted = (count) => (count === undefined ? '' : whole(count));

function weight(row) {
  if (row.weight === undefined) return '';
  return row.share < 1 ? `${short(row.weight)} · ${percent(row.share)}` : short(row.weight);
}

function breaker(row, at) {
  if (!row.breaker || row.breaker === 'closed') return row.breaker ?? '';
  return row.openUntil > at ? `open, ${duration(row.openUntil - at)} left` : 'half open';
}

function why(row) {
  const parts = [row.state === 'up' ? '' : row.why, row.check?.replaceAll('_', ' ')].filter(Boolean);
  if (row.state === 'up' && row.errorShare > 0 && row.lastFailure) parts.push(`last failure: ${row.lastFailure}`);
  if (row.out) parts.unshift(`${row.out} of ${row.endpoints} out`);
  if (row.waiting) parts.push(`${row.waiting} waiting`);
  if (row.panic) parts.push('panic: all endpoints are used');
  return [...new Set(parts)].join(' · ');
}

/** @param act called with the row of an endpoint whose button is pressed; null for no buttons */
export function makeTable(table, nothing, act = null) {
  const view = { text: '', onlyTrouble: false, by: 'state', descending: false };
  const body = table.tBodies[0];
  const existing = new Map(); // rows of the page by key
  let model = null;
  let height = 27; // px of a row
  table.tHead.append(heads(view, act, () => show(model)));
  const before = filler();
  const behind = filler();

  /** Reads the page before anything is written: a look after a change would lay out the page once more. */
  function show(next) {
    model = next;
    if (!model) return;
    const found = rows(model, view);
    const [first, last] = visible(found.length);
    nothing.hidden = found.length > 0;
    nothing.textContent = model.services.size ? 'No service and no endpoint fits the filter.' : 'No services are configured.';
    put(table, 'aria-rowcount', found.length + 1);
    const wanted = found.slice(first, last);
    place(wanted, first);
    before.fill(first);
    behind.fill(found.length - last);
  }

  function place(wanted, first) {
    const keys = new Set(wanted.map((row) => row.key));
    for (const [key, row] of existing) {
      if (!keys.has(key)) {
        row.element.remove();
        existing.delete(key);
      }
    }
    let previous = before.element;
    wanted.forEach((row, index) => {
      let shown = existing.get(row.key);
      if (!shown) {
        shown = makeRow(row, act);
        existing.set(row.key, shown);
      }
      shown.update(row, model.at);
      put(shown.element, 'aria-rowindex', first + index + 2);
      if (previous.nextSibling !== shown.element) previous.after(shown.element);
      previous = shown.element;
    });
    if (previous.nextSibling !== behind.element) previous.after(behind.element);
  }

  /** The numbers of the rows that exist: all rows of a small table. */
  function visible(count) {
    if (count <= MOST_UNCUT) return [0, count];
    height = existing.values().next().value?.element.offsetHeight || height;
    const top = -body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - AROUND);
    return [Math.min(first, count), Math.min(count, first + Math.ceil(innerHeight / height) + 2 * AROUND)];
  }

  function filler() {
    const element = document.createElement('tr');
    const cell = document.createElement('td');
    element.className = 'filler';
    element.setAttribute('aria-hidden', 'true');
    cell.colSpan = COLUMNS.length + (act ? 1 : 0);
    element.append(cell);
    body.append(element);
    return {
      element,
      fill(count) {
        element.hidden = count === 0;
        cell.style.height = `${count * height}px`;
      },
    };
  }

  let due = false;
  addEventListener('scroll', () => {
    if (due || !model || model.services.size + model.endpoints.size <= MOST_UNCUT) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      show(model);
    });
  }, { passive: true });

  return {
    show,
    filter(changes) {
      Object.assign(view, changes);
      show(model);
    },
  };
}

function heads(view, act, changed) {
  const row = document.createElement('tr');
  for (const column of COLUMNS) {
    const cell = document.createElement('th');
    const button = document.createElement('button');
    cell.scope = 'col';
    cell.className = classes(column);
    button.type = 'button';
    button.textContent = column.label;
    if (column.title) button.title = column.title;
    button.addEventListener('click', () => {
      view.descending = view.by === column.name ? !view.descending : !['text', 'head', 'state'].includes(column.kind);
      view.by = column.name;
      for (const other of row.cells) other.removeAttribute('aria-sort');
      cell.setAttribute('aria-sort', view.descending ? 'descending' : 'ascending');
      changed();
    });
    cell.append(button);
    row.append(cell);
  }
  if (act) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = 'Act';
    row.append(cell);
  }
  return row;
}

const classes = (column) =>
  [column.kind === 'text' || column.kind === 'head' || column.kind === 'state' ? 'text' : '', column.wide ? 'wide' : '', column.grows ? 'grows' : '', column.roomy ? 'roomy' : '']
    .filter(Boolean).join(' ');

function makeRow(row, act) {
  let now = row;
  let draw = null;
  const element = document.createElement('tr');
  element.className = row.kind;
  const cells = COLUMNS.map((column) => {
    const cell = document.createElement(column.kind === 'head' ? 'th' : 'td');
    if (column.kind === 'head') cell.scope = 'row';
    cell.className = classes(column);
    const inner = column.kind === 'state' ? cell.appendChild(document.createElement('span')) : cell;
    if (column.kind === 'state') inner.className = 'state';
    if (column.kind === 'spark') draw = makeSpark(cell);
    if (column.kind === 'head') writeName(cell, visible(column.write(row)));
    element.append(cell);
    return inner;
  });
  if (act) {
    const cell = element.insertCell();
    if (row.url) cell.append(actButton(row, () => act(now)));
  }
  return {
    element,
    update(next, at) {
      now = next;
      COLUMNS.forEach((column, index) => {
        const text = visible(column.write(next, at));
        if (column.kind === 'spark') {
          draw(text);
          return;
        }
        if (column.kind === 'share') cells[index].classList.toggle('failing', next.errorShare >= 0.05);
        if (cells[index].textContent !== text) {
          cells[index].textContent = text;
          cells[index].classList.toggle('quiet', QUIET.has(text));
          if (column.kind === 'text') cells[index].title = text;
        }
        if (column.kind === 'state') cells[index].dataset.state = text;
      });
    },
  };
}

/** The name of a row never changes. A narrow window shows URLs without the scheme, which says least. */
function writeName(cell, name) {
  const [scheme] = name.match(/^https?:\/\//) ?? [''];
  const part = document.createElement('span');
  part.className = 'scheme';
  part.textContent = scheme;
  cell.append(...(scheme ? [part] : []), name.slice(scheme.length));
  cell.title = name;
}

function actButton(row, pressed) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Act…';
  button.setAttribute('aria-label', `Act on ${row.url}`);
  button.addEventListener('click', pressed);
  return button;
}
