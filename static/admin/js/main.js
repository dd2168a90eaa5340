// Wires the feed to the model and the model to the views.

import { actsOn } from './acts.js';
import { makeCache, makePurge } from './cache.js';
import { makeCharts } from './charts.js';
import { makeDialog } from './dialog.js';
import { makeEvents } from './events.js';
import { follow } from './feed.js';
import { makeFacts } from './facts.js';
import { duration, visible } from './format.js';
import { apply, begin, empty, look } from './store.js';
import { makeRequests } from './requests.js';
import { makeSteer } from './steer.js';
import { makeStreams } from './streams.js';
import { makeTable } from './table.js';
import { makeTheme } from './theme.js';
import { makeTiles } from './tiles.js';

const $ = (id) => document.getElementById(id);

let model = empty();
const showTiles = makeTiles($('tiles'));
const charts = makeCharts($('charts'));
const dialog = $('acts') && makeDialog($('acts')); // a gateway that is read-only gives no dialog
const table = makeTable($('services'), $('nothing'), dialog && ((row) => dialog.offer(row.url, actsOn(row))));
const events = makeEvents($('events'), $('no-events'));
makeStreams({ card: $('streams-card'), box: $('streams-box'), table: $('streams'), filter: $('streams-filter'), note: $('streams-note') }, dialog);
const facts = makeFacts({ table: $('counts'), list: $('configuration'), refused: $('refused'), nobody: $('nobody') });
const showRequests = makeRequests({
  box: $('requests-box'), table: $('requests'), filter: $('requests-filter'), only: $('requests-only'),
  newest: $('requests-newest'), pause: $('requests-pause'), note: $('requests-note'),
});
if ($('cache-card')) { // a gateway without a cache shows none
  makeCache({
    card: $('cache-card'), tiles: $('cache-tiles'), services: $('cache-services'), box: $('cache-box'), table: $('cache'),
    order: $('cache-order'), note: $('cache-note'),
  }, dialog);
}
if ($('purge')) {
  makePurge({
    card: $('cache-card'), form: $('purge'), by: $('purge-by'), service: $('purge-service'), value: $('purge-value'), isSoft: $('purge-soft'),
  }, () => [...model.services.keys()].sort(), dialog);
}
if (dialog) {
  makeSteer({
    card: $('steer'), by: $('revoke-by'), value: $('revoke-value'), hours: $('revoke-hours'), revokeForm: $('revoke'),
    level: $('level'), levelForm: $('level-form'),
  }, dialog);
}
makeTheme($('theme'), charts.recolour);

$('filter').addEventListener('input', (event) => table.filter({ text: event.target.value }));
$('only-trouble').addEventListener('change', (event) => table.filter({ onlyTrouble: event.target.checked }));

const WORDS = {
  connecting: 'connecting',
  live: 'live',
  polling: 'the stream is blocked: figures every 5 s, without requests and events',
  refused: 'not allowed: log in again',
};

let state = 'connecting';

function became(next) {
  state = next;
  const link = $('link');
  link.dataset.state = state;
  document.body.toggleAttribute('data-stale', state === 'stale' || state === 'refused');
  $('log-in').hidden = state !== 'refused';
  const text = WORDS[state] ?? `old: the last update came ${duration((performance.now() - heardAt) / 1000)} ago`;
  if (link.textContent !== text) link.textContent = text;
}

let heardAt = performance.now();

function told(name, said) {
  heardAt = performance.now();
  const news = said.events ?? [];
  if (name === 'stats') {
    look(model, said);
  } else if (name === 'whole') {
    model = begin(said);
    events.reset();
    facts.begin(model.about);
  } else {
    apply(model, said);
  }
  table.show(model); // the first, because the table looks where on the page it stands
  const { version, environment, startedAt } = model.about;
  if (version) $('about').textContent = `${version} · ${environment} · up ${duration(model.at - startedAt)}`;
  if (name === 'change' && news.length) $('announcement').textContent = visible(news.map((event) => event.text).join('; '));
  showSentence();
  showTiles(model);
  charts.show(model);
  events.show(model, news);
  showRequests(model);
  facts.show(model);
}

function showSentence() {
  const sentence = $('sentence');
  const isGood = model.sentence.startsWith('All ') || !model.sentence; // nothing is out; requests may have failed
  sentence.dataset.state = model.sentence ? (isGood ? (model.sentence.includes(';') ? 'wait' : 'good') : 'bad') : 'unknown';
  const text = visible(model.sentence);
  if (sentence.textContent !== text) sentence.textContent = text;
  document.title = isGood ? 'Gateway' : '✕ Gateway';
}

follow(told, became);
