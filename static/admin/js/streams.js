// The list of open streams. The gateway gives pages, and only the rows in sight exist.

import { closeOne, merged } from './acts.js';
import { duration, short } from './format.js';

const PAGE = 200;
const ROW = 30; // px, if no row exists yet
const AROUND = 8; // rows beyond each end of what is in sight
const EVERY = 2_000; // ms between two looks
const EVERY_FILTERED = 5_000; // a filter makes the gateway look at all streams

const COLUMNS = [
  ['Stream', (row) => `${row.id}`], ['Kind', (row) => (row.kind === 'webSocket' ? 'WebSocket' : 'events')],
  ['Age', (row) => duration(row.ageMs / 1000)], ['Client', (row) => row.client], ['Principal', (row) => row.principal || '–'],
  ['Service', (row) => row.service], ['Endpoint', (row) => row.endpoint],
  ['Messages', (row) => `${short(row.messages.up)} ↑ ${short(row.messages.down)} ↓`],
  ['Bytes', (row) => `${short(row.bytes.up)} ↑ ${short(row.bytes.down)} ↓`], ['Waiting', (row) => short(row.waitingBytes)],
];

export function makeStreams({ card, box, table, filter, note }, dialog) {
  const body = table.tBodies[0];
  const before = filler();
  const behind = filler();
  let rows = [];
  let existing = new Map();
  let next = null;
  let timer = 0;
  let asked = 0; // an answer to an older question is dropped
  const head = document.createElement('tr');
  for (const label of [...COLUMNS.map(([name]) => name), ...(dialog ? ['Act'] : [])]) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = label;
    head.append(cell);
  }
  table.tHead.append(head);

  card.addEventListener('toggle', look);
  box.addEventListener('scroll', () => {
    show();
    if (next !== null && inSight()[1] >= rows.length) look();
  }, { passive: true });
  document.addEventListener('visibilitychange', look);
  filter.addEventListener('input', () => {
    rows = [];
    box.scrollTop = 0;
    look();
  });

  async function look() {
    clearTimeout(timer);
    if (!card.open || document.hidden) return;
    asked += 1;
    const mine = asked;
    const [first, last] = inSight();
    const from = last >= rows.length && next !== null ? Math.max(0, rows.length - AROUND) : first;
    const after = rows[from - 1]?.id ?? 0;
    const query = new URLSearchParams({ after, limit: PAGE, text: filter.value.trim() });
    const answer = await fetch(`/admin/api/streams?${query}`, { headers: { Accept: 'application/json' } }).catch(() => null);
    const page = answer?.ok ? await answer.json().catch(() => null) : null;
    if (mine !== asked) return;
    timer = setTimeout(look, filter.value.trim() ? EVERY_FILTERED : EVERY);
    if (!page) {
      tell(answer?.status === 401 || answer?.status === 403 ? 'Not allowed: log in again.' : 'The list is old: the gateway does not answer.');
      return;
    }
    const known = rows.at(-1)?.id ?? 0;
    rows = merged(rows, after, page);
    if (page.next === null || page.next >= known) next = page.next;
    tell(page.open ? `${page.matching} of ${page.open} open streams` : 'No streams are open.');
    show();
  }

  function tell(text) {
    if (note.textContent !== text) note.textContent = text;
  }

  const height = () => existing.values().next().value?.element.offsetHeight || ROW;

  /** The numbers of the rows that exist. */
  function inSight() {
    const first = Math.max(0, Math.floor(box.scrollTop / height()) - AROUND);
    return [Math.min(first, rows.length), first + Math.ceil(box.clientHeight / height()) + 2 * AROUND];
  }

  function show() {
    const [first, last] = inSight();
    const kept = new Map();
    let previous = before.element;
    for (const row of rows.slice(first, last)) {
      const shown = existing.get(row.id) ?? makeRow();
      kept.set(row.id, shown);
      shown.update(row);
      if (previous.nextSibling !== shown.element) previous.after(shown.element);
      previous = shown.element;
    }
    for (const [id, shown] of existing) if (!kept.has(id)) shown.element.remove();
    existing = kept;
    before.fill(first);
    behind.fill(Math.max(0, rows.length - last));
    table.setAttribute('aria-rowcount', String(rows.length + 1));
  }

  function makeRow() {
    const element = document.createElement('tr');
    const cells = COLUMNS.map(() => element.insertCell());
    let now = null;
    if (dialog) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = 'Close…';
      button.addEventListener('click', () => dialog.offer(`Stream ${now.id}`, [closeOne(now)]));
      element.insertCell().append(button);
    }
    return {
      element,
      update(row) {
        now = row;
        COLUMNS.forEach(([, write], index) => {
          const text = write(row);
          if (cells[index].textContent !== text) cells[index].textContent = text;
        });
        cells[6].title = row.path;
      },
    };
  }

  function filler() {
    const element = document.createElement('tr');
    const cell = element.insertCell();
    element.className = 'filler';
    element.setAttribute('aria-hidden', 'true');
    cell.colSpan = COLUMNS.length + 1;
    body.append(element);
    return {
      element,
      fill(count) {
        element.hidden = count === 0;
        cell.style.height = `${count * height()}px`;
      },
    };
  }
}
