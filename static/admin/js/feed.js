// The event stream, and what replaces the stream where something between blocks streams.

const STALE_AFTER = 5_000; // ms without news after which the page says that the figures are old
const POLL_AFTER = 3; // failures of the stream in a row
const POLL_EVERY = 5_000; // ms
const REFUSED_EVERY = 30_000; // ms; somebody may have logged in in another tab

/**
 * @param told called with the name and the content of each event
 * @param became called with the state of the link: "connecting", "live", "polling", "stale" or "refused"
 */
export function follow(told, became) {
  let failures = 0;
  let heardAt = 0; // ms; not by the clock of the day, which may be set
  let isRefused = false;
  let isAway = false; // whether the last look, too, was in vain
  let source = null;

  function open() {
    source = new EventSource('/admin/events');
    for (const name of ['whole', 'change']) {
      source.addEventListener(name, (event) => {
        failures = 0;
        heard('live');
        told(name, JSON.parse(event.data));
      });
    }
    source.addEventListener('error', failed);
  }

  function heard(state) {
    heardAt = performance.now();
    isRefused = false;
    became(state);
  }

  async function failed() {
    failures += 1;
    if (!isRefused) became('stale');
    if (source.readyState !== EventSource.CLOSED && failures < POLL_AFTER) return; // the browser comes back by itself
    source.close();
    await poll();
  }

  async function poll() {
    const answer = await fetch('/admin/stats', { headers: { Accept: 'application/json' } }).catch(() => null);
    isRefused = answer?.status === 401 || answer?.status === 403;
    if (isRefused) became('refused');
    else if (answer?.ok) {
      heard('polling');
      told('stats', await answer.json());
      failures = 0;
    }
    const isBack = isAway && !failures; // the gateway was away, and streams are not blocked as far as anybody knows
    isAway = failures > 0;
    if (isBack) open();
    else setTimeout(failures ? poll : open, isRefused ? REFUSED_EVERY : POLL_EVERY);
  }

  setInterval(() => {
    if (heardAt && !isRefused && performance.now() - heardAt > STALE_AFTER) became('stale');
  }, 1000);
  open();
}
