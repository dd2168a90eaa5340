// Acts on the whole gateway: revoke a credential, and the level of the log.

import { logLevel, revoke } from './acts.js';

export function makeSteer({ card, by, value, hours, revokeForm, level, levelForm }, dialog) {
  card.addEventListener('toggle', async () => {
    if (!card.open) return;
    const answer = await fetch('/admin/api/log-level', { headers: { Accept: 'application/json' } }).catch(() => null);
    const said = answer?.ok ? await answer.json().catch(() => null) : null;
    if (said) level.value = said.level;
  });
  revokeForm.addEventListener('submit', (event) => {
    event.preventDefault();
    dialog.offer('Revoke', [revoke(by.value, value.value.trim(), hours.valueAsNumber)]);
  });
  levelForm.addEventListener('submit', (event) => {
    event.preventDefault();
    dialog.offer('Log level', [logLevel(level.value)]);
  });
}
