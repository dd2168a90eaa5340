// The newest requests: failed and slow ones first, or the newest first.

import { milliseconds, timeOfDay, visible } from './format.js';
import { wantedRequests } from './store.js';
import { head, makeWindow } from './window.js';

const SCHEME = /^https?:\/\//; // says least, and would push the port out of sight
const WORDS = { failed: 'failed', slow: 'slow', client: 'client error', fine: 'ok' };
const kind = (row) => (row.rank === 'fine' && row.status >= 400 ? 'client' : row.rank);

const COLUMNS = [
  ['Time', (row) => timeOfDay(row.at)],
  ['Result', (row) => WORDS[kind(row)] ?? row.rank],
  ['Status', (row) => `${row.status}${row.reason ? ` ${row.reason.replaceAll('_', ' ')}` : ''}`],
  ['Request', (row) => `${row.method} ${row.path}${row.query ? `?${row.query}` : ''}`],
  ['Took', (row) => milliseconds(row.ms)],
  ['Service', (row) => row.service || '–'],
  ['Client', (row) => [row.principal, row.client].filter(Boolean).join(' · ') || '–'],
  ['Endpoint', (row) => `${row.endpoint.replace(SCHEME, '') || '–'}${row.attempts > 1 ? ` · attempt ${row.attempts}` : ''}`],
];

export function makeRequests({ box, table, filter, only, newest, pause, note }) {
  table.tHead.append(head(COLUMNS.map(([label]) => label)));
  const window_ = makeWindow({ box, table, columns: COLUMNS.length, make: makeRow });
  let model = null;
  let isPaused = false;

  for (const input of [filter, only, newest]) input.addEventListener('input', () => model && render());
  pause.addEventListener('click', () => {
    isPaused = !isPaused;
    pause.setAttribute('aria-pressed', String(isPaused));
    pause.textContent = isPaused ? 'Go on' : 'Pause';
    if (model) render();
  });

  function render() {
    const wanted = wantedRequests(model, { text: filter.value, onlyTrouble: only.checked, newestFirst: newest.checked });
    window_.show(wanted);
    let text = `${wanted.length} of ${model.requests.length} requests`;
    if (!model.requests.length) text = 'No request has ended yet.';
    else if (!wanted.length) text = 'No request fits the filter.';
    if (isPaused) text += ', paused';
    if (note.textContent !== text) note.textContent = text;
  }

  return (next) => {
    if (isPaused && model) return;
    model = isPaused ? model : next;
    render();
  };
}

function makeRow() {
  const element = document.createElement('tr');
  const cells = COLUMNS.map(() => element.insertCell());
  const state = document.createElement('span');
  state.className = 'result';
  cells[1].append(state);
  return {
    element,
    update(row) {
      if (element.dataset.id === String(row.id)) return; // a request that has ended does not change
      element.dataset.id = String(row.id);
      COLUMNS.forEach(([, write], index) => {
        (index === 1 ? state : cells[index]).textContent = visible(write(row));
      });
      state.dataset.rank = kind(row);
      cells[3].title = cells[3].textContent;
      cells[2].title = row.reason;
      cells[6].title = `${cells[6].textContent}, request ${row.requestId}`;
      cells[7].title = visible(row.endpoint);
    },
  };
}
