import assert from 'node:assert/strict';
import { test } from 'node:test';

import { actsOn, actsOnStream, closeOne, done, logLevel, merged, purge, revoke } from '../../static/admin/js/acts.js';

const endpoint = { service: 'billing', url: 'http://1', weight: 1, breaker: 'closed', requests: 1, eventStreams: 200, webSockets: 14 };
const place = { service: 'billing', endpoint: 'http://1' };

test('a confirmation says what will happen', () => {
  const acts = Object.fromEntries(actsOn(endpoint).map((act) => [act.name, act]));
  assert.deepEqual(Object.keys(acts), ['Drain', 'Set weight', 'Open breaker', 'Close 214 streams']);
  assert.equal(acts.Drain.says, 'The endpoint gets no new requests; 1 request and 214 streams in flight go on.');
  assert.match(acts['Close 214 streams'].says, /^Closes 214 streams over 5 s, /);
  assert.deepEqual(acts['Close 214 streams'].order, { ...place, overMs: 5000 });
  assert.deepEqual(acts['Open breaker'].order, { ...place, act: 'open', forMs: 60_000 });
});

test('the acts go by the state of the endpoint', () => {
  const names = (changes) => actsOn({ ...endpoint, ...changes }).map((act) => act.name);
  assert.deepEqual(names({ weight: 0, eventStreams: 1, webSockets: 0 }), ['Undrain', 'Set weight', 'Open breaker', 'Close 1 stream']);
  assert.deepEqual(names({ breaker: 'half_open', eventStreams: 0, webSockets: 0 }), ['Drain', 'Set weight', 'Reset breaker']);
});

test('the end of one stream names the client', () => {
  const act = closeOne({ id: 7, client: '192.0.2.1', principal: 'id|ada', service: 'billing' });
  assert.deepEqual(act.order, { ids: [7] });
  assert.match(act.says, /^Closes 1 stream now, .* 192\.0\.2\.1, id\|ada, to billing\.$/);
});

test('what was done is a sentence', () => {
  assert.equal(done({}, { closing: 2 }), '2 streams end.');
  assert.equal(done({}, { closing: 0 }), 'The stream had ended already.');
  assert.equal(done({}, { endpoint: 'http://1', state: 'probed', weight: 1, breaker: 'half_open' }), 'Done: http://1 is probed, weight 1, breaker half open.');
});

test('a page replaces the rows that it is about', () => {
  const rows = (...ids) => ids.map((id) => ({ id }));
  assert.deepEqual(merged([], 0, { streams: rows(1, 2), next: 2 }), rows(1, 2));
  assert.deepEqual(merged(rows(1, 2), 2, { streams: rows(3, 4), next: 4 }), rows(1, 2, 3, 4));
  assert.deepEqual(merged(rows(1, 2, 3, 4), 1, { streams: rows(3), next: 3 }), rows(1, 3, 4)); // 2 has ended
  assert.deepEqual(merged(rows(1, 2, 3, 4), 1, { streams: rows(3), next: null }), rows(1, 3)); // 4 has ended, too
  assert.deepEqual(merged(rows(1, 2), 0, { streams: [], next: null }), []);
});

test('a revocation says whose credentials end and for how long', () => {
  const act = revoke('subject', 'id|ada', 24);
  assert.equal(act.says, 'The gateway refuses all credentials of id|ada for 24 h, and ends the open streams.');
  assert.deepEqual([act.path, act.order], ['revocations', { subject: 'id|ada', expiresInMs: 86_400_000 }]);
  assert.match(done(act, { revokedAtMs: 1, expiresAtMs: 2, shared: false }), /^Revoked until .*, by this gateway alone\.$/);
});

test('the principal of a stream may be revoked, and a stream without a principal may be closed', () => {
  const names = (stream) => actsOnStream(stream).map((act) => act.name);
  assert.deepEqual(names({ id: 1, client: 'c', service: 's', principal: 'id|ada' }), ['Close stream', 'Revoke']);
  assert.deepEqual(names({ id: 1, client: 'c', service: 's', principal: '' }), ['Close stream']);
  assert.deepEqual(names({ id: 1, client: 'c', service: 's', principal: 'a'.repeat(1024) }), ['Close stream']); // may be cut
});

test('the level of the log is told', () => {
  assert.deepEqual(logLevel('debug').order, { level: 'debug' });
  assert.equal(done(logLevel('debug'), { level: 'debug' }), 'The log has the level debug.');
});

test('a purge says what is taken away, of whom, and what happens next', () => {
  const hard = purge({ by: 'url', service: 'shop', value: '/items/7?lang=de', isSoft: false });
  assert.deepEqual([hard.path, hard.order], ['cache/purge', { service: 'shop', url: '/items/7?lang=de', soft: false }]);
  assert.equal(hard.says, 'Takes away the stored responses of shop for /items/7?lang=de, for all hosts, principals and variants: the next requests go to the service.');
  const soft = purge({ by: 'prefix', service: 'shop', value: '/', isSoft: true });
  assert.deepEqual(soft.order, { service: 'shop', prefix: '/', soft: true });
  assert.match(soft.says, /^Makes the stored responses of shop for every URL that begins with \/ stale, .* may still answer /);
  const tags = purge({ by: 'tags', service: '', value: ' item-7, front  home ', isSoft: false });
  assert.deepEqual(tags.order, { tags: ['item-7', 'front', 'home'], soft: false });
  assert.match(tags.says, /of all services with one of the tags item-7, front, home, /);
});

test('what a purge has done is told, and where', () => {
  const said = { responses: 3, bytes: 9, soft: false, shared: false };
  assert.equal(done({}, said), '3 stored responses purged here.');
  assert.equal(done({}, { ...said, responses: 1, soft: true, shared: true }), '1 stored response made stale here, and in Redis for all gateways.');
  assert.equal(done({}, { ...said, responses: 0 }), '0 stored responses purged here.');
});
