// The list of open streams. The gateway gives pages, and only the rows in sight exist.

import { actsOnStream, merged } from './acts.js';
import { duration, short, visible } from './format.js';
import { head, makeWindow } from './window.js';

const PAGE = 200;
const AROUND = 8; // rows that a page has before the first row in sight
const EVERY = 2_000; // ms between two looks
const EVERY_FILTERED = 5_000; // a filter makes the gateway look at all streams

const WHY = {
  401: 'Not allowed: log in again.', 403: 'Not allowed.', 429: 'The list is old: a rate limit refuses this page.',
};

const COLUMNS = [
  ['Stream', (row) => `${row.id}`], ['Kind', (row) => (row.kind === 'webSocket' ? 'WebSocket' : 'events')],
  ['Age', (row) => duration(row.ageMs / 1000)], ['Client', (row) => row.client], ['Principal', (row) => row.principal || '–'],
  ['Service', (row) => row.service], ['Endpoint', (row) => row.endpoint],
  ['Messages', (row) => `${short(row.messages.up)} ↑ ${short(row.messages.down)} ↓`],
  ['Bytes', (row) => `${short(row.bytes.up)} ↑ ${short(row.bytes.down)} ↓`], ['Waiting', (row) => short(row.waitingBytes)],
];

export function makeStreams({ card, box, table, filter, note }, dialog) {
  let rows = [];
  let next = null;
  let timer = 0;
  let asked = 0; // an answer to an older question is dropped
  const labels = [...COLUMNS.map(([name]) => name), ...(dialog ? ['Act'] : [])];
  table.tHead.append(head(labels));
  const window_ = makeWindow({
    box, table, columns: labels.length, make: makeRow,
    scrolled() {
      if (next !== null && window_.inSight()[1] >= rows.length) look();
    },
  });

  card.addEventListener('toggle', look);
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
    const [first, last] = window_.inSight();
    const from = last >= rows.length && next !== null ? Math.max(0, rows.length - AROUND) : first;
    const after = rows[from - 1]?.id ?? 0;
    const query = new URLSearchParams({ after, limit: PAGE, text: filter.value.trim() });
    const answer = await fetch(`/admin/api/streams?${query}`, { headers: { Accept: 'application/json' } }).catch(() => null);
    const page = answer?.ok ? await answer.json().catch(() => null) : null;
    if (mine !== asked) return;
    timer = setTimeout(look, filter.value.trim() ? EVERY_FILTERED : EVERY);
    if (!page) {
      tell(WHY[answer?.status] ?? 'The list is old: the gateway does not answer.');
      return;
    }
    const known = rows.at(-1)?.id ?? 0;
    rows = merged(rows, after, page);
    if (page.next === null || page.next >= known) next = page.next;
    tell(page.open ? `${page.matching} of ${page.open} open streams` : 'No streams are open.');
    window_.show(rows);
  }

  function tell(text) {
    if (note.textContent !== text) note.textContent = text;
  }

  function makeRow() {
    const element = document.createElement('tr');
    const cells = COLUMNS.map(() => element.insertCell());
    let now = null;
    if (dialog) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = 'Close…';
      button.addEventListener('click', () => dialog.offer(`Stream ${now.id}`, actsOnStream(now)));
      element.insertCell().append(button);
    }
    return {
      element,
      update(row) {
        now = row;
        COLUMNS.forEach(([, write], index) => {
          const text = visible(write(row));
          if (cells[index].textContent !== text) cells[index].textContent = text;
        });
        cells[4].title = cells[4].textContent;
        cells[6].title = visible(row.path);
      },
    };
  }
}
