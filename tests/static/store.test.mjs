import assert from 'node:assert/strict';
import { test } from 'node:test';

import { duration, milliseconds, percent, short, visible } from '../../static/admin/js/format.js';
import { apply, begin, empty, look, rows, wantedRequests } from '../../static/admin/js/store.js';
import { shapes } from '../../static/admin/js/spark.js';

const columns = { points: ['at', 'rate'], services: ['service', 'state', 'rate'], endpoints: ['service', 'url', 'state', 'rate'] };
const whole = () => begin({
  about: {}, at: 10, sentence: 'All 3 endpoints of 2 services are up', columns, points: [[9, 1]], events: [],
  services: { a: ['a', 'up', 5], b: ['b', 'up', 1] },
  endpoints: { 'a http://1': ['a', 'http://1', 'up', 5], 'a http://2': ['a', 'http://2', 'up', 0], 'b http://3': ['b', 'http://3', 'up', 1] },
});
const change = (more) => ({
  at: 11, sentence: '', points: [[11, 2]], events: [], services: { rows: {}, gone: [] }, endpoints: { rows: {}, gone: [] }, ...more,
});
const names = (found) => found.map((row) => row.url ?? row.service);

test('a page that has heard nothing has no rows', () => assert.deepEqual(rows(empty()), []));

test('a change replaces rows, adds rows and drops rows', () => {
  const model = whole();
  apply(model, change({
    services: { rows: { a: ['a', 'degraded', 4] }, gone: ['b'] },
    endpoints: { rows: { 'a http://2': ['a', 'http://2', 'out', 0] }, gone: ['b http://3'] },
  }));
  assert.deepEqual(names(rows(model)), ['a', 'http://2', 'http://1']); // the worst first
  assert.deepEqual(rows(model)[1], { kind: 'endpoint', key: 'a http://2', service: 'a', url: 'http://2', state: 'out', rate: 0 });
  assert.deepEqual(names(rows(model, { onlyTrouble: true })), ['a', 'http://2']);
});

test('rows are filtered by service and by URL, and sorted', () => {
  const model = whole();
  assert.deepEqual(names(rows(model, { text: ' HTTP://3 ' })), ['b', 'http://3']);
  assert.deepEqual(names(rows(model, { text: 'b' })), ['b', 'http://3']);
  assert.deepEqual(names(rows(model, { text: 'nothing' })), []);
  assert.deepEqual(names(rows(model, { by: 'rate' })), ['b', 'http://3', 'a', 'http://2', 'http://1']);
  assert.deepEqual(names(rows(model, { by: 'rate', descending: true })), ['a', 'http://1', 'http://2', 'b', 'http://3']);
  assert.deepEqual(names(rows(model, { by: 'name', descending: true })), ['b', 'http://3', 'a', 'http://2', 'http://1']);
});

test('the order of names follows rows that come and go', () => {
  const model = whole();
  assert.deepEqual(names(rows(model, { by: 'name' })), ['a', 'http://1', 'http://2', 'b', 'http://3']);
  const came = { 'a http://10': ['a', 'http://10', 'up', 1], 'a http://9': ['a', 'http://9', 'up', 1] };
  apply(model, change({ endpoints: { rows: came, gone: ['a http://1', 'a http://2'] } })); // as many as before
  assert.deepEqual(names(rows(model, { by: 'name' })), ['a', 'http://9', 'http://10', 'b', 'http://3']);
  apply(model, change({ endpoints: { rows: { 'b http://2': ['b', 'http://2', 'up', 1] }, gone: [] } }));
  assert.deepEqual(names(rows(model)), ['a', 'http://9', 'http://10', 'b', 'http://2', 'http://3']);
});

test('a day of seconds takes no more memory than an hour', () => {
  const model = whole();
  for (let second = 0; second < 86_400; second += 1) {
    apply(model, change({ points: [[second, 1]], events: second % 100 ? [] : [{ at: second, level: 'bad', text: 'x' }] }));
    assert.ok(model.points.length <= 650 && model.events.length <= 200);
  }
  const ages = model.points.map((point) => 86_399 - point.at);
  assert.ok(ages[0] > 3000 && ages.at(-1) === 0);
  assert.deepEqual(ages.slice(-300), Array.from({ length: 300 }, (_, index) => 299 - index));
});

test('a clock of the gateway that is set back or forth leaves points in the order of time', () => {
  const model = whole(); // at 9
  for (const at of [10, 11, 5000, 5001, 12, 13]) apply(model, change({ at, points: [[at, at]] }));
  assert.deepEqual(model.points.map((point) => point.at), [9, 10, 11, 12, 13]);
  for (const at of [13, 3]) apply(model, change({ at, points: [[at, 7]] }));
  assert.deepEqual(model.points, [{ at: 3, rate: 7 }]);
  const again = begin({ about: {}, at: 1, sentence: '', columns, events: [], services: {}, endpoints: {}, points: [[5, 1], [6, 1], [2, 1], [3, 1]] });
  assert.deepEqual(again.points.map((point) => point.at), [2, 3]);
});

test('where the stream is blocked, /admin/stats gives the rows, the newest point and the counts of limits', () => {
  const model = whole();
  const endpoint = (url, healthy) => ({
    url, healthy, rps: 1, errorRate: 0, latency: { p50Ms: 1, p95Ms: 2, p99Ms: 3 }, inflight: { http: 1, sse: 2, ws: 3 },
    breaker: { state: 'closed' }, circuitOpenUntilMs: 0, checks: { last: '' }, weight: 1, share: 0.5, retriesTotal: 0,
    requestsTotal: 7, errorsTotal: 2,
  });
  const figures = { upstreams: 2, healthy: 1, rps: 2, errorRate: 0.25, latency: {}, waiting: 0, panic: false, requests: { '2xx': 9, '5xx': 1 } };
  look(model, {
    nowMs: 15_000, connections: { http: 1, sse: 4, ws: 6 }, rateLimits: { policies: { a: { refused: 3, observed: 0 } }, keys: 2 },
    services: { a: { ...figures, upstreamDetails: [endpoint('http://1', true), endpoint('http://2', false)] } },
  });
  assert.equal(model.sentence, 'a: 1 of 2 endpoints out');
  assert.deepEqual(rows(model).map((row) => row.state), ['degraded', 'out', 'up']);
  assert.deepEqual(rows(model).map((row) => [row.total, row.failures, row.share]), [[10, 1, undefined], [7, 2, 0.5], [7, 2, 0.5]]);
  const { at, rate, failures, p50Ms, streams, loopDelayMs } = model.points.at(-1);
  assert.deepEqual([at, rate, failures, p50Ms, streams, loopDelayMs], [15, 2, 0.5, null, 10, null]);
  assert.deepEqual(model.counts, [['Rate limits', 'a: refused', 3], ['Rate limits', 'clients that are counted', 2]]);
});

test('numbers are written with as many digits as somebody reads', () => {
  assert.deepEqual([0, 0.1234, 12.34, 1234, 12_345, 1.5e6, null].map(short), ['0', '0.12', '12.3', '1234', '12.3 k', '1.5 M', '–']);
  assert.deepEqual([0.5, 999, 1000, 1234, 12_345, null].map(milliseconds), ['0.5 ms', '999 ms', '1 s', '1.23 s', '12.3 s', '–']);
  assert.deepEqual([0, 0.0001, 0.5, null].map(percent), ['0 %', '< 0.1 %', '50 %', '–']);
  assert.deepEqual([-1, 59.6, 125, 7300, 200_000].map(duration), ['0 s', '60 s', '2 min', '2 h', '2 d']);
});

test('a text with marks that nobody sees shows the marks', () => {
  assert.equal(visible('id|ada <b> é 漢 שלום'), 'id|ada <b> é 漢 שלום');
  assert.equal(visible('a\u202eb\0c\nd\u200be\u2028f\u{e0041}'), 'a\\u{202e}b\\u{0}c\\u{a}d\\u{200b}e\\u{2028}f\\u{e0041}');
});

test('a long text is cut, and may be shown whole', () => {
  assert.equal(visible('a'.repeat(400)), 'a'.repeat(400));
  assert.equal(visible('a'.repeat(100_000)), `${'a'.repeat(400)}…`);
  assert.equal(visible('\0'.repeat(100_000)).length, 401);
  assert.equal(visible('a'.repeat(100_000), Infinity).length, 100_000);
});

test('counts are replaced, and stay where a text has none', () => {
  const model = whole();
  assert.deepEqual(model.counts, []);
  apply(model, change({ counts: [['Cache', 'hit', 3]] }));
  apply(model, change());
  assert.deepEqual(model.counts, [['Cache', 'hit', 3]]);
});

const ofRequests = { ...columns, requests: ['id', 'at', 'rank', 'status', 'path'] };
const tail = () => begin({ about: {}, at: 1000, sentence: '', columns: ofRequests, points: [], events: [], services: {}, endpoints: {},
  requests: [[1, 10, 'failed', 502, '/old'], [2, 990, 'failed', 502, '/a'], [3, 995, 'slow', 200, '/b'], [4, 999, 'fine', 200, '/c']] });
const ids = (found) => found.map((row) => row.id);

test('failed and slow requests of late stand first, and old ones in the order of time', () => {
  assert.deepEqual(ids(wantedRequests(tail())), [2, 3, 4, 1]);
  assert.deepEqual(ids(wantedRequests(tail(), { newestFirst: true })), [4, 3, 2, 1]);
  assert.deepEqual(ids(wantedRequests(tail(), { onlyTrouble: true })), [2, 3, 1]);
  assert.deepEqual(ids(wantedRequests(tail(), { text: '/C' })), [4]);
});

test('a request that is told twice is there once, and the number is bounded', () => {
  const model = tail();
  apply(model, change({ requests: [[4, 999, 'fine', 200, '/c'], [5, 1000, 'fine', 200, '/d']] }));
  assert.deepEqual(ids(model.requests), [1, 2, 3, 4, 5]);
  apply(model, change({ requests: [[7, 1001, 'fine', 200, '/e']] }));
  apply(model, change({ requests: [[6, 1001, 'fine', 200, '/late'], [7, 1001, 'fine', 200, '/e']] })); // another worker tells later
  assert.deepEqual(ids(model.requests), [1, 2, 3, 4, 5, 7, 6]);
  apply(model, change({ requests: Array.from({ length: 700 }, (_, index) => [index + 8, 1000, 'fine', 200, '/x']) }));
  assert.deepEqual([model.requests.length, model.requests.at(-1).id], [500, 707]);
});

test('a word is drawn as bars, the newest at the right, and failures apart', () => {
  assert.deepEqual(shapes(''), { fine: '', failed: '' });
  assert.deepEqual(shapes('aP'), { fine: '', failed: 'M58 18V0h1.5V18z' });
  assert.deepEqual(shapes('b<'), { fine: 'M56 18V17h1.5V18z', failed: '' }); // what is no letter is no bar
});
