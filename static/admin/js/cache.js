// What the response cache has done and holds, and the form of purges. The gateway is asked while the card is open.

import { purge } from './acts.js';
import { duration, percent, short, visible } from './format.js';
import { head, makeWindow } from './window.js';

const EVERY = 5_000; // ms between two looks
const CUT = '…'; // ends a URL that the gateway has shortened
const HIDDEN = '***'; // stands for a secret that the gateway does not show

const WHY = { 401: 'Not allowed: log in again.', 403: 'Not allowed.', 429: 'The figures are old: a rate limit refuses this page.' };

const FIGURES = [
  ['Hit rate', (said) => (said.looks ? percent(said.hitRate) : '–')],
  ['Requests', (said) => short(said.looks)],
  ['Bytes saved', (said) => short(said.savedBytes)],
  ['Memory', (said) => `${short(said.bytes)} of ${short(said.maxBytes)}`],
  ['Responses', (said) => short(said.responses)],
  ['Pushed out', (said) => short(said.evictions)],
  ['Purged', (said) => short(said.purgedResponses)],
  ['Redis', (said) => (said.shared ? (said.shared.up ? 'up' : 'away') : ''), (said) => said.shared && !said.shared.up],
];

const COLUMNS = [
  ['Service', (row) => row.service], ['URL', (row) => row.url], ['Hits', (row) => short(row.hits)],
  ['Bytes', (row) => short(row.bytes)], ['Variants', (row) => short(row.variants)], ['Status', (row) => `${row.status}`],
  ['Age', (row) => duration(row.ageMs / 1000)],
  ['Fresh for', (row) => (row.freshForMs > 0 ? duration(row.freshForMs / 1000) : 'stale')],
  ['Tags', (row) => row.tags.join(' ')],
];
const CUTTABLE = [1, 8]; // columns that may be too narrow for their texts

/**
 * @param parts elements of the page: `card` is open or not, `tiles` has the figures, `services` a row per service,
 *   `box` and `table` the entries in the order that `order` names, and `note` a sentence
 * @param dialog asks before an act; null if nobody may act
 */
export function makeCache({ card, tiles, services, box, table, order, note }, dialog) {
  const labels = [...COLUMNS.map(([label]) => label), ...(dialog ? ['Act'] : [])];
  table.tHead.append(head(labels));
  const window_ = makeWindow({ box, table, columns: labels.length, make: makeRow });
  const show = makeFigures(tiles);
  let said = null;
  let timer = 0;
  let asked = 0; // an answer to an older question is dropped

  card.addEventListener('toggle', look);
  document.addEventListener('visibilitychange', look);
  order.addEventListener('change', () => said && list());

  async function look() {
    clearTimeout(timer);
    if (!card.open || document.hidden) return;
    asked += 1;
    const mine = asked;
    const answer = await fetch('/admin/api/cache', { headers: { Accept: 'application/json' } }).catch(() => null);
    const page = answer?.ok ? await answer.json().catch(() => null) : null;
    if (mine !== asked) return;
    timer = setTimeout(look, EVERY);
    if (!page) {
      tell(WHY[answer?.status] ?? 'The figures are old: the gateway does not answer.');
      return;
    }
    said = page;
    show(said);
    services.tBodies[0].replaceChildren(...said.services.map(service));
    services.hidden = !said.services.length;
    list();
  }

  function list() {
    window_.show(numbered(said[order.value]));
    tell(said.keys ? `${said[order.value].length} of ${said.keys} entries` : 'Nothing is stored.');
  }

  function tell(text) {
    if (note.textContent !== text) note.textContent = text;
  }

  function makeRow() {
    const element = document.createElement('tr');
    const cells = COLUMNS.map(() => element.insertCell());
    const button = dialog && element.insertCell().appendChild(document.createElement('button'));
    let now = null;
    if (button) {
      button.type = 'button';
      button.textContent = 'Purge…';
      button.addEventListener('click', () => dialog.offer(now.url, softAndHard({ by: 'url', service: now.service, value: now.url })));
    }
    return {
      element,
      update(row) {
        now = row;
        if (button) button.hidden = !isWhole(row.url);
        COLUMNS.forEach(([, write], index) => {
          const text = visible(write(row));
          if (cells[index].textContent !== text) cells[index].textContent = text;
          if (CUTTABLE.includes(index)) cells[index].title = text;
        });
      },
    };
  }
}

/** The form of purges. `names` gives the names of the services, which change while the page is open. */
export function makePurge({ card, form, by, service, value, isSoft }, names, dialog) {
  card.addEventListener('toggle', () => card.open && fill());
  service.addEventListener('focus', fill);
  by.addEventListener('change', fill);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    dialog.offer('Purge', [purge({ by: by.value, service: service.value, value: value.value.trim(), isSoft: isSoft.checked })]);
  });

  function fill() {
    const all = by.value === 'tags' ? [['', 'all services']] : [];
    const wanted = [...all, ...names().map((name) => [name, name])];
    if (wanted.length === service.options.length && wanted.every(([name], index) => service.options[index].value === name)) return;
    const chosen = service.value;
    service.replaceChildren(...wanted.map(([name, label]) => new Option(label, name)));
    if (wanted.some(([name]) => name === chosen)) service.value = chosen;
  }
}

const softAndHard = (what) => [purge({ ...what, isSoft: false }), purge({ ...what, isSoft: true })];

/** Whether the gateway shows the whole URL: a URL with a hidden part would purge nothing, or something else. */
const isWhole = (url) => !url.includes(HIDDEN) && !url.endsWith(CUT);

/** Rows with ids: a URL has an entry for each host and each principal. */
function numbered(entries) {
  const seen = new Map();
  return entries.map((entry) => {
    const name = `${entry.service} ${entry.url}`;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...entry, id: `${name} ${seen.get(name)}` };
  });
}

function makeFigures(root) {
  const values = FIGURES.map(([label]) => {
    const tile = document.createElement('div');
    const term = document.createElement('dt');
    const value = document.createElement('dd');
    term.textContent = label;
    tile.append(term, value);
    root.append(tile);
    return value;
  });
  return (said) => FIGURES.forEach(([, write, isBad], index) => {
    const text = write(said);
    if (values[index].textContent !== text) values[index].textContent = text;
    values[index].parentElement.hidden = !text;
    values[index].parentElement.classList.toggle('bad', Boolean(isBad?.(said)));
  });
}

function service(each) {
  const row = document.createElement('tr');
  const name = document.createElement('th');
  name.scope = 'row';
  name.textContent = each.service;
  row.append(name);
  for (const text of [short(each.looks), short(each.hits), percent(each.hitRate)]) row.insertCell().textContent = text;
  return row;
}
