// What an operator can do, in words that say what will happen. Pure: no DOM, no network.

import { duration } from './format.js';

export const SPREAD = 5_000; // ms over which several streams end
export const OPENING = 60_000; // ms

const several = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;

/** The acts on an endpoint: a name, what will happen, the path and the order. */
export function actsOn(row) {
  const place = { service: row.service, endpoint: row.url };
  const streams = (row.eventStreams ?? 0) + (row.webSockets ?? 0);
  const flight = `${several(row.requests ?? 0, 'request')} and ${several(streams, 'stream')} in flight go on`;
  const acts = [];
  if (row.weight === 0) {
    acts.push({ name: 'Undrain', says: 'The endpoint gets new requests again, with the configured weight.', path: 'undrain', order: place });
  } else {
    acts.push({ name: 'Drain', says: `The endpoint gets no new requests; ${flight}.`, path: 'drain', order: place });
  }
  acts.push({
    name: 'Set weight', says: 'The endpoint gets another share of new requests; 0 is a drain.', path: 'weight', order: place,
    asks: { member: 'weight', label: 'Weight', value: row.weight ?? 1, low: 0, high: 1_000_000 },
  });
  if (row.breaker && row.breaker !== 'closed') {
    acts.push({ name: 'Reset breaker', says: 'The breaker closes, and all failures are forgotten: the endpoint gets requests at once.', path: 'breaker', order: { ...place, act: 'reset' } });
  } else {
    acts.push({ name: 'Open breaker', says: `The endpoint gets no new requests for ${duration(OPENING / 1000)}, then probes; ${flight}.`, path: 'breaker', order: { ...place, act: 'open', forMs: OPENING } });
  }
  if (streams) {
    acts.push({ name: `Close ${several(streams, 'stream')}`, says: closing(streams), path: 'streams/close', order: { ...place, overMs: SPREAD } });
  }
  return acts;
}

/** The end of one stream of the list. */
export function closeOne(stream) {
  return { name: 'Close stream', says: `${closing(1)} It is the stream of ${stream.client}${stream.principal ? `, ${stream.principal},` : ''} to ${stream.service}.`, path: 'streams/close', order: { ids: [stream.id] } };
}

const OF = { subject: 'all credentials of', jti: 'the token with the id', session: 'the session' };

/** A credential that no longer counts. */
export function revoke(by, value, hours) {
  return {
    name: 'Revoke', path: 'revocations', order: { [by]: value, expiresInMs: Math.round(hours * 3_600_000) },
    says: `The gateway refuses ${OF[by]} ${value} for ${duration(hours * 3600)}, and ends the open streams.`,
  };
}

const LONGEST = 1024; // characters of a principal in the list; a principal that is longer is cut, and another principal

/** Everything that can be done about a stream. */
export function actsOnStream(stream) {
  return [closeOne(stream), ...(stream.principal && stream.principal.length < LONGEST ? [revoke('subject', stream.principal, 24)] : [])];
}

export function logLevel(level) {
  return { name: 'Set level', says: `The gateway's own log has the level ${level}, until the gateway ends.`, path: 'log-level', order: { level } };
}

const PURGED = { url: 'for', prefix: 'for every URL that begins with', tags: 'with one of the tags' };

/**
 * A purge of the response cache.
 * @param by `url`, `prefix` or `tags`
 * @param service the name of a service; empty, with tags, for all services
 * @param value a URL, the beginning of URLs, or tags with blanks or commas between
 */
export function purge({ by, service, value, isSoft }) {
  const named = by === 'tags' ? value.split(/[\s,]+/).filter(Boolean) : value;
  const what = `the stored responses of ${service || 'all services'} ${PURGED[by]} ${by === 'tags' ? named.join(', ') : named}`;
  const whose = 'for all hosts, principals and variants';
  return {
    name: isSoft ? 'Purge softly' : 'Purge', path: 'cache/purge',
    order: { ...(service && { service }), [by]: named, soft: isSoft },
    says: isSoft
      ? `Makes ${what} stale, ${whose}: these may still answer while the service is asked, or if the service fails.`
      : `Takes away ${what}, ${whose}: the next requests go to the service.`,
  };
}

function closing(count) {
  const over = count > 1 ? ` over ${duration(SPREAD / 1000)}` : ' now';
  return `Closes ${several(count, 'stream')}${over}, between two events or by a Close. Browsers come back by themselves.`;
}

/** What was done, in a sentence. */
export function done(act, said) {
  if ('closing' in said) return said.closing ? `${several(said.closing, 'stream')} end${said.closing === 1 ? 's' : ''}.` : 'The stream had ended already.';
  if ('responses' in said) return `${several(said.responses, 'stored response')} ${said.soft ? 'made stale' : 'purged'} here${said.shared ? ', and in Redis for all gateways' : ''}.`;
  if ('level' in said) return `The log has the level ${said.level}.`;
  if ('revokedAtMs' in said) return `Revoked until ${new Date(said.expiresAtMs).toLocaleString()}${said.shared ? '' : ', by this gateway alone'}.`;
  return `Done: ${said.endpoint} is ${said.state}, weight ${said.weight}, breaker ${said.breaker.replace('_', ' ')}.`;
}

/** The list of streams after a page: the rows behind the number `after` are those of the page. */
export function merged(rows, after, page) {
  const last = page.streams.at(-1)?.id ?? after;
  const behind = page.next === null ? [] : rows.filter((row) => row.id > last);
  return [...rows.filter((row) => row.id <= after), ...page.streams, ...behind];
}
