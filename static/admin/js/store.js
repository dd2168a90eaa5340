// What the page knows, from the texts of /admin/events. Pure: no DOM, no clock.

const FINE = 310; // points of a second; older points come ten seconds apart
const MOST_POINTS = 650;
const MOST_EVENTS = 200;
const MOST_REQUESTS = 500;
const RECENT = 300; // seconds for which a failed or slow request stands before newer ones

/** @returns the model of a page that has heard nothing. */
export function empty() {
  return {
    about: {}, at: 0, sentence: '', points: [], counts: [], refused: [], requests: [], services: new Map(), endpoints: new Map(),
    events: [], places: null,
  };
}

/** The model after an event named `whole`. */
export function begin(said) {
  const { services, endpoints } = said.columns;
  return {
    about: said.about,
    at: said.at,
    sentence: said.sentence,
    columns: said.columns,
    points: ascending([], said.points.map((point) => record(said.columns.points, point))),
    services: records('service', services, said.services),
    endpoints: records('endpoint', endpoints, said.endpoints),
    places: null,
    events: said.events,
    counts: said.counts ?? [],
    refused: said.refused ?? [],
    requests: (said.requests ?? []).map((each) => record(said.columns.requests, each)),
  };
}

/** Changes the model by an answer of /admin/stats, which has the newest figures, and neither requests nor events. */
export function look(model, said) {
  const at = said.nowMs / 1000;
  ascending(model.points, [pointOf(said, at)]);
  thin(model.points);
  model.counts = limitCounts(said.rateLimits);
  model.at = at;
  model.services.clear();
  model.endpoints.clear();
  model.places = null;
  const out = [];
  for (const [service, figures] of Object.entries(said.services)) {
    const broken = figures.upstreams - figures.healthy;
    const state = broken === 0 ? 'up' : figures.healthy ? 'degraded' : 'down';
    if (broken) out.push(`${service}: ${broken} of ${figures.upstreams} endpoints out`);
    model.services.set(service, {
      kind: 'service', key: service, service, state, since: at, endpoints: figures.upstreams, out: broken, rate: figures.rps,
      errorShare: figures.errorRate, ...figures.latency, waiting: figures.waiting, panic: figures.panic,
      total: sum(Object.values(figures.requests)), failures: figures.requests['5xx'] ?? 0,
    });
    for (const each of figures.upstreamDetails) {
      model.endpoints.set(`${service} ${each.url}`, {
        kind: 'endpoint', key: `${service} ${each.url}`, service, url: each.url, state: each.healthy ? 'up' : 'out', since: at, rate: each.rps, errorShare: each.errorRate,
        p50Ms: each.latency.p50Ms, p95Ms: each.latency.p95Ms, p99Ms: each.latency.p99Ms, requests: each.inflight.http,
        eventStreams: each.inflight.sse, webSockets: each.inflight.ws, breaker: each.breaker.state,
        openUntil: each.circuitOpenUntilMs / 1000, check: each.checks.last, weight: each.weight, share: each.share,
        retries: each.retriesTotal, total: each.requestsTotal, failures: each.errorsTotal,
      });
    }
  }
  model.sentence = out.join('; ') || `All ${model.endpoints.size} endpoints of ${model.services.size} services are up`;
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

/** The figures of all services; the quantiles of all and the delay of the event loop are not told. */
function pointOf(said, at) {
  const services = Object.values(said.services);
  return {
    at, rate: sum(services.map((each) => each.rps)), failures: sum(services.map((each) => each.rps * each.errorRate)),
    p50Ms: null, p95Ms: null, p99Ms: null, streams: said.connections.sse + said.connections.ws, loopDelayMs: null,
  };
}

/** As the event stream has counts, of the rate limits alone. */
function limitCounts({ policies, keys }) {
  const found = Object.entries(policies).flatMap(
    ([policy, counts]) => Object.entries(counts).map(([outcome, count]) => ['Rate limits', `${policy}: ${outcome}`, count]),
  );
  return [...found, ['Rate limits', 'clients that are counted', keys]].filter(([, , count]) => count);
}

/** Changes the model by an event named `change`. */
export function apply(model, said) {
  model.at = said.at;
  model.sentence = said.sentence;
  ascending(model.points, said.points.map((point) => record(model.columns.points, point)));
  thin(model.points);
  model.counts = said.counts ?? model.counts;
  model.refused = said.refused ?? model.refused;
  const known = new Set(model.requests.map((each) => each.id)); // the first look after the whole may tell a request again
  model.requests.push(...(said.requests ?? []).map((each) => record(model.columns.requests, each)).filter((each) => !known.has(each.id)));
  model.requests.splice(0, model.requests.length - MOST_REQUESTS);
  change(model, 'services', 'service', said.services);
  change(model, 'endpoints', 'endpoint', said.endpoints);
  model.events.push(...said.events);
  model.events.splice(0, model.events.length - MOST_EVENTS);
}

function change(model, table, kind, { rows: changed, gone }) {
  const columns = model.columns[table];
  const before = model[table].size;
  for (const key of gone) model[table].delete(key);
  for (const [key, cells] of Object.entries(changed)) model[table].set(key, row(kind, key, columns, cells));
  if (gone.length || model[table].size !== before) model.places = null;
}

/** Adds points. When the gateway's clock is set back, the points of the time that comes again are forgotten. */
function ascending(points, more) {
  for (const point of more) {
    while (points.length && points.at(-1).at >= point.at) points.pop();
    points.push(point);
  }
  return points;
}

/** Keeps the newest points, and of the older points one in ten seconds, so that an hour stays small. */
function thin(points) {
  if (points.length <= MOST_POINTS) return;
  const old = points.splice(0, points.length - FINE);
  const kept = old.filter((point, index) => index === 0 || Math.floor(point.at / 10) !== Math.floor(old[index - 1].at / 10));
  points.unshift(...kept.slice(-(MOST_POINTS - FINE - 10)));
}

/** The rows of the table: each service with its endpoints below. */
export function rows(model, { text = '', onlyTrouble = false, by = 'state', descending = false } = {}) {
  const wanted = text.trim().toLowerCase();
  const endpoints = new Map();
  for (const row of model.endpoints.values()) {
    const others = endpoints.get(row.service);
    if (others) others.push(row);
    else endpoints.set(row.service, [row]);
  }
  const order = sorter(model, by, descending);
  const found = [];
  for (const service of [...model.services.values()].sort(order)) {
    const matches = service.service.toLowerCase().includes(wanted);
    const own = (endpoints.get(service.service) ?? [])
      .filter((row) => matches || row.url.toLowerCase().includes(wanted))
      .filter((row) => !onlyTrouble || row.state !== 'up')
      .sort(order);
    if ((!matches && !own.length) || (onlyTrouble && service.state === 'up' && !own.length)) continue;
    found.push(service, ...own);
  }
  return found;
}

const RANKS = ['failed', 'slow', 'fine'];

/** The requests that are wanted: failed and slow ones of the last minutes first, each the newest first. */
export function wantedRequests(model, { text = '', onlyTrouble = false, newestFirst = false } = {}) {
  const wanted = text.trim().toLowerCase();
  const found = model.requests.filter((row) => (!onlyTrouble || row.rank !== 'fine') && (!wanted || words(row).includes(wanted)));
  const rank = (row) => (newestFirst || row.at < model.at - RECENT ? RANKS.length : RANKS.indexOf(row.rank));
  return found.sort((one, other) => rank(one) - rank(other) || other.id - one.id);
}

const words = (row) =>
  [row.status, row.reason, row.method, row.path, row.query, row.service, row.endpoint, row.client, row.principal, row.requestId]
    .join('\n').toLowerCase();

const WORST_FIRST = ['down', 'out', 'degraded', 'probed', 'drained', 'joining', 'up'];

function sorter(model, by, descending) {
  const sign = descending ? -1 : 1;
  model.places ??= placesOf(model);
  const place = (row) => model.places.get(row.key);
  if (by === 'name') return (one, other) => sign * (place(one) - place(other));
  return (one, other) => sign * compare(value(one, by), value(other, by)) || place(one) - place(other);
}

function value(row, by) {
  if (by === 'state') return WORST_FIRST.indexOf(row.state);
  return row[by] ?? -1;
}

const alphabet = new Intl.Collator(undefined, { numeric: true });

/** The place of each row in the order of names. To compare names at each update would take most of the update's time. */
function placesOf(model) {
  const named = [...model.services.values(), ...model.endpoints.values()].map((row) => [row.url ?? row.service, row.key]);
  named.sort(([one], [other]) => alphabet.compare(one, other));
  return new Map(named.map(([, key], index) => [key, index]));
}

function compare(one, other) {
  if (typeof one === 'string') return alphabet.compare(one, other);
  return one - other;
}

function record(columns, cells) {
  const made = {};
  for (let index = 0; index < columns.length; index += 1) made[columns[index]] = cells[index];
  return made;
}

function row(kind, key, columns, cells) {
  const made = record(columns, cells);
  made.kind = kind;
  made.key = key;
  return made;
}

const records = (kind, columns, given) =>
  new Map(Object.entries(given).map(([key, cells]) => [key, row(kind, key, columns, cells)]));
